//! What the user may ask of the stop: none at all, no longer than so, and how long everything took.

mod support;

use serde_json::Value;
use support::{Target, allgs, allgs_ok, build};

const RELEASE: &str = "1.27.4";

fn target() -> Target {
    let args = ["-n", "3000", "-active", "10", "-period", "50ms", "-procs", "2"];
    Target::start(&build(RELEASE, "default", "load"), &args, &[])
}

fn document(args: &[&str]) -> Value {
    serde_json::from_str(&allgs_ok(args)).expect("JSON")
}

/// How many goroutines are said to be of the instant, of another one, torn.
fn counts(document: &Value) -> [usize; 3] {
    let all = document["goroutines"].as_array().expect("goroutines");
    ["exact", "other_instant", "torn"]
        .map(|word| all.iter().filter(|g| g["consistency"].as_str() == Some(word)).count())
}

#[test]
fn without_a_stop_every_goroutine_is_of_an_instant_of_its_own() {
    let target = target();
    let pid = target.pid().to_string();
    let document = document(&["dump", &pid, "--no-stop", "--format", "json"]);
    assert_eq!(document["capture"]["consistency"], "unstopped");
    assert_eq!(document["capture"]["pause_ns"], 0);
    let [exact, other, torn] = counts(&document);
    println!("exact {exact}, of another instant {other}, torn {torn}");
    assert_eq!(exact, 0);
    assert!(other >= 2700, "the parked ones are whole");
    assert!(allgs_ok(&["list", &pid, "--no-stop"]).contains("read while it ran"));
}

#[test]
fn what_the_longest_pause_leaves_no_time_for_is_marked() {
    let target = target();
    let pid = target.pid().to_string();
    let document = document(&["dump", &pid, "--max-pause", "1us", "--format", "json"]);
    assert_eq!(document["capture"]["consistency"], "partial");
    let [exact, other, torn] = counts(&document);
    println!("exact {exact}, of another instant {other}, torn {torn}");
    assert!(other + torn > 0, "no time for any");
    assert!(exact >= 2500, "the parked ones are proved all the same");
    assert!(allgs_ok(&["list", &pid, "--max-pause", "1us"]).contains("some read at other instants"));
}

#[test]
fn timings_name_each_phase() {
    let target = target();
    let pid = target.pid().to_string();
    let output = allgs(&["list", &pid, "--timings", "--format", "json"]);
    let told = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for phase in ["open", "image", "capture", "unwind", "analyse"] {
        assert!(told.lines().any(|line| line.starts_with(phase)), "{phase} is not in {told}");
        assert!(document["capture"]["timings_ns"][phase].is_u64(), "{phase} is not in the document");
    }
    assert!(told.lines().last().is_some_and(|line| line.starts_with("total")), "{told}");
    assert!(!told.contains('\u{1b}'), "no line is drawn where there is no terminal");
}
