//! Source, live: the files of `/proc/PID`. All are opened relative to one handle of the directory, which
//! stays with its process: should the number be given to another process, they fail instead of
//! telling of that one.

use crate::addr::Pid;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The directory `/proc/PID`.
#[derive(Debug)]
pub(super) struct ProcDir(OwnedFd);

impl ProcDir {
    /// Opens the directory of a process, or of a thread by its number.
    pub(super) fn open(pid: Pid) -> Result<ProcDir, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(format!("/proc/{pid}").as_str(), flags, Mode::empty()).map(ProcDir)
    }

    /// Opens a file of the directory for reading.
    pub(super) fn file(&self, name: &str) -> Result<File, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        openat(&self.0, name, flags, Mode::empty()).map(File::from)
    }

    /// Reads at most `limit` bytes of a file.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Where a symbolic link of the directory points.
    pub(super) fn link(&self, name: &str) -> Result<PathBuf, Errno> {
        readlinkat(&self.0, name).map(PathBuf::from)
    }

    /// The state of a thread, from `task/TID/stat`.
    pub(super) fn thread_stat(&self, tid: i32) -> io::Result<Stat> {
        parse_stat(&self.read(&format!("task/{tid}/stat"), SMALL)?).ok_or_else(damaged)
    }

    /// The state of the process (its main thread), from `stat`.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        parse_stat(&self.read("stat", SMALL)?).ok_or_else(damaged)
    }

    /// The text of `status` of a thread.
    pub(super) fn thread_status(&self, tid: i32) -> io::Result<Vec<u8>> {
        self.read(&format!("task/{tid}/status"), SMALL)
    }

    /// The text of `status` of the process.
    pub(super) fn status(&self) -> io::Result<Vec<u8>> {
        self.read("status", SMALL)
    }
}

impl AsFd for ProcDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// No text file that is read whole is longer, in bytes.
const SMALL: u64 = 64 << 10;

fn damaged() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

/// What `/proc/PID/stat` tells (`proc_pid_stat(5)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    /// `R`, `S`, `D`, `T`, `t`, `Z`, `X`, `I`.
    pub(super) state: u8,
    /// The parent process.
    pub(super) parent: i32,
    /// Whether it is a thread of the kernel.
    pub(super) kernel: bool,
}

impl Stat {
    /// Whether nothing of it will ever run again.
    pub(super) fn ended(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u64 = 0x0020_0000;

/// The name, in parentheses, may hold anything; what follows its last parenthesis is plain.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(text.get(end.checked_add(1)?..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // pgrp, session, tty_nr and tpgid lie between.
    let flags: u64 = fields.nth(4)?.parse().ok()?;
    Some(Stat { state, parent, kernel: flags & PF_KTHREAD != 0 })
}

/// The value of a line `Name:\tvalue` of a `status` file.
pub(super) fn status_field<'t>(status: &'t [u8], name: &str) -> Option<&'t str> {
    let line = status
        .split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
    std::str::from_utf8(line).ok().map(str::trim)
}

/// The first number of a line of a `status` file.
pub(super) fn status_number<T: std::str::FromStr>(status: &[u8], name: &str) -> Option<T> {
    status_field(status, name)?.split_ascii_whitespace().next()?.parse().ok()
}

/// The number of a process or thread in its own PID namespace: the last one of `NSpid`.
pub(super) fn own_number(status: &[u8]) -> Option<i32> {
    status_field(status, "NSpid")?.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = b"42 (a) R 7 (b) S 17 42 42 34816 42 4194304 123 0 0";
        assert_eq!(parse_stat(text), Some(Stat { state: b'S', parent: 17, kernel: false }));
        let kernel = parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0").unwrap();
        assert!(kernel.kernel && !kernel.ended());
        assert!(parse_stat(b"9 (x) Z 1 0 0 0 -1 4 0").unwrap().ended());
        assert_eq!(parse_stat(b"9 (x) Z 1 0"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn status_lines_are_found_by_their_whole_name() {
        let status = b"Name:\tx\nTgid:\t5\nNSpid:\t4242\t17\t1\nTracerPid:\t0\nPid:\t9\n";
        assert_eq!(status_number::<i32>(status, "Pid"), Some(9));
        assert_eq!(status_number::<i32>(status, "Tgid"), Some(5));
        assert_eq!(status_number::<i32>(status, "Uid"), None);
        assert_eq!(own_number(status), Some(1));
        assert_eq!(own_number(b"Pid:\t9\n"), None);
    }

    #[test]
    fn a_handle_of_a_process_that_ended_does_not_speak_of_another() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dir = ProcDir::open(Pid(i32::try_from(child.id()).unwrap())).unwrap();
        child.wait().unwrap();
        assert_eq!(dir.file("stat").unwrap_err(), Errno::ESRCH);
    }
}
