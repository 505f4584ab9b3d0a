//! Analysis: who could wake a goroutine, by what the code of all goroutines will still do
//! ([`super::ahead`]), and who holds a lock, by what it has done as well (`holders`).

mod holders;

use super::ahead::{self, Ahead, Event, Kind, Machine, Outlook, Taking, Watched};
use super::blocked::{Blocked, Inputs, Object, ObjectKind, Operation, Want};
use super::wakers::{Agent, Trust, Waker, Waking};
use crate::addr::Addr;
use crate::image::Image;
use crate::memory::Memory;
use crate::runtime::{Consistency, G, Status};
use crate::unwind::Walk;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Goroutines with the same stack whose code is followed; of more it is said that they were not.
const PER_STACK: u32 = 500;

/// Where the mutex lies in a `sync.Once`, in bytes (sync/once.go, all releases: after `done`).
const ONCE_MUTEX: u64 = 4;

/// Where the data word of the interface `L` lies in a `sync.Cond`, in bytes (sync/cond.go).
const COND_LOCKER: u64 = 8;

/// An operation ahead: whose, what, how sure it is, and how it is told.
struct Found {
    agent: Agent,
    operation: ahead::Operation,
    trust: Trust,
    /// Whether it comes whichever way the goroutine goes on.
    always: bool,
    because: String,
}

impl Found {
    fn waker(&self) -> Waker {
        Waker { agent: self.agent, trust: self.trust, because: self.because.clone() }
    }
}

/// What somebody waits for.
type Key = (Addr, Kind);

/// What the code ahead does, by object.
#[derive(Default)]
pub struct ByCode {
    found: FxHashMap<Key, Vec<Found>>,
    /// Goroutines whose code was not followed, because many have the same stack.
    pub skipped: u64,
}

fn watched_as(object: &Object) -> Option<Key> {
    Some(match object.kind {
        ObjectKind::Mutex => (object.address, Kind::Mutex),
        ObjectKind::Once => (object.address.offset(ONCE_MUTEX), Kind::Mutex),
        ObjectKind::RwMutex => (object.address, Kind::RwMutex),
        ObjectKind::WaitGroup => (object.address, Kind::WaitGroup),
        ObjectKind::Cond => (object.address, Kind::Cond),
        ObjectKind::Channel => (object.address, Kind::Channel),
        ObjectKind::Descriptor | ObjectKind::Semaphore => return None,
    })
}

impl ByCode {
    /// Follows the code of all goroutines.
    pub fn of(inputs: &Inputs<'_>, blocked: &Blocked) -> ByCode {
        let mut watched = Watched::default();
        for (at, kind) in blocked.objects.iter().filter_map(watched_as) {
            watched.add(at, kind);
        }
        for coro in blocked.coroutines.half_way() {
            watched.add(coro, Kind::Coroutine);
        }
        if watched.is_empty() {
            return ByCode::default();
        }
        let (followed, skipped) = chosen(inputs);
        let statics = inputs.memory();
        let machine = || ahead::machine(inputs.image, &statics, &watched);
        let (spent, left_out) = (AtomicU64::new(0), AtomicU64::new(skipped));
        let one = |machine: &mut Machine<'_>, index: &u32| {
            if spent.load(Ordering::Relaxed) > FOR_ALL {
                left_out.fetch_add(1, Ordering::Relaxed);
                return Vec::new();
            }
            let (found, cost) = follow(machine, inputs, blocked, &watched, *index);
            spent.fetch_add(cost.into(), Ordering::Relaxed);
            found
        };
        let mut events: Vec<(Key, Found)> =
            followed.par_iter().with_max_len(16).map_init(machine, one).flatten_iter().collect();
        events.extend(of_timers(&mut machine(), inputs, blocked));
        let mut found: FxHashMap<Key, Vec<Found>> = FxHashMap::default();
        for (key, one) in events {
            found.entry(key).or_default().push(one);
        }
        let skipped = left_out.into_inner();
        holders::tell(inputs, blocked, &followed, skipped == 0, &mut found);
        ByCode { found, skipped }
    }
}

/// A goroutine whose code is followed.
struct Subject<'a> {
    g: &'a G,
    walk: Walk,
    /// The lock that it is about to take.
    taking: Option<Taking>,
    /// Whether its frames tell what it has.
    sure: bool,
}

