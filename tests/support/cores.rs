//! Cores as the kernel, gcore, Delve and user-mode qemu write them. What a machine can't make is
//! said on stdout and skipped.

use super::{Target, folder};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A core file and what the program wrote before it died.
pub struct Core {
    pub path: PathBuf,
    /// Its folder, when it goes with it; the program's own files are in `out` beside the core.
    pub dir: Option<tempfile::TempDir>,
    pub stderr: String,
    /// What it said on stdout; empty for a process that goes on.
    pub stdout: String,
}

impl Core {
    /// The path as an argument.
    pub fn arg(&self) -> &str {
        self.path.to_str().expect("a path of text")
    }

    /// What the runtime says of all goroutines when it crashes. Afterwards each thread adds its own
    /// stack, below a line of dashes, and `timeout` says that a core was left.
    pub fn runtimes_text(&self) -> String {
        let text = self.stderr.split("\n-----\n").next().unwrap_or_default();
        let text = text.split("\ntimeout: ").next().unwrap_or_default();
        text.lines().map(without_minutes).collect::<Vec<_>>().join("\n")
    }

    /// What the program wrote of itself before.
    pub fn own_text(&self) -> String {
        let text = std::fs::read(self.path.with_file_name("out/stack.txt")).expect("stack.txt");
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A header without how long the goroutine waits, which no core tells: a program that was slow to die says it.
pub fn without_minutes(line: &str) -> String {
    let parts: Vec<&str> = line.split(", ").collect();
    let minutes = |part: &str| part.trim_end_matches("]:").ends_with(" minutes");
    match parts.iter().position(|part| minutes(part)) {
        Some(n) if line.starts_with("goroutine ") => {
            let end = if parts[n].ends_with("]:") { "]:" } else { "" };
            [&parts[..n], &parts[n + 1..]].concat().join(", ") + end
        }
        _ => line.to_owned(),
    }
}

fn skip(what: &str) -> Option<Core> {
    println!("skipped: {what}");
    None
}

/// The core that the kernel writes when `program` (one that takes a folder and a way to die, such as
/// crash) dies by `mode`.
pub fn kernel(program: &Path, mode: &str) -> Option<Core> {
    kernel_with("0x33", program, mode)
}

/// The same with everything in it, code and read-only data too.
pub fn kernel_full(program: &Path, mode: &str) -> Option<Core> {
    kernel_with("0x3f", program, mode)
}

fn kernel_with(filter: &str, program: &Path, mode: &str) -> Option<Core> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    if pattern.contains('/') || pattern.starts_with('|') {
        return skip(&format!("core_pattern sends cores to {}", pattern.trim()));
    }
    died(filter, &[], program, mode, "core")
}

/// The same; where the kernel writes no core here, gdb writes one at the instant of the deadly signal.
pub fn dead(program: &Path, mode: &str) -> Core {
    kernel(program, mode).unwrap_or_else(|| {
        println!("the core of {} is written by gdb instead", program.display());
        gdb(program, mode)
    })
}

/// The core that gdb's `generate-core-file` writes when `program` dies of SIGABRT by `mode`.
pub fn gdb(program: &Path, mode: &str) -> Core {
    let dir = folder();
    std::fs::create_dir(dir.path().join("out")).expect("folder");
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "300", "gdb", "-nx", "-batch", "-iex", "set auto-load off"]);
    command.args(["-ex", "handle SIGQUIT SIGSEGV SIGURG nostop noprint pass"]);
    command.args(["-ex", &format!("run out {mode} 2> stderr"), "-ex", "generate-core-file core"]);
    command.arg(program).current_dir(dir.path()).env("GOTRACEBACK", "crash").stdin(Stdio::null());
    ran(command, "gdb");
    let stderr = std::fs::read(dir.path().join("stderr")).expect("stderr of the program");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    Core { path: dir.path().join("core"), dir: Some(dir), stderr, stdout: String::new() }
}

/// The core of an arm64 `program` that user-mode qemu writes.
pub fn qemu(program: &Path, mode: &str) -> Option<Core> {
    let qemu = ["qemu-aarch64-static", "qemu-aarch64"].into_iter().find(|name| can_run(name));
    let Some(qemu) = qemu else { return skip("there is no qemu-aarch64") };
    died("0", &[qemu, "-L", "/usr/aarch64-linux-gnu"], program, mode, "qemu_")
}

fn can_run(name: &str) -> bool {
    let run = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// Runs `program` until it dies in a folder of its own. With qemu the kernel too writes a core, of
/// qemu, which the filter keeps small.
fn died(filter: &str, runner: &[&str], program: &Path, mode: &str, prefix: &str) -> Option<Core> {
    // The kernel notes paths without links.
    let program = &program.canonicalize().expect("the program is there");
    let dir = folder();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).expect("folder");
    let script = format!("ulimit -c unlimited; echo {filter} > /proc/self/coredump_filter; exec \"$@\"");
    let output = Command::new("timeout")
        .args(["-s", "KILL", "300", "bash", "-c", &script, "bash"])
        .args(runner)
        .args([program, &out, Path::new(mode)])
        .current_dir(dir.path())
        .env("GOTRACEBACK", "crash")
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{} {mode} did not die:\n{stderr}", program.display());
    let entries = std::fs::read_dir(dir.path()).expect("folder").map(|e| e.expect("entry").path());
    let is_core = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    let Some(path) = entries.into_iter().find(is_core) else {
        panic!("{} left no core; its stderr:\n{stderr}", program.display());
    };
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(Core { path, dir: Some(dir), stderr, stdout })
}

/// A core that was brought here in a folder with what the program said.
pub fn brought(folder: &Path) -> Core {
    let stderr = std::fs::read(folder.join("stderr")).expect("stderr of the program");
    let stderr = String::from_utf8_lossy(&stderr);
    // The shell that started the program has the last word.
    let own = stderr.strip_suffix("Aborted (core dumped)\n").unwrap_or(&stderr);
    Core { path: folder.join("core"), dir: None, stderr: own.to_owned(), stdout: String::new() }
}

/// The core of a live process, made by gdb's gcore.
pub fn gcore(target: &Target) -> Option<Core> {
    if !can_run("gdb") {
        return skip("there is no gdb");
    }
    let dir = folder();
    let stem = dir.path().join("core");
    let mut command = Command::new("gcore");
    command.arg("-o").arg(&stem).arg(target.pid().to_string()).stdin(Stdio::null());
    let stderr = ran(command, "gcore");
    let path = dir.path().join(format!("core.{}", target.pid()));
    Some(Core { path, dir: Some(dir), stderr, stdout: String::new() })
}

/// The core of a live process, made by Delve's `dump`.
pub fn delve(target: &Target) -> Option<Core> {
    let version = Command::new("dlv").arg("version").output();
    if !version.is_ok_and(|o| o.status.success()) {
        return skip("there is no dlv");
    }
    let dir = folder();
    let (path, commands) = (dir.path().join("core"), dir.path().join("commands"));
    // The last line answers whether to kill the process.
    std::fs::write(&commands, format!("dump {}\nquit\nn\n", path.display())).expect("commands");
    let mut command = Command::new("dlv");
    command.args(["attach", &target.pid().to_string(), "--check-go-version=false"]);
    command.arg("--allow-non-terminal-interactive=true");
    command.stdin(std::fs::File::open(&commands).expect("commands"));
    let stderr = ran(command, "dlv");
    Some(Core { path, dir: Some(dir), stderr, stdout: String::new() })
}

fn ran(mut command: Command, name: &str) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{name}: {e}"));
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name} failed:\n{text}");
    text
}
