//! Cores that lack their end or have wrong bytes, read by the command as a person would: it answers
//! and says what is missing, or gives up with a reason. It never panics, hangs or takes all memory,
//! and what it shows of a cut core as complete is what the whole core has.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use support::cores::{self, Core};
use support::{Tally, allgs_ok, build, many, tally_all};

/// Most memory that a run may take, in KiB; pages of the mapped file are not counted.
const MOST_MEMORY: &str = "524288";

/// Processor time of a run after which it counts as hanging, in seconds: the command answers in
/// 2, without optimization in five times that.
const MOST_TIME: &str = if cfg!(debug_assertions) { "10" } else { "2" };

/// Numbers that look random and are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(0x2545_f491_4f6c_dd1d ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A program and its core.
struct Dead {
    core: Core,
    exe: PathBuf,
}

fn dead(kind: &str) -> Option<Dead> {
    let exe = build("1.27.4", kind, "crash");
    Some(Dead { core: cores::kernel(&exe, "nil")?, exe })
}

/// Runs allgs with limits on its memory and time; it must answer, or say why not.
fn limited(name: &str, command: &str, core: &Path, exe: &Path) -> Output {
    let script = format!("ulimit -c 0; ulimit -d {MOST_MEMORY}; ulimit -t {MOST_TIME}; exec \"$@\"");
    let output = Command::new("bash")
        .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_allgs"), command])
        .args(["--format", "json"])
        .arg(core)
        .arg("--exe")
        .arg(exe)
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(2) => assert!(stderr.starts_with("allgs: "), "{name} {command}: no reason\n{stderr}"),
        _ => panic!("{name} {command}: {}\n{stderr}", output.status),
    }
    assert!(!stderr.contains("panicked"), "{name} {command}:\n{stderr}");
    output
}

/// The document of a run that answered.
fn document(name: &str, output: &Output) -> Option<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    output.status.success().then(|| {
        serde_json::from_str(text)
            .unwrap_or_else(|e| panic!("{name}: {e}\n{}", text.get(..300).unwrap_or(text)))
    })
}

/// Frames by goroutine, of those whose stack is complete.
fn complete(document: &Value) -> BTreeMap<u64, Value> {
    let goroutines = document["goroutines"].as_array().expect("goroutines");
    let whole = goroutines.iter().filter(|g| g["stack_end"] == "complete");
    whole.map(|g| (g["id"].as_u64().expect("a number"), g["frames"].clone())).collect()
}

/// A copy of a core that is damaged again and again.
struct Copy {
    path: PathBuf,
    file: std::fs::File,
    len: u64,
    /// Bytes that were changed: where, and what was there.
    changed: Vec<(u64, u8)>,
}

impl Copy {
    fn of(core: &Path, name: &str) -> Copy {
        let path = core.with_file_name(name);
        // A core is mostly holes, which a plain copy would fill.
        let status = Command::new("cp").arg("--sparse=always").args([core, &path]).status().expect("cp");
        assert!(status.success());
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("copy");
        let len = file.metadata().expect("copy").len();
        Copy { path, file, len, changed: Vec::new() }
    }

    fn change(&mut self, at: u64, byte: u8) {
        let mut old = [0];
        self.file.read_exact_at(&mut old, at).expect("read");
        self.file.write_all_at(&[byte], at).expect("change");
        self.changed.push((at, old[0]));
    }

    fn mend(&mut self) {
        for (at, byte) in self.changed.drain(..).rev() {
            self.file.write_all_at(&[byte], at).expect("mend");
        }
    }
}

/// Cuts a core of `kind` shorter and shorter; returns how many were answered and how many stacks of
/// those were shown as complete.
fn cut(kind: &str, cuts: u64) -> Option<(u64, usize)> {
    let dead = dead(kind)?;
    let exe = dead.exe.to_str().expect("a path of text");
    let whole = allgs_ok(&["dump", "--format", "json", dead.core.arg(), "--exe", exe]);
    let whole = complete(&serde_json::from_str(&whole).expect("JSON"));
    let copy = Copy::of(&dead.core.path, "cut");
    let (mut answered, mut shown) = (0, 0);
    for i in 1..=cuts {
        let len = copy.len / (cuts + 1) * (cuts + 1 - i);
        copy.file.set_len(len).expect("cut");
        let name = format!("{kind} cut at {len}");
        let output = limited(&name, "dump", &copy.path, &dead.exe);
        let Some(document) = document(&name, &output) else { continue };
        let said = document["diagnostics"].to_string();
        assert!(said.contains("the core file is cut"), "{name}: {said}");
        answered += 1;
        for (id, frames) in complete(&document) {
            assert_eq!(whole.get(&id), Some(&frames), "{name}: goroutine {id} is shown as complete");
            shown += 1;
        }
    }
    assert!(answered > 0 && shown > whole.len(), "{kind}: hardly any cut core was shown");
    Some((answered, shown))
}

#[test]
fn a_core_cut_at_any_length_is_shown_as_far_as_it_goes() {
    let cuts = many(100, 200);
    tally_all(&["default", "pie-s"], |kind| {
        if let Some((answered, shown)) = cut(kind, cuts) {
            println!("{kind}: {cuts} cuts, {answered} answered with {shown} complete stacks, all right");
        }
        Tally::default()
    });
}

/// Runs a command on `runs` damages of a core of `kind`, each made by `change`.
fn damage(kind: &str, runs: u64, change: impl Fn(&mut Copy, &mut Random, u64) + Sync) -> u64 {
    let Some(dead) = dead(kind) else { return runs };
    let answered = AtomicU64::new(0);
    tally_all(&[0, 1], |worker| {
        let mut copy = Copy::of(&dead.core.path, &format!("damaged{worker}"));
        for i in (*worker..runs).step_by(2) {
            change(&mut copy, &mut Random::new(i), i);
            let command = ["dump", "list", "info"][i as usize % 3];
            let name = format!("{kind}, damage {i}");
            let output = limited(&name, command, &copy.path, &dead.exe);
            answered.fetch_add(u64::from(document(&name, &output).is_some()), Ordering::Relaxed);
            copy.mend();
        }
        Tally::default()
    });
    answered.into_inner()
}

/// Where damage is done: the ELF header, the table of segments, the notes, all of the file.
fn reach(i: u64, len: u64) -> u64 {
    [64, 4096, 1 << 15, len][i as usize / 2 % 4].min(len)
}

#[test]
fn a_single_changed_byte_does_no_harm() {
    let runs = many(200, 10_000);
    let answered = damage("s", runs, |copy, random, i| {
        let at = random.below(reach(i, copy.len));
        copy.change(at, random.below(256) as u8);
    });
    println!("one byte changed: {runs} cores, {answered} answered, the others refused with a reason");
    assert!(answered * 2 > runs);
}

#[test]
fn ten_thousand_changed_bytes_do_no_harm() {
    let runs = many(20, 300);
    let answered = damage("default", runs, |copy, random, i| {
        // Behind the header, which alone would end it; half of them behind the notes too.
        let from = if i % 4 < 2 { 64 } else { 1 << 15 };
        for _ in 0..10_000 {
            let at = from + random.below(copy.len - from);
            copy.change(at, random.below(256) as u8);
        }
    });
    println!("10,000 bytes changed: {runs} cores, {answered} answered, the others refused with a reason");
}