impl Subject<'_> {
    /// A goroutine of the snapshot, unless it has no code to follow.
    fn of<'a>(inputs: &'a Inputs<'_>, blocked: &Blocked, index: u32) -> Option<Subject<'a>> {
        let g = inputs.g(index as usize)?;
        if matches!(g.status, Status::Dead | Status::Idle | Status::Copystack) || g.system {
            return None;
        }
        let walk = inputs.unwinder.walk(g);
        let taking = taking(&inputs.memory(), blocked, index);
        let sure = is_told_by_frames(inputs, blocked, index, g, &walk, taking.is_some());
        Some(Subject { g, walk, taking, sure })
    }
}

/// Instructions that are run for all goroutines together: about a second's worth.
const FOR_ALL: u64 = 20_000_000;

/// The goroutines whose code is followed, of each stack one before the second of any; and how many are
/// not.
fn chosen(inputs: &Inputs<'_>) -> (Vec<u32>, u64) {
    let mut seen: FxHashMap<u32, u32> = FxHashMap::default();
    let mut skipped = 0;
    let mut chosen = Vec::new();
    for (index, stack) in (0u32..).zip(&inputs.stacks.of) {
        let count = seen.entry(*stack).or_default();
        if *count < PER_STACK {
            chosen.push((*count, index));
        } else {
            skipped += 1;
        }
        *count += 1;
    }
    chosen.sort_unstable();
    (chosen.into_iter().map(|(_, index)| index).collect(), skipped)
}

fn follow(
    machine: &mut Machine<'_>,
    inputs: &Inputs<'_>,
    blocked: &Blocked,
    watched: &Watched,
    index: u32,
) -> (Vec<(Key, Found)>, u32) {
    let Some(Subject { g, walk, taking, sure }) = Subject::of(inputs, blocked, index) else {
        return Default::default();
    };
    let memory = inputs.memory();
    let Outlook { all, spent } = ahead::ahead(machine, inputs.image, &memory, g, &walk, taking, watched);
    let found = |one: Ahead| found(inputs, Agent::Goroutine(index), sure, one);
    (all.into_iter().map(found).collect(), spent)
}

/// An operation ahead of `agent`, who has what he is to have by then if that is `sure`.
fn found(inputs: &Inputs<'_>, agent: Agent, sure: bool, one: Ahead) -> (Key, Found) {
    let Ahead { event, firm, always } = one;
    let found = Found {
        agent,
        operation: event.operation,
        trust: if sure && firm { Trust::Likely } else { Trust::Possible },
        always,
        because: because(inputs.image, &inputs.snapshot.memory, &event, firm),
    };
    ((event.object.at, event.object.kind), found)
}

/// Whether a goroutine's frames tell what it has: not when they are of another instant than the rest,
/// and not in the middle of taking a lock that is not known.
fn is_told_by_frames(
    inputs: &Inputs<'_>,
    blocked: &Blocked,
    index: u32,
    g: &G,
    walk: &Walk,
    takes_known: bool,
) -> bool {
    let parked = matches!(g.status, Status::Waiting | Status::Leaked);
    let taking = ahead::is_taking(inputs.image, walk);
    g.consistency == Consistency::Exact && !blocked.has_moved(index) && !(taking && !(parked && takes_known))
}

/// Timers that are run, of one process.
const MOST_TIMERS: usize = 10_000;

/// What the functions of pending timers will do (`time.AfterFunc`), each as a timer.
fn of_timers(machine: &mut Machine<'_>, inputs: &Inputs<'_>, blocked: &Blocked) -> Vec<(Key, Found)> {
    let memory = inputs.image.memory(inputs.source.memory());
    let mut all = Vec::new();
    for timer in inputs.func_timers(blocked).take(MOST_TIMERS) {
        let ahead = ahead::of_timer(machine, &memory, timer.argument);
        all.extend(ahead.into_iter().map(|one| found(inputs, Agent::Time, true, one)));
    }
    all
}

