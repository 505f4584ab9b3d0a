//! Runtime: the heap of the garbage collector, as far as it tells objects apart (`runtime/mheap.go`):
//! spans of pages, each with objects of one size, some of them not in use. What an object is, the heap
//! does not say.

use crate::addr::{Addr, Span, around};
use crate::image::layout::field::StructView;
use crate::image::layout::schema;
use crate::memory::{Memory, Piece, ReadError, ReadFail, ReadResult, read_slice};

/// `mSpanInUse`: the span holds objects.
const IN_USE: u8 = 1;

/// Bytes of one page of the heap (`pageSize`), on all processors.
const PAGE: u64 = 8192;

/// The bit of `mspan.spanclass` that says that no object of the span holds pointers.
const NOSCAN: u8 = 1;

/// Most spans that are read: 128 GB of pages at least.
const MOST_SPANS: u64 = 1 << 24;

/// Spans that are read at a time.
const AT_ONCE: usize = 1024;

/// Longest `mspan` that is believed, in bytes.
const LONGEST: usize = 1 << 12;

/// Most specials of one span that are followed.
const MOST_SPECIALS: usize = 1 << 16;

/// Bytes of the longest special.
const SPECIAL: usize = 64;

/// Pages with objects of one size, `runtime.mspan`.
#[derive(Clone, Copy, Debug)]
struct Pages {
    start: Addr,
    /// Bytes of all objects together.
    len: u64,
    /// Bytes of each object.
    elemsize: u64,
    /// All objects before this one are in use.
    freeindex: u64,
    /// One bit for each object that was in use when the garbage collector was done.
    alloc_bits: Addr,
    /// Whether no object holds pointers.
    noscan: bool,
    /// List of what is kept of single objects.
    specials: Addr,
}

/// What is kept of an object apart from it: a finalizer, a cleanup, a record of a profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Special {
    /// Places in the object that it is of, only one of which is right.
    pub of: Vec<Addr>,
    /// Its words, among them the closure that will be called; what follows it in memory, too.
    pub words: Vec<u64>,
}

/// All spans in use, in the order of addresses.
#[derive(Clone, Debug, Default)]
pub struct Heap {
    spans: Vec<Pages>,
}

impl Heap {
    /// Reads the spans of the `mheap` at `at`.
    pub fn read(
        memory: &dyn Memory,
        at: Addr,
        mheap: &schema::Mheap,
        mspan: &schema::Mspan,
    ) -> ReadResult<Heap> {
        let list = at.offset(mheap.allspans.offset.into());
        let all = read_slice(memory, list)?;
        let too_many = ReadError { at: list, len: all.len, why: ReadFail::Overflow };
        if all.len > MOST_SPANS {
            return Err(too_many);
        }
        let size = usize::try_from(mspan.size).map_err(|_| too_many)?.min(LONGEST);
        let mut spans = Vec::new();
        let pointers =
            memory.read_span(Span { start: all.array, len: all.len.wrapping_mul(8) }, MOST_SPANS * 8)?;
        let (pointers, _) = pointers.as_chunks::<8>();
        for some in pointers.chunks(AT_ONCE) {
            let mut bytes = vec![0; size.saturating_mul(some.len())];
            let places = some.iter().map(|word| Addr::new(u64::from_le_bytes(*word)));
            let mut pieces: Vec<Piece<'_>> = places
                .zip(bytes.chunks_exact_mut(size.max(1)))
                .map(|(at, into)| Piece { at, into, ok: false })
                .collect();
            memory.read_pieces(&mut pieces);
            for piece in pieces {
                if !piece.ok {
                    return Err(ReadError { at: piece.at, len: size as u64, why: ReadFail::Unmapped });
                }
                spans.extend(pages(StructView::new(piece.into, piece.at), mspan)?);
            }
        }
        spans.sort_unstable_by_key(|span| span.start);
        Ok(Heap { spans })
    }

    /// The memory of objects that may hold pointers, in the order of addresses.
    pub fn scanned(&self) -> impl Iterator<Item = Span> {
        self.spans.iter().filter(|span| !span.noscan).map(Pages::range)
    }

