//! Source: where a target comes from. A live process or a core file; everything above sees the traits
//! [`Source`] and [`Tracer`] only, and after the stop nothing but a [`Memory`].

pub mod core;
pub mod descriptors;
pub mod live;
pub mod maps;
pub mod mmap;
pub mod regs;

pub use live::Activity;
pub use regs::General;

use crate::addr::{Addr, FileOffset, Nanotime, Pid, Span, Tid};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::Memory;
use descriptors::{Descriptor, SystemCall};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetSpec {
    /// A live process, by its number.
    Pid(Pid),
    /// A core file.
    Core(PathBuf),
}

impl TargetSpec {
    /// Reads a target as a person types it: digits alone are a process, all else is the path of a core
    /// file (`./1234` for a file named like a number).
    pub fn parse(text: &OsStr) -> Result<TargetSpec> {
        let bytes = text.as_encoded_bytes();
        if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
            return Ok(TargetSpec::Core(PathBuf::from(text)));
        }
        let number = text.to_str().and_then(|digits| digits.parse().ok()).filter(|n| *n > 0);
        number.map(|n| TargetSpec::Pid(Pid(n))).ok_or_else(|| {
            let digits = text.display();
            Error::new(ErrorKind::Usage, format_args!("{digits} is not the number of a process"))
                .hint(format_args!("for a file of this name write `./{digits}`"))
        })
    }
}

/// Opens a target. Nothing is stopped.
pub fn open(target: &TargetSpec) -> Result<Box<dyn Source>> {
    open_with(target, &mut |_| {})
}

/// The same; `progress` is called again and again while a packed core is unpacked.
pub fn open_with(
    target: &TargetSpec,
    progress: &mut dyn FnMut(self::core::Progress),
) -> Result<Box<dyn Source>> {
    match target {
        TargetSpec::Pid(pid) => Ok(Box::new(live::LiveProcess::open(*pid)?)),
        TargetSpec::Core(path) => Ok(Box::new(self::core::CoreFile::open_with(path, progress)?)),
    }
}

/// What the target is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A process of this host.
    Live {
        /// Its number in our PID namespace.
        pid: Pid,
    },
    /// A core file.
    Core {
        /// The file as the user named it.
        path: PathBuf,
        /// The process that it was, if the file says so.
        pid: Option<Pid>,
    },
}

/// A range of the target's address space and what lies behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The addresses.
    pub span: Span,
    /// Where in the file the range begins.
    pub offset: FileOffset,
    /// The file, without the ` (deleted)` of the kernel; special names such as `[vdso]` too.
    pub path: Option<PathBuf>,
    /// Whether the file was removed or replaced since.
    pub deleted: bool,
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
}

/// The registers that unwinding needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// Next instruction.
    pub pc: Addr,
    /// Stack pointer.
    pub sp: Addr,
    /// Frame pointer: rbp or x29.
    pub bp: Addr,
    /// Link register, where the processor has one.
    pub lr: Option<Addr>,
    /// The register in which Go code keeps the current g: r14 or x28. C code may use it otherwise.
    pub g: Addr,
    /// All general registers, as far as they are known.
    pub general: General,
}

/// Where a thread entered the kernel, as the kernel tells it of one that sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The instruction after the system call.
    pub pc: Addr,
    /// Stack pointer.
    pub sp: Addr,
}

/// One thread as it was at the instant of the stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Its number in the target's own PID namespace: what `m.procid` holds.
    pub tid: Tid,
    /// The kernel's name of it.
    pub name: Option<String>,
    /// Its registers; absent for a thread that did not stop in time.
    pub registers: Option<Registers>,
    /// Where it sleeps, for a thread that was left alone because it sleeps; looked up where it matters.
    pub asleep_at: Option<Place>,
    /// The kernel's letter for its state before the stop (`proc_pid_stat(5)`); looked up where it
    /// matters, and unknown in a core.
    pub state: Option<char>,
}

/// What ended a process of which only a core is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// The signal's number.
    pub signal: i32,
    /// `si_code`, if known.
    pub code: Option<i32>,
    /// The address whose access failed, for SIGSEGV, SIGBUS, SIGILL and SIGFPE.
    pub fault: Option<Addr>,
    /// The thread that died, in the target's own PID namespace.
    pub tid: Tid,
}

/// The address whose access failed: what `si_addr` says of a signal that the processor raised.
pub fn fault(signal: i32, code: i32, address: Addr) -> Option<Addr> {
    /// SIGILL, SIGBUS, SIGFPE, SIGSEGV.
    const FAULTS: [i32; 4] = [4, 7, 8, 11];
    /// `SI_KERNEL`: raised by the kernel itself, without an address.
    const BY_KERNEL: i32 = 0x80;
    (FAULTS.contains(&signal) && code > 0 && code != BY_KERNEL).then_some(address)
}

/// The auxiliary vector: pairs of key and value that the kernel gave the program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Auxv(pub Vec<(u64, u64)>);

