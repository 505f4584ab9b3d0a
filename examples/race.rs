//! The race: allgs against the floor (`examples/floor.rs`) on processes of many sizes and activities, on
//! the newest Go release. Prints a table of medians; the raw runs go into a file.
//!
//! `race RUNS.tsv [STATE...]`, after `cargo build --release --bins --examples` (see `make bench`)

use nix::sys::resource::{UsageWho, getrusage};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

/// Runs of each measurement; the median counts.
const RUNS: usize = 5;

/// Name, program, arguments.
const STATES: [(&str, &str, &[&str]); 9] = [
    ("1k parked", "load", &["-ticker", "-n", "1000"]),
    ("10k parked", "load", &["-ticker", "-n", "10000"]),
    ("100k parked", "load", &["-ticker", "-n", "100000"]),
    ("100k 1%", "load", &["-ticker", "-n", "100000", "-active", "1", "-period", "1s"]),
    ("100k 10%", "load", &["-ticker", "-n", "100000", "-active", "10", "-period", "1s"]),
    ("1M parked", "load", &["-ticker", "-n", "1000000"]),
    ("1M 1%", "load", &["-ticker", "-n", "1000000", "-active", "1", "-period", "5s"]),
    ("100k asleep", "load", &["-n", "100000"]),
    ("1k asleep", "load", &["-n", "1000"]),
];

struct Target {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    _dir: tempfile::TempDir,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    fn start(program: &Path, args: &[&str]) -> Result<Target, Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let mut child = Command::new(program)
            .arg(dir.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        loop {
            let line = lines.next().ok_or("the program ended before READY")??;
            if line.starts_with("READY") {
                return Ok(Target { child, stdin, lines, _dir: dir });
            }
        }
    }

    /// The worst gap of its ticker since the last call, in nanoseconds; 0 without one.
    fn gap(&mut self) -> Result<u64, Box<dyn Error>> {
        writeln!(self.stdin, "gap")?;
        let line = self.lines.next().ok_or("the program ended")??;
        Ok(number(&line, "_ns\":").unwrap_or(0))
    }
}

/// The digits after the first `key`.
fn number(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((word, rest)) if word == "one" => one(rest),
        Some((runs, states)) => race(Path::new(runs), states),
        None => Err("usage: race RUNS.tsv [STATE...]".into()),
    }
}

/// `one OUT CMD...`: runs one command with its output in a file; prints wall, CPU and peak memory.
fn one(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [out, command, rest @ ..] = args else { return Err("one OUT CMD...".into()) };
    let begin = Instant::now();
    let status = Command::new(command).args(rest).stdout(File::create(out)?).status()?;
    let wall = begin.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let cpu = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    println!("{} {} {} {}", wall.as_nanos(), cpu * 1000, usage.max_rss() * 1024, status.success());
    Ok(())
}

fn race(runs: &Path, states: &[String]) -> Result<(), Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let release = own.parent().and_then(Path::parent).ok_or("no target folder")?;
    let tools: [(&str, PathBuf, &[&str]); 4] = [
        ("floor", release.join("examples/floor"), &[]),
        ("allgs list", release.join("allgs"), &["list", "-q"]),
        ("allgs dump json", release.join("allgs"), &["dump", "-q", "--format", "json"]),
        ("allgs list json", release.join("allgs"), &["list", "-q", "--format", "json"]),
    ];
    let mut raw = File::create(runs)?;
    writeln!(raw, "state\ttool\trun\tpause_ns\tgap_ns\twall_ns\tcpu_ns\trss_bytes")?;
    println!("| state | tool | pause ms | / floor | ticker's gap ms | wall s | CPU s | RSS MB |");
    println!("|---|---|---|---|---|---|---|---|");
    for (state, program, args) in STATES {
        if !states.is_empty() && !states.iter().any(|s| s == state) {
            continue;
        }
        let built =
            Command::new("testprogs/setup.sh").args(["build", "1.27.4", "default", program]).output()?;
        let path = PathBuf::from(String::from_utf8(built.stdout)?.trim());
        let mut target = Target::start(&path, args)?;
        let mut all: BTreeMap<usize, Vec<[u64; 5]>> = BTreeMap::new();
        for run in 0..RUNS {
            for (place, (tool, path, args)) in tools.iter().enumerate() {
                let figures = measure(&own, &mut target, path, args)?;
                let words: Vec<String> = figures.iter().map(u64::to_string).collect();
                writeln!(raw, "{state}\t{tool}\t{run}\t{}", words.join("\t"))?;
                all.entry(place).or_default().push(figures);
            }
        }
        print_rows(state, &tools.each_ref().map(|t| t.0), &all);
    }
    Ok(())
}

/// Pause by its own clock, the ticker's worst gap, wall, CPU, peak memory.
fn measure(own: &Path, target: &mut Target, tool: &Path, args: &[&str]) -> Result<[u64; 5], Box<dyn Error>> {
    let out = tempfile::NamedTempFile::new()?;
    target.gap().ok();
    let pid = target.child.id().to_string();
    let run = Command::new(own).arg("one").arg(out.path()).arg(tool).args(args).arg(&pid).output()?;
    let gap = target.gap().unwrap_or(0);
    let text = String::from_utf8(run.stdout)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.last() != Some(&"true") {
        return Err(format!("{} failed: {}", tool.display(), String::from_utf8_lossy(&run.stderr)).into());
    }
    let figure = |i: usize| words.get(i).and_then(|w| w.parse().ok()).unwrap_or(0);
    let head = head_of(out.path())?;
    let pause = number(&head, "\"pause_ns\":").or_else(|| head.trim().parse().ok()).unwrap_or(0);
    Ok([pause, gap, figure(0), figure(1), figure(2)])
}

/// The beginning of what a tool printed: the pause is said there.
fn head_of(path: &Path) -> Result<String, Box<dyn Error>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)?.take(1 << 16).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print_rows(state: &str, tools: &[&str], all: &BTreeMap<usize, Vec<[u64; 5]>>) {
    let median = |place: usize, column: usize| {
        let mut values: Vec<u64> =
            all.get(&place).into_iter().flatten().filter_map(|run| run.get(column).copied()).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let floor = median(0, 0).max(1) as f64;
    for (place, tool) in tools.iter().enumerate() {
        let pause = median(place, 0) as f64;
        println!(
            "| {state} | {tool} | {:.2} | {:.4} | {:.1} | {:.2} | {:.2} | {:.0} |",
            pause / 1e6,
            pause / floor,
            median(place, 1) as f64 / 1e6,
            median(place, 2) as f64 / 1e9,
            median(place, 3) as f64 / 1e9,
            median(place, 4) as f64 / 1e6,
        );
    }
}
