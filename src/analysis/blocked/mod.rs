//! Analysis: what each blocked goroutine waits for. The wait reason says the kind, the innermost frames
//! say the operation of the program's source, sudogs and semaphores lead to the object, and the object's
//! own words say its state. What cannot be settled is `unknown` or absent; nothing is guessed.
//!
//! Objects are shared: a hundred thousand goroutines behind one mutex name one [`Object`].

mod act;
pub mod coroutines;
mod kernel;
mod objects;
mod raw;
pub(super) mod still;

pub use act::{Act, act};

use crate::addr::Addr;
use crate::diag::Diagnostics;
use crate::image::{Image, ImageMemory};
use crate::memory::cache::PageCache;
use crate::runtime::timer::Timer;
use crate::runtime::{G, Snapshot};
use crate::source::Source;
use crate::source::descriptors::{Descriptor, SystemCall};
use crate::unwind::stacks::Stacks;
use crate::unwind::{Frame, FrameKind, Unwinder};
use coroutines::Coroutines;
use std::fmt;

/// What kind of thing a goroutine waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// One channel.
    Channel,
    /// One of several channels.
    Select,
    /// A `sync.Mutex`.
    Mutex,
    /// A `sync.RWMutex`.
    RwMutex,
    /// A `sync.WaitGroup`.
    WaitGroup,
    /// A `sync.Cond`.
    Cond,
    /// A `sync.Once` whose function runs in another goroutine.
    Once,
    /// Another semaphore of the runtime.
    Semaphore,
    /// `time.Sleep`.
    Sleep,
    /// The channel of a timer or ticker.
    Timer,
    /// A file descriptor, through the network poller.
    Io,
    /// A system call, or C code.
    Syscall,
    /// The other side of an `iter.Pull`.
    Coroutine,
    /// The other goroutines of a synctest bubble.
    Synctest,
    /// The garbage collector.
    Gc,
    /// That all others stand still.
    StopTheWorld,
    /// A signal from outside.
    Signal,
    /// Something to finalize or clean up.
    Finalizer,
    /// Nothing that could ever come: `select {}`, a nil channel.
    Forever,
    /// Some other business of the runtime.
    Runtime,
    /// Not known.
    Unknown,
}

impl Kind {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Channel => "channel",
            Kind::Select => "select",
            Kind::Mutex => "mutex",
            Kind::RwMutex => "rwmutex",
            Kind::WaitGroup => "waitgroup",
            Kind::Cond => "cond",
            Kind::Once => "once",
            Kind::Semaphore => "semaphore",
            Kind::Sleep => "sleep",
            Kind::Timer => "timer",
            Kind::Io => "io",
            Kind::Syscall => "syscall",
            Kind::Coroutine => "coroutine",
            Kind::Synctest => "synctest",
            Kind::Gc => "gc",
            Kind::StopTheWorld => "stop_the_world",
            Kind::Signal => "signal",
            Kind::Finalizer => "finalizer",
            Kind::Forever => "forever",
            Kind::Runtime => "runtime",
            Kind::Unknown => "unknown",
        }
    }
}

/// What a goroutine is doing to an object, or to nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operation {
    /// `Lock` of a mutex, or of an RWMutex for writing, as the first in line.
    Lock,
    /// `Lock` of an RWMutex behind another writer.
    LockAsNext,
    /// `RLock`.
    RLock,
    /// `Wait` of a WaitGroup or Cond.
    Wait,
    /// `Do` of a Once.
    Do,
    /// A send.
    Send,
    /// A receive.
    Receive,
    /// A case of a select whose direction is not known.
    SendOrReceive,
    /// A select.
    Select,
    /// A select all of whose channels are nil.
    SelectNil,
    /// Taking a semaphore.
    Acquire,
    /// `time.Sleep`.
    Sleep,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Taking a connection.
    Accept,
    /// Connecting.
    Connect,
    /// Closing.
    Close,
    /// The call of another function or of the kernel.
    Call,
    /// Waiting for something that has no operation of its own.
    Park,
}

