//! The tools that look: allgs, the floor, debuggers, and the runtime itself.

use crate::Outcome;
use crate::target::{RELEASE, Target, number};
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What one look cost. Nanoseconds and bytes; nothing where the tool does not tell.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// How long the target stood still by the tool's own clock.
    pub pause: Option<u64>,
    /// The worst gap of the target's ticker.
    pub gap: Option<u64>,
    pub wall: Option<u64>,
    pub cpu: Option<u64>,
    pub rss: Option<u64>,
}

/// How a tool is made to look.
pub enum Way {
    /// A program; the number of the process is its last argument.
    Program(PathBuf, Vec<String>),
    /// A program that is told what to do after the number of the process.
    Debugger(PathBuf, Vec<String>, Vec<String>),
    /// The target is asked for its own stacks.
    Runtime,
}

pub struct Tool {
    pub name: &'static str,
    pub way: Way,
    /// Goroutines beyond which it is not tried: it would take minutes.
    pub most: usize,
    /// Runs at 100,000 goroutines and more.
    pub runs_of_many: usize,
}

/// Seconds after which a tool is given up.
const LIMIT: &str = "600";

/// Those that can be found, the floor first.
pub fn all(release: &Path, dir: &Path) -> Outcome<Vec<Tool>> {
    let allgs = release.join("allgs");
    let of = |args: &[&str]| Way::Program(allgs.clone(), args.iter().map(|a| (*a).to_owned()).collect());
    let own = |name, args: &[&str]| Tool { name, way: of(args), most: usize::MAX, runs_of_many: usize::MAX };
    let floor = Way::Program(release.join("examples/floor"), Vec::new());
    // What the ticker sees of the machine alone.
    let nobody = Way::Debugger("sh".into(), vec!["-c".to_owned(), "sleep 0.5".to_owned()], Vec::new());
    let mut tools = vec![
        Tool { name: "floor", way: floor, most: usize::MAX, runs_of_many: usize::MAX },
        Tool { name: "nobody, for half a second", way: nobody, most: usize::MAX, runs_of_many: usize::MAX },
        own("allgs list", &["list", "-q"]),
        own("allgs list, JSON", &["list", "-q", "--format", "json"]),
        own("allgs dump, JSON", &["dump", "-q", "--format", "json"]),
        Tool { name: "runtime, debug=2", way: Way::Runtime, most: usize::MAX, runs_of_many: 1 },
    ];
    tools.extend(delve(dir)?);
    tools.extend(gdb());
    Ok(tools)
}

fn delve(dir: &Path) -> Outcome<Option<Tool>> {
    let built = Command::new("testprogs/setup.sh").arg("delve").output()?;
    if !built.status.success() {
        eprintln!("without Delve: {}", String::from_utf8_lossy(&built.stderr).trim());
        return Ok(None);
    }
    let script = dir.join("delve");
    std::fs::write(&script, "goroutines -t 50\nexit\n")?;
    let words = ["--allow-non-terminal-interactive=true", "--check-go-version=false", "--init"];
    let mut after: Vec<String> = words.map(str::to_owned).to_vec();
    after.push(script.display().to_string());
    let way = Way::Debugger(String::from_utf8(built.stdout)?.trim().into(), vec!["attach".to_owned()], after);
    Ok(Some(Tool { name: "Delve, goroutines -t", way, most: 100_000, runs_of_many: 1 }))
}

fn gdb() -> Option<Tool> {
    let toolchain = format!("go{RELEASE}");
    let root = Command::new("go").args(["env", "GOROOT"]).env("GOTOOLCHAIN", toolchain).output().ok()?;
    let script = Path::new(String::from_utf8(root.stdout).ok()?.trim()).join("src/runtime/runtime-gdb.py");
    let there = Command::new("gdb").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there || !script.is_file() {
        eprintln!("without gdb: no gdb, or no {}", script.display());
        return None;
    }
    let source = format!("source {}", script.display());
    let after = ["-batch", "-nx", "-ex", &source, "-ex", "info goroutines"].map(str::to_owned);
    let way = Way::Debugger("gdb".into(), vec!["-p".to_owned()], after.to_vec());
    Some(Tool { name: "gdb, info goroutines", way, most: 100_000, runs_of_many: 1 })
}

impl Tool {
    /// Looks at the target once.
    pub fn look(&self, target: &mut Target) -> Outcome<Figures> {
        target.gap()?;
        let pid = target.pid().to_string();
        let mut figures = match &self.way {
            Way::Runtime => {
                let took = number(&target.ask("stacks")?, "took_ns\":");
                Figures { pause: took, wall: took, ..Figures::default() }
            }
            Way::Program(program, args) => run(program, &[args.as_slice(), &[pid]].concat())?,
            Way::Debugger(program, before, after) => {
                run(program, &[before.as_slice(), &[pid], after].concat())?
            }
        };
        figures.gap = target.gap()?;
        Ok(figures)
    }
}

/// Runs a program by a process of its own, whose children's use of resources is then that program's.
pub fn run(program: &Path, args: &[String]) -> Outcome<Figures> {
    let out = tempfile::NamedTempFile::new()?;
    let own = std::env::current_exe()?;
    let mut command = Command::new(own);
    command.arg("one").arg(out.path()).arg(program).args(args);
    let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Delve asks at its end whether it shall kill the target. Others do not read.
    let _ = run.stdin.take().map(|mut stdin| stdin.write_all(b"n\n"));
    let run = run.wait_with_output()?;
    let text = String::from_utf8(run.stdout)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.last() != Some(&"true") {
        let why = String::from_utf8_lossy(&run.stderr);
        return Err(format!("{} failed: {why}", program.display()).into());
    }
    let figure = |i: usize| words.get(i).and_then(|w| w.parse().ok());
    let mut head = Vec::new();
    File::open(out.path())?.take(1 << 16).read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let pause = number(&head, "\"pause_ns\":").or_else(|| head.trim().parse().ok());
    Ok(Figures { pause, gap: None, wall: figure(0), cpu: figure(1), rss: figure(2) })
}

/// `one OUT CMD...`: runs one command with its output in a file; prints wall, CPU and peak memory.
pub fn one(args: &[String]) -> Outcome<()> {
    let [out, command @ ..] = args else { return Err("one OUT CMD...".into()) };
    let begin = Instant::now();
    let mut child = Command::new("timeout");
    let status = child.arg(LIMIT).args(command).stdout(File::create(out)?).status()?;
    let wall = begin.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let cpu = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    println!("{} {} {} {}", wall.as_nanos(), cpu * 1000, usage.max_rss() * 1024, status.success());
    Ok(())
}
