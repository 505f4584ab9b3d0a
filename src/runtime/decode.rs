//! Runtime: from bytes to [`G`], [`M`] and [`P`]. Asks the layout for members, never a release.

use super::capture::key::SCAN_BIT;
use super::{Consistency, G, GoBuf, GoId, M, P, Raised, Status};
use crate::addr::{Addr, Nanotime, Tid};
use crate::image::Image;
use crate::image::layout::field::StructView;
use crate::image::layout::rules::{FuncKind, Rules};
use crate::image::layout::schema;
use crate::memory::ReadResult;

/// The status that a raw `g.atomicstatus` stands for in this release.
pub fn status(raw: u32, rules: &Rules) -> Status {
    match raw & !SCAN_BIT {
        0 => Status::Idle,
        1 => Status::Runnable,
        2 => Status::Running,
        3 => Status::Syscall,
        4 => Status::Waiting,
        6 => Status::Dead,
        8 => Status::Copystack,
        9 => Status::Preempted,
        10 if rules.status_leaked => Status::Leaked,
        11 if rules.status_deadextra => Status::DeadExtra,
        other => Status::Unknown(other),
    }
}

/// Decodes one g. `system` and the waiting time are filled in by [`finish`].
pub fn g(view: StructView<'_>, layout: &schema::G, rules: &Rules) -> ReadResult<G> {
    let raw = view.get(layout.atomicstatus)?;
    let opt = |field| view.get_opt(field).map(Option::unwrap_or_default);
    let set = |t: Nanotime| (t.0 != 0).then_some(t);
    Ok(G {
        at: view.base(),
        id: GoId(view.get(layout.goid)?),
        status: status(raw, rules),
        scan: raw & SCAN_BIT != 0,
        waitreason: view.get(layout.waitreason)?,
        waitsince: set(view.get(layout.waitsince)?),
        waiting_at_least: None,
        stack_lo: view.get(layout.stack_lo)?,
        stack_hi: view.get(layout.stack_hi)?,
        sched: GoBuf {
            sp: view.get(layout.sched_sp)?,
            pc: view.get(layout.sched_pc)?,
            lr: view.get(layout.sched_lr)?,
            bp: view.get(layout.sched_bp)?,
            ctxt: view.get(layout.sched_ctxt)?,
        },
        syscallsp: view.get(layout.syscallsp)?,
        syscallpc: view.get(layout.syscallpc)?,
        syscallbp: opt(layout.syscallbp)?,
        m: view.get(layout.m)?,
        lockedm: view.get(layout.lockedm)?,
        gopc: view.get(layout.gopc)?,
        startpc: view.get(layout.startpc)?,
        parent: view.get_opt(layout.parent_goid)?.filter(|id| *id != 0).map(GoId),
        ancestors: view.get(layout.ancestors)?,
        waiting: view.get(layout.waiting)?,
        labels: view.get(layout.labels)?,
        deferred: view.get(layout.deferred)?,
        panic: view.get(layout.panic)?,
        raised: raised(view, layout)?,
        bubble: opt(layout.bubble)?,
        timer: view.get(layout.timer)?,
        sleep_when: view.get_opt(layout.sleep_when)?.and_then(set),
        running_cleanups: view.get_opt(layout.running_cleanups)?.unwrap_or(0) != 0,
        system: false,
        consistency: Consistency::Exact,
    })
}

fn raised(view: StructView<'_>, layout: &schema::G) -> ReadResult<Option<Box<Raised>>> {
    // Numbers of signals end at 64 and si_code is an int, also where the runtime's word is wider.
    let signal = i32::try_from(view.get(layout.sig)?).unwrap_or_default();
    if signal == 0 {
        return Ok(None);
    }
    let raised = Raised {
        signal,
        code: view.get(layout.sigcode0)? as i32,
        address: view.get(layout.sigcode1)?,
        pc: view.get(layout.sigpc)?,
    };
    Ok(Some(Box::new(raised)))
}

/// Fills in what needs more than the g itself: whether it is one of the runtime's own, and how long it
/// has been blocked at least (`g.waitsince` is written by the garbage collector alone, so it is a
/// lower bound or nothing).
pub fn finish(g: &mut G, image: &Image, now: Option<Nanotime>) {
    g.system = is_system(g, image);
    if matches!(g.status, Status::Waiting | Status::Syscall) {
        g.waiting_at_least = now.zip(g.waitsince).and_then(|(now, since)| now.since(since));
    }
}

/// `isSystemGoroutine` (runtime/traceback.go): started in package runtime, but for those that run
/// users' code. The finalizer and cleanup goroutines count as users' while they run users' code, which
/// their wait reason tells.
fn is_system(g: &G, image: &Image) -> bool {
    let Some(start) = image.modules.find(g.startpc) else { return false };
    match image.rules.func_kind(start.id()) {
        FuncKind::RuntimeMain | FuncKind::HandleAsyncEvent | FuncKind::Corostart => false,
        FuncKind::Runfinq | FuncKind::RunFinalizers => idles_for(g, image, "finalizer wait"),
        FuncKind::RunCleanups => !g.running_cleanups,
        _ => start.name().starts_with("runtime."),
    }
}

fn idles_for(g: &G, image: &Image, reason: &str) -> bool {
    g.status == Status::Waiting && image.wait_reason(g.waitreason) == Some(reason)
}

/// Decodes one m.
pub fn m(view: StructView<'_>, layout: &schema::M) -> ReadResult<M> {
    let procid = view.get(layout.procid)?;
    Ok(M {
        at: view.base(),
        id: view.get(layout.id)?,
        procid: i32::try_from(procid).ok().filter(|id| *id != 0).map(Tid),
        g0: view.get(layout.g0)?,
        gsignal: view.get(layout.gsignal)?,
        curg: view.get(layout.curg)?,
        p: view.get(layout.p)?,
        lockedg: view.get(layout.lockedg)?,
        mstartfn: view.get(layout.mstartfn)?,
        incgo: view.get(layout.incgo)? != 0,
        blocked: view.get(layout.blocked)? != 0,
        spinning: view.get(layout.spinning)? != 0,
        isextra: view.get_opt(layout.isextra)?.unwrap_or(0) != 0,
        throwing: view.get(layout.throwing)?,
        vdso_sp: view.get(layout.vdso_sp)?,
        vdso_pc: view.get(layout.vdso_pc)?,
    })
}

/// Decodes one p.
pub fn p(view: StructView<'_>, layout: &schema::P) -> ReadResult<P> {
    Ok(P {
        at: view.base(),
        id: view.get(layout.id)?,
        status: view.get(layout.status)?,
        m: view.get(layout.m)?,
    })
}

/// Where the used part of a parked goroutine's stack begins: `syscallsp` counts whatever the status
/// (a goroutine that waits for a P after its system call is runnable with it set).
pub fn stack_start(g: &G) -> Addr {
    used_from(g.syscallsp, g.sched.sp)
}

/// The same, from the two stack pointers that a g holds.
pub fn used_from(syscallsp: Addr, sched_sp: Addr) -> Addr {
    if syscallsp.is_null() { sched_sp } else { syscallsp.min(sched_sp) }
}
