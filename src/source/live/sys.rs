//! Source, live: the calls of the kernel that have no safe wrapper which fits. `nix` knows no
//! real-time signals, neither in what a wait reports nor in what a detach passes on; losing one
//! would harm the target.
#![allow(unsafe_code)]

use crate::source::regs;
use nix::errno::Errno;
use nix::libc;
use std::ptr;

/// What a thread that we trace did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It stopped. `signal` is one that it is about to receive and must be given when it goes on; 0
    /// when there is none.
    Stopped { signal: i32 },
    /// It ended, and its remains are collected.
    Ended,
}

/// Becomes the tracer of thread `tid` without stopping it. No options: nothing of the target is ever
/// killed by our end, and neither forks nor execs stop for us.
pub(super) fn seize(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE as _, tid, 0)
}

/// Asks a thread that we trace to stop.
pub(super) fn interrupt(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT as _, tid, 0)
}

/// Lets a stopped thread go for good and gives it `signal`, if not 0. A thread in a group stop stays
/// in it.
pub(super) fn detach(tid: i32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH as _, tid, usize::try_from(signal).unwrap_or(0))
}

fn request(request: u32, tid: i32, data: usize) -> Result<(), Errno> {
    // SAFETY: PTRACE_SEIZE, PTRACE_INTERRUPT and PTRACE_DETACH take both arguments as plain numbers
    // and write nothing into our memory.
    let result = unsafe {
        libc::ptrace(
            request as _,
            tid,
            ptr::null_mut::<libc::c_void>(),
            ptr::without_provenance_mut::<libc::c_void>(data),
        )
    };
    Errno::result(result).map(drop)
}

/// Reads the general registers of a stopped thread; returns how many words there are.
pub(super) fn registers(tid: i32, words: &mut [u64; regs::MAX_WORDS]) -> Result<usize, Errno> {
    let mut into = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: std::mem::size_of_val(words) };
    // SAFETY: PTRACE_GETREGSET writes at most `iov_len` bytes to `iov_base`, which is the array that we
    // hold exclusively, and the length written to `into`. Every bit pattern is a valid u64.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET as _,
            tid,
            ptr::without_provenance_mut::<libc::c_void>(libc::NT_PRSTATUS as usize),
            (&raw mut into).cast::<libc::c_void>(),
        )
    };
    Errno::result(result)?;
    Ok(into.iov_len / std::mem::size_of::<u64>())
}

/// Asks what thread `tid`, and no other, did since the last time; does not wait.
pub(super) fn poll(tid: i32) -> Result<Option<Change>, Errno> {
    if tid <= 0 {
        return Err(Errno::ECHILD); // 0 and below would wait for any child of ours.
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int.
    let result = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
    if Errno::result(result)? == 0 {
        return Ok(None);
    }
    if !libc::WIFSTOPPED(status) {
        return Ok(Some(Change::Ended));
    }
    // With an event in the upper half, it is a stop for us or a group stop: no signal to pass on.
    let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
    Ok(Some(Change::Stopped { signal }))
}

/// From now on the calling thread runs only when no other wants the processor (`SCHED_IDLE`). There is
/// no way back without privileges: for threads that end soon.
pub(super) fn be_idle() -> Result<(), Errno> {
    let priority: libc::c_int = 0;
    // The call itself: not every C library passes it on.
    // SAFETY: the kernel reads one int, `priority`, as its sched_param; 0 is the calling thread.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const priority) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A signal that reaches a seized thread stops it until it is passed on: a real-time signal too.
    #[test]
    fn a_signal_that_stops_a_thread_is_passed_on() {
        let script = "trap 'echo 10' 10; trap 'echo 40' 40; echo READY; while :; do sleep 0.01; done";
        let mut child =
            Killed(Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap());
        let tid = i32::try_from(child.0.id()).unwrap();
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "READY");
        for signal in [10, 40] {
            seize(tid).unwrap();
            let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {tid}")]).status();
            assert!(sent.unwrap().success());
            let stopped = loop {
                // SIGCHLD of its `sleep` stops it as well.
                match poll(tid).unwrap() {
                    Some(Change::Stopped { signal: libc::SIGCHLD }) => {
                        request(libc::PTRACE_CONT as _, tid, libc::SIGCHLD as usize).unwrap();
                    }
                    Some(change) => break change,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(stopped, Change::Stopped { signal });
            let mut words = [0; regs::MAX_WORDS];
            assert!(registers(tid, &mut words).unwrap() > 0);
            detach(tid, signal).unwrap();
            assert_eq!(lines.next().unwrap(), signal.to_string());
        }
    }

    #[test]
    fn only_one_thread_is_ever_waited_for() {
        for nobody in [0, -1] {
            assert_eq!(poll(nobody), Err(Errno::ECHILD));
        }
    }
}
