//! Frames of C code: above goroutines in cgo calls, between Go frames where C called back, and at the
//! beginning of threads that C made. testprogs/native/frames.txt is the truth: all declared frames must be
//! there, in order, and no others.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use support::{Target, allgs_ok, build, cores, repo};

/// How many declared frames there are, how many were found, and how many others were.
#[derive(Default, Debug, Clone, Copy)]
struct Score {
    declared: usize,
    found: usize,
    wrong: usize,
    gaps: usize,
}

/// Declared frames of each goroutine, by the Go function that the goroutine is known by.
fn truth() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(repo().join("testprogs/native/frames.txt")).expect("frames.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pair = |line: &str| {
        let (name, frames) = line.split_once(": ").expect("NAME: FRAMES");
        (format!("main.{name}"), frames.split(' ').map(str::to_owned).collect())
    };
    lines.map(pair).collect()
}

/// A frame in the words of frames.txt; `None` for those of the runtime.
fn word(frame: &Value, stripped: bool) -> Option<String> {
    let function = frame["function"].as_str().expect("a name").replace(' ', "");
    if frame["kind"] == "go" {
        let glue = ["runtime.", "_cgoexp_", "crosscall2"];
        return (!glue.iter().any(|start| function.starts_with(start))).then_some(function);
    }
    assert_eq!(frame["kind"], "c", "{frame}");
    if stripped && function.starts_with("native+0x") {
        return Some("native".to_owned());
    }
    let of_cgo = function.starts_with("_cgo_") && function.contains("_Cfunc_");
    Some(if of_cgo { "cgo".to_owned() } else { function })
}

fn of_program(word: &str) -> bool {
    ["c_", "main.", "shape::", "cgo", "go", "own_main", "foreign_main", "native"]
        .iter()
        .any(|start| word.starts_with(start))
}

/// Puts `libc` for each run of frames that are not the program's.
fn folded(words: Vec<String>) -> Vec<String> {
    let mut folded: Vec<String> = Vec::new();
    for word in words {
        let word = if of_program(&word) { word } else { "libc".to_owned() };
        if word != "libc" || folded.last() != Some(&word) {
            folded.push(word);
        }
    }
    folded
}

/// Whether a frame is the declared one; in a stripped file, functions of C that it does not export have no
/// names (which ones it exports depends on the release).
fn is(got: &str, declared: &str) -> bool {
    let of_c = declared != "libc" && !declared.starts_with("main.");
    got == declared || got == "native" && of_c
}

fn compare(name: &str, document: &Value, stripped: bool, spins: bool) -> Score {
    let mut score = Score::default();
    let goroutines = document["goroutines"].as_array().expect("goroutines");
    for (function, declared) in truth() {
        if function == "main.spins" && !spins {
            continue;
        }
        // The outermost function of the program's own in Go names the goroutine.
        let of = |g: &&Value| {
            let names = g["frames"].as_array().expect("frames").iter().filter(|f| f["kind"] == "go");
            let mut own = names.filter_map(|f| f["function"].as_str()).filter(|f| f.starts_with("main."));
            own.next_back() == Some(&*function)
        };
        let found: Vec<&Value> = goroutines.iter().filter(of).collect();
        let [goroutine] = found[..] else { panic!("{name}: {} goroutines in {function}", found.len()) };
        let frames = goroutine["frames"].as_array().expect("frames");
        let got = folded(frames.iter().filter_map(|frame| word(frame, stripped)).collect());
        let gaps = goroutine["gaps"].as_array().map_or(0, Vec::len);
        score.declared += declared.len();
        score.gaps += gaps;
        if got.len() == declared.len() && got.iter().zip(&declared).all(|(got, want)| is(got, want)) {
            score.found += declared.len();
            continue;
        }
        println!(
            "{name}: {function}\n  declared {declared:?}\n  got      {got:?}\n  gaps     {}",
            goroutine["gaps"]
        );
        println!("  diagnostics {} {}", document["diagnostics"], document["capture"]["consistency"]);
        // A gap leaves frames out; it must not put others in, nor in another order.
        let mut rest = declared.iter();
        for word in &got {
            match rest.any(|declared| is(word, declared)) {
                true => score.found += 1,
                false => score.wrong += 1,
            }
        }
        if gaps == 0 {
            score.wrong += 1;
        }
    }
    score
}

/// What allgs says. On a busy machine a thread may take longer to stop than allgs waits, which it says: then
/// it is asked again.
fn document(args: &[&str]) -> Value {
    let ask = || serde_json::from_str::<Value>(&allgs_ok(args)).expect("JSON");
    let unstopped = |document: &Value| {
        let diagnostics = document["diagnostics"].as_array().expect("diagnostics").iter();
        diagnostics.filter_map(|d| d["what"].as_str()).any(|what| what.contains("did not stop"))
    };
    let mut document = ask();
    for _ in 0..10 {
        if !unstopped(&document) {
            break;
        }
        println!("a thread did not stop in time: asked again");
        document = ask();
    }
    document
}

