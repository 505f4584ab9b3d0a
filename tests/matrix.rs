//! The oracle, over all releases: for every parked goroutine `allgs dump --format go` is byte for byte
//! what the runtime says of itself, and with `--all` what it says on SIGQUIT.

mod support;

use support::{build, oracle, releases, tally_all};

#[test]
fn every_parked_goroutine_is_byte_for_byte_the_runtimes_own_text() {
    let tally =
        tally_all(&releases(), |release| oracle::zoo(release, &build(release, "default", "zoo"), |_| {}));
    println!("all releases: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    assert!(tally.compared > 4000);
    assert_eq!(tally.compared, tally.equal);
}
