//! Analysis, blocked: goroutine by goroutine, from wait reason and frames to the addresses that it waits
//! with. All goroutines are independent here, so all cores share them; objects come later.

use super::act::{Act, act};
use super::{Inputs, Kind, ObjectKind, Operation};
use crate::addr::{Addr, Nanotime};
use crate::memory::Memory;
use crate::runtime::netpoll::{Deadline, PollDesc, with_waiter_at};
use crate::runtime::select::cases;
use crate::runtime::sema::{SemaWaiters, waiters};
use crate::runtime::sudog::{Sudog, sudog};
use crate::runtime::{G, Status, notify, timer};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What one goroutine waits with.
pub(super) struct Raw {
    pub kind: Kind,
    pub operation: Operation,
    pub by: By,
    /// When time ends the wait.
    pub until: Option<Deadline>,
}

/// What leads to the objects.
pub(super) enum By {
    Nothing,
    /// Places in the queues of channels.
    Tickets(Vec<Sudog>),
    Object(ObjectKind, Addr),
    Poll(Box<PollDesc>),
}

/// What all goroutines wait with.
pub(super) struct Raws {
    /// By index in the snapshot's list; `None` for those that are not blocked.
    pub of: Vec<Option<Raw>>,
    /// Whether the table of semaphores could be read where it was needed.
    pub semaphores_whole: bool,
}

/// Waiters of a notifyList by its address; `None` for what is no such list.
type Lists = Mutex<FxHashMap<Addr, Option<Arc<FxHashSet<Addr>>>>>;

struct Context<'a> {
    inputs: &'a Inputs<'a>,
    heap: &'a dyn Memory,
    acts: Vec<Act>,
    semaphores: Option<SemaWaiters>,
    lists: Lists,
}

pub(super) fn all(inputs: &Inputs<'_>, heap: &dyn Memory) -> Raws {
    let context = Context {
        acts: inputs.stacks.distinct.par_iter().map(|stack| act(&stack.frames)).collect(),
        semaphores: semaphores(inputs, heap),
        lists: Lists::default(),
        inputs,
        heap,
    };
    let gs = &inputs.snapshot.gs;
    Raws {
        of: gs.par_iter().enumerate().with_min_len(256).map(|(i, g)| context.raw(i, g)).collect(),
        semaphores_whole: context.semaphores.is_none_or(|found| found.whole),
    }
}

/// The table of semaphores, if a goroutine waits for one without saying for which.
fn semaphores(inputs: &Inputs<'_>, heap: &dyn Memory) -> Option<SemaWaiters> {
    let image = inputs.image;
    let needs = |g: &G| g.waiting.is_null() && reason_of(inputs, g).is_some_and(|r| semaphore(r).is_some());
    if !inputs.snapshot.gs.iter().any(needs) {
        return None;
    }
    let Some(table) = &image.globals.semtable else {
        return Some(SemaWaiters { of: FxHashMap::default(), whole: false });
    };
    let stride = image.rules.semtable_stride(image.arch);
    Some(waiters(heap, table.value, stride, &image.layouts.sema_root, &image.layouts.sudog))
}

/// The wait reason of a parked goroutine, without what newer releases add in a synctest bubble.
fn reason_of<'a>(inputs: &Inputs<'a>, g: &G) -> Option<&'a str> {
    if !matches!(g.status, Status::Waiting | Status::Leaked) {
        return None;
    }
    let reason = inputs.image.wait_reason(g.waitreason)?;
    let plain = reason.strip_suffix(" (durable)").or_else(|| reason.strip_suffix(" (synctest)"));
    Some(plain.unwrap_or(reason))
}

/// The kind of a wait for a semaphore, by the wait reason alone. Until 1.19 all say `semacquire`.
fn semaphore(reason: &str) -> Option<(Kind, Operation)> {
    match reason {
        "semacquire" => Some((Kind::Semaphore, Operation::Acquire)),
        "sync.Mutex.Lock" => Some((Kind::Mutex, Operation::Lock)),
        "sync.RWMutex.RLock" => Some((Kind::RwMutex, Operation::RLock)),
        "sync.RWMutex.Lock" => Some((Kind::RwMutex, Operation::Lock)),
        "sync.WaitGroup.Wait" => Some((Kind::WaitGroup, Operation::Wait)),
        _ => None,
    }
}

