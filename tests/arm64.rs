//! Cores of arm64 programs, which user-mode qemu or a real kernel writes, decoded on any machine:
//! against what the runtime printed as it died.

mod support;

use serde_json::Value;
use support::cores::{self, Core};
use support::crashed::{compare_all, parked};
use support::{Tally, allgs_ok, build, compare, newest, tally_all, whole_product};

const KINDS: [&str; 4] = ["arm64", "arm64-s", "arm64-pie", "arm64-cgo"];

/// What is built and run: releases and kinds; everything with `ALLGS_PRODUCT=all`.
fn programs() -> Vec<(String, &'static str)> {
    let all = whole_product();
    let kinds = |release: &str| match release {
        "1.18.10" | "1.21.13" | "1.24.13" | "1.26.11" | "1.27.4" => &KINDS[..],
        _ => &[],
    };
    let wanted = |release: String| {
        let kinds = if all { &KINDS[..] } else { kinds(&release) };
        kinds.iter().map(move |kind| (release.clone(), *kind))
    };
    newest().into_iter().flat_map(wanted).collect()
}

fn judge((release, kind): &(String, &str)) -> Tally {
    let program = build(release, kind, "crash");
    let exe = program.to_str().expect("a path of text");
    let mut tally = Tally::default();
    // The other kinds have the same calls at other places: one end is enough.
    let modes: &[&str] = if *kind == "arm64" { &["quit", "nil", "abort"] } else { &["nil"] };
    for mode in modes {
        let Some(core) = cores::qemu(&program, mode) else { return tally };
        tally.add(judge_core(&format!("{release} {kind} {mode}"), mode, &core, exe));
    }
    assert!(tally.compared > 200, "{release} {kind}: hardly anything was compared");
    println!("{release} {kind}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    tally
}

fn judge_core(name: &str, mode: &str, core: &Core, exe: &str) -> Tally {
    said(name, mode, core, exe);
    if !matches!(mode, "abort" | "fault") {
        return compare_all(name, core, exe);
    }
    // The runtime knows nothing of this end: what it said before is compared.
    let got = allgs_ok(&["dump", "--format", "go", core.arg(), "--exe", exe]);
    compare(name, &core.own_text(), &got, parked)
}

/// What is said of the end. After a SIGQUIT any thread may be the one that aborts.
fn said(name: &str, mode: &str, core: &Core, exe: &str) {
    let text = allgs_ok(&["list", "--format", "json", core.arg(), "--exe", exe]);
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["target"]["arch"], "arm64", "{name}");
    let crash = &document["target"]["crash"];
    let signal = if mode == "fault" { "SIGSEGV" } else { "SIGABRT" };
    assert_eq!(crash["signal_name"], signal, "{name}");
    assert_eq!(crash["fault_address"].is_string(), mode == "fault", "{name}: {crash}");
    let cause = (&crash["cause"]["signal_name"], &crash["cause"]["function"]);
    if mode == "nil" {
        assert_eq!(cause, (&"SIGSEGV".into(), &"main.dieNil".into()), "{name}: {crash}");
    } else {
        assert_eq!(cause, (&Value::Null, &Value::Null), "{name}: {crash}");
    }
    if mode != "quit" {
        assert_eq!(crash["goroutine"], 1, "{name}");
        assert_eq!(document["goroutines"][0]["crashed"], true, "{name}");
    }
}

#[test]
fn arm64_cores_show_what_the_runtime_printed_as_it_died() {
    let tally = tally_all(&programs(), judge);
    println!("arm64: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    assert_eq!(tally.compared, tally.equal);
}

/// The folder that `make arm64-kernel` fills has one folder a case, RELEASE:KIND:MODE.
#[test]
fn cores_of_an_arm64_kernel_show_the_same() {
    let Some(folder) = std::env::var_os("ALLGS_ARM64_KERNEL") else {
        println!("1 skipped: no cores of an arm64 kernel, `make arm64-kernel` brings them");
        return;
    };
    let mut cases: Vec<_> =
        std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    cases.sort();
    let tally = tally_all(&cases, |case| {
        let name = case.file_name().expect("a name").to_string_lossy();
        let [release, kind, mode] = *name.split(':').collect::<Vec<_>>() else { panic!("{name}") };
        let program = build(release, kind, "crash");
        let exe = program.to_str().expect("a path of text");
        let tally = judge_core(&name, mode, &cores::brought(case), exe);
        println!("{name}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
        tally
    });
    println!("arm64 kernel, {} cores: compared: {}, equal: {}", cases.len(), tally.compared, tally.equal);
    assert!(tally.compared > 100 * cases.len());
    assert_eq!(tally.compared, tally.equal);
}
