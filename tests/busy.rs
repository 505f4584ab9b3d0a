//! A healthy, busy server, looked at again and again: nothing in it is stuck for long, so `why` must not
//! say so. `ALLGS_SNAPSHOTS` says how often (12 times unless it is set).

mod support;

use serde_json::Value;
use support::{Target, allgs_ok, build};

fn snapshots() -> usize {
    std::env::var("ALLGS_SNAPSHOTS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// Situations that must not be there.
fn wrong(report: &Value) -> Vec<String> {
    let empty = Vec::new();
    let situations = report["situations"].as_array().unwrap_or(&empty);
    let stuck = situations
        .iter()
        .filter(|s| s["kind"] == "deadlock" || s["kind"] == "dead_end" && s["trust"] != "possible");
    stuck.map(Value::to_string).collect()
}

#[test]
fn a_busy_server_is_not_said_to_be_stuck() {
    for (release, kind) in [("1.21.13", "s"), ("1.27.4", "default")] {
        let mut target = Target::start(&build(release, kind, "busy"), &[], &[]);
        let pid = target.pid().to_string();
        let (mut locks, mut hints, mut rings, count) = (0, 0, 0, snapshots());
        for n in 0..count {
            let text = allgs_ok(&["why", "-q", "--format", "json", &pid]);
            let report: Value = serde_json::from_str(&text).expect("JSON");
            let wrong = wrong(&report);
            assert!(wrong.is_empty(), "{release} {kind}, snapshot {n}: {wrong:#?}");
            let goroutines = report["goroutines"].as_array().expect("goroutines");
            locks += goroutines.iter().filter(|g| g["blocked_on"]["kind"] == "mutex").count();
            let situations = report["situations"].as_array().expect("situations");
            rings +=
                situations.iter().filter(|s| s["text"].to_string().contains("wait for one another")).count();
            hints += situations.iter().filter(|s| s["kind"] == "dead_end").count();
        }
        target.send("done");
        let before: u64 = target.line().parse().expect("a number");
        target.send("done");
        let mut after: u64 = target.line().parse().expect("a number");
        // It goes on: bounded by the patience of `line`.
        for _ in 0..100_000 {
            if after > before {
                break;
            }
            target.send("done");
            after = target.line().parse().expect("a number");
        }
        assert!(after > before, "{release} {kind}: it stands still");
        println!(
            "{release} {kind}: snapshots {count}, requests {after}, goroutines at a mutex {locks}, dead ends \
             as a hint {hints}, of them rings {rings}"
        );
        assert!(locks > 0, "{release} {kind}: nobody ever waited for a lock");
        assert!(rings > 0, "{release} {kind}: no pair ever looked like a deadlock");
    }
}
