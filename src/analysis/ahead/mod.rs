//! Analysis, ahead: what the frames of a goroutine will still do. Not what they did: after a call
//! returns, Go code has nothing in registers but the stack pointer, the frame pointer and g, so every
//! value that it needs later lies in the frame or in memory reached from it. An abstract interpreter
//! starts at the return address of each parked frame and follows the code to the Unlock, Done, send,
//! receive, close or Signal ahead. Needs code and the runtime's tables only: stripped programs too.

mod amd64;
mod defers;
mod machine;
mod operation;
mod value;

use crate::addr::Addr;
use crate::image::Image;
use crate::memory::Memory;
use crate::runtime::G;
use crate::unwind::{Physical, Walk};
use machine::Frame;
pub use machine::Machine;
use rustc_hash::FxHashMap;
use value::{State, Value, View};

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

/// Frames that are run of one goroutine.
const MOST_FRAMES: usize = 200;

/// Packages whose innermost frames are the wait itself.
const WAITS: [&str; 5] = ["runtime.", "internal/runtime/", "sync.", "internal/sync.", "time.Sleep"];

/// What is ahead of `g`, whose stack is `walk`: each operation on a watched object once, in the order
/// in which it was found. `memory` is that of the instant.
pub fn ahead(
    machine: &mut Machine<'_>,
    image: &Image,
    memory: &dyn Memory,
    g: &G,
    walk: &Walk,
    taking: Option<Taking>,
    watched: &Watched,
) -> Vec<Event> {
    let frames = user_frames(image, walk);
    let pending = defers::pending(image, memory, g, walk);
    let mut balances = State::blank();
    if let Some((taking, object)) = taking.and_then(|t| Some((t, watched.find(t.at, t.operation)?))) {
        balances.begin(object.number(taking.operation), 1);
    }
    let mut reached = true;
    for physical in frames.iter().take(MOST_FRAMES) {
        let closures = pending.get(&physical.sp).cloned().unwrap_or_default();
        let view = View { memory, stack: (g.stack_lo.get(), g.stack_hi.get()), floor: physical.sp.get() };
        let frame = Frame { view, pending: closures.iter().map(|c| c.closure).collect() };
        let start = start(g, physical, &balances);
        if reached {
            let ends = machine.frame(physical.pc, start.clone(), &frame);
            match ends.into_iter().reduce(|mut a, b| {
                a.join(&b);
                a
            }) {
                Some(end) => {
                    balances = State::blank();
                    balances.balances = end.balances;
                    continue;
                }
                None => reached = false,
            }
        }
        // No return is reached from here on: what is sure to run still are the pending deferred calls.
        let all: Vec<u64> = closures.iter().map(|c| c.closure).collect();
        let end = machine.deferred(&all, start, &frame);
        balances.balances = end.balances;
    }
    let mut events = machine.take_events();
    let mut seen = rustc_hash::FxHashSet::default();
    events.retain(|event| seen.insert((event.object, event.operation)));
    events
}

/// The frames from the one that called the wait.
fn user_frames<'w>(image: &Image, walk: &'w Walk) -> &'w [Physical] {
    let waits = |frame: &&Physical| {
        let func = image.modules.find(frame.pc.back(u64::from(!frame.trap)));
        func.is_some_and(|f| WAITS.iter().any(|prefix| f.name().starts_with(prefix)))
    };
    let skip = walk.frames.iter().take_while(waits).count();
    walk.frames.get(skip..).unwrap_or_default()
}

/// Registers at the return address of a parked frame.
fn start(g: &G, frame: &Physical, balances: &State) -> State {
    let mut state = balances.clone();
    state.registers = [Value::UNKNOWN; value::REGISTERS];
    let known =
        [(amd64::RSP, frame.sp.get()), (amd64::RBP, frame.fp.back(16).get()), (amd64::R14, g.at.get())];
    for (register, bits) in known {
        if let Some(slot) = state.registers.get_mut(register) {
            *slot = Value::known(bits);
        }
    }
    // X15 is zero in all Go code (ABIInternal).
    if let Some(slot) = state.vectors.get_mut(15) {
        *slot = (Value::known(0), Value::known(0));
    }
    state
}
