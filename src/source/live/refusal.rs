//! Source, live: the words for what can keep us from a process: why, and what to do about it.

use super::proc::{ProcDir, status_field, status_number};
use crate::addr::Pid;
use crate::error::{Error, ErrorKind};
use nix::errno::Errno;
use nix::unistd::geteuid;

/// The error for a process that is not there.
pub(super) fn no_such_process(pid: Pid) -> Error {
    // With `hidepid` a process of somebody else has no directory, though it can be asked for.
    let raw = nix::unistd::Pid::from_raw(pid.0);
    if pid.0 > 0 && nix::sys::signal::kill(raw, None) == Err(Errno::EPERM) {
        let hint = "/proc is mounted with hidepid: run as root or as the user who owns the process";
        return Error::new(ErrorKind::PermissionDenied, format_args!("process {pid} is hidden")).hint(hint);
    }
    Error::new(ErrorKind::NoSuchProcess, format_args!("there is no process {pid}"))
}

/// The error for a process that ended while it was looked at.
pub(super) fn ended(pid: Pid) -> Error {
    Error::new(ErrorKind::NoSuchProcess, format_args!("process {pid} ended while it was looked at"))
        .hint("or it replaced itself by another program (exec); if it still runs, try again")
}

/// The error for what the kernel refuses.
pub(super) fn refused(dir: &ProcDir, pid: Pid, errno: Errno) -> Error {
    let message = format_args!("cannot attach to {pid}: {}", errno.desc()).to_string();
    let status = dir.status().unwrap_or_default();
    let owner = status_number(&status, "Uid");
    Error::new(ErrorKind::PermissionDenied, message).hint(advice(
        ptrace_scope(),
        owner,
        geteuid().as_raw(),
        may_trace_all(),
    ))
}

/// The error for an error number of an operation on the process: ended, refused, or something else.
pub(super) fn failed(dir: &ProcDir, pid: Pid, doing: &str, errno: Errno) -> Error {
    match errno {
        Errno::ESRCH | Errno::ENOENT => ended(pid),
        // Filters of containers answer with ENOSYS as well.
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS => refused(dir, pid, errno),
        other => Error::new(ErrorKind::Io, format_args!("{doing} of process {pid} failed")).because(other),
    }
}

/// The error for a target that somebody else traces already.
pub(super) fn traced_by(pid: Pid, tracer: Pid) -> Error {
    let name = std::fs::read_to_string(format!("/proc/{tracer}/comm")).unwrap_or_default();
    let name = match name.trim_end() {
        "" => String::new(),
        name => format!(" ({})", name.escape_debug()),
    };
    Error::new(
        ErrorKind::PermissionDenied,
        format_args!("process {pid} is already traced by process {tracer}{name}"),
    )
    .hint("a process can have one tracer: end that one first, or read without stopping (--no-stop)")
}

/// The value of Yama's `ptrace_scope`; absent on kernels without Yama.
fn ptrace_scope() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?.trim().parse().ok()
}

/// Whether we hold `CAP_SYS_PTRACE`.
fn may_trace_all() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let status = std::fs::read("/proc/self/status").unwrap_or_default();
    status_field(&status, "CapEff")
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .is_some_and(|set| set >> CAP_SYS_PTRACE & 1 == 1)
}

/// What to do when attaching is refused.
fn advice(scope: Option<u8>, owner: Option<u32>, own: u32, capable: bool) -> String {
    const CONTAINER: &str = "in a container add `--cap-add=SYS_PTRACE`";
    if scope == Some(3) {
        return "ptrace_scope is 3: no process can be attached to until the next boot; \
                a core file of the process can be read instead"
            .to_owned();
    }
    if capable {
        return "a security module, a seccomp filter or another user namespace forbids it: \
                try from outside the container"
            .to_owned();
    }
    if own == 0 {
        return format!("this root lacks CAP_SYS_PTRACE: {CONTAINER}");
    }
    match scope {
        Some(2) => format!("ptrace_scope is 2: run as root, or {CONTAINER}"),
        Some(1) if owner == Some(own) => format!(
            "ptrace_scope is 1: run as root, or `sudo sysctl kernel.yama.ptrace_scope=0`, or {CONTAINER}"
        ),
        _ => match owner {
            Some(owner) if owner != own => {
                format!("the process belongs to user {owner}: run as that user or as root, or {CONTAINER}")
            }
            _ => format!("the process is protected (not dumpable): run as root, or {CONTAINER}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_obstacle() {
        let yama = advice(Some(1), Some(1000), 1000, false);
        assert!(yama.contains("ptrace_scope is 1") && yama.contains("kernel.yama.ptrace_scope=0"));
        assert!(yama.contains("--cap-add=SYS_PTRACE"));
        assert!(advice(Some(1), Some(33), 1000, false).contains("belongs to user 33"));
        assert!(advice(Some(2), Some(1000), 1000, false).contains("ptrace_scope is 2"));
        assert!(!advice(Some(2), Some(1000), 1000, false).contains("sysctl"));
        assert!(advice(Some(3), Some(0), 0, true).contains("core file"));
        assert!(advice(Some(0), Some(0), 0, false).contains("lacks CAP_SYS_PTRACE"));
        assert!(advice(None, Some(0), 0, true).contains("seccomp"));
        assert!(advice(None, Some(1000), 1000, false).contains("not dumpable"));
    }
}