/// Waits for which there is nothing to look up.
fn simple(reason: &str) -> (Kind, Operation) {
    match reason {
        "chan receive (nil chan)" => (Kind::Forever, Operation::Receive),
        "chan send (nil chan)" => (Kind::Forever, Operation::Send),
        "select (no cases)" => (Kind::Forever, Operation::Select),
        "coroutine" => (Kind::Coroutine, Operation::Park),
        "synctest.Run" | "synctest.Wait" => (Kind::Synctest, Operation::Wait),
        "finalizer wait" | "cleanup wait" => (Kind::Finalizer, Operation::Park),
        "stopping the world" => (Kind::StopTheWorld, Operation::Park),
        "garbage collection" | "garbage collection scan" | "wait for GC cycle" | "force gc (idle)" => {
            (Kind::Gc, Operation::Park)
        }
        "timer goroutine (idle)"
        | "trace reader (blocked)"
        | "GOMAXPROCS updater (idle)"
        | "panicwait"
        | "dumping heap"
        | "debug call"
        | "preempted"
        | "flushing proc caches"
        | "page trace flush"
        | "trace goroutine status"
        | "trace proc status" => (Kind::Runtime, Operation::Park),
        _ if reason.starts_with("GC ") => (Kind::Gc, Operation::Park),
        _ => (Kind::Unknown, Operation::Park),
    }
}

fn raw_of((kind, operation): (Kind, Operation), by: By) -> Raw {
    Raw { kind, operation, by, until: None }
}

impl Context<'_> {
    fn act(&self, index: usize) -> Act {
        let stack = self.inputs.stacks.of.get(index).copied();
        stack.and_then(|i| self.acts.get(i as usize)).copied().unwrap_or(Act::Other)
    }

    fn raw(&self, index: usize, g: &G) -> Option<Raw> {
        if g.status == Status::Syscall {
            let kind = if self.act(index) == Act::Signal { Kind::Signal } else { Kind::Syscall };
            return Some(raw_of((kind, Operation::Call), By::Nothing));
        }
        let reason = reason_of(self.inputs, g)?;
        Some(match reason {
            "chan receive" => self.tickets(g, Kind::Channel, Operation::Receive),
            "chan send" => self.tickets(g, Kind::Channel, Operation::Send),
            // A select all of whose channels are nil queues nowhere.
            "select" if g.waiting.is_null() => raw_of((Kind::Forever, Operation::SelectNil), By::Nothing),
            "select" => self.tickets(g, Kind::Select, Operation::Select),
            "sleep" => Raw {
                until: timer::sleeps_until(self.heap, &self.inputs.image.layouts.timer, g).map(Deadline::At),
                ..raw_of((Kind::Sleep, Operation::Sleep), By::Nothing)
            },
            "IO wait" => self.poll(index, g),
            "sync.Cond.Wait" => self.cond(g),
            _ => match semaphore(reason) {
                Some(said) => self.semaphore(index, g, said),
                None => raw_of(simple(reason), By::Nothing),
            },
        })
    }

    fn tickets(&self, g: &G, kind: Kind, operation: Operation) -> Raw {
        let found = cases(self.heap, &self.inputs.image.layouts.sudog, g.at, g.waiting);
        let whole =
            found.filter(|all| all.iter().all(|s| !s.c.is_null() && s.is_select == (kind == Kind::Select)));
        raw_of((kind, operation), whole.map_or(By::Nothing, By::Tickets))
    }

    /// What a goroutine waits for with the one sudog that it has itself (since 1.26 for semaphores too).
    fn own_ticket(&self, g: &G) -> Option<Sudog> {
        let one = sudog(self.heap, &self.inputs.image.layouts.sudog, g.waiting).ok()?;
        (one.g == g.at && one.c.is_null()).then_some(one)
    }

    fn semaphore(&self, index: usize, g: &G, said: (Kind, Operation)) -> Raw {
        let word = match &self.semaphores {
            Some(table) if g.waiting.is_null() => table.of.get(&g.at).copied(),
            _ => self.own_ticket(g).map(|ticket| ticket.elem),
        };
        let (kind, operation, object, offset) = match self.act(index) {
            Act::Mutex => (Kind::Mutex, Operation::Lock, ObjectKind::Mutex, 4),
            Act::RwLock => (Kind::RwMutex, Operation::Lock, ObjectKind::RwMutex, 8),
            Act::RwLockAsNext => (Kind::RwMutex, Operation::LockAsNext, ObjectKind::RwMutex, 4),
            Act::RwRLock => (Kind::RwMutex, Operation::RLock, ObjectKind::RwMutex, 12),
            Act::Once => (Kind::Once, Operation::Do, ObjectKind::Once, 8),
            Act::WaitGroup => (Kind::WaitGroup, Operation::Wait, ObjectKind::WaitGroup, 8),
            Act::Descriptor(Operation::Read) => (Kind::Semaphore, Operation::Read, ObjectKind::Descriptor, 8),
            Act::Descriptor(_) => (Kind::Semaphore, Operation::Write, ObjectKind::Descriptor, 12),
            Act::DescriptorClose => (Kind::Semaphore, Operation::Close, ObjectKind::Descriptor, 40),
            Act::StopTheWorld => (Kind::StopTheWorld, Operation::Acquire, ObjectKind::Semaphore, 0),
            Act::Gc => (Kind::Gc, Operation::Acquire, ObjectKind::Semaphore, 0),
            // Which object a semaphore belongs to is told by the frames alone.
            _ if said.0 != Kind::Semaphore => return raw_of(said, By::Nothing),
            _ => (Kind::Semaphore, Operation::Acquire, ObjectKind::Semaphore, 0),
        };
        let by = word.map_or(By::Nothing, |word| By::Object(object, word.back(offset)));
        raw_of((kind, operation), by)
    }

    /// A Cond: since 1.26 the sudog names its list; before, only the frame of `Cond.Wait` leads to it,
    /// and a word there is the Cond if its list holds this very goroutine.
    fn cond(&self, g: &G) -> Raw {
        let list = if g.waiting.is_null() {
            self.slots(g, "sync.(*Cond).Wait").into_iter().find_map(|word| {
                [word.offset(notify::IN_COND), word].into_iter().find(|list| self.holds(*list, g.at))
            })
        } else {
            self.own_ticket(g).map(|ticket| ticket.elem)
        };
        let by = list.map_or(By::Nothing, |list| By::Object(ObjectKind::Cond, list.back(notify::IN_COND)));
        raw_of((Kind::Cond, Operation::Wait), by)
    }

    /// Whether the notifyList at `list` holds `g`.
    fn holds(&self, list: Addr, g: Addr) -> bool {
        let known = |lists: &Lists| lists.lock().unwrap_or_else(PoisonError::into_inner).get(&list).cloned();
        let held = known(&self.lists).unwrap_or_else(|| {
            let queue = notify::waiters(self.heap, &self.inputs.image.layouts.sudog, list);
            let held = queue.map(|queue| Arc::new(queue.tickets.iter().map(|t| t.g).collect()));
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            lists.insert(list, held.clone());
            held
        });
        held.is_some_and(|held| held.contains(&g))
    }

    /// The pollDesc is led to by a word in the frame of `netpollblock`: the address of its place for the
    /// reader or writer, which then holds this very goroutine.
    fn poll(&self, index: usize, g: &G) -> Raw {
        let operation = match self.act(index) {
            Act::Poll(operation) => operation,
            _ => Operation::Park,
        };
        let layout = &self.inputs.image.layouts.poll_desc;
        let found = self
            .slots(g, "runtime.netpollblock")
            .into_iter()
            .find_map(|word| with_waiter_at(self.heap, layout, word, g.at));
        let Some(found) = found else { return raw_of((Kind::Io, operation), By::Nothing) };
        let until = if found.reader == g.at { found.read_deadline } else { found.write_deadline };
        Raw { until, ..raw_of((Kind::Io, operation), By::Poll(Box::new(found))) }
    }

    /// The words of the innermost frames of `g`, up to and with the one of the function `last`, and of
    /// the place where its caller keeps its arguments.
    fn slots(&self, g: &G, last: &str) -> Vec<Addr> {
        let walk = self.inputs.unwinder.walk(g);
        let inner = walk.frames.iter().take(INNERMOST);
        let of_last = inner.clone().find(|frame| {
            self.inputs.image.modules.find(frame.pc).is_some_and(|function| function.name() == last)
        });
        let (Some(first), Some(frame)) = (walk.frames.first(), of_last) else { return Vec::new() };
        let end = frame.fp.offset(ARGUMENTS).min(g.stack_hi);
        let len = end.above(first.sp).unwrap_or(0).min(MOST_BYTES);
        let mut words = Vec::new();
        for offset in (0..len).step_by(8) {
            let word = self.inputs.snapshot.memory.read_addr(first.sp.offset(offset));
            words.extend(word.ok().filter(|word| word.get() > 4096 && word.is_aligned(8)));
        }
        words.sort_unstable();
        words.dedup();
        words
    }
}

