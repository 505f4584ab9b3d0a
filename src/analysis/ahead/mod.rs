//! Analysis, ahead: what the frames of a goroutine will still do. Not what they did: after a call
//! returns, Go code has nothing in registers but the stack pointer, the frame pointer and g, so every
//! value that it needs later lies in the frame or in memory reached from it. An abstract interpreter
//! starts at the return address of each parked frame and follows the code to the Unlock, Done, send,
//! receive, close or Signal ahead. Needs code and the runtime's tables only: stripped programs too.

mod amd64;
mod arm64;
pub mod before;
mod code;
mod convention;
mod defers;
mod flow;
mod machine;
mod notes;
mod operation;
mod past;
mod takings;
mod value;

use crate::addr::Addr;
use crate::image::Image;
use crate::memory::Memory;
use crate::runtime::G;
use crate::unwind::{Physical, Walk};
use convention::Convention;
use machine::{Frame, Limits};
use notes::Releases;
use rustc_hash::{FxHashMap, FxHashSet};
use value::{Flags, Gate, State, Value, View};

/// What can wake somebody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Releases a Mutex, or an RWMutex that is held for writing.
    Unlock,
    /// Releases an RWMutex that is held for reading.
    RUnlock,
    /// Counts a WaitGroup down.
    Done,
    /// Signals or broadcasts a Cond.
    Signal,
    /// Sends on a channel.
    Send,
    /// Receives from a channel.
    Receive,
    /// Closes a channel.
    Close,
    /// Goes on with an iterator: switches to the goroutine that waits in a `runtime.coro`.
    Resume,
}

impl Operation {
    /// Whether takings must be set off against releases.
    fn balances(self) -> bool {
        matches!(self, Operation::Unlock | Operation::RUnlock)
    }
}

/// Kinds of objects that are watched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// sync.Mutex.
    Mutex,
    /// sync.RWMutex.
    RwMutex,
    /// sync.WaitGroup.
    WaitGroup,
    /// sync.Cond.
    Cond,
    /// A channel.
    Channel,
    /// A `runtime.coro` (runtime/coro.go, since 1.23), in which an iterator waits.
    Coroutine,
}

/// An object that somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Object {
    /// Where the value lies that the source names.
    pub at: Addr,
    /// What it is.
    pub kind: Kind,
    index: u32,
}

impl Object {
    /// The number under which a state counts an operation's balance: readers and writers apart.
    fn number(self, operation: Operation) -> u32 {
        self.index * 2 + u32::from(operation == Operation::RUnlock)
    }
}

/// `RWMutex.readerCount` from the start of the RWMutex, in bytes (sync/rwmutex.go, all releases).
const READER_COUNT: u64 = 16;

/// All objects that somebody waits for.
#[derive(Default)]
pub struct Watched {
    objects: FxHashMap<(Addr, Kind), Object>,
    readers: FxHashMap<Addr, Object>,
}

impl Watched {
    /// Adds an object.
    pub fn add(&mut self, at: Addr, kind: Kind) {
        let index = self.objects.len() as u32;
        let object = *self.objects.entry((at, kind)).or_insert(Object { at, kind, index });
        if kind == Kind::RwMutex {
            self.readers.insert(at.offset(READER_COUNT), object);
        }
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn mutex(&self, at: Addr) -> Option<Object> {
        self.objects.get(&(at, Kind::Mutex)).copied()
    }

    fn readers(&self, at: Addr) -> Option<Object> {
        self.readers.get(&at).copied()
    }

    fn find(&self, at: Addr, operation: Operation) -> Option<Object> {
        let kinds: &[Kind] = match operation {
            Operation::Unlock => &[Kind::Mutex, Kind::RwMutex],
            Operation::RUnlock => &[Kind::RwMutex],
            Operation::Done => &[Kind::WaitGroup],
            Operation::Signal => &[Kind::Cond],
            Operation::Send | Operation::Receive | Operation::Close => &[Kind::Channel],
            Operation::Resume => &[Kind::Coroutine],
        };
        kinds.iter().find_map(|kind| self.objects.get(&(at, *kind)).copied())
    }
}

/// An operation ahead of a goroutine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Event {
    /// On which object.
    pub object: Object,
    /// What.
    pub operation: Operation,
    /// The instruction that does it.
    pub at: Addr,
    /// Whether a pending deferred call does it.
    pub deferred: bool,
    gate: Gate,
}

/// An operation ahead, and whether it hangs on nothing that may have failed already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    /// What.
    pub event: Event,
    /// Whether the code gets there whatever was decided before: how a TryLock ended, what a register
    /// held. Where it does not, the goroutine may be somebody who failed.
    pub firm: bool,
    /// Whether every way that the goroutine may go on gets there, as far as ways end.
    pub always: bool,
}

/// The interpreter, looking for what will wake somebody. One per thread of ours.
pub type Machine<'a> = machine::Machine<'a, Releases<'a>>;