    /// The object around `at`; `None` outside of the heap and where nothing is in use. An object that is
    /// not in use any more counts as in use until the garbage collector has found that out.
    pub fn object(&self, memory: &dyn Memory, at: Addr) -> Option<Span> {
        let span = around(&self.spans, at, Pages::range)?;
        let index = at.above(span.start)?.checked_div(span.elemsize)?;
        let start = span.start.offset(index.checked_mul(span.elemsize)?);
        // What can't be told counts as in use: who holds nothing is asked of what is left out.
        let bits = || memory.read_u8(span.alloc_bits.offset(index / 8)).unwrap_or(u8::MAX);
        let in_use = index < span.freeindex || bits() >> (index % 8) & 1 == 1;
        in_use.then_some(Span { start, len: span.elemsize })
    }

    /// All specials of all spans.
    pub fn specials(&self, memory: &dyn Memory, layout: &schema::Special) -> ReadResult<Vec<Special>> {
        let mut all = Vec::new();
        for span in self.spans.iter().filter(|span| !span.specials.is_null()) {
            let (mut at, mut left) = (span.specials, MOST_SPECIALS);
            while !at.is_null() {
                left = left.checked_sub(1).ok_or(ReadError { at, len: 0, why: ReadFail::Overflow })?;
                let offset = u64::from(layout.offset.read(memory, at)?);
                let mut bytes = [0; SPECIAL];
                memory.read(at, &mut bytes)?;
                let (words, _) = bytes.as_chunks::<8>();
                let places = (0..=u64::from(u8::MAX)).map(|n| span.start.offset(offset | n << 16));
                all.push(Special {
                    of: places.take_while(|place| span.range().contains(*place)).collect(),
                    words: words.iter().map(|word| u64::from_le_bytes(*word)).collect(),
                });
                at = layout.next.read(memory, at)?;
            }
        }
        Ok(all)
    }
}

impl Pages {
    fn range(&self) -> Span {
        Span { start: self.start, len: self.len }
    }
}

