//! Analysis, ahead: what a call does to the objects that goroutines wait for, by the callee's name and
//! its arguments. Names are the runtime's and package sync's own, in all releases.

use super::Operation;
use super::convention::Convention;
use super::value::{State, Value, View};

/// What becomes of a call.
pub enum Callee {
    /// The path ends in it.
    NeverReturns,
    /// It keeps all registers (write barriers).
    Keeps,
    /// It moves memory without a branch, and is called anywhere inside: its code is followed from there.
    Moves,
    /// It is not followed; what it returns is unknown.
    Opaque,
    /// It pushes a deferred call of this closure and returns 0.
    Pushes(Value),
    /// It does these operations: object, if known, what, step of the balance.
    Does(Vec<(Option<u64>, Operation, i8)>),
    /// The slow end of an inlined RLock of this object, if known: whoever is on the way there does not
    /// have it yet.
    Queues(Option<u64>),
    /// It tries to take a lock, and says in its result whether it has it; or to change a word of the
    /// program's own, where no object is named.
    Tries(Option<(u64, Operation)>),
    /// Its code is followed.
    Follow,
}

/// Cases of one select that are read.
const MOST_CASES: u64 = 1024;

/// Packages whose code never touches users' locks: not followed, to save time.
const OPAQUE: [&str; 7] =
    ["runtime.", "internal/runtime/", "reflect.", "fmt.", "strconv.", "math.", "unicode."];

const NEVER: [&str; 12] = [
    "runtime.gopanic",
    "runtime.goPanic",
    "runtime.panic",
    "runtime.throw",
    "runtime.fatal",
    "runtime.morestack",
    "runtime.goexit",
    "runtime.Goexit",
    "os.Exit",
    "runtime.sigpanic",
    "runtime.block",
    "sync.fatal",
];

/// Whether a call of the function `name` does anything that matters, where the name tells.
pub fn acts(name: &str) -> Option<bool> {
    const ACT: [&str; 7] = [
        "runtime.deferproc",
        "runtime.deferreturn",
        "runtime.selectgo",
        "runtime.selectnb",
        "runtime.chansend",
        "runtime.chanrecv",
        "runtime.closechan",
    ];
    let starts = |all: &[&str]| all.iter().any(|prefix| name.starts_with(prefix));
    if starts(&ACT) {
        return Some(true);
    }
    let stripped = name.strip_prefix("internal/").unwrap_or(name);
    let known = known(stripped, Value::known(0), Value::UNKNOWN).is_some_and(|does| !does.is_empty());
    let tries = attempt(stripped, Value::UNKNOWN, Value::known(0)).is_some();
    if known || tries || QUEUES.contains(&stripped) || name == "sync.(*WaitGroup).Add" {
        return Some(true);
    }
    (starts(&OPAQUE) || starts(&NEVER)).then_some(false)
}

/// What a call of the function `name` does, given the registers at the call.
pub fn callee(name: &str, convention: &Convention, state: &State, view: &View<'_>) -> Callee {
    if NEVER.iter().any(|prefix| name.starts_with(prefix)) {
        return Callee::NeverReturns;
    }
    if name.starts_with("runtime.gcWriteBarrier") || name.starts_with("runtime.wbZero") {
        return Callee::Keeps;
    }
    if name == "runtime.duffcopy" || name == "runtime.duffzero" {
        return Callee::Moves;
    }
    let argument = |n: usize| convention.arguments.get(n).map_or(Value::UNKNOWN, |r| state.register(*r));
    match name {
        "runtime.deferproc" => return Callee::Pushes(argument(0)),
        "runtime.deferprocStack" => {
            let closure = argument(0).bits.map(|d| state.load(view, d.wrapping_add(24), 8));
            return Callee::Pushes(closure.unwrap_or(Value::UNKNOWN));
        }
        "runtime.selectgo" => return select(argument(0), argument(3), argument(4), state, view),
        _ => {}
    }
    let stripped = name.strip_prefix("internal/").unwrap_or(name);
    if let Some(tries) = attempt(stripped, argument(0), argument(1)) {
        return tries;
    }
    if QUEUES.contains(&stripped) {
        return Callee::Queues(argument(0).bits.map(|at| at.wrapping_sub(READER_SEMAPHORE)));
    }
    match known(stripped, argument(0), argument(1)) {
        Some(operations) => Callee::Does(operations),
        None if OPAQUE.iter().any(|prefix| name.starts_with(prefix)) => Callee::Opaque,
        None => Callee::Follow,
    }
}

