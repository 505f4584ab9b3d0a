//! Runtime, capture: looks at all g structs. A look copies every g in merged ranges, since the cost of
//! a bulk read is per range, not per byte. Two looks are compared by a key: a g whose key is the same
//! in both did not run in between.

use crate::addr::Addr;
use crate::image::layout::field::StructView;
use crate::image::layout::schema;
use crate::memory::{Memory, Piece};
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use std::ops::Range;

/// Neighbours closer than this are read as one range, in bytes: reading the gap costs less than one
/// range more.
const GAP: u64 = 512;

/// Ranges that one thread reads at a time: enough to fill a system call, few enough to share evenly.
const RANGES_AT_ONCE: usize = 256;

/// Where all gs lie, in the order of `runtime.allgs`, and how they are read.
pub struct Roster {
    order: Vec<Addr>,
    places: Vec<usize>,
    ranges: Vec<ReadRange>,
    total: usize,
    size: usize,
}

struct ReadRange {
    start: Addr,
    bytes: Range<usize>,
}

/// One look: the bytes of all gs as they were read.
pub struct Look {
    bytes: Vec<u8>,
    missing: Vec<bool>,
}

impl Look {
    /// Makes room for gs that were appended to `roster`; they count as missing until they are read.
    pub fn grow(&mut self, roster: &Roster) {
        self.bytes.resize(roster.total, 0);
        self.missing.resize(roster.order.len(), true);
    }
}

impl Roster {
    /// Plans looks at the gs in `order`, each of `size` bytes.
    pub fn new(order: Vec<Addr>, size: u32) -> Roster {
        let size = size as usize;
        let mut sorted: Vec<usize> = (0..order.len()).collect();
        sorted.sort_unstable_by_key(|i| order.get(*i).copied());
        let mut roster = Roster { places: vec![0; order.len()], order, ranges: Vec::new(), total: 0, size };
        for index in sorted {
            roster.place(index);
        }
        roster
    }

    fn place(&mut self, index: usize) {
        let Some(at) = self.order.get(index).copied() else { return };
        let near = self.ranges.last_mut().and_then(|range| {
            let offset = at.above(range.start)?;
            let end = range.bytes.len() as u64;
            (offset <= end.saturating_add(GAP)).then_some((range, offset))
        });
        let place = match near {
            Some((range, offset)) => {
                let place = range.bytes.start + offset as usize;
                range.bytes.end = range.bytes.end.max(place + self.size);
                place
            }
            None => {
                self.ranges.push(ReadRange { start: at, bytes: self.total..self.total + self.size });
                self.total
            }
        };
        self.total = self.ranges.last().map_or(0, |range| range.bytes.end);
        if let Some(slot) = self.places.get_mut(index) {
            *slot = place;
        }
    }

    /// Adds a g that appeared later. Looks made before must [`Look::grow`].
    pub fn append(&mut self, at: Addr) {
        self.order.push(at);
        self.places.push(0);
        self.place(self.order.len() - 1);
    }

    /// Copies the bytes of the gs `which` from one look to another.
    pub fn carry(&self, which: &FxHashSet<usize>, from: &Look, to: &mut Look) {
        for index in which {
            let Some(range) = self.places.get(*index).map(|place| *place..*place + self.size) else {
                continue;
            };
            if let (Some(source), Some(target)) = (from.bytes.get(range.clone()), to.bytes.get_mut(range)) {
                target.copy_from_slice(source);
            }
            if let (Some(source), Some(target)) = (from.missing.get(*index), to.missing.get_mut(*index)) {
                *target = *source;
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Where each lies, in the order of `allgs`.
    pub fn addresses(&self) -> &[Addr] {
        &self.order
    }

    /// Bytes that one look copies.
    pub fn bytes(&self) -> usize {
        self.total
    }

    /// An empty look, its memory touched, so that filling it faults no pages.
    pub fn blank(&self) -> Look {
        Look { bytes: vec![1; self.total], missing: vec![false; self.order.len()] }
    }

    /// Copies all gs into `look`. What a failing range holds is read one by one, so that one
    /// unreadable page (of a cut core) costs only its own.
    pub fn look(&self, memory: &dyn Memory, look: &mut Look) {
        look.missing.fill(false);
        let mut rest = look.bytes.as_mut_slice();
        let mut pieces = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            let (now, later) = rest.split_at_mut(range.bytes.len().min(rest.len()));
            pieces.push(Piece { at: range.start, into: now, ok: false });
            rest = later;
        }
        pieces.par_chunks_mut(RANGES_AT_ONCE).for_each(|chunk| memory.read_pieces(chunk));
        let failed: Vec<Range<usize>> = pieces
            .iter()
            .zip(&self.ranges)
            .filter(|(piece, _)| !piece.ok)
            .map(|(_, range)| range.bytes.clone())
            .collect();
        drop(pieces);
        for range in failed {
            self.one_by_one(memory, look, &range);
        }
    }

    fn one_by_one(&self, memory: &dyn Memory, look: &mut Look, range: &Range<usize>) {
        for (index, place) in self.places.iter().enumerate() {
            if !range.contains(place) {
                continue;
            }
            let read = match (self.order.get(index), look.bytes.get_mut(*place..*place + self.size)) {
                (Some(at), Some(bytes)) => memory.read(*at, bytes).is_ok(),
                _ => false,
            };
            if let Some(missing) = look.missing.get_mut(index) {
                *missing = !read;
            }
        }
    }

    /// Copies the gs with the numbers `which` again, on this thread alone: for the stop.
    pub fn look_again(&self, memory: &dyn Memory, which: &[usize], look: &mut Look) {
        let mut spots: Vec<(usize, usize)> =
            which.iter().filter_map(|i| self.places.get(*i).map(|place| (*place, *i))).collect();
        spots.sort_unstable();
        spots.dedup();
        let mut pieces = Vec::with_capacity(spots.len());
        let mut rest = look.bytes.as_mut_slice();
        let mut done = 0;
        for (place, index) in &spots {
            let skip = place.saturating_sub(done).min(rest.len());
            let (_, after) = rest.split_at_mut(skip);
            let (now, later) = after.split_at_mut(self.size.min(after.len()));
            if let Some(at) = self.order.get(*index) {
                pieces.push(Piece { at: *at, into: now, ok: false });
            }
            done = place + self.size;
            rest = later;
        }
        memory.read_pieces(&mut pieces);
        for ((_, index), piece) in spots.iter().zip(&pieces) {
            if let Some(missing) = look.missing.get_mut(*index) {
                *missing = !piece.ok;
            }
        }
    }

    /// The bytes of g number `index`; `None` when it could not be read.
    pub fn view<'a>(&self, look: &'a Look, index: usize) -> Option<StructView<'a>> {
        if look.missing.get(index).copied().unwrap_or(true) {
            return None;
        }
        let place = *self.places.get(index)?;
        let bytes = look.bytes.get(place..place.checked_add(self.size)?)?;
        Some(StructView::new(bytes, *self.order.get(index)?))
    }
}

