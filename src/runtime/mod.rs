//! Runtime: the goroutines, threads and processors of a target, decoded into plain owned data. Fed by
//! a [`capture`] (memory of one instant) and an [`crate::image::Image`]; knows nothing of files and
//! processes.

pub mod capture;
pub mod chan;
pub mod decode;
pub mod gomap;
pub mod gotype;
pub mod heap;
pub mod labels;
pub mod netpoll;
pub mod notify;
pub mod select;
pub mod sema;
pub mod signals;
pub mod snapshot;
pub mod sudog;
pub mod syscall;
pub mod timer;

pub use snapshot::Snapshot;

use crate::addr::{Addr, Nanotime, Tid};
use std::time::Duration;

/// A goroutine's number (`g.goid`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GoId(pub u64);

/// What a goroutine does, `g.atomicstatus` without the scan bit (runtime/runtime2.go).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// `_Gidle`: just allocated.
    Idle,
    /// `_Grunnable`: on a run queue.
    Runnable,
    /// `_Grunning`: has a P and runs user code.
    Running,
    /// `_Gsyscall`: in a system call or in C code.
    Syscall,
    /// `_Gwaiting`: parked.
    Waiting,
    /// `_Gdead`: not in use.
    Dead,
    /// `_Gcopystack`: its stack is being moved.
    Copystack,
    /// `_Gpreempted`: stopped itself for a suspendG.
    Preempted,
    /// `_Gleaked`, since 1.26: found unreachable by a goroutine leak GC cycle.
    Leaked,
    /// `_Gdeadextra`, since 1.26: belongs to an extra M, not in use.
    DeadExtra,
    /// A number that this release does not define.
    Unknown(u32),
}

/// Whether what is shown of a goroutine is of the instant of the capture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Consistency {
    /// Proved to be of the instant of the capture.
    #[default]
    Exact,
    /// Read at one instant of its own, before or after that of the capture.
    OtherInstant,
    /// Changed while it was read.
    Torn,
}

/// One goroutine, `runtime.g`.
#[derive(Clone, Debug)]
pub struct G {
    /// Where its g lies.
    pub at: Addr,
    /// Its number.
    pub id: GoId,
    /// What it does.
    pub status: Status,
    /// Whether the garbage collector held it when looked at (`_Gscan`).
    pub scan: bool,
    /// `g.waitreason`: the number of this release; meaningful while waiting, kept by leaked ones.
    pub waitreason: u8,
    /// `g.waitsince`: start of the first GC cycle that saw it blocked; `None` when no GC did.
    pub waitsince: Option<Nanotime>,
    /// Lower bound of the time it has been blocked, if it is known.
    pub waiting_at_least: Option<Duration>,
    /// Its stack: lowest address.
    pub stack_lo: Addr,
    /// Its stack: first address above.
    pub stack_hi: Addr,
    /// `g.sched`: where it goes on when it is scheduled again.
    pub sched: GoBuf,
    /// `g.syscallsp`: null unless in a system call or in C.
    pub syscallsp: Addr,
    /// `g.syscallpc`.
    pub syscallpc: Addr,
    /// `g.syscallbp`, since 1.23.
    pub syscallbp: Addr,
    /// `g.m`: null when not on a thread.
    pub m: Addr,
    /// `g.lockedm`: null unless wired to a thread.
    pub lockedm: Addr,
    /// `g.gopc`: return address of the go statement that made it.
    pub gopc: Addr,
    /// `g.startpc`: entry of the function it runs (maybe the compiler's wrapper).
    pub startpc: Addr,
    /// `g.parentGoid`, since 1.21: 0 = unknown becomes `None`.
    pub parent: Option<GoId>,
    /// `g.ancestors`: null unless GODEBUG=tracebackancestors.
    pub ancestors: Addr,
    /// `g.waiting`: first sudog.
    pub waiting: Addr,
    /// `g.labels`.
    pub labels: Addr,
    /// `g._defer`.
    pub deferred: Addr,
    /// `g._panic`.
    pub panic: Addr,
    /// The last signal that the runtime made a panic of, if there was any.
    pub raised: Option<Box<Raised>>,
    /// `g.bubble` (`syncGroup` in 1.24): null unless in a synctest bubble.
    pub bubble: Addr,
    /// `g.timer`.
    pub timer: Addr,
    /// `g.sleepWhen`, since 1.23.
    pub sleep_when: Option<Nanotime>,
    /// `g.runningCleanups`, since 1.25.
    pub running_cleanups: bool,
    /// Whether it is one of the runtime's own (`isSystemGoroutine` of its release).
    pub system: bool,
    /// How far the rest can be trusted.
    pub consistency: Consistency,
}

/// A signal that the processor raised in Go code, and the runtime made a panic of (`sigpanic`). It stays
/// when the panic is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raised {
    /// `g.sig`: its number.
    pub signal: i32,
    /// `g.sigcode0`: `si_code`.
    pub code: i32,
    /// `g.sigcode1`: `si_addr`.
    pub address: Addr,
    /// `g.sigpc`: where it was raised.
    pub pc: Addr,
}

/// `runtime.gobuf`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GoBuf {
    /// Stack pointer.
    pub sp: Addr,
    /// Next instruction.
    pub pc: Addr,
    /// Link register; null where there is none.
    pub lr: Addr,
    /// Frame pointer.
    pub bp: Addr,
    /// `gobuf.ctxt`: the closure of a goroutine that never ran.
    pub ctxt: Addr,
}

/// One thread as the runtime knows it, `runtime.m`.
#[derive(Clone, Debug)]
pub struct M {
    /// Where its m lies.
    pub at: Addr,
    /// `m.id`.
    pub id: i64,
    /// `m.procid`: the kernel's number in the target's PID namespace; `None` before it started.
    pub procid: Option<Tid>,
    /// `m.g0`: the goroutine of its system stack.
    pub g0: Addr,
    /// `m.gsignal`: the goroutine of its signal stack.
    pub gsignal: Addr,
    /// `m.curg`: null when it runs none.
    pub curg: Addr,
    /// `m.p`.
    pub p: Addr,
    /// `m.lockedg`.
    pub lockedg: Addr,
    /// `m.mstartfn`: a func value, null for most.
    pub mstartfn: Addr,
    /// `m.incgo`: runs C code.
    pub incgo: bool,
    /// `m.blocked`: sleeps on a note.
    pub blocked: bool,
    /// `m.spinning`: looks for work.
    pub spinning: bool,
    /// `m.isextra`: made for callbacks from threads of C.
    pub isextra: bool,
    /// `m.throwing`: not 0 when it dies by a runtime failure.
    pub throwing: i32,
    /// `m.vdsoSP`: not null while it is in the vDSO.
    pub vdso_sp: Addr,
    /// `m.vdsoPC`.
    pub vdso_pc: Addr,
}

/// One processor of the scheduler, `runtime.p`.
#[derive(Clone, Debug)]
pub struct P {
    /// Where its p lies.
    pub at: Addr,
    /// `p.id`.
    pub id: i32,
    /// `p.status`: 0 idle, 1 running, 2 syscall (until 1.25), 3 gcstop, 4 dead.
    pub status: u32,
    /// `p.m`.
    pub m: Addr,
}