/// Operations by name; `Some` of nothing when the call is known to do none.
fn known(name: &str, first: Value, second: Value) -> Option<Vec<(Option<u64>, Operation, i8)>> {
    use Operation as O;
    let one = |object: Value, operation, step| vec![(object.bits, operation, step)];
    Some(match name {
        "sync.(*Mutex).Lock" | "sync.(*Mutex).lockSlow" => one(first, O::Unlock, 1),
        "sync.(*Mutex).Unlock" => one(first, O::Unlock, -1),
        "sync.(*Mutex).unlockSlow" | "sync.(*RWMutex).rUnlockSlow" => Vec::new(),
        "sync.(*RWMutex).Lock" => one(first, O::Unlock, 1),
        "sync.(*RWMutex).Unlock" => one(first, O::Unlock, -1),
        "sync.(*RWMutex).RLock" | "sync.(*rlocker).Lock" => one(first, O::RUnlock, 1),
        "sync.(*RWMutex).RUnlock" | "sync.(*rlocker).Unlock" => one(first, O::RUnlock, -1),
        "sync.(*WaitGroup).Done" => one(first, O::Done, 0),
        "sync.(*WaitGroup).Add" => match second.bits {
            Some(delta) if (delta as i64) < 0 => one(first, O::Done, 0),
            _ => Vec::new(),
        },
        "sync.(*WaitGroup).Wait" => Vec::new(),
        "sync.(*Cond).Signal" | "sync.(*Cond).Broadcast" => one(first, O::Signal, 0),
        "runtime.chansend1" | "runtime.selectnbsend" => one(first, O::Send, 0),
        "runtime.closechan" => one(first, O::Close, 0),
        // Package iter's name for it is the same function (iter/iter.go, since 1.23).
        "runtime.coroswitch" => one(first, O::Resume, 0),
        "runtime.chanrecv1" | "runtime.chanrecv2" => one(first, O::Receive, 0),
        "runtime.selectnbrecv" => {
            let mut both = one(first, O::Receive, 0);
            both.extend(one(second, O::Receive, 0));
            both
        }
        _ => return None,
    })
}

/// Where an inlined RLock waits.
const QUEUES: [&str; 2] = ["sync.runtime_SemacquireRWMutexR", "sync.runtime_SemacquireMutex"];

/// `RWMutex.readerSem` from the start of the RWMutex, in bytes (sync/rwmutex.go, all releases).
const READER_SEMAPHORE: u64 = 12;

/// Attempts that may fail, by name.
fn attempt(name: &str, first: Value, old: Value) -> Option<Callee> {
    let object = |operation| Callee::Tries(first.bits.map(|at| (at, operation)));
    Some(match name {
        "sync.(*Mutex).TryLock" | "sync.(*RWMutex).TryLock" => object(Operation::Unlock),
        "sync.(*RWMutex).TryRLock" => object(Operation::RUnlock),
        // Where the compiler does not inline them.
        _ if name.starts_with("sync/atomic.CompareAndSwap") && old.sure().is_some() => Callee::Tries(None),
        _ => return None,
    })
}

/// `selectgo(cas0, order0, pc0, nsends, nrecvs, block)`: cases of 16 bytes `{channel, elem}`, sends
/// first (runtime/select.go).
fn select(cases: Value, sends: Value, receives: Value, state: &State, view: &View<'_>) -> Callee {
    let (Some(cases), Some(sends), Some(receives)) = (cases.bits, sends.bits, receives.bits) else {
        return Callee::Opaque;
    };
    let mut operations = Vec::new();
    for i in 0..sends.saturating_add(receives).min(MOST_CASES) {
        let operation = if i < sends { Operation::Send } else { Operation::Receive };
        if let Some(channel) = state.load(view, cases.wrapping_add(16 * i), 8).bits {
            operations.push((Some(channel), operation, 0));
        }
    }
    Callee::Does(operations)
}
