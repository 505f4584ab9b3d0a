//! Runtime: names of the kernel's system calls, and where a call has its file descriptor.

use crate::arch::Arch;

/// A system call: name, number on x86-64, number on arm64 (0xffff where there is none), and whether the
/// first argument is a file descriptor.
struct Call(&'static str, u16, u16, bool);

/// No such call there.
const NONE: u16 = u16::MAX;

/// Those in which a process may stay for long, and the common rest.
const CALLS: [Call; 56] = [
    Call("read", 0, 63, true),
    Call("write", 1, 64, true),
    Call("open", 2, NONE, false),
    Call("close", 3, 57, true),
    Call("fstat", 5, 80, true),
    Call("poll", 7, NONE, false),
    Call("lseek", 8, 62, true),
    Call("mmap", 9, 222, false),
    Call("munmap", 11, 215, false),
    Call("ioctl", 16, 29, true),
    Call("pread64", 17, 67, true),
    Call("pwrite64", 18, 68, true),
    Call("readv", 19, 65, true),
    Call("writev", 20, 66, true),
    Call("select", 23, NONE, false),
    Call("sched_yield", 24, 124, false),
    Call("msync", 26, 227, false),
    Call("madvise", 28, 233, false),
    Call("nanosleep", 35, 101, false),
    Call("sendfile", 40, 71, true),
    Call("connect", 42, 203, true),
    Call("accept", 43, 202, true),
    Call("sendto", 44, 206, true),
    Call("recvfrom", 45, 207, true),
    Call("sendmsg", 46, 211, true),
    Call("recvmsg", 47, 212, true),
    Call("wait4", 61, 260, false),
    Call("semop", 65, 193, false),
    Call("msgsnd", 69, 189, false),
    Call("msgrcv", 70, 188, false),
    Call("fcntl", 72, 25, true),
    Call("flock", 73, 32, true),
    Call("fsync", 74, 82, true),
    Call("fdatasync", 75, 83, true),
    Call("unlink", 87, NONE, false),
    Call("pause", 34, NONE, false),
    Call("rt_sigtimedwait", 128, 137, false),
    Call("futex", 202, 98, false),
    Call("epoll_wait", 232, NONE, true),
    Call("clock_nanosleep", 230, 115, false),
    Call("waitid", 247, 95, false),
    Call("openat", 257, 56, false),
    Call("pselect6", 270, 72, false),
    Call("ppoll", 271, 73, false),
    Call("splice", 275, 76, true),
    Call("sync_file_range", 277, 84, true),
    Call("epoll_pwait", 281, 22, true),
    Call("accept4", 288, 242, true),
    Call("preadv", 295, 69, true),
    Call("pwritev", 296, 70, true),
    Call("recvmmsg", 299, 243, true),
    Call("sendmmsg", 307, 269, true),
    Call("getrandom", 318, 278, false),
    Call("copy_file_range", 326, 285, true),
    Call("epoll_pwait2", 441, 441, true),
    Call("io_uring_enter", 426, 426, true),
];

fn call(arch: Arch, number: u64) -> Option<&'static Call> {
    let number = u16::try_from(number).ok().filter(|n| *n != NONE)?;
    CALLS.iter().find(|Call(_, amd64, arm64, _)| match arch {
        Arch::Amd64 => *amd64 == number,
        Arch::Arm64 => *arm64 == number,
    })
}

/// The name of a system call; `None` for one that is not in the table.
pub fn name(arch: Arch, number: u64) -> Option<&'static str> {
    call(arch, number).map(|Call(name, ..)| *name)
}

/// Whether the first argument of a system call is a file descriptor.
pub fn takes_descriptor(arch: Arch, number: u64) -> bool {
    call(arch, number).is_some_and(|Call(.., fd)| *fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_between_processors_and_name_one_call_each() {
        assert_eq!((name(Arch::Amd64, 0), name(Arch::Arm64, 63)), (Some("read"), Some("read")));
        assert_eq!((name(Arch::Arm64, 7777), name(Arch::Arm64, 0xffff)), (None, None));
        assert!(takes_descriptor(Arch::Amd64, 288) && !takes_descriptor(Arch::Amd64, 202));
        for arch in [Arch::Amd64, Arch::Arm64] {
            for Call(name, amd64, arm64, _) in &CALLS {
                let number = if arch == Arch::Amd64 { *amd64 } else { *arm64 };
                assert!(number == NONE || super::name(arch, number.into()) == Some(name), "{name} {arch}");
            }
        }
    }
}
