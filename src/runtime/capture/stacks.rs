//! Runtime, capture: copies of stacks, read in merged ranges, and the memory that answers from them.

use super::key::Key;
use crate::addr::{Addr, Span};
use crate::memory::share::Share;
use crate::memory::{Memory, Piece, ReadError, ReadFail, ReadResult};
use std::cell::RefCell;
use std::num::NonZeroU32;
use std::time::Instant;

/// Stacks closer than this are read as one range, in bytes: as small stacks lie side by side, the
/// unused part between two costs less to copy than one range more.
pub(super) const GAP: usize = 2048;

/// Most that is copied of one stack, in bytes: what `runtime/debug.SetMaxStack` allows by default.
const MOST_OF_ONE: u64 = 1 << 30;

/// Most that is copied of all, in bytes.
const MOST_OF_ALL: u64 = 8 << 30;

/// Ranges that one thread reads at a time, and about how many bytes.
const RANGES_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 256 << 10;

/// A stack to be copied: which goroutine's, and the used part.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Number of the g in the roster.
    pub index: usize,
    /// The used part of its stack.
    pub span: Span,
}

impl Wanted {
    /// The used stack of a goroutine that runs on no thread.
    pub fn parked(index: usize, key: &Key) -> Option<Wanted> {
        key.used().map(|span| Wanted { index, span })
    }
}

/// Stacks that were copied: of each only what was wanted, without the gaps between them.
#[derive(Default)]
pub struct Copies {
    arenas: Vec<Vec<u8>>,
    of: Vec<Option<Place>>,
}

/// Where a copy lies.
#[derive(Clone, Copy)]
struct Place {
    start: Addr,
    len: NonZeroU32,
    arena: u32,
    offset: usize,
}

impl Place {
    fn span(self) -> Span {
        Span { start: self.start, len: u64::from(self.len.get()) }
    }
}

/// What is read at once: the ranges, and which stacks lie in their bytes.
#[derive(Default)]
struct Plan {
    /// Where each begins and how long it is.
    ranges: Vec<(Addr, usize)>,
    /// Each stack, and where in the bytes of all ranges it begins.
    stacks: Vec<(Wanted, usize)>,
    total: usize,
}

impl Plan {
    /// Adds a stack. They come ascending by address.
    fn add(&mut self, want: Wanted) {
        let near = self.ranges.last().and_then(|(start, len)| {
            let offset = want.span.start.above(*start)? as usize;
            (offset <= len.saturating_add(GAP)).then_some((offset, *len))
        });
        let wanted = want.span.len as usize;
        let (offset, before) = near.unwrap_or_else(|| {
            self.ranges.push((want.span.start, 0));
            (0, 0)
        });
        let after = before.max(offset.saturating_add(wanted));
        self.stacks.push((want, self.total.saturating_sub(before).saturating_add(offset)));
        self.total = self.total.saturating_add(after.saturating_sub(before));
        if let Some((_, len)) = self.ranges.last_mut() {
            *len = after;
        }
    }

    fn full(&self) -> bool {
        self.ranges.len() >= RANGES_AT_ONCE || self.total >= BYTES_AT_ONCE
    }

