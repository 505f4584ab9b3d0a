//! The processes that are looked at: `testprogs/load` in many sizes.

use crate::Outcome;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The Go release of all targets.
pub const RELEASE: &str = "1.27.4";

/// A running test program; it ends with this.
pub struct Target {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _dir: tempfile::TempDir,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds a test program.
pub fn build(program: &str) -> Outcome<PathBuf> {
    let built = Command::new("testprogs/setup.sh").args(["build", RELEASE, "default", program]).output()?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).into());
    }
    Ok(PathBuf::from(String::from_utf8(built.stdout)?.trim()))
}

impl Target {
    /// Starts a program and waits until it is in the state that it is to be measured in.
    pub fn start(program: &Path, args: &[&str]) -> Outcome<Target> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.arg(dir.path()).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        loop {
            let line = lines.next().ok_or("the program ended before READY")??;
            if line.starts_with("READY") {
                return Ok(Target { child, stdin, lines, _dir: dir });
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line and returns the answer.
    pub fn ask(&mut self, line: &str) -> Outcome<String> {
        writeln!(self.stdin, "{line}")?;
        Ok(self.lines.next().ok_or("the program ended")??)
    }

    /// The worst gap of its ticker since the last call, in nanoseconds; nothing without one.
    pub fn gap(&mut self) -> Outcome<Option<u64>> {
        Ok(number(&self.ask("gap")?, "_ns\":").filter(|gap| *gap > 0))
    }
}

/// The digits after the first `key`.
pub fn number(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
