//! Image, code reading: which references give which global away. Each rule names functions that exist
//! in all releases 1.18 to 1.27 and are not inlined; it answers only when exactly one address fits.
//! The functions: `runtime/proc.go`, `sema.go`, `mgcmark.go`, `runtime2.go`.

use super::{Reading, read};
use crate::addr::Addr;
use crate::arch::Arch;
use crate::image::layout::schema::Sched;
use crate::image::pclntab::{Func, Modules};
use crate::image::{Found, Provenance};
use crate::memory::{Memory, read_string};

/// What was found; all of it by reading code, and not yet checked against memory.
#[derive(Clone, Copy, Default, Debug)]
pub struct Located {
    /// `runtime.allgs`, a `[]*g`.
    pub allgs: Option<Found<Addr>>,
    /// `runtime.allglock`, a mutex.
    pub allglock: Option<Found<Addr>>,
    /// `runtime.allglen`, a uintptr.
    pub allglen: Option<Found<Addr>>,
    /// `runtime.allgptr`, a `**g`.
    pub allgptr: Option<Found<Addr>>,
    /// `runtime.allm`, a `*m`.
    pub allm: Option<Found<Addr>>,
    /// `runtime.allp`, a `[]*p`.
    pub allp: Option<Found<Addr>>,
    /// `runtime.sched`, a schedt.
    pub sched: Option<Found<Addr>>,
    /// `runtime.semtable`.
    pub semtable: Option<Found<Addr>>,
    /// `runtime.mheap_`.
    pub mheap: Option<Found<Addr>>,
    /// `runtime.waitReasonStrings`, an array of strings, and its length.
    pub wait_reasons: Option<Found<(Addr, u64)>>,
}

macro_rules! functions {
    ($($name:ident = $go:literal;)*) => {
        const NAMES: &[&str] = &[$($go),*];

        /// What each of the functions refers to; empty if it could not be read.
        #[derive(Default)]
        struct Readings {
            $($name: Reading,)*
        }

        impl Readings {
            /// `read` gives the reading of a function's name.
            fn new(mut read: impl FnMut(&str) -> Reading) -> Readings {
                Readings { $($name: read($go),)* }
            }
        }
    };
}

functions! {
    allgadd = "runtime.allgadd";
    for_each_g = "runtime.forEachG";
    for_each_g_race = "runtime.forEachGRace";
    atomic_all_g = "runtime.atomicAllG";
    mcommoninit = "runtime.mcommoninit";
    mexit = "runtime.mexit";
    schedtrace = "runtime.schedtrace";
    m_reserve_id = "runtime.mReserveID";
    time_sleep_until = "runtime.timeSleepUntil";
    gc_mark_tiny_allocs = "runtime.gcMarkTinyAllocs";
    semacquire1 = "runtime.semacquire1";
    semrelease1 = "runtime.semrelease1";
    semroot = "runtime.semroot";
    getempty = "runtime.getempty.func1";
    wait_reason_string = "runtime.waitReason.String";
}

/// Reads the code of the runtime's small functions and tells from it where its globals lie.
pub fn locate_globals(modules: &Modules, memory: &dyn Memory, arch: Arch, sched: &Sched) -> Located {
    let functions = modules.functions_of(NAMES);
    let body = |name: &str| {
        let named = functions.iter().zip(NAMES).find(|(_, n)| **n == name);
        named.and_then(|(list, _)| itself(list))
    };
    let readings = Readings::new(|name| {
        body(name).and_then(|f: Func<'_>| read(memory, modules, arch, f)).unwrap_or_default()
    });
    let allgs = allgs(&readings);
    let (allglen, allgptr) = length_and_pointer(&readings, body("runtime.atomicAllG").map(Func::entry));
    let (allm, lock) = allm_and_lock(&readings);
    let sched_base = lock
        .map(|lock| lock.back(sched.lock.offset.into()))
        .filter(|base| readings.m_reserve_id.refers(base.offset(sched.mnext.offset.into())));
    Located {
        allgs: allgs.map(by_code),
        allglock: allgs.and_then(|allgs| allglock(&readings, allgs)).map(by_code),
        allglen: allglen.map(by_code),
        allgptr: allgptr.map(by_code),
        allm: allm.map(by_code),
        allp: allp(&readings).map(by_code),
        sched: sched_base.map(by_code),
        semtable: semtable(&readings).map(by_code),
        mheap: mheap(&readings).map(by_code),
        wait_reasons: wait_reasons(&readings.wait_reason_string).map(by_code),
    }
}

/// Of functions of one name the function itself: a wrapper is smaller.
fn itself<'m>(named: &[Func<'m>]) -> Option<Func<'m>> {
    named.iter().copied().max_by_key(|f| f.end().above(f.entry()))
}

/// Longest version text, in bytes.
const VERSION: u64 = 256;

/// The text of `runtime.buildVersion`: `schedinit` asks whether it is empty, only so that the linker
/// keeps it.
pub fn build_version(modules: &Modules, memory: &dyn Memory, arch: Arch) -> Option<String> {
    let named = modules.functions_of(&["runtime.schedinit"]);
    let reading = read(memory, modules, arch, itself(named.first()?)?)?;
    let texts = reading.targets().into_iter().filter(|t| reading.loads(t.offset(8)));
    only(
        texts
            .filter_map(|t| String::from_utf8(read_string(memory, t, VERSION).ok()?).ok())
            .filter(|text| is_version(text)),
    )
}

/// Whether it is what toolchains call themselves, and no more than a line.
fn is_version(text: &str) -> bool {
    (text.starts_with("go1.") || text.starts_with("devel ")) && !text.contains(char::is_control)
}