/// Decodes one `mspan`; `None` for one that holds no objects.
fn pages(view: StructView<'_>, layout: &schema::Mspan) -> ReadResult<Option<Pages>> {
    if view.get(layout.state)? != IN_USE {
        return Ok(None);
    }
    let start = view.get(layout.start_addr)?;
    let elemsize = view.get(layout.elemsize)?;
    let objects = u64::from(view.get(layout.nelems)?).saturating_mul(elemsize);
    let all = view.get(layout.npages)?.saturating_mul(PAGE);
    if elemsize == 0 || start.get().checked_add(all).is_none() {
        return Err(ReadError { at: view.base(), len: layout.size.into(), why: ReadFail::Overflow });
    }
    Ok(Some(Pages {
        start,
        len: objects.min(all),
        elemsize,
        freeindex: view.get(layout.freeindex)?.into(),
        alloc_bits: view.get(layout.alloc_bits)?,
        noscan: view.get(layout.spanclass)? & NOSCAN != 0,
        specials: view.get(layout.specials)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::field::Field;
    use crate::memory::sparse::SparseMemory;

    const MHEAP: schema::Mheap = schema::Mheap { size: 64, allspans: Field::at(16) };
    const MSPAN: schema::Mspan = schema::Mspan {
        size: 160,
        start_addr: Field::at(24),
        npages: Field::at(32),
        freeindex: Field::at(48),
        nelems: Field::at(50),
        alloc_bits: Field::at(64),
        spanclass: Field::at(98),
        state: Field::at(99),
        elemsize: Field::at(104),
        specials: Field::at(128),
    };
    const SPECIAL: schema::Special = schema::Special { size: 16, next: Field::at(0), offset: Field::at(8) };

    /// A span of one page at `start` with objects of 48 bytes, 2 in use and number 5, in the state `state`.
    fn put_span(memory: &mut SparseMemory, at: u64, start: u64, state: u8, spanclass: u8) {
        let mut bytes = vec![0u8; 160];
        bytes[24..32].copy_from_slice(&start.to_le_bytes());
        bytes[32] = 1;
        bytes[48] = 2;
        bytes[50] = 170;
        bytes[64..72].copy_from_slice(&0x9000u64.to_le_bytes());
        (bytes[98], bytes[99], bytes[104]) = (spanclass, state, 48);
        bytes[128..136].copy_from_slice(&0x9100u64.to_le_bytes());
        memory.put(Addr::new(at), bytes);
    }

    fn heap() -> SparseMemory {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x110), [0x2000u64, 4, 4].map(u64::to_le_bytes).concat());
        memory.put(Addr::new(0x2000), [0x3000u64, 0x3100, 0x3200, 0x3300].map(u64::to_le_bytes).concat());
        put_span(&mut memory, 0x3000, 0x50_0000, 1, 8);
        put_span(&mut memory, 0x3100, 0x40_0000, 1, 9);
        put_span(&mut memory, 0x3200, 0x60_0000, 0, 8);
        put_span(&mut memory, 0x3300, 0x70_0000, 2, 8);
        memory.put(Addr::new(0x9000), [0b0010_0000, 0]);
        memory.put(Addr::new(0x9100), [0u64, 48, 0xabc, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat());
        memory
    }

    fn read(memory: &SparseMemory) -> ReadResult<Heap> {
        Heap::read(memory, Addr::new(0x100), &MHEAP, &MSPAN)
    }

    #[test]
    fn an_object_is_found_by_any_address_in_it_if_it_is_in_use() {
        let memory = heap();
        let heap = read(&memory).unwrap();
        let object = |at: u64| heap.object(&memory, Addr::new(at)).map(|o| (o.start.get(), o.len));
        assert_eq!(object(0x40_0000), Some((0x40_0000, 48)));
        assert_eq!(object(0x50_0000 + 95), Some((0x50_0030, 48)));
        // Not handed out since the last collection, and not in use then, but for one.
        assert_eq!(object(0x50_0000 + 96), None);
        assert_eq!(object(0x50_0000 + 5 * 48), Some((0x50_00f0, 48)));
        let mut unreadable = memory.clone();
        unreadable.put(Addr::new(0x9000), []);
        assert!(heap.object(&unreadable, Addr::new(0x50_0000 + 96)).is_some());
        // After the last object, after the span, in spans that hold none.
        for at in [0x50_0000 + 170 * 48, 0x50_2000, 0x60_0000, 0x70_0000, 0x3f_ffff] {
            assert_eq!(object(at), None, "{at:#x}");
        }
        let scanned: Vec<_> = heap.scanned().map(|span| (span.start.get(), span.len)).collect();
        assert_eq!(scanned, [(0x50_0000, 170 * 48)]);
    }

    #[test]
    fn specials_say_which_object_they_are_of() {
        let memory = heap();
        let specials = read(&memory).unwrap().specials(&memory, &SPECIAL).unwrap();
        assert_eq!(specials.len(), 2);
        assert_eq!(specials[1].of, [Addr::new(0x50_0030)]);
        assert_eq!(specials[1].words[..3], [0, 48, 0xabc]);
        // A list without an end is an error.
        let mut round = heap();
        round.put(Addr::new(0x9100), [0x9100u64, 48, 0, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat());
        assert!(read(&round).unwrap().specials(&round, &SPECIAL).is_err());
    }

    #[test]
    fn a_list_of_spans_that_cannot_be_is_an_error() {
        for (at, len) in [(0x2000u64, u64::MAX), (0x2000, 5), (0x7fff_0000, 1)] {
            let mut memory = heap();
            memory.put(Addr::new(0x110), [at, len, len].map(u64::to_le_bytes).concat());
            assert!(read(&memory).is_err(), "{len} at {at:#x}");
        }
        let mut memory = heap();
        put_span(&mut memory, 0x3000, u64::MAX - 8, 1, 8);
        assert!(read(&memory).is_err());
    }
}
