//! arm64 cores, decoded on amd64: cross-built programs run under user-mode qemu, which writes a core when
//! they die; each goroutine's text is what the program's own runtime said before.

mod support;

use support::{Tally, allgs_ok, build, compare, cores, newest};

/// Goroutines that stood still from the program's look at itself to its end.
fn parked(block: &str) -> bool {
    let header = block.lines().next().unwrap_or_default();
    !header.contains("[running") && !header.contains("[runnable")
}

/// Some pairs of release and kind, or with `ALLGS_PRODUCT=all` all of them.
fn pairs() -> Vec<(String, &'static str)> {
    let kinds = ["arm64", "arm64-s", "arm64-pie", "arm64-cgo"];
    if std::env::var("ALLGS_PRODUCT").is_ok_and(|v| v == "all") {
        return newest().into_iter().flat_map(|r| kinds.map(|kind| (r.clone(), kind))).collect();
    }
    let some = [
        ("1.18.10", "arm64"),
        ("1.21.13", "arm64"),
        ("1.24.13", "arm64"),
        ("1.27.4", "arm64"),
        ("1.27.4", "arm64-s"),
        ("1.27.4", "arm64-pie"),
    ];
    some.map(|(release, kind)| (release.to_owned(), kind)).to_vec()
}

#[test]
fn every_parked_goroutine_of_an_arm64_core_is_what_its_runtime_said() {
    let mut sum = Tally::default();
    for (release, kind) in pairs() {
        let program = build(&release, kind, "crash");
        let Some(core) = cores::qemu(&program, "abort") else {
            println!("1 skipped: no core of user-mode qemu is to be had here");
            return;
        };
        let exe = program.to_str().expect("a path of text");
        let got = allgs_ok(&["dump", "--format", "go", core.arg(), "--exe", exe]);
        let tally = compare(&format!("{release} {kind}"), &core.own_text(), &got, parked);
        println!("{release} {kind}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
        assert!(tally.compared > 100, "{release} {kind}: hardly anything was compared");
        sum.add(tally);
    }
    println!("all: goroutines compared: {}, equal: {}", sum.compared, sum.equal);
    assert_eq!(sum.compared, sum.equal);
}