fn add(to: &mut Score, name: &str, score: Score) {
    println!("{name}: {score:?}");
    to.declared += score.declared;
    to.found += score.found;
    to.wrong += score.wrong;
    to.gaps += score.gaps;
}

const PAIRS: [(&str, &str); 7] = [
    ("1.18.10", "cgo"),
    ("1.18.10", "cgo-s"),
    ("1.22.12", "cgo-pie"),
    ("1.22.12", "cgo-s"),
    ("1.27.4", "cgo"),
    ("1.27.4", "cgo-s"),
    ("1.27.4", "cgo-pie"),
];

fn live(program: &Path, mode: &str, stripped: bool) -> Score {
    let target = Target::start(program, &[mode], &[]);
    let pid = target.pid().to_string();
    let name = format!("{} {mode}", program.display());
    compare(&name, &document(&["dump", "--format", "json", &pid]), stripped, mode != "sleep")
}

#[test]
fn live_frames_of_c_are_those_declared() {
    let mut all = Score::default();
    for (release, kind) in PAIRS {
        let program = build(release, kind, "native");
        let stripped = kind.ends_with("-s");
        add(&mut all, &format!("{release} {kind} running"), live(&program, "spin", stripped));
        add(&mut all, &format!("{release} {kind} asleep"), live(&program, "sleep", stripped));
    }
    println!("live, declared frames: {all:?}");
    assert_eq!((all.found, all.wrong), (all.declared, 0));
}

#[test]
fn frames_of_c_in_cores_are_those_declared() {
    let mut all = Score::default();
    for (release, kind) in PAIRS {
        let program = build(release, kind, "native");
        let core = cores::dead(&program, "abort");
        let found = document(&["dump", "--format", "json", core.arg()]);
        let score = compare(&format!("{release} {kind}"), &found, kind.ends_with("-s"), true);
        add(&mut all, &format!("{release} {kind} core"), score);
    }
    println!("cores, declared frames: {all:?}");
    assert_eq!((all.found, all.wrong), (all.declared, 0));
}

/// Role and goroutine of each thread, with the functions of its frames.
fn threads(document: &Value) -> Vec<(String, Option<u64>, Vec<String>)> {
    let all = document["threads"].as_array().expect("threads").iter();
    let thread = |t: &Value| {
        let frames = t["frames"].as_array().expect("frames").iter();
        let names = frames.map(|f| f["function"].as_str().expect("a name").to_owned()).collect();
        (t["role"].as_str().expect("a role").to_owned(), t["goroutine"].as_u64(), names)
    };
    all.map(thread).collect()
}

/// The declared threads are there, each once, with the goroutine that it is there for.
fn check_threads(name: &str, document: &Value, in_c: usize) {
    let threads = threads(document);
    println!("{name}: {threads:#?}");
    let of = |role: &str| threads.iter().filter(|(r, ..)| r == role).collect::<Vec<_>>();
    let ends = document["threads"].as_array().expect("threads").iter().map(|t| &t["stack_end"]);
    assert!(ends.clone().all(|end| end == "complete"), "{name}: {:?}", ends.collect::<Vec<_>>());
    assert_eq!(of("in_c").len(), in_c, "{name}");
    assert_eq!(of("sysmon").len(), 1, "{name}");
    // Of goroutines that park while C waits for them: main.park and main.parkOnForeignThread.
    assert_eq!(of("waits_for_locked").len(), 2, "{name}");
    let ids = document["goroutines"].as_array().expect("goroutines").iter().map(|g| g["id"].as_u64());
    let ids: Vec<Option<u64>> = ids.collect();
    assert!(of("in_c").iter().all(|(_, goroutine, _)| ids.contains(goroutine)), "{name}");
    let [(_, None, names)] = of("native")[..] else { panic!("{name}: not one thread of C") };
    let own: Vec<&str> = names.iter().map(String::as_str).filter(|n| of_program(n)).collect();
    assert_eq!(own, ["c_leaf", "c_branch", "c_root", "own_main"], "{name}");
}

#[test]
fn threads_are_listed_with_what_they_are_there_for() {
    let program = build("1.27.4", "cgo", "native");
    for (mode, in_c) in [("sleep", 4), ("spin", 5)] {
        let target = Target::start(&program, &[mode], &[]);
        let args = ["dump", "--threads", "--format", "json", &target.pid().to_string()];
        check_threads(mode, &document(&args), in_c);
    }
    let core = cores::dead(&program, "abort");
    check_threads("core", &document(&["dump", "--threads", "--format", "json", core.arg()]), 5);
}
