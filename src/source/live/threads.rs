//! Source, live: the threads of a process as `/proc/PID/task` lists them, and what the kernel counts
//! of each.

use super::errno;
use super::proc::{ProcDir, own_number, status_field, status_number};
use crate::addr::Tid;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fstat};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The directory of a process's threads.
pub(super) struct TaskDir {
    handle: OwnedFd,
    /// Our own name of the handle.
    path: String,
}

impl TaskDir {
    pub(super) fn open(dir: &ProcDir) -> Result<TaskDir, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let handle = openat(dir, "task", flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        Ok(TaskDir { handle, path })
    }

    /// Puts the numbers of all threads, ascending, into `into`; what was there is forgotten.
    pub(super) fn list(&self, into: &mut Vec<i32>) -> Result<(), Errno> {
        into.clear();
        for entry in std::fs::read_dir(&self.path).map_err(|e| errno(&e))? {
            let name = entry.map_err(|e| errno(&e))?.file_name();
            into.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        into.sort_unstable();
        Ok(())
    }

    /// How many threads there are, without listing them: the kernel gives the directory two links
    /// more.
    pub(super) fn count(&self) -> Result<usize, Errno> {
        let links = fstat(&self.handle)?.st_nlink;
        Ok(usize::try_from(links).unwrap_or(0).saturating_sub(2))
    }
}

/// The kernel's name of a thread (`comm`).
pub(super) fn name(dir: &ProcDir, tid: i32) -> Option<String> {
    let bytes = dir.read(&format!("task/{tid}/comm"), 256).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// The kernel's letter for the state of a thread.
pub(super) fn state(dir: &ProcDir, tid: i32) -> Option<char> {
    status_field(&dir.thread_status(tid).ok()?, "State")?.chars().next()
}

/// A thread's number in the PID namespace of its process.
pub(super) fn own_tid(dir: &ProcDir, tid: i32) -> Option<Tid> {
    own_number(&dir.thread_status(tid).ok()?).map(Tid)
}

/// What the kernel counted of one thread until one look at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    /// Its number in our PID namespace.
    pub tid: Tid,
    /// Whether it was in an interruptible sleep (state S) and off the processor.
    pub asleep: bool,
    /// How many times it was put on a processor; always 0 on a kernel without `CONFIG_SCHED_INFO`.
    pub ran: u64,
    /// How many times it was taken off one, of its own will or not.
    pub switches: u64,
    /// Time it spent on processors, in nanoseconds; always 0 on a kernel without
    /// `CONFIG_SCHED_INFO`.
    pub cpu_ns: u64,
}

impl Activity {
    /// Whether the counts prove that the thread ran neither its own code nor the kernel's from the end
    /// of the `earlier` look to the beginning of this one.
    ///
    /// A sleeping thread must be put on a processor to run, which `ran` counts, and taken off again to
    /// sleep, which `switches` counts. `ran` is read before the look whether it sleeps, `switches`
    /// after it, so that neither misses anything in between. The counts alone prove nothing: a thread
    /// alone on a processor keeps them as they are.
    pub fn slept_since(&self, earlier: &Activity) -> bool {
        self.tid == earlier.tid
            && self.asleep
            && earlier.asleep
            && self.ran == earlier.ran
            && self.switches == earlier.switches
    }
}

/// One thread, with the file that tells how often it ran.
#[derive(Debug)]
struct Counters {
    schedstat: File,
    /// The last look.
    last: Option<Activity>,
}

impl Counters {
    fn open(dir: &ProcDir, tid: i32) -> Result<Counters, Errno> {
        Ok(Counters { schedstat: dir.file(&format!("task/{tid}/schedstat"))?, last: None })
    }

    /// Looks once; `None` when the thread ended or the kernel's text is not understood.
    fn look(&mut self, dir: &ProcDir, tid: i32) -> Option<Activity> {
        let mut buf = [0; 128];
        let n = self.schedstat.read_at(&mut buf, 0).ok()?;
        let text = std::str::from_utf8(buf.get(..n)?).ok()?;
        let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
        let cpu_ns = fields.next()?.ok()?;
        let ran = fields.nth(1)?.ok()?;
        // It slept when it was last looked at and was not put on a processor since: it still sleeps.
        // All else that tells takes the kernel ten times as long.
        if let Some(last) = self.last.filter(|last| last.asleep && ran != 0 && last.ran == ran) {
            return Some(last);
        }
        let off = off_processor(dir, tid);
        let status = dir.thread_status(tid).ok()?;
        let voluntary: u64 = status_number(&status, "voluntary_ctxt_switches")?;
        let involuntary: u64 = status_number(&status, "nonvoluntary_ctxt_switches")?;
        let asleep = off && status_field(&status, "State")?.starts_with('S');
        let switches = voluntary.wrapping_add(involuntary);
        self.last = Some(Activity { tid: Tid(tid), asleep, ran, switches, cpu_ns });
        self.last
    }
}

/// Whether a thread is off the processor. State S alone does not say so: a thread takes it on while it
/// still decides whether to sleep. The kernel answers `running` here unless it saw the thread
/// switched out (`task_current_syscall`, lib/syscall.c).
fn off_processor(dir: &ProcDir, tid: i32) -> bool {
    let text = dir.read(&format!("task/{tid}/syscall"), 256);
    text.is_ok_and(|text| !text.is_empty() && !text.starts_with(b"running"))
}

/// The counters of all threads, kept open from look to look.
#[derive(Default, Debug)]
pub(super) struct Activities {
    open: BTreeMap<i32, Counters>,
    listed: Vec<i32>,
}

impl Activities {
    /// Looks at all threads there are now, ascending by number; those that end meanwhile are left out.
    pub(super) fn look(&mut self, dir: &ProcDir) -> Result<Vec<Activity>, Errno> {
        TaskDir::open(dir)?.list(&mut self.listed)?;
        let listed = &self.listed;
        self.open.retain(|tid, _| listed.binary_search(tid).is_ok());
        let budget = kept_open();
        let mut seen = Vec::with_capacity(listed.len());
        for &tid in listed {
            if let Some(activity) = self.open.get_mut(&tid).and_then(|counters| counters.look(dir, tid)) {
                seen.push(activity);
                continue;
            }
            // New, or another thread by the same number.
            self.open.remove(&tid);
            let mut counters = match Counters::open(dir, tid) {
                Ok(counters) => counters,
                Err(Errno::ENOENT | Errno::ESRCH) => continue,
                Err(e) => return Err(e),
            };
            seen.extend(counters.look(dir, tid));
            if self.open.len() < budget {
                self.open.insert(tid, counters);
            }
        }
        Ok(seen)
    }
}

/// Threads whose file may stay open: half as many as this process may open.
fn kept_open() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ran: u64, switches: u64, asleep: bool) -> Activity {
        Activity { tid: Tid(7), asleep, ran, switches, cpu_ns: 0 }
    }

    #[test]
    fn only_sleep_at_both_looks_with_equal_counts_proves_anything() {
        let first = at(5, 4, true);
        assert!(at(5, 4, true).slept_since(&first));
        assert!(!at(6, 4, true).slept_since(&first));
        assert!(!at(5, 5, true).slept_since(&first), "a kernel that does not count `ran`");
        assert!(!at(5, 4, false).slept_since(&first), "alone on a processor");
        assert!(!at(5, 4, true).slept_since(&at(5, 4, false)));
        assert!(!Activity { tid: Tid(8), ..first }.slept_since(&first));
    }
}
