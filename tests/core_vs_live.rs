//! The same parked process, live and as the core that gcore makes of it: equal in every goroutine, and in who
//! wakes it.

mod support;

use serde_json::Value;
use support::{Target, allgs_ok, build, cores};

/// The goroutines of a report without what a core can't know: how long they wait (a core has no clock).
fn goroutines(args: &[&str]) -> Vec<Value> {
    let mut report: Value = serde_json::from_str(&allgs_ok(args)).expect("JSON");
    let mut goroutines = report["goroutines"].as_array_mut().map(std::mem::take).expect("goroutines");
    for goroutine in &mut goroutines {
        goroutine.as_object_mut().expect("an object").remove("waiting_at_least_ns");
    }
    goroutines
}

#[test]
fn a_core_says_of_every_goroutine_what_the_live_process_says() {
    for release in ["1.18.10", "1.27.4"] {
        let program = build(release, "default", "zoo");
        let target = Target::start(&program, &[], &[]);
        let pid = target.pid().to_string();
        let live = goroutines(&["dump", "--all", "--format", "json", "-q", &pid]);
        let Some(core) = cores::gcore(&target) else {
            println!("1 skipped: gcore makes no core here");
            return;
        };
        let exe = program.to_str().expect("a path of text");
        let dead = goroutines(&["dump", "--all", "--format", "json", "-q", core.arg(), "--exe", exe]);
        assert_eq!(live.len(), dead.len(), "{release}");
        let moves = |g: &Value| g["frames"].to_string().contains("runtime.bgscavenge");
        let mut equal = 0;
        for (a, b) in live.iter().zip(&dead).filter(|(a, _)| !moves(a)) {
            assert_eq!(a, b, "{release}");
            equal += 1;
        }
        println!("{release}: goroutines compared: {equal}, equal: {equal}");
        assert!(equal > 200);
    }
}

/// Who is said to wake whom, and what circles there are.
fn wakers(args: &[&str]) -> Vec<(Value, Value)> {
    let report: Value = serde_json::from_str(&allgs_ok(args)).expect("JSON");
    let goroutines = report["goroutines"].as_array().expect("goroutines");
    goroutines.iter().map(|g| (g["id"].clone(), g["blocked_on"]["wakers"].clone())).collect()
}

/// gdb leaves out what the executable has: method tables too.
#[test]
fn a_core_names_the_wakers_that_the_live_process_names() {
    for (release, kind) in [("1.21.13", "default"), ("1.27.4", "s")] {
        let program = build(release, kind, "wakers");
        let target = Target::start(&program, &[], &[]);
        let pid = target.pid().to_string();
        let live = wakers(&["why", "--format", "json", "-q", &pid]);
        let Some(core) = cores::gcore(&target) else {
            println!("1 skipped: gcore makes no core here");
            return;
        };
        let exe = program.to_str().expect("a path of text");
        let dead = wakers(&["why", "--format", "json", "-q", core.arg(), "--exe", exe]);
        assert_eq!(live, dead, "{release} {kind}");
        assert!(live.iter().filter(|(_, wakers)| wakers.is_array()).count() > 20, "{live:?}");
    }
}