impl Operation {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Lock | Operation::LockAsNext => "lock",
            Operation::RLock => "rlock",
            Operation::Wait => "wait",
            Operation::Do => "do",
            Operation::Send => "send",
            Operation::Receive => "receive",
            Operation::SendOrReceive => "send or receive",
            Operation::Select | Operation::SelectNil => "select",
            Operation::Acquire => "acquire",
            Operation::Sleep => "sleep",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Accept => "accept",
            Operation::Connect => "connect",
            Operation::Close => "close",
            Operation::Call => "call",
            Operation::Park => "park",
        }
    }
}

/// What kind of value an object is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectKind {
    /// An hchan.
    Channel,
    /// `sync.Mutex`.
    Mutex,
    /// `sync.RWMutex`.
    RwMutex,
    /// `sync.WaitGroup`.
    WaitGroup,
    /// `sync.Cond`.
    Cond,
    /// `sync.Once`.
    Once,
    /// `internal/poll.FD`, whose lock is waited for.
    Descriptor,
    /// A semaphore word.
    Semaphore,
}

impl ObjectKind {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Channel => "channel",
            ObjectKind::Mutex => "mutex",
            ObjectKind::RwMutex => "rwmutex",
            ObjectKind::WaitGroup => "waitgroup",
            ObjectKind::Cond => "cond",
            ObjectKind::Once => "once",
            ObjectKind::Descriptor => "descriptor",
            ObjectKind::Semaphore => "semaphore",
        }
    }

    /// The type by its name in the source, where it is always the same.
    pub const fn type_name(self) -> Option<&'static str> {
        match self {
            ObjectKind::Channel | ObjectKind::Semaphore => None,
            ObjectKind::Mutex => Some("sync.Mutex"),
            ObjectKind::RwMutex => Some("sync.RWMutex"),
            ObjectKind::WaitGroup => Some("sync.WaitGroup"),
            ObjectKind::Cond => Some("sync.Cond"),
            ObjectKind::Once => Some("sync.Once"),
            ObjectKind::Descriptor => Some("internal/poll.FD"),
        }
    }
}

/// What an object says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// A channel.
    Channel {
        /// Values in the buffer.
        len: u64,
        /// Values that the buffer takes.
        capacity: u64,
        /// Whether it was closed.
        closed: bool,
        /// The timer that sends on it, if one does.
        timer: Option<Timer>,
    },
    /// A mutex, also that of a Once.
    Mutex {
        /// Whether it is locked.
        locked: bool,
        /// Whether the first in line gets it next, whoever else comes.
        starving: bool,
        /// How many wait, by its own count.
        waiters: u32,
    },
    /// An RWMutex.
    RwMutex {
        /// Whether a writer holds it or waits for it as the first in line.
        writer: bool,
        /// Readers that hold it or wait for it.
        readers: i32,
        /// Readers for which the writer waits.
        writer_waits_for: i32,
    },
    /// A WaitGroup.
    WaitGroup {
        /// How many `Done` are missing.
        counter: i32,
        /// How many wait, by its own count.
        waiters: u32,
    },
    /// An `internal/poll.FD`.
    Descriptor {
        /// The descriptor's number.
        number: i32,
    },
    /// An object that has no state, or whose state could not be read.
    None,
}

/// Something that goroutines wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Address of the value that the program's source names: the Mutex, not its semaphore; the hchan of
    /// a channel.
    pub address: Addr,
    /// What kind of value it is.
    pub kind: ObjectKind,
    /// Its type, as the source writes it.
    pub type_name: Option<String>,
    /// What it says of itself.
    pub state: State,
    /// The goroutines found waiting for it: indices into the snapshot's list, ascending.
    pub waiters: Vec<u32>,
}

/// An index into [`Blocked::objects`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId(pub u32);

/// An operation that a goroutine wants to do on an object; a select wants one of several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Want {
    /// On what.
    pub object: ObjectId,
    /// What.
    pub operation: Operation,
}

/// What one goroutine waits for.
#[derive(Clone, PartialEq, Debug)]
pub struct BlockedOn {
    /// What kind of thing it is.
    pub kind: Kind,
    /// What the goroutine is doing.
    pub operation: Operation,
    /// The object, or for a select each of its cases (in the order of addresses); empty when there is
    /// none or it is not known.
    pub wants: Vec<Want>,
    /// Nanoseconds until time ends the wait by itself, negative when that is due already; absent when
    /// time doesn't, or the target's clock is not known.
    pub deadline_in: Option<i64>,
    /// Whether time ends the wait, even where it is not known when.
    pub timed: bool,
    /// The file descriptor.
    pub fd: Option<Box<Descriptor>>,
    /// The system call, by name or number.
    pub call: Option<Box<str>>,
}