/// An interpreter of `image`'s code that looks at `watched` objects. `statics` holds the code.
pub fn machine<'a>(image: &'a Image, statics: &'a dyn Memory, watched: &'a Watched) -> Machine<'a> {
    Machine::new(image, statics, LIMITS, Releases::of(watched))
}

/// A lock that a goroutine is about to take: it counts as taken, so that only a second release is its
/// own.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    /// Which.
    pub at: Addr,
    /// How it will be released.
    pub operation: Operation,
}

/// Most goroutines are done after a few hundred instructions.
const LIMITS: Limits = Limits { frame: 4_000, goroutine: 24_000, part_of_goroutine: 2, part_of_call: 4 };

/// Frames that are run of one goroutine.
const MOST_FRAMES: usize = 200;

/// Packages whose innermost frames are the wait itself.
const WAITS: [&str; 5] = ["runtime.", "internal/runtime/", "sync.", "internal/sync.", "time.Sleep"];

/// What is ahead of one goroutine.
#[derive(Default, Debug)]
pub struct Outlook {
    /// Each operation on a watched object once, in the order in which it was found.
    pub all: Vec<Ahead>,
    /// Instructions that were run for it.
    pub spent: u32,
}

/// What is ahead of `g`, whose stack is `walk`. `memory` is that of the instant.
pub fn ahead(
    machine: &mut Machine<'_>,
    image: &Image,
    memory: &dyn Memory,
    g: &G,
    walk: &Walk,
    taking: Option<Taking>,
    watched: &Watched,
) -> Outlook {
    let frames = user_frames(image, walk);
    let pending = defers::pending(image, memory, g, walk);
    let mut state = innermost(image, g, frames.first());
    if let Some((taking, object)) = taking.and_then(|t| Some((t, watched.find(t.at, t.operation)?))) {
        state.begin(object.number(taking.operation), 1);
    }
    let (mut states, mut reached) = (vec![state], true);
    let mut always = FxHashSet::default();
    for physical in frames.iter().take(MOST_FRAMES) {
        let closures = pending.get(&physical.sp).cloned().unwrap_or_default();
        let view = View {
            memory,
            stack: (g.stack_lo.get(), g.stack_hi.get()),
            floor: physical.sp.get(),
            past: None,
        };
        let frame = Frame { view, pending: closures.iter().map(|c| c.closure).collect() };
        states.iter_mut().for_each(|state| enter(Convention::of(image.arch), g, physical, state));
        if reached {
            let ends = machine.frame(physical.pc, states.clone(), &frame);
            if !ends.is_empty() {
                if !machine.notes.lost {
                    always.extend(released(&ends));
                }
                states = ends;
                continue;
            }
            reached = false;
        }
        // No return is reached from here on: what is sure to run still are the pending deferred calls.
        let Some(start) = joined(states) else { break };
        let all: Vec<u64> = closures.iter().map(|c| c.closure).collect();
        let at = physical.pc.back(u64::from(!physical.trap));
        states = vec![deferred(machine, &all, at, start, &frame)];
    }
    let spent = machine.spent();
    Outlook { all: each_once(taken(machine), &always), spent }
}

/// What a timer's function, the func value at `closure`, does when the timer fires.
pub fn of_timer(machine: &mut Machine<'_>, memory: &dyn Memory, closure: Addr) -> Vec<Ahead> {
    let view = View { memory, stack: (0, 0), floor: 0, past: None };
    let frame = Frame { view, pending: Vec::new() };
    deferred(machine, &[closure.get()], Addr::NULL, State::blank(), &frame);
    let mut all = each_once(taken(machine), &FxHashSet::default());
    all.iter_mut().for_each(|one| one.event.deferred = false);
    all
}

/// Runs pending deferred calls on their own, as if made at `at`.
fn deferred(machine: &mut Machine<'_>, closures: &[u64], at: Addr, state: State, frame: &Frame<'_>) -> State {
    machine.notes.deferred = true;
    let state = machine.deferred(closures, at.get(), state, frame);
    machine.notes.deferred = false;
    state
}

/// Takes what was found so far; the next goroutine begins.
fn taken(machine: &mut Machine<'_>) -> Vec<Event> {
    machine.next_goroutine();
    machine.notes.lost = false;
    std::mem::take(&mut machine.notes.events)
}

/// The numbers of what was given back on all ways that ended.
fn released(ends: &[State]) -> Vec<u32> {
    let below = |state: &State| {
        state.balances.iter().filter(|b| b.high < 0).map(|b| b.object).collect::<FxHashSet<u32>>()
    };
    let Some((first, others)) = ends.split_first() else { return Vec::new() };
    let others: Vec<_> = others.iter().map(below).collect();
    below(first).into_iter().filter(|number| others.iter().all(|other| other.contains(number))).collect()
}

