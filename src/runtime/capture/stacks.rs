//! Runtime, capture: copies of stacks, read in merged ranges, and the memory that answers from them.

use crate::addr::{Addr, Span};
use crate::memory::{Memory, Piece, ReadError, ReadFail, ReadResult};
use rayon::prelude::*;

/// Stacks closer than this are read as one range, in bytes: as small stacks lie side by side, the
/// unused part between two costs less to copy than one range more.
const GAP: u64 = 2048;

/// Most that is copied of one stack, in bytes: what `runtime/debug.SetMaxStack` allows by default.
const MOST_OF_ONE: u64 = 1 << 30;

/// Most that is copied of all, in bytes.
const MOST_OF_ALL: u64 = 8 << 30;

/// Ranges that one thread reads at a time.
const RANGES_AT_ONCE: usize = 256;

/// A stack to be copied: which goroutine's, and the used part.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Number of the g in the roster.
    pub index: usize,
    /// The used part of its stack.
    pub span: Span,
}

/// Stacks that were copied, one batch per read.
#[derive(Default)]
pub struct Copies {
    batches: Vec<Batch>,
    of: Vec<Option<Place>>,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Place {
    batch: u32,
    offset: usize,
    span: Span,
}

/// A batch made ready: buffers allocated and touched, so that reading it in a stop faults no pages.
pub struct Prepared {
    bytes: Vec<u8>,
    ranges: Vec<(Addr, usize)>,
    places: Vec<(usize, usize, Span)>,
}

impl Prepared {
    /// Plans the copy of `wanted` into `buffer`, which is grown if it is too small; what exceeds the
    /// limits is left out.
    pub fn new(wanted: &[Wanted], buffer: Vec<u8>) -> Prepared {
        let mut sorted: Vec<Wanted> =
            wanted.iter().copied().filter(|w| w.span.len > 0 && w.span.len <= MOST_OF_ONE).collect();
        sorted.sort_unstable_by_key(|w| (w.span.start, w.index));
        let mut plan = Prepared { bytes: buffer, ranges: Vec::new(), places: Vec::new() };
        let mut total: u64 = 0;
        for want in sorted {
            let near = plan.ranges.last().and_then(|(start, len)| {
                let offset = want.span.start.above(*start)?;
                (offset <= (*len as u64).saturating_add(GAP)).then_some((offset, *len as u64))
            });
            let (offset, grown) = match near {
                Some((offset, len)) => (offset, (offset + want.span.len).max(len) - len),
                None => (0, want.span.len),
            };
            if total + grown > MOST_OF_ALL {
                break;
            }
            if near.is_none() {
                plan.ranges.push((want.span.start, 0));
            }
            let Some((_, len)) = plan.ranges.last_mut() else { break };
            let base = total as usize - *len;
            *len += grown as usize;
            total += grown;
            plan.places.push((want.index, base + offset as usize, want.span));
        }
        if plan.bytes.len() < total as usize {
            plan.bytes.resize(total as usize, 1);
        }
        plan
    }

    fn pieces(&mut self) -> Vec<Piece<'_>> {
        let mut rest = self.bytes.as_mut_slice();
        let mut pieces = Vec::with_capacity(self.ranges.len());
        for (start, len) in &self.ranges {
            let (now, later) = rest.split_at_mut((*len).min(rest.len()));
            pieces.push(Piece { at: *start, into: now, ok: false });
            rest = later;
        }
        pieces
    }

    /// Reads it on this thread alone: for the stop.
    pub fn read(mut self, memory: &dyn Memory) -> Read {
        let mut pieces = self.pieces();
        memory.read_pieces(&mut pieces);
        let ok = pieces.iter().map(|p| p.ok).collect();
        Read { plan: self, ok }
    }

    /// Reads it on all threads.
    pub fn read_parallel(mut self, memory: &dyn Memory) -> Read {
        let mut pieces = self.pieces();
        pieces.par_chunks_mut(RANGES_AT_ONCE).for_each(|chunk| memory.read_pieces(chunk));
        let ok = pieces.iter().map(|p| p.ok).collect();
        Read { plan: self, ok }
    }
}

/// A batch that was read.
pub struct Read {
    plan: Prepared,
    ok: Vec<bool>,
}

impl Read {
    /// Bytes that were asked for.
    pub fn len(&self) -> u64 {
        self.plan.ranges.iter().map(|(_, len)| *len as u64).sum()
    }
}