impl BlockedOn {
    /// Waits of `kind` of which no more is known.
    pub fn bare(kind: Kind, operation: Operation) -> BlockedOn {
        BlockedOn {
            kind,
            operation,
            wants: Vec::new(),
            deadline_in: None,
            timed: false,
            fd: None,
            call: None,
        }
    }
}

/// What all goroutines of a snapshot wait for.
#[derive(Default, Debug)]
pub struct Blocked {
    /// For each goroutine of the snapshot's list; `None` for those that run or could run.
    pub of: Vec<Option<BlockedOn>>,
    /// Everything they wait for.
    pub objects: Vec<Object>,
    /// Timers that are set, but for those that wake a sleeping goroutine.
    pub timers: Vec<Timer>,
    /// Goroutines of which no more than the kind is known, because they went on before their objects
    /// were read: indices into the snapshot's list, ascending.
    pub moved: Vec<u32>,
    /// In which coroutines goroutines wait.
    pub coroutines: Coroutines,
    /// What is missing.
    pub diagnostics: Diagnostics,
}

impl Blocked {
    /// What a goroutine waits for.
    pub fn on(&self, index: usize) -> Option<&BlockedOn> {
        self.of.get(index)?.as_ref()
    }

    /// Whether a goroutine went on before its objects were read.
    pub fn has_moved(&self, index: u32) -> bool {
        self.moved.binary_search(&index).is_ok()
    }

    /// An object.
    pub fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(id.0 as usize)
    }
}

/// What the analysis works on.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Where objects are read, and what the kernel knows of descriptors.
    pub source: &'a dyn Source,
    /// The program.
    pub image: &'a Image,
    /// Its goroutines.
    pub snapshot: &'a Snapshot<'a>,
    /// Walks the stacks again where a slot is needed.
    pub unwinder: &'a Unwinder<'a>,
    /// Their stacks.
    pub stacks: &'a Stacks,
}

impl Inputs<'_> {
    /// The pending timers that call a func value, their argument (`time.AfterFunc`, package context).
    pub fn func_timers<'b>(&'b self, blocked: &'b Blocked) -> impl Iterator<Item = &'b Timer> {
        let calls = |timer: &&Timer| self.image.modules.begins(timer.function, "time.goFunc");
        blocked.timers.iter().filter(calls)
    }

    /// Memory of the instant; what never changes comes from the files of the target, since a core need not
    /// have it.
    pub fn memory(&self) -> ImageMemory<'_> {
        self.image.memory(&self.snapshot.memory)
    }

    /// The frames of a goroutine from the innermost of Go on.
    pub fn frames(&self, index: usize) -> &[Frame] {
        let frames = self.stacks.get(index).map_or(&[][..], |stack| stack.frames.as_slice());
        let called = frames.iter().take_while(|frame| frame.kind == FrameKind::C).count();
        frames.get(called..).unwrap_or_default()
    }

    /// A goroutine of the snapshot.
    pub fn g(&self, index: usize) -> Option<&G> {
        self.snapshot.gs.get(index)
    }
}

/// Finds what each goroutine waits for. Reads the target's memory as it is now; a goroutine that went on
/// since the snapshot is told from the others and keeps only the kind of its wait.
pub fn find(inputs: &Inputs<'_>) -> Blocked {
    let before = still::Witness::look(inputs);
    // Read-only data is in no core of the kernel: the functions of timers are found in the executable.
    let memory = inputs.image.memory(inputs.source.memory());
    let heap = PageCache::new(&memory);
    let mut found = objects::assemble(inputs, &heap, raw::all(inputs, &heap));
    kernel::describe(inputs, &mut found);
    found.blocked.coroutines = Coroutines::find(inputs, &found.blocked);
    let moved = before.moved_until_now(inputs);
    objects::forget(&mut found.blocked, &moved);
    found.blocked
}

/// The system call of a thread that the kernel showed, by name where it has one.
pub(crate) fn call_text(image: &Image, call: &SystemCall) -> Box<str> {
    let name = crate::runtime::syscall::name(image.arch, call.number);
    name.map_or_else(|| format!("system call {}", call.number).into(), Box::from)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
