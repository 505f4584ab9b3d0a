//! Analysis: the threads of a process, and what each is there for.

use crate::addr::{Addr, Tid};
use crate::runtime::{G, GoId, M, Snapshot, Status};
use crate::source::Thread;
use crate::unwind::Unwinder;
use crate::unwind::stacks::{Stack, Stacks};
use rustc_hash::FxHashMap;

/// What a thread is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Runs a goroutine.
    Runs(GoId),
    /// Is in a system call that a goroutine made.
    SystemCall(GoId),
    /// Runs C code that a goroutine called.
    InC(GoId),
    /// Works for a goroutine that is neither running nor in a call, e.g. while it parks.
    WorksFor(GoId),
    /// Waits for a goroutine that may run on this thread only.
    WaitsFor(GoId),
    /// The runtime's `sysmon`.
    Monitor,
    /// Starts other threads from a clean state (`templateThread`).
    Template,
    /// Has no work and sleeps.
    Idle,
    /// Has no goroutine and looks for one.
    Seeks,
    /// Was made by C code; called Go before, or never.
    Native,
    /// The runtime's own, of which no more is known.
    Runtime,
}

/// One thread.
#[derive(Debug)]
pub struct ThreadRow<'a> {
    /// Its number in the target's own PID namespace.
    pub tid: Tid,
    /// The kernel's name of it.
    pub name: Option<&'a str>,
    /// The kernel's letter for its state before the stop.
    pub state: Option<char>,
    /// What it is there for.
    pub role: Role,
    /// Its frames on the system stack and in C.
    pub stack: Stack,
}

/// All threads, ascending by number.
pub fn threads<'a>(unwinder: &Unwinder<'_>, snapshot: &'a Snapshot<'_>) -> Vec<ThreadRow<'a>> {
    let by_g: FxHashMap<Addr, &G> = snapshot.gs.iter().map(|g| (g.at, g)).collect();
    let by_tid: FxHashMap<Tid, &M> = snapshot.ms.iter().filter_map(|m| Some((m.procid?, m))).collect();
    let mut walker = unwinder.walker();
    let walk = |thread: &Thread| unwinder.walk_thread(&mut walker, thread, by_tid.get(&thread.tid).copied());
    let stacks = Stacks::of_walks(unwinder, snapshot.threads.iter().map(walk));
    let row = |(index, thread): (usize, &'a Thread)| {
        Some(ThreadRow {
            tid: thread.tid,
            name: thread.name.as_deref(),
            state: thread.state,
            role: by_tid.get(&thread.tid).map_or(Role::Native, |m| role(m, &by_g, unwinder)),
            stack: stacks.get(index)?.clone(),
        })
    };
    let mut all: Vec<ThreadRow<'a>> = snapshot.threads.iter().enumerate().filter_map(row).collect();
    all.sort_by_key(|thread| thread.tid.0);
    all
}

fn role(m: &M, by_g: &FxHashMap<Addr, &G>, unwinder: &Unwinder<'_>) -> Role {
    if let Some(g) = by_g.get(&m.curg) {
        return match g.status {
            _ if m.incgo => Role::InC(g.id),
            Status::Running => Role::Runs(g.id),
            Status::Syscall => Role::SystemCall(g.id),
            _ => Role::WorksFor(g.id),
        };
    }
    // Of an m that was lent to a thread of C, the goroutine is dead while that thread is not in Go.
    if m.isextra && !m.curg.is_null() {
        return Role::Native;
    }
    if let Some(g) = by_g.get(&m.lockedg) {
        return Role::WaitsFor(g.id);
    }
    match started_with(m, unwinder) {
        Some("runtime.sysmon") => Role::Monitor,
        Some("runtime.templateThread") => Role::Template,
        _ if m.spinning => Role::Seeks,
        _ if m.blocked && m.p.is_null() => Role::Idle,
        _ => Role::Runtime,
    }
}

/// The function that a thread was made for (`m.mstartfn`, a func value), which is kept.
fn started_with<'u>(m: &M, unwinder: &'u Unwinder<'_>) -> Option<&'u str> {
    if m.mstartfn.is_null() {
        return None;
    }
    let entry = unwinder.memory().read_addr(m.mstartfn).ok()?;
    Some(unwinder.image().modules.find(entry)?.name())
}