impl Auxv {
    /// Where the program headers of the executable lie (`AT_PHDR`).
    pub fn program_headers(&self) -> Option<Addr> {
        self.address(3)
    }

    /// Where the code lies that the kernel maps into each process (`AT_SYSINFO_EHDR`).
    pub fn vdso(&self) -> Option<Addr> {
        self.address(33)
    }

    fn address(&self, key: u64) -> Option<Addr> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, value)| Addr::new(*value))
    }
}

/// Whether the threads stand still while a [`Tracer`] is stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// All threads, with registers where they stopped.
    pub threads: Vec<Thread>,
    /// Those that were left alone, by their numbers in the target's own PID namespace, ascending.
    pub left: Vec<Tid>,
    /// Threads that could not be stopped within the limit, and why (state D, a vfork parent).
    pub running: Vec<(Tid, String)>,
}

/// A target that can be looked into. Opening one stops nothing.
pub trait Source: Sync {
    /// What the target is.
    fn origin(&self) -> &Origin;

    /// Its processor.
    fn arch(&self) -> Arch;

    /// Its memory as it is now: of a live process, it may change between two reads.
    fn memory(&self) -> &dyn Memory;

    /// What is mapped where, as of opening.
    fn mappings(&self) -> &[Mapping];

    /// The auxiliary vector; empty when it is not to be had.
    fn auxv(&self) -> &Auxv;

    /// Name under which the executable is known, if it is.
    fn executable_path(&self) -> Option<&Path>;

    /// Opens the executable that the target runs (never the path, which may name another file by
    /// now). A core has none of its own: an error then says so.
    fn open_executable(&self) -> Result<File>;

    /// Opens a mapped file as the target sees it.
    fn open_mapped(&self, mapping: &Mapping) -> Result<File>;

    /// The target's monotonic clock; unknown for a core.
    fn now(&self) -> Option<Nanotime>;

    /// What ended it; a live process has not ended.
    fn crash(&self) -> Option<Crash>;

    /// What was found wanting when it was opened, such as a core file that was cut.
    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::default()
    }

    /// The threads as they are now, without registers: nothing is stopped for it.
    fn threads(&self) -> Vec<Thread> {
        Vec::new()
    }

    /// What the kernel counted of each thread until now; `None` where nothing runs or nothing is
    /// counted.
    fn activity(&self) -> Option<Vec<Activity>> {
        None
    }

    /// Gets ready to stop the threads, without stopping any. Call it from a thread that ends soon: should
    /// a thread of a live target stay out of reach (state D) until the tracer is dropped, the end of
    /// the calling thread is what frees it of us.
    fn trace(&self) -> Result<Box<dyn Tracer + '_>>;

    /// What the file descriptors `wanted` of the target refer to now; those that the kernel knows
    /// nothing of are left out, and a core has no kernel.
    fn descriptors(&self, _wanted: &[i32]) -> Vec<Descriptor> {
        Vec::new()
    }

    /// The system call in which a thread, by its number in the target's own PID namespace, is blocked
    /// now; `None` when it runs or the kernel does not say.
    fn system_call(&self, _thread: Tid) -> Option<SystemCall> {
        None
    }

    /// The kernel's letter for the state of a thread, by its number in the target's own PID namespace;
    /// `None` for a core.
    fn thread_state(&self, _thread: Tid) -> Option<char> {
        None
    }
}

/// Stops and resumes a target. Dropping one always lets the target go.
pub trait Tracer {
    /// Stops all threads; those that do not stop within `limit` are named, not waited for. For a core
    /// this costs nothing.
    fn stop(&mut self, limit: Duration) -> Result<Stopped>;

    /// When the first thread was asked to stop, while a live target is stopped: its pause is what goes
    /// by from then to the end of [`Tracer::resume`].
    fn stopped_since(&self) -> Option<Instant> {
        None
    }

    /// The same, but the threads `leave` (numbers in our PID namespace) are left alone and come without
    /// registers: whoever leaves a thread alone proves afterwards that it did not run.
    fn stop_except(&mut self, limit: Duration, leave: &[Tid]) -> Result<Stopped> {
        let _ = leave;
        self.stop(limit)
    }

    /// Lets all threads go on. They stay ready to be stopped again.
    fn resume(&mut self) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_process_and_all_else_is_a_file() {
        let parse = |text: &str| TargetSpec::parse(OsStr::new(text));
        assert_eq!(parse("4242").unwrap(), TargetSpec::Pid(Pid(4242)));
        assert_eq!(parse("./4242").unwrap(), TargetSpec::Core(PathBuf::from("./4242")));
        assert_eq!(parse("-1").unwrap(), TargetSpec::Core(PathBuf::from("-1")));
        for wrong in ["0", "99999999999999999999"] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.hint_text().unwrap().contains(&format!("./{wrong}")));
        }
    }
}
