//! Source, live: the files of `/proc/PID`. All are opened relative to one handle of the directory, which
//! stays with its process: should the number be given to another process, they fail instead of
//! telling of that one.
//!
//! A process whose main thread ended while others go on has files that tell nothing: those of memory,
//! namespaces and descriptors go with the main thread. The directory of another thread has them.

use super::threads::TaskDir;
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
pub(super) struct ProcDir {
    handle: OwnedFd,
    /// Whether the main thread ended and others go on.
    orphaned: bool,
}

/// What the kernel answers by the main thread alone, though it is of the whole process.
const OF_MAIN_THREAD: [&str; 8] = ["exe", "maps", "mem", "auxv", "root", "ns", "fd", "net"];

impl ProcDir {
    /// Opens the directory of a process, or of a thread by its number.
    pub(super) fn open(pid: Pid) -> Result<ProcDir, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let handle = open(format!("/proc/{pid}").as_str(), flags, Mode::empty())?;
        Ok(ProcDir { handle, orphaned: false })
    }

    /// The same directory of a process whose main thread ended: what went with it comes from those
    /// threads that go on.
    pub(super) fn without_main_thread(self) -> ProcDir {
        ProcDir { orphaned: true, ..self }
    }

    /// Whether the main thread ended and others go on.
    pub(super) fn orphaned(&self) -> bool {
        self.orphaned
    }

    /// Opens a file of the directory for reading.
    pub(super) fn file(&self, name: &str) -> Result<File, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        self.by_living_thread(name, |name| openat(self, name, flags, Mode::empty()).map(File::from))
    }

    /// Opens the directory that is the root of the process's file system, to be looked into only.
    pub(super) fn root(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.by_living_thread("root", |name| openat(self, name, flags, Mode::empty()))
    }

    /// Does something by the name of a file; where the main thread that the name speaks of has ended,
    /// by that of the first other thread for which it works.
    fn by_living_thread<T>(&self, name: &str, act: impl Fn(&str) -> Result<T, Errno>) -> Result<T, Errno> {
        let first = name.split('/').next().unwrap_or_default();
        if !self.orphaned || !OF_MAIN_THREAD.contains(&first) {
            return act(name);
        }
        let mut threads = Vec::new();
        TaskDir::open(self)?.list(&mut threads)?;
        let living = threads.iter().filter(|tid| self.thread_stat(**tid).is_ok_and(|stat| !stat.ended()));
        let mut refusal = Errno::ESRCH;
        for tid in living {
            match act(&format!("task/{tid}/{name}")) {
                Err(e) => refusal = e,
                done => return done,
            }
        }
        Err(refusal)
    }

    /// Reads at most `limit` bytes of a file.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Where a symbolic link of the directory points.
    pub(super) fn link(&self, name: &str) -> Result<PathBuf, Errno> {
        self.by_living_thread(name, |name| readlinkat(self, name).map(PathBuf::from))
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
        self.handle.as_fd()
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
