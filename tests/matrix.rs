//! The oracle, over all releases: for every parked goroutine `allgs dump --format go` is byte for byte
//! what the runtime says of itself, and with `--all` what it says on SIGQUIT.

mod support;

use nix::sys::signal::Signal;
use support::{Tally, Target, allgs_ok, build, compare, releases, tally_all};

/// Parked goroutines: those that run or are about to differ between two looks.
fn parked(block: &str) -> bool {
    let header = block.lines().next().unwrap_or_default();
    !header.contains("[running") && !header.contains("[runnable")
}

fn zoo(release: &str) -> Tally {
    let mut tally = Tally::default();
    let program = build(release, "default", "zoo");
    let env = [("GOTRACEBACK", "system")];
    let target = Target::start(&program, &[], &env);
    let pid = target.pid().to_string();
    let text = allgs_ok(&["dump", "--format", "go", &pid]);
    let all = allgs_ok(&["dump", "--all", "--format", "go", &pid]);
    let wanted = target.file("stack.txt");
    let level1 = compare(&format!("{release} runtime.Stack"), &wanted, &text, parked);
    assert!(level1.compared > 100, "{release}: only {} goroutines in the runtime's text", level1.compared);
    tally.add(level1);
    target.signal(Signal::SIGQUIT);
    let wanted = target.end();
    let steady = |block: &str| parked(block) && !moves_by_itself(block) && !block.starts_with("goroutine 0 ");
    let level2 = compare(&format!("{release} SIGQUIT"), &wanted, &all, steady);
    assert!(level2.compared > level1.compared, "{release}: level 2 has {} goroutines", level2.compared);
    tally.add(level2);
    println!("{release}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    tally
}

/// The background scavenger wakes now and then, and the goroutine that reads stdin is in a system call
/// that the signal interrupts.
fn moves_by_itself(block: &str) -> bool {
    block.contains("runtime.bgscavenge")
}

#[test]
fn every_parked_goroutine_is_byte_for_byte_the_runtimes_own_text() {
    let tally = tally_all(&releases(), |release| zoo(release));
    println!("all releases: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    assert!(tally.compared > 4000);
    assert_eq!(tally.compared, tally.equal);
}
