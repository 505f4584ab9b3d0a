//! How long the parts take that follow a capture: decoding, unwinding, naming. The goroutines are those of
//! `testprogs/load`, read once, without a stop.
//!
//! `make bench-parts`

use allgs::addr::Pid;
use allgs::image::layout::field::StructView;
use allgs::image::{Image, OpenOptions};
use allgs::runtime::capture::CaptureOptions;
use allgs::runtime::{Snapshot, decode};
use allgs::source::{Source, live::LiveProcess};
use allgs::unwind::{Unwinder, stacks::Stacks};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RELEASE: &str = "1.27.4";
const GOROUTINES: &str = "10000";

/// The target; it ends with this.
struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &std::path::Path) -> Target {
    let built = Command::new("testprogs/setup.sh").args(["build", RELEASE, "default", "load"]).output();
    let path = String::from_utf8(built.expect("setup.sh runs").stdout).expect("a path");
    let mut command = Command::new(path.trim());
    command.arg(dir).args(["-n", GOROUTINES]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut target = Target(command.spawn().expect("the program starts"));
    let lines = BufReader::new(target.0.stdout.take().expect("stdout")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.starts_with("READY")), "it ended before READY");
    target
}

/// Rounds of each part; the median counts.
const ROUNDS: usize = 21;

/// How long a round takes at least.
const ROUND: Duration = Duration::from_millis(50);

/// Prints what one call of `part` takes, and what of that falls to each of `count` things.
fn time<R>(name: &str, count: usize, mut part: impl FnMut() -> R) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begin, mut calls) = (Instant::now(), 0.0);
            while begin.elapsed() < ROUND {
                black_box(part());
                calls += 1.0;
            }
            begin.elapsed().as_secs_f64() / calls
        })
        .collect();
    rounds.sort_unstable_by(f64::total_cmp);
    let (median, best) = (rounds[ROUNDS / 2], rounds[0]);
    let each = median / count as f64;
    println!(
        "{name:<28} {:>12.3} us   best {:>12.3} us   each {:>8.3} us",
        median * 1e6,
        best * 1e6,
        each * 1e6
    );
}

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = start(dir.path());
    let source = LiveProcess::open(Pid(target.0.id() as i32)).expect("the process can be opened");
    let image = Image::open(&source, &OpenOptions::default()).expect("the image can be opened");
    let snapshot = Snapshot::take(&source, &image, &CaptureOptions::UNSTOPPED).expect("a snapshot");
    let unwinder = Unwinder::new(&image, &snapshot);
    let deepest = snapshot.gs.iter().max_by_key(|g| unwinder.walk(g).frames.len()).expect("goroutines");
    let walk = unwinder.walk(deepest);
    let (frames, all) = (walk.frames.len(), snapshot.gs.len());

    let mut bytes = vec![0; image.layouts.g.size as usize];
    source.memory().read(deepest.at, &mut bytes).expect("a g");
    let view = StructView::new(&bytes, deepest.at);
    time("decode a g", 1, || decode::g(black_box(view), &image.layouts.g, &image.rules));
    let mut walker = unwinder.walker();
    time(&format!("unwind {frames} frames"), frames, || unwinder.walk_with(&mut walker, black_box(deepest)));
    time(&format!("name {frames} frames"), frames, || unwinder.symbolize(black_box(&walk)));
    time(&format!("unwind and name {all}"), all, || Stacks::of(&unwinder, &snapshot.gs));
    time(&format!("capture {all}, no stop"), all, || {
        Snapshot::take(&source, &image, &CaptureOptions::UNSTOPPED).is_ok()
    });
}