/// What stays equal exactly as long as a goroutine does not run (docs/ARCHITECTURE.md, "The proof").
/// The garbage collector writes other members of parked gs, so whole bytes prove nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    goid: u64,
    stack: (Addr, Addr),
    sched: (Addr, Addr),
    syscallsp: Addr,
    status: u32,
    waitreason: u8,
    tracking_seq: u8,
    sleep_when: i64,
}

/// The scan bit of `g.atomicstatus`, `_Gscan` (runtime/runtime2.go).
pub const SCAN_BIT: u32 = 0x1000;

impl Key {
    /// The key of one g.
    pub fn of(view: StructView<'_>, layout: &schema::G) -> Option<Key> {
        Some(Key {
            goid: view.get(layout.goid).ok()?,
            stack: (view.get(layout.stack_lo).ok()?, view.get(layout.stack_hi).ok()?),
            sched: (view.get(layout.sched_sp).ok()?, view.get(layout.sched_pc).ok()?),
            syscallsp: view.get(layout.syscallsp).ok()?,
            status: view.get(layout.atomicstatus).ok()? & !SCAN_BIT,
            waitreason: view.get(layout.waitreason).ok()?,
            tracking_seq: view.get(layout.tracking_seq).ok()?,
            sleep_when: view.get_opt(layout.sleep_when).ok()?.map_or(0, |t| t.0),
        })
    }

    /// The raw status without the scan bit.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// The raw wait reason.
    pub fn waitreason(&self) -> u8 {
        self.waitreason
    }
}

/// The numbers of all gs whose keys differ between two looks, or that one of them could not read.
pub fn changed(roster: &Roster, a: &Look, b: &Look, layout: &schema::G) -> Vec<usize> {
    (0..roster.len())
        .into_par_iter()
        .with_min_len(1024)
        .filter(|i| {
            let key = |look| roster.view(look, *i).and_then(|view| Key::of(view, layout));
            match (key(a), key(b)) {
                (Some(a), Some(b)) => a != b,
                (None, None) => false,
                _ => true,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    fn memory() -> SparseMemory {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x1000), (0..=255).collect::<Vec<u8>>());
        memory.put(Addr::new(0x9000), [7; 16]);
        memory
    }

    #[test]
    fn a_look_keeps_the_order_of_allgs_and_merges_neighbours() {
        let order = [0x9000, 0x1040, 0x1000].map(Addr::new).to_vec();
        let roster = Roster::new(order, 16);
        assert_eq!(roster.ranges.len(), 2);
        let mut look = roster.blank();
        roster.look(&memory(), &mut look);
        let first = |i| {
            let view = roster.view(&look, i)?;
            view.get(crate::image::layout::field::Field::<u8>::at(0)).ok()
        };
        assert_eq!([first(0), first(1), first(2)], [Some(7), Some(0x40), Some(0)]);
    }

    #[test]
    fn one_unreadable_g_costs_only_itself() {
        let order = [0x10f8, 0x1000].map(Addr::new).to_vec();
        let roster = Roster::new(order, 16);
        let mut look = roster.blank();
        roster.look(&memory(), &mut look);
        assert!(roster.view(&look, 0).is_none());
        assert!(roster.view(&look, 1).is_some());
        roster.look_again(&memory(), &[1, 0, 1], &mut look);
        assert!(roster.view(&look, 0).is_none());
        assert!(roster.view(&look, 1).is_some());
    }
}