impl Copies {
    /// Room for the stacks of `count` goroutines.
    pub fn new(count: usize) -> Copies {
        Copies { batches: Vec::new(), of: vec![None; count] }
    }

    /// Makes room for more goroutines.
    pub fn grow(&mut self, count: usize) {
        self.of.resize(count.max(self.of.len()), None);
    }

    /// Takes a batch; its copies replace older ones of the same goroutines. Ranges that could not be
    /// read whole are dropped: `memory` is asked again for each stack of theirs.
    pub fn keep(&mut self, read: Read, memory: &dyn Memory) {
        let Read { mut plan, ok } = read;
        let mut start = 0;
        let mut bad = Vec::new();
        for ((_, len), ok) in plan.ranges.iter().zip(&ok) {
            if !ok {
                bad.push(start..start + len);
            }
            start += len;
        }
        let batch = self.batches.len() as u32;
        for (index, offset, span) in &plan.places {
            let mut whole = true;
            if bad.iter().any(|range| range.contains(offset)) {
                let end = offset.saturating_add(span.len as usize);
                whole = match plan.bytes.get_mut(*offset..end) {
                    Some(bytes) => memory.read(span.start, bytes).is_ok(),
                    None => false,
                };
            }
            if let Some(slot) = self.of.get_mut(*index) {
                *slot = whole.then_some(Place { batch, offset: *offset, span: *span });
            }
        }
        self.batches.push(Batch { bytes: plan.bytes });
    }

    /// What is copied of the stack of g number `index`.
    pub fn span(&self, index: usize) -> Option<Span> {
        self.of.get(index).copied().flatten().map(|place| place.span)
    }

    /// The copied bytes of g number `index`.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let place = self.of.get(index).copied().flatten()?;
        let batch = self.batches.get(place.batch as usize)?;
        batch.bytes.get(place.offset..place.offset.checked_add(usize::try_from(place.span.len).ok()?)?)
    }
}

/// Memory of the instant of the capture: copied stacks first, then the source's memory as it is now.
pub struct Captured<'a> {
    copies: Copies,
    index: Vec<(Addr, u32)>,
    runs: Vec<(Addr, Vec<u8>)>,
    lower: &'a dyn Memory,
    /// `lower` never changes.
    still: bool,
}

impl<'a> Captured<'a> {
    /// The memory made of `copies` of goroutines' stacks and `runs` of system stacks over `lower`.
    pub fn new(copies: Copies, runs: Vec<(Addr, Vec<u8>)>, lower: &'a dyn Memory) -> Captured<'a> {
        let mut index: Vec<(Addr, u32)> = copies
            .of
            .iter()
            .enumerate()
            .filter_map(|(i, place)| Some((place.as_ref()?.span.start, u32::try_from(i).ok()?)))
            .collect();
        index.par_sort_unstable();
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
        let after = self.index.partition_point(|(start, _)| *start <= at);
        let (start, index) = self.index.get(after.checked_sub(1)?)?;
        let bytes = self.copies.bytes(*index as usize)?;
        bytes.get(usize::try_from(at.above(*start)?).ok()?..)
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
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn stacks_side_by_side_are_one_range_and_keep_their_bytes() {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x1000), (0..=255u8).cycle().take(0x2000).collect::<Vec<_>>());
        memory.put(Addr::new(0x10_0000), [9; 32]);
        let want = |index, at: u64, len| Wanted { index, span: Span { start: Addr::new(at), len } };
        let plan = Prepared::new(
            &[want(2, 0x10_0000, 32), want(0, 0x1010, 8), want(1, 0x1108, 16), want(3, 0x50_0000, 8)],
            Vec::new(),
        );
        assert_eq!(plan.ranges.len(), 3);
        let mut copies = Copies::new(4);
        copies.keep(plan.read_parallel(&memory), &memory);
        assert_eq!(copies.bytes(0).map(|b| (b.len(), b.first().copied())), Some((8, Some(0x10))));
        assert_eq!(copies.bytes(1).map(|b| (b.len(), b.first().copied())), Some((16, Some(8))));
        assert_eq!(copies.bytes(2), Some([9; 32].as_slice()));
        assert_eq!(copies.bytes(3), None);
        let changed = SparseMemory::new();
        let runs = vec![(Addr::new(0x7000), vec![7; 8]), (Addr::new(0x7008), vec![8; 4])];
        let captured = Captured::new(copies, runs, &changed);
        assert_eq!(captured.read_u8(Addr::new(0x1109)), Ok(9));
        assert!(captured.read_u8(Addr::new(0x1118)).is_err());
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
}
