//! The proof of the capture, checked: everything is read inside the stop as well and compared with what
//! was accepted unread. Not one goroutine may differ, under everything that moves goroutines.

mod support;

use allgs::addr::Pid;
use allgs::image::{Image, OpenOptions};
use allgs::runtime::Snapshot;
use allgs::runtime::capture::{CaptureOptions, Verdict};
use allgs::source::live::LiveProcess;
use std::sync::Mutex;
use support::{Tally, Target, build, newest, tally_all, whole_product};

/// Captures per program: each is a stop or more.
fn captures() -> usize {
    if whole_product() { 40 } else { 4 }
}

fn check(target: &Target, times: usize) -> Verdict {
    let source = LiveProcess::open(Pid(target.pid() as i32)).expect("the process can be opened");
    let image = Image::open(&source, &OpenOptions::default()).expect("the image can be opened");
    let options = CaptureOptions { verify: true, ..CaptureOptions::default() };
    let mut sum = Verdict::default();
    for _ in 0..times {
        let snapshot = Snapshot::take(&source, &image, &options).expect("a snapshot");
        let verdict = snapshot.verdict.expect("the check was asked for");
        sum.accepted += verdict.accepted;
        sum.different += verdict.different;
    }
    sum
}

fn minor(release: &str) -> u32 {
    release.split('.').nth(1).and_then(|m| m.parse().ok()).expect("a release")
}

/// What a target does while it is captured.
const SCENES: [(&str, &[&str]); 4] = [
    ("1 % active, new ones", &["-active", "1", "-period", "50ms", "-spawn", "500"]),
    (
        "10 % active, hand-over, growing",
        &["-active", "10", "-period", "200ms", "-handover", "20", "-grow", "20"],
    ),
    ("generators", &["-pull", "50", "-handover", "5"]),
    ("threads in system calls", &["-blocked", "60", "-active", "1", "-period", "50ms"]),
];

/// All scenes of one release.
fn check_release(release: &str) -> Verdict {
    let program = build(release, "default", "load");
    let mut sum = Verdict::default();
    for (name, scene) in SCENES {
        // Coroutines came to users with 1.23.
        if scene.contains(&"-pull") && minor(release) < 23 {
            continue;
        }
        let args: Vec<&str> =
            ["-n", "3000", "-gc", "20ms", "-procs", "2"].iter().chain(scene).copied().collect();
        let target = Target::start(&program, &args, &[]);
        let verdict = check(&target, captures());
        println!("{release}, {name}: accepted {}, different {}", verdict.accepted, verdict.different);
        sum.accepted += verdict.accepted;
        sum.different += verdict.different;
    }
    sum
}

#[test]
fn what_is_accepted_unread_is_what_was_there_in_the_stop() {
    let sum = Mutex::new(Verdict::default());
    tally_all(&newest(), |release| {
        let verdict = check_release(release);
        let mut sum = sum.lock().expect("no job panics while adding");
        sum.accepted += verdict.accepted;
        sum.different += verdict.different;
        Tally::default()
    });
    let sum = sum.into_inner().expect("all jobs are done");
    println!("all: accepted {}, different {}", sum.accepted, sum.different);
    assert!(sum.accepted > 100_000, "only {} goroutines were accepted", sum.accepted);
    assert_eq!(sum.different, 0);
}