    fn pieces<'b>(&self, bytes: &'b mut [u8]) -> Vec<Piece<'b>> {
        let mut rest = bytes;
        let mut pieces = Vec::with_capacity(self.ranges.len());
        for (start, len) in &self.ranges {
            let (now, later) = rest.split_at_mut((*len).min(rest.len()));
            pieces.push(Piece { at: *start, into: now, ok: false });
            rest = later;
        }
        pieces
    }

    /// Reads those stacks alone that lie in ranges which could not be read whole, but for ranges that
    /// there was no time for. Returns which stacks are still missing.
    fn mend(&self, bytes: &mut [u8], outcomes: &[Outcome], memory: &dyn Memory) -> Vec<usize> {
        if outcomes.iter().all(|outcome| *outcome == Outcome::Whole) {
            return Vec::new();
        }
        let mut missing = Vec::new();
        self.each_range(|range, nth, want, offset| {
            let own = bytes.get_mut(offset..offset.saturating_add(want.span.len as usize));
            let there = match outcomes.get(range) {
                Some(Outcome::Whole) => true,
                Some(Outcome::Holed) => own.is_some_and(|own| memory.read(want.span.start, own).is_ok()),
                _ => false,
            };
            if !there {
                missing.push(nth);
            }
        });
        missing
    }

    /// Reads all ranges into what this thread keeps for that, and lets `use_it` have the bytes and the stacks
    /// that are missing.
    fn read<T>(&self, memory: &dyn Memory, use_it: impl FnOnce(&[u8], &[usize]) -> T) -> T {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < self.total {
                scratch.resize(self.total, 0);
            }
            let bytes = scratch.get_mut(..self.total).unwrap_or_default();
            let mut pieces = self.pieces(bytes);
            memory.read_pieces(&mut pieces);
            let outcomes: Vec<Outcome> = pieces.iter().map(Outcome::of).collect();
            let missing = self.mend(bytes, &outcomes, memory);
            let used = use_it(bytes, &missing);
            if scratch.len() > 4 * BYTES_AT_ONCE {
                *scratch = Vec::new();
            }
            used
        })
    }

    /// Goes through all stacks with the range that each lies in.
    fn each_range(&self, mut visit: impl FnMut(usize, usize, &Wanted, usize)) {
        let mut stacks = self.stacks.iter().enumerate().peekable();
        let mut end = 0usize;
        for (range, (_, len)) in self.ranges.iter().enumerate() {
            end = end.saturating_add(*len);
            while let Some((nth, (want, offset))) = stacks.next_if(|(_, (_, offset))| *offset < end) {
                visit(range, nth, want, *offset);
            }
        }
    }

    /// What of `bytes` is wanted, close together, but for the stacks `missing` (ascending).
    fn pack(&self, bytes: &[u8], missing: &[usize]) -> Packed {
        let size = self.stacks.iter().map(|(want, _)| want.span.len as usize).sum();
        let mut packed = Packed { bytes: Vec::with_capacity(size), places: Vec::new() };
        packed.places.reserve_exact(self.stacks.len());
        for (nth, (want, offset)) in self.stacks.iter().enumerate() {
            let there = missing.binary_search(&nth).is_err();
            let own = bytes.get(*offset..offset.saturating_add(want.span.len as usize)).filter(|_| there);
            let from = own.map(|_| packed.bytes.len());
            packed.bytes.extend_from_slice(own.unwrap_or_default());
            packed.places.push((*want, from));
        }
        packed
    }
}

/// How reading a range went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Whole,
    /// Some of it could not be read.
    Holed,
    /// There was no time for it.
    Late,
}

impl Outcome {
    fn of(piece: &Piece<'_>) -> Outcome {
        if piece.ok { Outcome::Whole } else { Outcome::Holed }
    }
}

/// Stacks close together.
struct Packed {
    bytes: Vec<u8>,
    /// Where each stack begins; `None` when it could not be read.
    places: Vec<(Wanted, Option<usize>)>,
}

/// What can be copied of `wanted`, by address.
fn sorted(wanted: &[Wanted]) -> Vec<Wanted> {
    let mut sorted: Vec<Wanted> =
        wanted.iter().copied().filter(|w| w.span.len > 0 && w.span.len <= MOST_OF_ONE).collect();
    sorted.sort_unstable_by_key(|w| (w.span.start, w.index));
    let mut total: u64 = 0;
    let within = sorted.iter().take_while(|w| {
        total = total.saturating_add(w.span.len);
        total <= MOST_OF_ALL
    });
    let count = within.count();
    sorted.truncate(count);
    sorted
}

/// What is read at once of `wanted`.
fn plans(wanted: &[Wanted]) -> Vec<Plan> {
    let mut plans = vec![Plan::default()];
    for want in sorted(wanted) {
        if plans.last().is_some_and(Plan::full) {
            plans.push(Plan::default());
        }
        if let Some(plan) = plans.last_mut() {
            plan.add(want);
        }
    }
    plans
}