fn by_code<T>(value: T) -> Found<T> {
    Found { value, by: Provenance::Code }
}

/// The one item, if there is exactly one.
fn only<T>(items: impl IntoIterator<Item = T>) -> Option<T> {
    let mut items = items.into_iter();
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// `allgadd` appends to the slice, so it refers to all three words; `forEachG` reads it.
fn allgs(r: &Readings) -> Option<Addr> {
    let whole = |t: &Addr| [0, 8, 16].iter().all(|n| r.allgadd.refers(t.offset(*n)));
    // The word after the array pointer may look the same if another global follows the slice.
    r.for_each_g.targets().into_iter().filter(|t| r.for_each_g.loads(*t)).filter(whole).min()
}

/// Both functions take the lock.
fn allglock(r: &Readings, allgs: Addr) -> Option<Addr> {
    let slice = |t: &Addr| t.above(allgs).is_some_and(|n| n < 24);
    only(
        r.for_each_g
            .targets()
            .into_iter()
            .filter(|t| !slice(t) && r.for_each_g.only_address(*t) && r.allgadd.only_address(*t)),
    )
}

/// `forEachGRace` reads the length, then the pointer, both of which `allgadd` sets; without inlining
/// `atomicAllG` does it.
fn length_and_pointer(r: &Readings, atomic_all_g: Option<Addr>) -> (Option<Addr>, Option<Addr>) {
    let calls = atomic_all_g.is_some_and(|entry| r.for_each_g_race.calls.contains(&entry));
    let reader = if calls { &r.atomic_all_g } else { &r.for_each_g_race };
    let common: Vec<Addr> = reader.targets().into_iter().filter(|t| r.allgadd.refers(*t)).collect();
    match common[..] {
        [length, pointer] => (Some(length), Some(pointer)),
        _ => (None, None),
    }
}

/// Three functions go through the threads under the scheduler's lock. The lock is only passed on by
/// address, the list of threads is read.
fn allm_and_lock(r: &Readings) -> (Option<Addr>, Option<Addr>) {
    let all = [&r.mcommoninit, &r.mexit, &r.schedtrace];
    let common = || r.mexit.targets().into_iter().filter(move |t| all.iter().all(|f| f.refers(*t)));
    let lock = only(common().filter(|t| all.iter().all(|f| f.only_address(*t))));
    let allm = only(common().filter(|t| r.schedtrace.loads(*t)));
    (allm, lock)
}

/// Two functions go through the processors; the slice is what they read. Both must agree.
fn allp(r: &Readings) -> Option<Addr> {
    let slice = |f: &Reading| {
        let loaded: Vec<Addr> = f.targets().into_iter().filter(|t| f.loads(*t)).collect();
        let base = *loaded.iter().min()?;
        let one = loaded.iter().all(|t| t.above(base).is_some_and(|n| n < 24));
        (one && f.loads(base.offset(8))).then_some(base)
    };
    let (one, other) = (slice(&r.time_sleep_until), slice(&r.gc_mark_tiny_allocs));
    match (one, other) {
        (Some(a), Some(b)) => (a == b).then_some(a),
        (one, other) => one.or(other),
    }
}

/// Both functions compute the place of an entry from the table's address; in 1.18 and 1.19 without
/// inlining, `semroot` does it.
fn semtable(r: &Readings) -> Option<Addr> {
    let taken = |f: &Reading| f.targets().into_iter().filter(|t| f.only_address(*t)).collect::<Vec<_>>();
    let both = only(taken(&r.semacquire1).into_iter().filter(|t| r.semrelease1.only_address(*t)));
    both.or_else(|| only(taken(&r.semroot)))
}

/// The function takes a span of the heap, on the system stack.
fn mheap(r: &Readings) -> Option<Addr> {
    only(r.getempty.targets()).filter(|t| r.getempty.only_address(*t))
}

/// The function compares its receiver with the table's length and reads the table.
fn wait_reasons(r: &Reading) -> Option<(Addr, u64)> {
    let table = only(r.targets())?;
    let mut lengths = r.compared.clone();
    lengths.dedup();
    Some((table, only(lengths)?))
}

/// What package os/signal keeps of who wants to be told of signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalHandlers {
    /// Where `handlers.m` lies, a `map[chan<- os.Signal]*handler`.
    pub map: Addr,
    /// Whether the program has maps with buckets, whatever is usual in its release.
    pub buckets: bool,
}

/// `handlers.m` after the mutex, and `handlers.stopping` after it and the counts of 65 signals, in bytes
/// (os/signal/signal.go, all releases).
const HANDLERS_MAP: u64 = 8;
const HANDLERS_STOPPING: u64 = HANDLERS_MAP + 8 + 65 * 8;

/// Finds `os/signal.handlers`: both functions lock it, at its start; who passes a signal on goes through the
/// map and the list of channels that are being stopped.
pub fn signal_handlers(modules: &Modules, memory: &dyn Memory, arch: Arch) -> Option<SignalHandlers> {
    let named = modules.functions_of(&["os/signal.process", "os/signal.Notify", "runtime.evacuate_fast64"]);
    let [process, notify, evacuate] = &named[..] else { return None };
    let process = read(memory, modules, arch, itself(process)?)?;
    let notify = read(memory, modules, arch, itself(notify)?)?;
    let loaded = [HANDLERS_MAP, HANDLERS_STOPPING, HANDLERS_STOPPING + 8];
    let whole =
        |at: &Addr| loaded.iter().all(|offset| process.loads(at.offset(*offset))) && notify.refers(*at);
    let at = only(process.targets().into_iter().filter(whole))?;
    Some(SignalHandlers { map: at.offset(HANDLERS_MAP), buckets: !evacuate.is_empty() })
}
