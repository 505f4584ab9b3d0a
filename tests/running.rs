//! Goroutines that run or are in a system call: the frames that the programs declare in expect.toml.
//! Their text can't be compared with the runtime's own: the runtime stops them to print.

mod support;

use serde_json::Value;
use support::{Target, allgs_ok, build, repo};

/// Looks until all declared goroutines were seen as declared: the runtime takes a spinning goroutine off
/// its thread now and then, and a busy machine may not stop a thread in time.
const LOOKS: usize = 30;

#[derive(Debug)]
struct Expected {
    function: String,
    status: String,
    frames: Vec<String>,
}

/// The `[[goroutine]]` tables of an expect.toml, of which only three keys matter here.
fn expected(program: &str) -> Vec<Expected> {
    let text =
        std::fs::read_to_string(repo().join("testprogs").join(program).join("expect.toml")).expect("truth");
    let words =
        |line: &str| -> Vec<String> { line.split('"').skip(1).step_by(2).map(str::to_owned).collect() };
    text.split("[[goroutine]]")
        .skip(1)
        .map(|table| {
            let key = |name: &str| {
                let line = table.lines().find(|l| l.split('=').next().is_some_and(|k| k.trim() == name));
                line.map(words).unwrap_or_default()
            };
            let one = |name: &str| key(name).into_iter().next().unwrap_or_default();
            Expected { function: one("function"), status: one("status"), frames: key("frames") }
        })
        .collect()
}

/// Whether a goroutine is as declared: its status, and the declared frames one after the other in its
/// stack (others of theirs may be above them or between inlined ones).
fn matches(goroutine: &Value, expected: &Expected) -> bool {
    if goroutine["status"].as_str() != Some(&expected.status) {
        return false;
    }
    let empty = Vec::new();
    let frames: Vec<&str> = goroutine["frames"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .filter_map(|f| f["function"].as_str())
        .collect();
    let complete = goroutine["stack_end"].as_str() == Some("complete");
    complete && frames.windows(expected.frames.len()).any(|window| window == expected.frames)
}

fn check(release: &str) -> (usize, usize) {
    let program = build(release, "default", "running");
    let target = Target::start(&program, &[], &[]);
    let pid = target.pid().to_string();
    let mut open = expected("running");
    let all = open.len();
    assert!(all > 5, "the truth of `running` was not understood");
    for _ in 0..LOOKS {
        let report: Value =
            serde_json::from_str(&allgs_ok(&["dump", "--format", "json", "-q", &pid])).expect("JSON");
        let goroutines = report["goroutines"].as_array().expect("goroutines");
        open.retain(|expected| !goroutines.iter().any(|g| matches(g, expected)));
        if open.is_empty() {
            break;
        }
    }
    for missing in &open {
        println!("{release}: {} was not seen as declared: {missing:?}", missing.function);
    }
    (all, all - open.len())
}

#[test]
fn running_goroutines_have_the_frames_that_the_program_declares() {
    let (mut declared, mut seen) = (0, 0);
    for release in ["1.18.10", "1.21.13", "1.24.13", "1.27.4"] {
        let (all, found) = check(release);
        println!("{release}: goroutines declared: {all}, seen as declared: {found}");
        declared += all;
        seen += found;
    }
    assert_eq!(declared, seen);
}

#[test]
fn a_hung_process_is_read_and_its_spinner_named() {
    for release in ["1.18.10", "1.27.4"] {
        let program = build(release, "default", "hung");
        let mut target = Target::start(&program, &[], &[("GODEBUG", "asyncpreemptoff=1")]);
        let pid = target.pid().to_string();
        let spins = (0..LOOKS).any(|_| {
            let text = allgs_ok(&["dump", "--format", "json", "-q", &pid]);
            let report: Value = serde_json::from_str(&text).expect("JSON");
            report["goroutines"]
                .as_array()
                .expect("goroutines")
                .iter()
                .any(|g| g["status"] == "running" && g["frames"].to_string().contains("\"main.spin\""))
        });
        assert!(spins, "{release}: the spinning goroutine was not seen");
        assert!(target.ended().is_none());
    }
}