thread_local! {
    /// Where a thread reads stacks before they are packed.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A copy made ready: buffers allocated and touched, so that making it in a stop faults no pages.
pub struct Prepared {
    bytes: Vec<u8>,
    plan: Plan,
}

impl Prepared {
    /// Plans the copy of `wanted` into `buffer`, which is grown if it is too small; what exceeds the
    /// limits is left out.
    pub fn new(wanted: &[Wanted], buffer: Vec<u8>) -> Prepared {
        let mut prepared = Prepared { bytes: buffer, plan: Plan::default() };
        for want in sorted(wanted) {
            prepared.plan.add(want);
        }
        if prepared.bytes.len() < prepared.plan.total {
            prepared.bytes.resize(prepared.plan.total, 1);
        }
        prepared
    }

    /// Reads it, as much as `deadline` allows.
    pub fn read(mut self, memory: &dyn Memory, deadline: Option<Instant>, share: &impl Share) -> Read {
        let mut pieces = self.plan.pieces(&mut self.bytes);
        let parts: Vec<&mut [Piece<'_>]> = pieces.chunks_mut(RANGES_AT_ONCE).collect();
        let outcomes = share.map(parts, |part| {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return vec![Outcome::Late; part.len()];
            }
            memory.read_pieces(part);
            part.iter().map(Outcome::of).collect()
        });
        let outcomes = outcomes.concat();
        let missing = self.plan.mend(&mut self.bytes, &outcomes, memory);
        Read { prepared: self, outcomes, missing }
    }
}

/// A copy that was made, not yet packed.
pub struct Read {
    prepared: Prepared,
    /// Of each range.
    outcomes: Vec<Outcome>,
    missing: Vec<usize>,
}

impl Read {
    /// Bytes that were asked for.
    pub fn len(&self) -> u64 {
        self.prepared.plan.total as u64
    }

    /// Numbers of the gs whose stacks there was no time for.
    pub fn missed(&self) -> Vec<usize> {
        let mut missed = Vec::new();
        self.prepared.plan.each_range(|range, _, want, _| {
            missed.extend((self.outcomes.get(range) == Some(&Outcome::Late)).then_some(want.index));
        });
        missed
    }
}

impl Copies {
    /// Room for the stacks of `count` goroutines.
    pub fn new(count: usize) -> Copies {
        Copies { arenas: Vec::new(), of: vec![None; count] }
    }

    /// Room for `count`; what is beyond is forgotten.
    pub fn resize(&mut self, count: usize) {
        self.of.resize(count, None);
    }

    /// Forgets the copies of the gs with these numbers: where they lay, another stack may lie by now.
    pub fn forget(&mut self, which: impl IntoIterator<Item = usize>) {
        for index in which {
            if let Some(slot) = self.of.get_mut(index) {
                *slot = None;
            }
        }
    }

    /// Copies `wanted`, part by part, so that little more than what is kept is ever held. Returns the
    /// bytes that were read.
    pub fn copy(&mut self, wanted: &[Wanted], memory: &dyn Memory, share: &impl Share) -> u64 {
        let parts = share.map(plans(wanted), |plan| {
            (plan.total as u64, plan.read(memory, |bytes, missing| plan.pack(bytes, missing)))
        });
        let mut read: u64 = 0;
        for (bytes, packed) in parts {
            read = read.saturating_add(bytes);
            self.take(packed);
        }
        read
    }

    /// Reads `wanted` and says which are there and not as they were copied.
    pub fn unlike(&self, wanted: &[Wanted], memory: &dyn Memory, share: &impl Share) -> Vec<usize> {
        let unlike = share.map(plans(wanted), |plan| {
            plan.read(memory, |bytes, missing| {
                let stacks = plan.stacks.iter().enumerate();
                let there = stacks.filter(|(nth, _)| missing.binary_search(nth).is_err());
                let unlike = there.filter(|(_, (want, offset))| {
                    let now = bytes.get(*offset..offset.saturating_add(want.span.len as usize));
                    self.span(want.index) == Some(want.span) && self.bytes(want.index) != now
                });
                unlike.map(|(_, (want, _))| want.index).collect::<Vec<usize>>()
            })
        });
        unlike.concat()
    }

    /// Takes a copy; it replaces older ones of the same goroutines.
    pub fn keep(&mut self, read: Read) {
        let Read { prepared: Prepared { bytes, plan }, missing, .. } = read;
        self.take(plan.pack(&bytes, &missing));
    }

    fn take(&mut self, packed: Packed) {
        let Ok(arena) = u32::try_from(self.arenas.len()) else { return };
        for (want, offset) in &packed.places {
            let len = u32::try_from(want.span.len).ok().and_then(NonZeroU32::new);
            let place = len.zip(*offset);
            if let Some(slot) = self.of.get_mut(want.index) {
                *slot = place.map(|(len, offset)| Place { start: want.span.start, len, arena, offset });
            }
        }
        self.arenas.push(packed.bytes);
    }

    /// What is copied of the stack of g number `index`.
    pub fn span(&self, index: usize) -> Option<Span> {
        Some(self.of.get(index).copied().flatten()?.span())
    }

    /// The copied bytes of g number `index`.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let place = self.of.get(index).copied().flatten()?;
        let len = usize::try_from(place.len.get()).ok()?;
        self.arenas.get(place.arena as usize)?.get(place.offset..place.offset.checked_add(len)?)
    }
}