/// Frames in which the function in question is looked for.
const INNERMOST: usize = 12;

/// Bytes above a frame in which its caller keeps the arguments of the call.
const ARGUMENTS: u64 = 64;

/// Most bytes of stack that are searched.
const MOST_BYTES: u64 = 4096;

/// Nanoseconds from `now` to a deadline; 0 for one that is over.
pub(super) fn left(until: Deadline, now: Option<Nanotime>) -> Option<i64> {
    match until {
        Deadline::At(when) => when.0.checked_sub(now?.0),
        Deadline::Over => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_reason_is_unknown() {
        assert_eq!(simple("GC worker (idle)").0, Kind::Gc);
        assert_eq!(simple("select (no cases)"), (Kind::Forever, Operation::Select));
        assert_eq!(simple("something of 1.40"), (Kind::Unknown, Operation::Park));
        assert_eq!(semaphore("sync.Mutex.Lock"), Some((Kind::Mutex, Operation::Lock)));
        assert_eq!(semaphore("chan receive"), None);
    }

    #[test]
    fn time_left_needs_a_clock() {
        let at = Deadline::At(Nanotime(100));
        assert_eq!(left(at, Some(Nanotime(40))), Some(60));
        assert_eq!(left(at, Some(Nanotime(140))), Some(-40));
        assert_eq!((left(at, None), left(Deadline::Over, None)), (None, Some(0)));
    }
}
