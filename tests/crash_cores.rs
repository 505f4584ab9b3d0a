//! Cores of programs that crashed, against what the runtime printed as it died: each parked goroutine
//! byte for byte, and of those that ran the same calls of the program; the one that crashed is first.

mod support;

use serde_json::Value;
use support::cores::{self, Core};
use support::crashed::{compare_all, parked};
use support::{Tally, allgs_ok, build, compare, newest, tally_all};

/// Whether the thread that died is the one with goroutine 1. It need not be after a SIGQUIT: the
/// runtime passes the signal on from thread to thread, and until 1.21 the last of them aborts.
fn main_died(document: &Value) -> bool {
    let main = document["goroutines"].as_array().expect("goroutines").iter().find(|g| g["id"] == 1);
    main.is_some_and(|main| main["thread"] == document["target"]["crash"]["thread"])
}

/// What is said of the end, in each format: goroutine 1 died, in `calls`, and comes first.
fn said(name: &str, core: &Core, exe: &str, calls: &[&str]) {
    let run = |command: &[&str]| allgs_ok(&[command, &[core.arg(), "--exe", exe]].concat());
    let document: Value = serde_json::from_str(&run(&["dump", "--format", "json"])).expect("JSON");
    let crash = &document["target"]["crash"];
    assert_eq!((&crash["signal"], &crash["signal_name"]), (&6.into(), &"SIGABRT".into()), "{name}: {crash}");
    if name.ends_with("quit") && !main_died(&document) {
        println!("{name}: another thread aborted than that of goroutine 1: its end is not judged");
        return;
    }
    assert_eq!(crash["goroutine"], 1, "{name}: {crash}");
    let first = &document["goroutines"][0];
    assert_eq!((&first["id"], &first["crashed"]), (&1.into(), &true.into()), "{name}: {first}");
    let marked =
        document["goroutines"].as_array().expect("goroutines").iter().filter(|g| g["crashed"] == true);
    assert_eq!(marked.count(), 1, "{name}");
    let frames = first["frames"].as_array().expect("frames");
    for call in calls {
        assert!(frames.iter().any(|frame| frame["function"] == *call), "{name}: no {call} in {first}");
    }
    let list = run(&["list"]);
    let mut lines = list.lines().skip_while(|line| !line.starts_with("COUNT")).skip(1);
    let (group, members) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert!(group.contains("running, crashed") && members.trim() == "goroutine 1", "{name}:\n{list}");
    let cause = match name.ends_with("nil") {
        true => nil_access(&crash["cause"]),
        false => {
            assert_eq!(crash["cause"], Value::Null, "{name}");
            String::new()
        }
    };
    let killed = format!("killed by SIGABRT{cause}, thread {}", crash["thread"]);
    assert!(list.contains(&format!("\n{killed}, goroutine 1\n")), "{name}:\n{list}");
    // No goroutine is looked at for this.
    let killed = format!("killed by SIGABRT, thread {}", crash["thread"]);
    assert!(run(&["info"]).contains(&killed), "{name}: info");
}

/// The nil pointer that the program uses on purpose: as the document has it, and as the text then says it.
fn nil_access(cause: &Value) -> String {
    assert_eq!((&cause["signal"], &cause["signal_name"]), (&11.into(), &"SIGSEGV".into()), "{cause}");
    assert_eq!(cause["function"], "main.dieNil", "{cause}");
    let at = cause["fault_address"].as_str().expect("an address");
    // Go 1.18 looks at the pointer before it uses it.
    assert!(["0x0", "0x8"].contains(&at), "{cause}");
    format!(" after SIGSEGV at {at} in main.dieNil (main.go:{})", cause["line"])
}

fn release(release: &str) -> Tally {
    let program = build(release, "default", "crash");
    let exe = program.to_str().expect("a path of text");
    let mut tally = Tally::default();
    for (mode, calls) in [("quit", &["main.dieQuit", "main.main"]), ("nil", &["main.dieNil", "main.main"])] {
        let core = cores::dead(&program, mode);
        let name = format!("{release} {mode}");
        tally.add(compare_all(&name, &core, exe));
        said(&name, &core, exe, calls);
    }
    // The runtime knows nothing of this end: what it said before is compared.
    let name = format!("{release} abort");
    let core = cores::dead(&program, "abort");
    let got = allgs_ok(&["dump", "--format", "go", core.arg(), "--exe", exe]);
    tally.add(compare(&name, &core.own_text(), &got, parked));
    said(&name, &core, exe, &["main.dieAbort", "main.main"]);
    println!("{release}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    tally
}

#[test]
fn a_core_shows_what_the_runtime_printed_as_it_died() {
    let releases = newest();
    let tally = tally_all(&releases, |name| release(name));
    println!("all releases: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    assert!(tally.compared > 300 * releases.len());
    assert_eq!(tally.compared, tally.equal);
}

#[test]
fn a_core_that_gdb_wrote_at_the_end_shows_the_same() {
    let program = build("1.27.4", "default", "crash");
    let core = cores::gdb(&program, "nil");
    let exe = program.to_str().expect("a path of text");
    let tally = compare_all("gdb", &core, exe);
    said("gdb nil", &core, exe, &["main.dieNil", "main.main"]);
    println!("gdb: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    assert_eq!(tally.compared, tally.equal);
}

#[test]
fn the_fault_address_is_said() {
    // The compiler of 1.18 checks the pointer itself before it stores at its second member.
    for (release, fault) in [("1.18.10", "0x0"), ("1.27.4", "0x8")] {
        let program = build(release, "default", "crash");
        let Some(core) = cores::kernel(&program, "fault") else { return };
        let args = [core.arg(), "--exe", program.to_str().expect("a path of text")];
        let run = |command: &[&str]| allgs_ok(&[command, &args].concat());
        let document: Value = serde_json::from_str(&run(&["list", "--format", "json"])).expect("JSON");
        let crash = &document["target"]["crash"];
        assert_eq!((&crash["signal"], &crash["signal_name"]), (&11.into(), &"SIGSEGV".into()), "{crash}");
        // 1 is SEGV_MAPERR.
        assert_eq!((&crash["fault_address"], &crash["code"]), (&fault.into(), &1.into()), "{crash}");
        let first = &document["goroutines"][0];
        assert_eq!((&first["id"], &first["crashed"]), (&1.into(), &true.into()), "{first}");
        assert_eq!(first["frames"][0]["function"], "main.dieNil", "{first}");
        let killed = format!("killed by SIGSEGV at {fault}, thread {}", crash["thread"]);
        assert!(run(&["list"]).contains(&format!("\n{killed}, goroutine 1\n")));
        assert!(run(&["info"]).contains(&killed));
        let info: Value = serde_json::from_str(&run(&["info", "--format", "json"])).expect("JSON");
        assert_eq!(info["target"]["crash"]["fault_address"], fault);
    }
}

#[test]
fn a_core_does_not_tell_how_long_a_goroutine_waits() {
    let without = support::cores::without_minutes;
    assert_eq!(
        without("goroutine 5 gp=0x1 m=nil [chan receive, 12 minutes]:"),
        "goroutine 5 gp=0x1 m=nil [chan receive]:"
    );
    assert_eq!(
        without("goroutine 5 [select, 1 minutes, locked to thread]:"),
        "goroutine 5 [select, locked to thread]:"
    );
    for same in ["goroutine 5 [select (no cases), locked to thread]:", "main.f(1, 2 minutes)", ""] {
        assert_eq!(without(same), same);
    }
}