/// Memory of the instant of the capture: copied stacks first, then the source's memory as it is now.
pub struct Captured<'a> {
    copies: Copies,
    /// Numbers of the copies, by address.
    index: Vec<u32>,
    /// Copied pieces of system stacks, by address.
    runs: Vec<(Addr, Vec<u8>)>,
    lower: &'a dyn Memory,
    /// `lower` never changes.
    still: bool,
}

impl<'a> Captured<'a> {
    /// The memory made of `copies` of goroutines' stacks and `runs` of system stacks over `lower`.
    pub fn new(copies: Copies, runs: Vec<(Addr, Vec<u8>)>, lower: &'a dyn Memory) -> Captured<'a> {
        let numbers = (0..copies.of.len()).filter_map(|i| u32::try_from(i).ok());
        let mut index: Vec<u32> = numbers.filter(|i| copies.span(*i as usize).is_some()).collect();
        index.sort_unstable_by_key(|i| copies.span(*i as usize).map(|span| span.start));
        Captured { copies, index, runs, lower, still: false }
    }

    /// The memory of a core: nothing is copied.
    pub fn of_core(lower: &'a dyn Memory) -> Captured<'a> {
        Captured { still: true, ..Captured::new(Copies::new(0), Vec::new(), lower) }
    }

    /// What is surely of the instant of the capture: nothing that was not copied, unless it never changes.
    pub fn of_instant(&self) -> OfInstant<'_> {
        OfInstant(self)
    }

    fn copied(&self, at: Addr) -> Option<&[u8]> {
        let start = |i: &u32| self.copies.span(*i as usize).map(|span| span.start);
        let after = self.index.partition_point(|i| start(i).is_some_and(|start| start <= at));
        let number = self.index.get(after.checked_sub(1)?)?;
        let skip = usize::try_from(at.above(start(number)?)?).ok()?;
        self.copies.bytes(*number as usize)?.get(skip..)
    }

    fn of_system_stack(&self, at: Addr) -> Option<&[u8]> {
        let after = self.runs.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.runs.get(after.checked_sub(1)?)?;
        bytes.get(usize::try_from(at.above(*start)?).ok()?..).filter(|bytes| !bytes.is_empty())
    }

    /// Fills as much of `buf` as was copied of system stacks, from its beginning; returns how much.
    fn fill(&self, at: Addr, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(bytes) = self.of_system_stack(at.offset(done as u64)) else { break };
            let len = rest.len().min(bytes.len());
            rest.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            done += len;
        }
        done
    }
}

impl Memory for Captured<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        if let Some(bytes) = self.copied(at).and_then(|bytes| bytes.get(..buf.len())) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        let done = self.fill(at, buf);
        match buf.get_mut(done..) {
            Some(rest) if !rest.is_empty() => self.lower.read(at.offset(done as u64), rest),
            _ => Ok(()),
        }
    }
}

/// System stacks as they were at the instant of the capture, and nothing else.
pub struct OfInstant<'a>(&'a Captured<'a>);

