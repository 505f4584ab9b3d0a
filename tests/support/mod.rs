//! What tests share: building the Go test programs, running them as guarded children, running allgs,
//! and cutting the runtime's text into goroutines.
#![allow(dead_code)]

pub mod cores;
pub mod crashed;
pub mod not_go;
pub mod oracle;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for a line of a child: machines are busy, but nothing waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the whole product is asked for: all releases, kinds and rounds.
pub fn whole_product() -> bool {
    std::env::var("ALLGS_PRODUCT").is_ok_and(|value| value == "all")
}

/// A number of rounds: `few`, or `all` of the whole product.
pub fn many(few: u64, all: u64) -> u64 {
    if whole_product() { all } else { few }
}

/// Waits until `done`, no longer than `limit`; only a target that hangs lets it fail.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Releases of `testprogs/releases.txt`.
pub fn releases() -> Vec<String> {
    let text = std::fs::read_to_string(repo().join("testprogs/releases.txt")).expect("releases.txt");
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    lines.filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect()
}

/// The newest patch of each minor release.
pub fn newest() -> Vec<String> {
    let mut by_minor = BTreeMap::new();
    for release in releases() {
        let mut parts = release.split('.').skip(1).map(|p| p.parse::<u32>().expect("number"));
        let minor = parts.next().expect("minor");
        let patch = parts.next().unwrap_or(0);
        let entry = by_minor.entry(minor).or_insert((patch, release.clone()));
        if patch > entry.0 {
            *entry = (patch, release);
        }
    }
    by_minor.into_values().map(|(_, release)| release).collect()
}

/// Builds a test program and returns its path.
pub fn build(release: &str, kind: &str, prog: &str) -> PathBuf {
    let output = Command::new(repo().join("testprogs/setup.sh"))
        .args(["build", release, kind, prog])
        .stdin(Stdio::null())
        .output()
        .expect("setup.sh can be started");
    assert!(
        output.status.success(),
        "building {prog} for {release} ({kind}) failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let path = String::from_utf8(output.stdout).expect("a path").trim().to_owned();
    assert!(Path::new(&path).is_file(), "setup.sh printed {path:?}");
    path.into()
}

/// A folder that is removed with its content.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// A test program that runs until this is dropped.
pub struct Target {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// The line that said READY.
    pub ready: String,
    /// The lines before it.
    pub said: Vec<String>,
    /// Where it writes its files.
    pub dir: tempfile::TempDir,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Target {
    /// Starts `program` with an output folder, `args` and `env`, and waits for its READY.
    pub fn start(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Target {
        let dir = folder();
        let mut command = Command::new(program);
        command.arg(dir.path()).args(args).envs(env.iter().copied());
        Target::spawn(command, dir)
    }

    /// Starts a prepared command and waits for its READY.
    pub fn spawn(mut command: Command, dir: tempfile::TempDir) -> Target {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the test program starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout");
        let mut errors = child.stderr.take().expect("stderr");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut target =
            Target { child, stdin, lines, ready: String::new(), said: Vec::new(), dir, stderr: Some(stderr) };
        target.ready = target.wait_for("READY");
        target
    }

    /// Waits for a line that begins with `start`.
    pub fn wait_for(&mut self, start: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(line) => self.said.push(line),
                Err(_) => {
                    let _ = self.child.kill();
                    let stderr = self.stderr.take().map(|t| t.join().unwrap_or_default());
                    panic!(
                        "no line {start:?} from the test program; its stderr:\n{}",
                        stderr.unwrap_or_default()
                    );
                }
            }
        }
    }

    /// Sends a line to the program.
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").expect("the program reads its stdin");
    }

    /// Next line of the program.
    pub fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of the test program")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file that the program wrote.
    pub fn file(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir.path().join(name)).expect(name);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid() as i32), signal).expect("signal");
    }

    /// Whether it is still there, and its exit status if not.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits for its end; returns all that it wrote on stderr.
    pub fn end(mut self) -> String {
        self.child.wait().expect("wait");
        self.stderr.take().map(|t| t.join().unwrap_or_default()).unwrap_or_default()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs allgs and returns what it printed.
pub fn allgs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_allgs")).args(args).stdin(Stdio::null()).output().expect("allgs starts")
}

/// Runs allgs, which must succeed; returns its stdout.
pub fn allgs_ok(args: &[&str]) -> String {
    let output = allgs(args);
    assert!(
        output.status.success(),
        "allgs {args:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The goroutines of the runtime's text: number and block, in order.
pub fn blocks(text: &str) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for block in text.split("\n\n") {
        let block = block.trim_matches('\n');
        let id = block
            .strip_prefix("goroutine ")
            .and_then(|rest| rest.split([' ', '[']).next())
            .and_then(|number| number.parse().ok());
        if let Some(id) = id {
            found.push((id, block.to_owned()));
        }
    }
    found
}

/// How many goroutines were compared and how many were equal.
#[derive(Default, Clone, Copy)]
pub struct Tally {
    pub compared: usize,
    pub equal: usize,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.compared += other.compared;
        self.equal += other.equal;
    }
}

/// Compares the goroutines of `wanted` that `judge` accepts with those of `got`; prints what differs.
pub fn compare(name: &str, wanted: &str, got: &str, judge: impl Fn(&str) -> bool) -> Tally {
    let equal = equal_by_id(name, wanted, got, judge);
    Tally { compared: equal.len(), equal: equal.iter().filter(|(_, equal)| *equal).count() }
}

/// The same, with the numbers of all that were compared and whether each is equal.
pub fn equal_by_id(name: &str, wanted: &str, got: &str, judge: impl Fn(&str) -> bool) -> Vec<(u64, bool)> {
    let got: BTreeMap<u64, String> = blocks(got).into_iter().collect();
    let compared = blocks(wanted).into_iter().filter(|(_, want)| judge(want));
    let equal = |(id, want): (u64, String)| {
        match got.get(&id) {
            Some(block) if *block == want => return (id, true),
            Some(block) => print_difference(name, id, &want, block),
            None => println!("{name}: goroutine {id} is missing; the runtime says\n{want}\n"),
        }
        (id, false)
    };
    compared.map(equal).collect()
}

fn print_difference(name: &str, id: u64, want: &str, got: &str) {
    let (want, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
    let at = want.iter().zip(&got).position(|(a, b)| a != b).unwrap_or(want.len().min(got.len()));
    let from = at.saturating_sub(2);
    println!("{name}: goroutine {id} differs in line {} ({} and {} lines):", at + 1, want.len(), got.len());
    for line in want.iter().skip(from).take(6) {
        println!("  runtime  {line}");
    }
    for line in got.iter().skip(from).take(6) {
        println!("  allgs    {line}");
    }
}

/// Runs `job` for each item on two threads, as many as CI has cores, and adds up. A panic of one job
/// does not keep the others from running; it is passed on at the end.
pub fn tally_all<T: Sync>(items: &[T], job: impl Fn(&T) -> Tally + Sync) -> Tally {
    let mut sum = Tally::default();
    each(items, job).into_iter().for_each(|tally| sum.add(tally));
    sum
}

/// The same, with each job's answer, in the order in which they came.
pub fn each<T: Sync, R: Send>(items: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = job(item);
                    answers.lock().expect("no job panics while adding").push(answer);
                }
            });
        }
    });
    answers.into_inner().expect("all jobs are done")
}