/// The lock that a goroutine is about to take, if it waits for one.
fn taking(memory: &dyn Memory, blocked: &Blocked, index: u32) -> Option<Taking> {
    let on = blocked.on(index as usize)?;
    let want = on.wants.first()?;
    let object = blocked.object(want.object)?;
    let (at, kind) = watched_as(object)?;
    let unlock = ahead::Operation::Unlock;
    match (want.operation, kind) {
        (Operation::RLock, Kind::RwMutex) => Some(Taking { at, operation: ahead::Operation::RUnlock }),
        (_, Kind::Mutex | Kind::RwMutex) => Some(Taking { at, operation: unlock }),
        (_, Kind::Cond) => {
            let locker = memory.read_addr(at.offset(COND_LOCKER)).ok()?;
            Some(Taking { at: locker, operation: unlock })
        }
        _ => None,
    }
}

/// Why the event's goroutine could wake somebody: `will unlock it in main.f (f.go:41)`.
fn because(image: &Image, memory: &dyn Memory, event: &Event, firm: bool) -> String {
    use ahead::Operation as O;
    let what = match event.operation {
        O::Unlock => "will unlock it",
        O::RUnlock => "will release its read lock",
        O::Done => "will call Done",
        O::Signal => "will signal it",
        O::Send => "will send on it",
        O::Receive => "will receive from it",
        O::Close => "will close it",
        O::Resume => "will call next or stop of it",
    };
    let how = if event.deferred { " by a deferred call" } else { "" };
    let when = if firm { "" } else { ", if what it tries succeeds" };
    match place(image, memory, event.at) {
        Some(place) => format!("{what}{how} in {place}{when}"),
        None => format!("{what}{how}{when}"),
    }
}

/// The user's function and line of an instruction, out of what was inlined there.
fn place(image: &Image, memory: &dyn Memory, at: Addr) -> Option<String> {
    let func = image.modules.find(at)?;
    let statics = image.memory(memory);
    let plumbing =
        |name: &str| ["sync.", "sync/atomic.", "internal/", "runtime."].iter().any(|p| name.starts_with(p));
    let frame = func.inline_at(&statics, at).find(|frame| !plumbing(frame.name))?;
    let short = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let file = frame.file.map(short)?;
    Some(format!("{} ({file}:{})", short(frame.name), frame.line))
}

/// Whether an operation ahead is what somebody wants.
fn answers(want: Operation, kind: Kind, event: ahead::Operation) -> bool {
    use ahead::Operation as O;
    match (kind, want) {
        (Kind::RwMutex, Operation::Lock) => event == O::RUnlock,
        (Kind::Channel, Operation::Receive) => matches!(event, O::Send | O::Close),
        (Kind::Channel, Operation::Send) => event == O::Receive,
        (Kind::RwMutex | Kind::Mutex, _) => event == O::Unlock,
        _ => true,
    }
}

impl Waking for ByCode {
    fn wakers(&self, want: Want, object: &Object, _blocked: &Blocked) -> Vec<Waker> {
        let Some((at, kind)) = watched_as(object) else { return Vec::new() };
        let events = self.found.get(&(at, kind)).map_or(&[][..], Vec::as_slice);
        // Who waits for a channel or a WaitGroup does not wake himself; who waits for a lock that he
        // holds does.
        let lock = matches!(kind, Kind::Mutex | Kind::RwMutex);
        let alone = object.waiters.len() == 1;
        let own = |found: &Found| matches!(found.agent, Agent::Goroutine(i) if object.waiters.contains(&i));
        events
            .iter()
            .filter(|found| answers(want.operation, kind, found.operation))
            .filter(|found| lock || !(alone && own(found)))
            .map(Found::waker)
            .collect()
    }

    /// Who will go on with an iterator that is half way. Its own code switches to whoever called it.
    fn wakers_without_object(&self, index: usize, blocked: &Blocked) -> Vec<Waker> {
        let Ok(index) = u32::try_from(index) else { return Vec::new() };
        let coro = blocked.coroutines.coro(index).filter(|coro| blocked.coroutines.is_of(index, *coro));
        let events = coro.and_then(|coro| self.found.get(&(coro, Kind::Coroutine)));
        let others = events.into_iter().flatten().filter(|found| found.agent != Agent::Goroutine(index));
        others.map(Found::waker).collect()
    }
}