impl Memory for OfInstant<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        if self.0.still {
            return self.0.lower.read(at, buf);
        }
        let len = buf.len() as u64;
        let whole = self.0.fill(at, buf) == buf.len();
        if whole { Ok(()) } else { Err(ReadError { at, len, why: ReadFail::Unmapped }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::share::{AllCores, ThisThread};
    use crate::memory::sparse::SparseMemory;
    use std::time::Duration;

    fn memory() -> SparseMemory {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x1000), (0..=255u8).cycle().take(0x2000).collect::<Vec<_>>());
        memory.put(Addr::new(0x10_0000), [9; 32]);
        memory
    }

    fn want(index: usize, at: u64, len: u64) -> Wanted {
        Wanted { index, span: Span { start: Addr::new(at), len } }
    }

    /// Two side by side, one apart, one that is not there, one that is half there.
    fn wanted() -> [Wanted; 5] {
        [
            want(2, 0x10_0000, 32),
            want(0, 0x1010, 8),
            want(1, 0x1108, 16),
            want(3, 0x50_0000, 8),
            want(4, 0x10_0010, 32),
        ]
    }

    fn check(copies: Copies) {
        assert_eq!(copies.bytes(0).map(|b| (b.len(), b.first().copied())), Some((8, Some(0x10))));
        assert_eq!(copies.bytes(1).map(|b| (b.len(), b.first().copied())), Some((16, Some(8))));
        assert_eq!(copies.bytes(2), Some([9; 32].as_slice()));
        assert_eq!(copies.bytes(3), None);
        assert_eq!(copies.bytes(4), None);
        assert_eq!(copies.arenas.iter().map(Vec::len).sum::<usize>(), 8 + 16 + 32, "no gaps are kept");
        let changed = SparseMemory::new();
        let runs = vec![(Addr::new(0x7000), vec![7; 8]), (Addr::new(0x7008), vec![8; 4])];
        let captured = Captured::new(copies, runs, &changed);
        assert_eq!(captured.read_u8(Addr::new(0x1109)), Ok(9));
        assert!(captured.read_u8(Addr::new(0x1118)).is_err());
        assert!(captured.read_u8(Addr::new(0x100f)).is_err());
        assert_eq!(captured.read_u64(Addr::new(0x7004)), Ok(0x0808_0808_0707_0707));
        assert!(captured.read_u64(Addr::new(0x7008)).is_err());
        assert_eq!(captured.of_instant().read_u32(Addr::new(0x7008)), Ok(0x0808_0808));
        assert!(captured.of_instant().read_u8(Addr::new(0x1109)).is_err());
        let mut now = SparseMemory::new();
        now.put(Addr::new(0x700c), [9; 4]);
        let captured = Captured { lower: &now, ..captured };
        assert_eq!(captured.read_u64(Addr::new(0x7008)), Ok(0x0909_0909_0808_0808));
        assert!(captured.of_instant().read_u64(Addr::new(0x7008)).is_err());
        assert_eq!(Captured::of_core(&now).of_instant().read_u32(Addr::new(0x700c)), Ok(0x0909_0909));
    }

    #[test]
    fn stacks_side_by_side_are_one_range_and_keep_their_bytes() {
        let memory = memory();
        let plan = Prepared::new(&wanted(), Vec::new());
        assert_eq!(plan.plan.ranges.len(), 3);
        let mut copies = Copies::new(5);
        let read = plan.read(&memory, None, &ThisThread);
        assert!(read.missed().is_empty());
        copies.keep(read);
        check(copies);
        let mut copies = Copies::new(5);
        copies.copy(&wanted(), &memory, &AllCores);
        check(copies);
    }

    #[test]
    fn what_there_was_no_time_for_is_told() {
        let memory = memory();
        let past = Instant::now().checked_sub(Duration::from_nanos(1));
        let read = Prepared::new(&wanted(), Vec::new()).read(&memory, past, &ThisThread);
        assert_eq!(read.missed(), [0, 1, 2, 4, 3]);
    }

    /// docs/ARCHITECTURE.md, "Memory per goroutine".
    #[test]
    fn a_goroutine_takes_as_much_memory_as_is_stated() {
        assert_eq!(size_of::<Option<Key>>(), 72);
        assert_eq!(size_of::<Option<Place>>(), 24);
        assert_eq!(size_of::<crate::runtime::G>(), 272);
    }

    #[test]
    fn a_later_copy_replaces_an_earlier_one() {
        let mut copies = Copies::new(1);
        copies.copy(&[want(0, 0x1010, 8)], &memory(), &ThisThread);
        copies.copy(&[want(0, 0x1020, 4)], &memory(), &ThisThread);
        assert_eq!(copies.span(0), Some(Span { start: Addr::new(0x1020), len: 4 }));
        assert_eq!(copies.bytes(0), Some([0x20, 0x21, 0x22, 0x23].as_slice()));
        copies.forget([0, 7]);
        assert_eq!(copies.bytes(0), None);
    }
}
