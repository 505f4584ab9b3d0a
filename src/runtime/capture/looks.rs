//! Runtime, capture: looks at all g structs. A look reads every g in merged ranges, since the cost of a
//! bulk read is per range, not per byte, and keeps of each its key ([`Key`]). The bytes themselves are
//! kept once ([`Look`]), however often they are looked at.

use super::key::Key;
use crate::addr::Addr;
use crate::image::layout::field::StructView;
use crate::image::layout::schema;
use crate::memory::share::Share;
use crate::memory::{Memory, Piece};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::ops::Range;

/// Neighbours closer than this are read as one range, in bytes: reading the gap costs less than one
/// range more.
const GAP: u64 = 512;

/// Bytes that one thread reads at a time: what stays in its cache until the keys are taken.
const BYTES_AT_ONCE: usize = 256 << 10;

/// Ranges that one thread reads at a time.
const RANGES_AT_ONCE: usize = 256;

thread_local! {
    /// Where a thread reads gs of which only the keys are kept.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where all gs lie, in the order of `runtime.allgs`, and how they are read.
pub struct Roster {
    order: Vec<Addr>,
    /// For each g, in that order, where its bytes lie in a [`Look`].
    places: Vec<usize>,
    /// Numbers of the gs in the order in which they are read.
    reading: Vec<u32>,
    /// How many of these were placed by address.
    sorted: usize,
    /// Numbers of the others, which were appended later.
    appended: FxHashMap<Addr, u32>,
    ranges: Vec<ReadRange>,
    total: usize,
    size: usize,
}

#[derive(Clone)]
struct ReadRange {
    start: Addr,
    /// Where its bytes lie in a look.
    bytes: Range<usize>,
    /// Its gs: places in `reading`.
    gs: Range<usize>,
}

/// The bytes of all gs.
#[derive(Default)]
pub struct Look {
    bytes: Vec<u8>,
    missing: Vec<bool>,
}

/// The keys of all gs at one look, in the order in which they are read; `None` for what could not be
/// read.
#[derive(Default)]
pub struct Keys(Vec<Option<Key>>);

/// A g that is not as it was, with its bytes if it could be read.
type News = (usize, Option<Vec<u8>>);

impl Look {
    /// Makes room for gs that were appended to `roster`; they count as missing until they are read.
    pub fn grow(&mut self, roster: &Roster) {
        self.bytes.resize(roster.total, 0);
        self.missing.resize(roster.order.len(), true);
    }

    fn set(&mut self, roster: &Roster, index: usize, bytes: Option<&[u8]>) {
        let place = roster.places.get(index).map(|place| *place..*place + roster.size);
        let slot = place.and_then(|range| self.bytes.get_mut(range));
        if let (Some(slot), Some(bytes)) = (slot, bytes) {
            slot.copy_from_slice(bytes);
        }
        if let Some(missing) = self.missing.get_mut(index) {
            *missing = bytes.is_none();
        }
    }
}

impl Keys {
    /// Makes room for gs that were appended to `roster`; they have no key until they are read.
    pub fn grow(&mut self, roster: &Roster) {
        self.0.resize(roster.order.len(), None);
    }
}

impl Roster {
    /// Plans looks at the gs in `order`, each of `size` bytes.
    pub fn new(order: Vec<Addr>, size: u32) -> Roster {
        let size = size as usize;
        // There are fewer than 2^32: each takes more than one byte of a real memory.
        let mut reading: Vec<u32> = (0..order.len()).map_while(|i| u32::try_from(i).ok()).collect();
        reading.sort_unstable_by_key(|i| order.get(*i as usize).copied());
        let places = vec![0; order.len()];
        let sorted = reading.len();
        let mut roster = Roster {
            order,
            places,
            reading,
            sorted,
            appended: FxHashMap::default(),
            ranges: Vec::new(),
            total: 0,
            size,
        };
        for nth in 0..sorted {
            roster.place(nth);
        }
        roster
    }

    /// Gives the `nth` g to be read its place.
    fn place(&mut self, nth: usize) {
        let Some(index) = self.reading.get(nth).map(|i| *i as usize) else { return };
        let Some(at) = self.order.get(index).copied() else { return };
        let near = self.ranges.last_mut().and_then(|range| {
            let offset = at.above(range.start)?;
            let end = range.bytes.len() as u64;
            let close = offset <= end.saturating_add(GAP) && offset < BYTES_AT_ONCE as u64;
            close.then_some((range, offset))
        });
        let place = match near {
            Some((range, offset)) => {
                let place = range.bytes.start + offset as usize;
                range.bytes.end = range.bytes.end.max(place + self.size);
                range.gs.end = nth + 1;
                place
            }
            None => {
                let bytes = self.total..self.total + self.size;
                self.ranges.push(ReadRange { start: at, bytes, gs: nth..nth + 1 });
                self.total
            }
        };
        self.total = self.ranges.last().map_or(0, |range| range.bytes.end);
        if let Some(slot) = self.places.get_mut(index) {
            *slot = place;
        }
    }

    /// Adds a g that appeared later. Looks and keys made before must grow.
    pub fn append(&mut self, at: Addr) {
        let Ok(index) = u32::try_from(self.order.len()) else { return };
        self.order.push(at);
        self.places.push(0);
        self.reading.push(index);
        self.appended.insert(at, index);
        self.place(self.reading.len() - 1);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The number of the g at an address.
    pub fn number_of(&self, at: Addr) -> Option<usize> {
        let address = |index: &u32| self.order.get(*index as usize).copied();
        let sorted = self.reading.get(..self.sorted)?;
        let found = match sorted.binary_search_by_key(&Some(at), address) {
            Ok(nth) => sorted.get(nth),
            Err(_) => self.appended.get(&at),
        };
        found.map(|index| *index as usize)
    }

    /// Bytes that one look reads.
    pub fn bytes(&self) -> usize {
        self.total
    }

    /// An empty look.
    pub fn blank(&self) -> Look {
        Look { bytes: vec![0; self.total], missing: vec![true; self.order.len()] }
    }

    /// Ranges that are read together.
    fn batches(&self) -> Vec<&[ReadRange]> {
        let mut batches = Vec::new();
        let mut rest = self.ranges.as_slice();
        while let Some(first) = rest.first() {
            let from = first.bytes.start;
            let fits = |range: &&ReadRange| range.bytes.end - from <= BYTES_AT_ONCE;
            let n = rest.iter().take(RANGES_AT_ONCE).take_while(fits).count().max(1);
            let (now, later) = rest.split_at(n.min(rest.len()));
            batches.push(now);
            rest = later;
        }
        batches
    }

    /// Looks at all gs and keeps only their keys.
    pub fn keys(&self, memory: &dyn Memory, layout: &schema::G, share: &impl Share) -> Keys {
        let work = |batch: &[ReadRange]| {
            SCRATCH.with_borrow_mut(|scratch| {
                let bytes = room(scratch, batch);
                self.read_keys(memory, layout, batch, bytes).map(|(_, key, _)| key).collect::<Vec<_>>()
            })
        };
        Keys(share.map(self.batches(), work).concat())
    }

    /// Looks at all gs and keeps the bytes too.
    pub fn fill(&self, memory: &dyn Memory, layout: &schema::G, look: &mut Look, share: &impl Share) -> Keys {
        let mut rest = look.bytes.as_mut_slice();
        let mut items = Vec::new();
        for batch in self.batches() {
            let (now, later) = rest.split_at_mut(span(batch).len().min(rest.len()));
            items.push((batch, now));
            rest = later;
        }
        let work = |(batch, bytes): (&[ReadRange], &mut [u8])| {
            self.read_keys(memory, layout, batch, bytes).map(|(_, key, _)| key).collect::<Vec<_>>()
        };
        let keys = share.map(items, work).concat();
        for (index, key) in self.reading.iter().zip(&keys) {
            if let Some(missing) = look.missing.get_mut(*index as usize) {
                *missing = key.is_none();
            }
        }
        Keys(keys)
    }

    /// Looks at all gs and brings `look` up to date with those that are not as in `base`, or of which
    /// `settled` says that their key proves nothing. Returns their numbers.
    pub fn update(
        &self,
        memory: &dyn Memory,
        layout: &schema::G,
        (base, look): (&Keys, &mut Look),
        settled: impl Fn(&Key) -> bool + Sync,
        share: &impl Share,
    ) -> Vec<usize> {
        let work = |batch: &[ReadRange]| {
            SCRATCH.with_borrow_mut(|scratch| {
                let bytes = room(scratch, batch);
                let read = self.read_keys(memory, layout, batch, bytes);
                let moved = read.filter(|(nth, key, _)| {
                    let before = base.0.get(*nth).copied().flatten();
                    *key != before || key.is_some_and(|key| !settled(&key))
                });
                let news = moved.filter_map(|(nth, key, own)| {
                    let index = *self.reading.get(nth)? as usize;
                    Some((index, key.map(|_| own.to_vec())))
                });
                news.collect::<Vec<News>>()
            })
        };
        let news: Vec<News> = share.map(self.batches(), work).concat();
        for (index, bytes) in &news {
            look.set(self, *index, bytes.as_deref());
        }
        news.into_iter().map(|(index, _)| index).collect()
    }

    /// The gs of a batch: each one's place in `reading`, and in a look.
    fn each<'b>(&'b self, batch: &'b [ReadRange]) -> impl Iterator<Item = (usize, usize)> + 'b {
        let all = batch.iter().flat_map(|range| range.gs.clone());
        all.filter_map(|nth| Some((nth, *self.places.get(*self.reading.get(nth)? as usize)?)))
    }

    /// Reads a batch into `bytes`; returns the places in `reading` of gs that could not be read, ascending. What a
    /// failing range holds is read one by one, so that one unreadable page (of a cut core) costs only
    /// its own.
    fn read(&self, memory: &dyn Memory, batch: &[ReadRange], bytes: &mut [u8]) -> Vec<usize> {
        let mut pieces = Vec::with_capacity(batch.len());
        let mut rest = &mut *bytes;
        for range in batch {
            let (now, later) = rest.split_at_mut(range.bytes.len().min(rest.len()));
            pieces.push(Piece { at: range.start, into: now, ok: false });
            rest = later;
        }
        memory.read_pieces(&mut pieces);
        let failed: Vec<ReadRange> =
            pieces.iter().zip(batch).filter(|(piece, _)| !piece.ok).map(|(_, range)| range.clone()).collect();
        let alone = |&(nth, place): &(usize, usize)| {
            let at = self.reading.get(nth).and_then(|index| self.order.get(*index as usize));
            match (at, bytes.get_mut(self.within(batch, place))) {
                (Some(at), Some(bytes)) => memory.read(*at, bytes).is_err(),
                _ => true,
            }
        };
        self.each(&failed).filter(alone).map(|(nth, _)| nth).collect()
    }

    /// Where the g at `place` of a look lies in the bytes of a batch.
    fn within(&self, batch: &[ReadRange], place: usize) -> Range<usize> {
        let start = place.saturating_sub(span(batch).start);
        start..start + self.size
    }

    /// Reads a batch and takes the keys of its gs, with where their bytes then lie in `bytes`.
    fn read_keys<'b>(
        &'b self,
        memory: &dyn Memory,
        layout: &'b schema::G,
        batch: &'b [ReadRange],
        bytes: &'b mut [u8],
    ) -> impl Iterator<Item = (usize, Option<Key>, &'b [u8])> + 'b {
        let missing = self.read(memory, batch, bytes);
        let bytes = &*bytes;
        self.each(batch).map(move |(nth, place)| {
            let own = bytes.get(self.within(batch, place)).unwrap_or_default();
            let there = missing.binary_search(&nth).is_err();
            // The base is for the words of errors alone.
            let key = there.then(|| Key::of(StructView::new(own, Addr::NULL), layout)).flatten();
            (nth, key, own)
        })
    }

    /// Reads the gs with the numbers `which` into `look` again.
    pub fn look_again(&self, memory: &dyn Memory, which: &[usize], look: &mut Look, share: &impl Share) {
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
        let parts: Vec<&mut [Piece<'_>]> = pieces.chunks_mut(RANGES_AT_ONCE).collect();
        share.map(parts, |part| memory.read_pieces(part));
        for ((_, index), piece) in spots.iter().zip(&pieces) {
            if let Some(missing) = look.missing.get_mut(*index) {
                *missing = !piece.ok;
            }
        }
    }

    /// The keys of the gs with the numbers `which`, read now.
    pub fn keys_of(&self, memory: &dyn Memory, which: &[usize], layout: &schema::G) -> Vec<Option<Key>> {
        let mut bytes = vec![0; self.size * which.len()];
        let mut pieces: Vec<Piece<'_>> = which
            .iter()
            .zip(bytes.chunks_mut(self.size.max(1)))
            .map(|(index, into)| Piece { at: self.address(*index), into, ok: false })
            .collect();
        memory.read_pieces(&mut pieces);
        let key = |piece: &Piece<'_>| Key::of(StructView::new(piece.into, piece.at), layout);
        pieces.iter().map(|piece| if piece.ok { key(piece) } else { None }).collect()
    }

    fn address(&self, index: usize) -> Addr {
        self.order.get(index).copied().unwrap_or(Addr::NULL)
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

    /// The key of a g as a look has it.
    pub fn key(&self, look: &Look, index: usize, layout: &schema::G) -> Option<Key> {
        Key::of(self.view(look, index)?, layout)
    }

    /// The numbers of all gs whose keys differ, or that one of the looks could not read.
    pub fn differing(&self, a: &Keys, b: &Keys) -> Vec<usize> {
        let pairs = self.reading.iter().zip(a.0.iter().zip(&b.0));
        pairs.filter(|(_, (a, b))| a != b).map(|(index, _)| *index as usize).collect()
    }

    /// The numbers of the gs that left the processor often from look `a` to look `b`.
    pub fn often(&self, a: &Keys, b: &Keys) -> Vec<usize> {
        let pairs = self.reading.iter().zip(a.0.iter().zip(&b.0));
        let often = |(a, b): (&Option<Key>, &Option<Key>)| b.as_ref()?.often_since(a.as_ref()?).then_some(());
        pairs.filter_map(|(index, pair)| often(pair).map(|()| *index as usize)).collect()
    }

    /// The gs that could be read, with their keys.
    pub fn keyed<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = (usize, &'a Key)> + 'a {
        let pairs = self.reading.iter().zip(&keys.0);
        pairs.filter_map(|(index, key)| Some((*index as usize, key.as_ref()?)))
    }
}

/// Where the bytes of a batch lie in a look.
fn span(batch: &[ReadRange]) -> Range<usize> {
    match (batch.first(), batch.last()) {
        (Some(first), Some(last)) => first.bytes.start..last.bytes.end,
        _ => 0..0,
    }
}

/// Room for a batch.
fn room<'s>(scratch: &'s mut Vec<u8>, batch: &[ReadRange]) -> &'s mut [u8] {
    let len = span(batch).len();
    if scratch.len() < len {
        scratch.resize(len, 1);
    }
    scratch.get_mut(..len).unwrap_or_default()
}

/// Readies all cores for a look in a stop: touches the memory that it will use.
pub fn make_ready() {
    rayon::broadcast(|_| {
        SCRATCH.with_borrow_mut(|scratch| scratch.resize(BYTES_AT_ONCE.max(scratch.len()), 1));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::field::Field;
    use crate::memory::share::{AllCores, ThisThread};
    use crate::memory::sparse::SparseMemory;

    /// Members of a g where the bytes of these tests are.
    fn layout() -> schema::G {
        struct Close;
        impl schema::Binder for Close {
            fn offset(&mut self, of: &schema::StructDecl, field: &schema::FieldDecl) -> Option<u32> {
                let index = of.fields.iter().position(|f| f.name == field.name)?;
                u32::try_from(index).ok()
            }
            fn size(&mut self, _: &schema::StructDecl) -> Option<u32> {
                Some(128)
            }
        }
        schema::G::bind(&mut Close).unwrap()
    }

    fn memory() -> SparseMemory {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x1000), (0..=255).cycle().take(1024).collect::<Vec<u8>>());
        memory.put(Addr::new(0x9000), [7; 128]);
        memory
    }

    fn first_byte(roster: &Roster, look: &Look, index: usize) -> Option<u8> {
        roster.view(look, index)?.get(Field::<u8>::at(0)).ok()
    }

    #[test]
    fn a_look_keeps_the_order_of_allgs_and_merges_neighbours() {
        let order = [0x9000, 0x1080, 0x1000].map(Addr::new).to_vec();
        let roster = Roster::new(order, 128);
        assert_eq!(roster.ranges.len(), 2);
        let mut look = roster.blank();
        let keys = roster.fill(&memory(), &layout(), &mut look, &AllCores);
        assert_eq!([0, 1, 2].map(|i| first_byte(&roster, &look, i)), [Some(7), Some(0x80), Some(0)]);
        let again = roster.keys(&memory(), &layout(), &ThisThread);
        assert_eq!(keys.0.len(), 3);
        assert!(roster.differing(&keys, &again).is_empty());
        assert_eq!(roster.number_of(Addr::new(0x1080)), Some(1));
        assert_eq!(roster.number_of(Addr::new(0x1081)), None);
    }

    /// A damaged list can name one unreadable place very often; searching the gs that are missing for each of
    /// them took hours.
    #[test]
    fn a_million_times_the_same_unreadable_g_ends() {
        let roster = Roster::new(vec![Addr::new(0x5000); 1_000_000], 128);
        let mut look = roster.blank();
        let keys = roster.fill(&memory(), &layout(), &mut look, &AllCores);
        assert!(keys.0.len() == 1_000_000 && keys.0.iter().all(Option::is_none));
    }

    #[test]
    fn what_changed_is_found_and_brought_up_to_date() {
        let roster = Roster::new([0x9000, 0x1080, 0x1000].map(Addr::new).to_vec(), 128);
        let mut look = roster.blank();
        let base = roster.fill(&memory(), &layout(), &mut look, &ThisThread);
        let mut later = memory();
        later.put(Addr::new(0x9000), [8; 128]);
        let news = roster.update(&later, &layout(), (&base, &mut look), |_| true, &ThisThread);
        assert_eq!(news, [0]);
        assert_eq!(first_byte(&roster, &look, 0), Some(8));
        assert_eq!(roster.differing(&base, &roster.keys(&later, &layout(), &ThisThread)), [0]);
        let mut all = roster.update(&later, &layout(), (&base, &mut look), |_| false, &ThisThread);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }

    #[test]
    fn one_unreadable_g_costs_only_itself() {
        let roster = Roster::new([0x13f8, 0x1000].map(Addr::new).to_vec(), 128);
        assert_eq!(roster.ranges.len(), 2);
        let close = Roster::new([0x1390, 0x1000, 0x1200].map(Addr::new).to_vec(), 128);
        assert_eq!(close.ranges.len(), 1);
        let mut look = close.blank();
        close.fill(&memory(), &layout(), &mut look, &ThisThread);
        assert_eq!([0, 1, 2].map(|i| first_byte(&close, &look, i)), [None, Some(0), Some(0)]);
        close.look_again(&memory(), &[1, 0, 1], &mut look, &ThisThread);
        assert_eq!([0, 1].map(|i| first_byte(&close, &look, i)), [None, Some(0)]);
        assert!(close.keys_of(&memory(), &[0, 1], &layout()).iter().map(Option::is_some).eq([false, true]));
    }

    #[test]
    fn what_is_appended_has_no_key_until_it_is_read() {
        let mut roster = Roster::new(vec![Addr::new(0x1000)], 128);
        let mut look = roster.blank();
        let mut base = roster.fill(&memory(), &layout(), &mut look, &ThisThread);
        roster.append(Addr::new(0x9000));
        look.grow(&roster);
        base.grow(&roster);
        assert_eq!(roster.number_of(Addr::new(0x9000)), Some(1));
        assert_eq!(first_byte(&roster, &look, 1), None);
        let news = roster.update(&memory(), &layout(), (&base, &mut look), |_| true, &ThisThread);
        assert_eq!(news, [1]);
        assert_eq!(first_byte(&roster, &look, 1), Some(7));
    }
}