fn joined(states: Vec<State>) -> Option<State> {
    states.into_iter().reduce(|mut a, b| {
        a.join(&b);
        a
    })
}

/// Each operation on each object once. It hangs on nothing when one way to it doesn't, or when both
/// answers to one question lead to it.
fn each_once(events: Vec<Event>, always: &FxHashSet<u32>) -> Vec<Ahead> {
    let mut order: Vec<Event> = Vec::new();
    let mut gates: FxHashMap<(Object, Operation), Gate> = FxHashMap::default();
    for event in events {
        let key = (event.object, event.operation);
        match gates.get_mut(&key) {
            Some(gate) => *gate = gate.join(event.gate),
            None => {
                gates.insert(key, event.gate);
                order.push(event);
            }
        }
    }
    let firm = |event: &Event| gates.get(&(event.object, event.operation)) == Some(&Gate::Open);
    let always = |event: &Event| always.contains(&event.object.number(event.operation));
    order.iter().map(|event| Ahead { event: *event, firm: firm(event), always: always(event) }).collect()
}

/// Whether the frames before the first of the program's own are in the middle of taking a lock: what
/// comes of that, the frames do not say.
pub fn is_taking(image: &Image, walk: &Walk) -> bool {
    let takes = |frame: &Physical| {
        let pc = frame.pc.back(u64::from(!frame.trap));
        let Some(func) = image.modules.find(pc) else { return false };
        let name = func.name().strip_prefix("internal/").unwrap_or(func.name());
        TAKES.iter().any(|prefix| name.starts_with(prefix))
    };
    walk.frames.iter().take_while(|frame| waits(image, frame)).any(takes)
}

/// Functions in which a lock is being taken.
const TAKES: [&str; 4] = ["sync.(*Mutex).", "sync.(*RWMutex).", "sync.(*rlocker).", "sync.(*Cond).Wait"];

fn waits(image: &Image, frame: &Physical) -> bool {
    let func = image.modules.find(frame.pc.back(u64::from(!frame.trap)));
    func.is_some_and(|f| WAITS.iter().any(|prefix| f.name().starts_with(prefix)))
}

/// The frames from the one that called the wait.
fn user_frames<'w>(image: &Image, walk: &'w Walk) -> &'w [Physical] {
    let skip = walk.frames.iter().take_while(|frame| waits(image, frame)).count();
    walk.frames.get(skip..).unwrap_or_default()
}

/// What is known where the innermost frame goes on, but for the registers that tell where it is. After
/// a call no register holds anything; in the middle of the code all do, and none is known.
fn innermost(image: &Image, g: &G, frame: Option<&Physical>) -> State {
    let mut state = State::blank();
    let Some(frame) = frame else { return state };
    if frame.trap {
        state.registers = [Value::DECIDED; value::REGISTERS];
        state.flags = Flags::Decided;
    }
    let begins = image.modules.find(frame.pc).is_some_and(|func| func.entry() == frame.pc);
    if begins && !g.sched.ctxt.is_null() {
        // It has not run yet.
        state.set(Convention::of(image.arch).closure, Value::known(g.sched.ctxt.get()));
    }
    state
}

/// Goes on in the frame `frame` with what the one inside of it left.
fn enter(convention: &Convention, g: &G, frame: &Physical, state: &mut State) {
    state.pushed.clear();
    for (register, value) in convention.at_return(frame.sp, frame.fp, g.at) {
        state.set(register, value);
    }
    if let Some(slot) = state.vectors.get_mut(15).filter(|_| convention.zero_vector) {
        *slot = (Value::known(0), Value::known(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_firm_when_one_way_to_it_is_or_both_answers_lead_to_it() {
        let mut watched = Watched::default();
        watched.add(Addr::new(0x10), Kind::Mutex);
        watched.add(Addr::new(0x20), Kind::Mutex);
        let [a, b] = [0x10, 0x20].map(|at| watched.find(Addr::new(at), Operation::Unlock).unwrap());
        let event = |object, gate| Event {
            object,
            operation: Operation::Unlock,
            at: Addr::new(1),
            deferred: false,
            gate,
        };
        let firm = |gates: &[Gate]| {
            let events = gates.iter().map(|gate| event(a, *gate)).chain([event(b, Gate::Open)]);
            let found = each_once(events.collect(), &FxHashSet::default());
            assert_eq!(found.len(), 2);
            found.first().map(|one| one.firm)
        };
        assert_eq!(firm(&[Gate::Side(4, true), Gate::Side(4, true)]), Some(false));
        assert_eq!(firm(&[Gate::Side(4, true), Gate::Side(4, false)]), Some(true));
        assert_eq!(firm(&[Gate::Attempt, Gate::Side(4, false)]), Some(false));
        assert_eq!(firm(&[Gate::Attempt, Gate::Open]), Some(true));
    }
}
