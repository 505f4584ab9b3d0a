//! Analysis, blocked: in which `runtime.coro` a goroutine waits (runtime/coro.go, since 1.23). Each has one
//! goroutine blocked in it, its `gp`: that of the iterator while it is half way, else the one that called
//! `next` or `stop`. A call of `runtime.coroswitch` makes the two change places.

use super::{Blocked, Inputs, Kind};
use crate::addr::Addr;
use crate::memory::Memory;
use crate::runtime::G;
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

/// Bytes above a frame in which its caller keeps the arguments of the call.
const ARGUMENTS: u64 = 64;

/// Largest frame that is looked through, in bytes.
const MOST_FRAME: u64 = 4096;

/// Coroutines in which goroutines wait. Goroutines are indices into the snapshot's list.
#[derive(Default, Debug)]
pub struct Coroutines {
    waits: FxHashMap<u32, Addr>,
    iterators: FxHashMap<Addr, Vec<u32>>,
}

impl Coroutines {
    /// Finds where those wait whose wait reason is a coroutine.
    pub(super) fn find(inputs: &Inputs<'_>, blocked: &Blocked) -> Coroutines {
        let waiting = |index: &u32| blocked.on(*index as usize).is_some_and(|on| on.kind == Kind::Coroutine);
        let indices = 0..u32::try_from(blocked.of.len()).unwrap_or(u32::MAX);
        let waits: FxHashMap<u32, Addr> = indices
            .into_par_iter()
            .filter(waiting)
            .filter_map(|index| Some((index, waits_in(inputs, inputs.g(index as usize)?)?)))
            .collect();
        let iterators = iterators(inputs, &waits.values().copied().collect());
        Coroutines { waits, iterators }
    }

    /// The coroutine in which a goroutine waits, if it is known.
    pub fn coro(&self, index: u32) -> Option<Addr> {
        self.waits.get(&index).copied()
    }

    /// The goroutines of iterators that this coroutine belongs to: one, where it is known.
    pub fn iterators(&self, coro: Addr) -> &[u32] {
        self.iterators.get(&coro).map_or(&[], Vec::as_slice)
    }

    /// Whether a coroutine is that of the iterator which a goroutine runs.
    pub fn is_of(&self, index: u32, coro: Addr) -> bool {
        self.iterators(coro) == [index]
    }

    /// The coroutines of iterators that wait for somebody to call `next` or `stop`.
    pub fn half_way(&self) -> impl Iterator<Item = Addr> + '_ {
        self.waits.iter().filter(|(index, coro)| self.is_of(**index, **coro)).map(|(_, coro)| *coro)
    }

    /// Forgets where goroutines wait that went on since; `moved` is ascending.
    pub(super) fn forget(&mut self, moved: &[u32]) {
        self.waits.retain(|index, _| moved.binary_search(index).is_err());
    }
}

/// Whether a goroutine is that of an iterator.
pub fn is_iterator(inputs: &Inputs<'_>, g: &G) -> bool {
    inputs.image.modules.begins(g.startpc, "runtime.corostart")
}

/// The goroutines of iterators by their coroutine, as far as somebody waits in it.
fn iterators(inputs: &Inputs<'_>, coros: &FxHashSet<Addr>) -> FxHashMap<Addr, Vec<u32>> {
    let mut found: FxHashMap<Addr, Vec<u32>> = FxHashMap::default();
    if coros.is_empty() {
        return found;
    }
    let of = |(index, g): (usize, &G)| {
        let mut own = began_with(inputs, g);
        own.retain(|word| coros.contains(word));
        own.into_iter().filter_map(move |coro| Some((coro, u32::try_from(index).ok()?))).collect::<Vec<_>>()
    };
    let gs = inputs.snapshot.gs.par_iter().enumerate().filter(|(_, g)| is_iterator(inputs, g));
    let pairs: Vec<(Addr, u32)> = gs.flat_map_iter(of).collect();
    for (coro, index) in pairs {
        found.entry(coro).or_default().push(index);
    }
    found
}

/// Where a goroutine waits: in what it will begin with, or a word of its innermost frames leads there. The
/// first word of a coro, `gp`, is the very goroutine that waits in it.
fn waits_in(inputs: &Inputs<'_>, g: &G) -> Option<Addr> {
    let holds = |coro: &Addr| inputs.source.memory().read_addr(*coro).is_ok_and(|gp| gp == g.at);
    if let Some(coro) = begins_with(inputs, g) {
        return Some(coro).filter(holds);
    }
    let walk = inputs.unwinder.walk(g);
    let (first, last) = (walk.frames.first()?, walk.frames.get(..2)?.last()?);
    let mut found = words(inputs, first.sp, last.fp.offset(ARGUMENTS).min(g.stack_hi));
    found.retain(holds);
    // Other things than a coro may begin with the address of a goroutine.
    (found.len() == 1).then(|| found.first().copied()).flatten()
}

/// `g.coroarg` of an iterator that nobody has pulled from yet.
fn begins_with(inputs: &Inputs<'_>, g: &G) -> Option<Addr> {
    if !is_iterator(inputs, g) {
        return None;
    }
    let coro = inputs.image.layouts.g.coroarg?.read(inputs.source.memory(), g.at).ok()?;
    (!coro.is_null()).then_some(coro)
}

/// What may be the coro that the goroutine of an iterator was started with: `corostart` keeps it for the
/// end.
fn began_with(inputs: &Inputs<'_>, g: &G) -> Vec<Addr> {
    if let Some(coro) = begins_with(inputs, g) {
        return vec![coro];
    }
    let walk = inputs.unwinder.walk(g);
    let named = |pc| inputs.image.modules.find(pc).is_some_and(|f| f.name() == "runtime.corostart");
    let start = walk.frames.iter().rev().find(|frame| named(frame.pc));
    start.map(|frame| words(inputs, frame.sp, frame.fp.offset(ARGUMENTS).min(g.stack_hi))).unwrap_or_default()
}

/// Each word of a part of a stack once that may be the address of a value.
fn words(inputs: &Inputs<'_>, from: Addr, to: Addr) -> Vec<Addr> {
    let len = to.above(from).unwrap_or(0).min(MOST_FRAME);
    let read = |offset| inputs.snapshot.memory.read_addr(from.offset(offset)).ok();
    let mut found: Vec<Addr> = (0..len)
        .step_by(8)
        .filter_map(read)
        .filter(|word| word.get() > MOST_FRAME && word.is_aligned(8))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
