//! Source, live: the target's monotonic clock. It is ours, unless a time namespace moves it
//! (`time_namespaces(7)`).

use super::proc::ProcDir;
use crate::addr::{Nanotime, Pid};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

/// How the clock of a process is reckoned from ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Clock {
    /// Nanoseconds that the target's clock is ahead of ours; unknown when its namespace does not tell.
    ahead: Option<i64>,
}

impl Clock {
    /// Compares the time namespaces of the process and ours.
    pub(super) fn of(dir: &ProcDir) -> Clock {
        Clock { ahead: ahead(dir) }
    }

    /// What the target's monotonic clock shows now.
    pub(super) fn now(self) -> Option<Nanotime> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
        nanoseconds(now.tv_sec(), now.tv_nsec())?.checked_add(self.ahead?).map(Nanotime)
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> Option<i64> {
    seconds.checked_mul(1_000_000_000)?.checked_add(rest)
}

fn ahead(target: &ProcDir) -> Option<i64> {
    let own = ProcDir::open(Pid(i32::try_from(std::process::id()).ok()?)).ok()?;
    match (target.link("ns/time"), own.link("ns/time")) {
        (Err(Errno::ENOENT), Err(Errno::ENOENT)) => Some(0), // A kernel without time namespaces.
        (Ok(theirs), Ok(ours)) if theirs == ours => Some(0),
        (Ok(_), Ok(_)) => offset(target)?.checked_sub(offset(&own)?),
        _ => None,
    }
}

/// The offset of the monotonic clock in the namespace of a process. The file tells of the namespace
/// for children, which is the process's own unless it made a new one without entering it.
fn offset(dir: &ProcDir) -> Option<i64> {
    if dir.link("ns/time").ok()? != dir.link("ns/time_for_children").ok()? {
        return None;
    }
    parse_offset(std::str::from_utf8(&dir.read("timens_offsets", 4096).ok()?).ok()?)
}

fn parse_offset(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("monotonic"))?;
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    nanoseconds(numbers.next()?.ok()?, numbers.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_offset_of_the_monotonic_clock() {
        let text = "monotonic        -10         5\nboottime         7         0\n";
        assert_eq!(parse_offset(text), Some(-9_999_999_995));
        assert_eq!(parse_offset("boottime 7 0\n"), None);
        assert_eq!(parse_offset("monotonic 9223372036854775807 0\n"), None);
    }

    #[test]
    fn our_own_clock_runs_with_ours() {
        let own = ProcDir::open(Pid(i32::try_from(std::process::id()).unwrap())).unwrap();
        let clock = Clock::of(&own);
        assert_eq!(clock.ahead, Some(0));
        let (first, second) = (clock.now().unwrap(), clock.now().unwrap());
        assert!(second.since(first).is_some());
    }
}
