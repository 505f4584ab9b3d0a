//! Analysis, reach: all words of some memory that point into some objects.

use crate::addr::{Addr, Span, around};
use crate::memory::Memory;
use rayon::prelude::*;
use std::cell::RefCell;

/// Bytes that are read at once.
const AT_ONCE: u64 = 256 << 10;

/// Words that were found at most.
const MOST: usize = 1 << 20;

thread_local! {
    /// Where a thread reads.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Objects that are looked for.
pub(super) struct Targets {
    /// In the order of addresses; they do not overlap.
    sorted: Vec<Span>,
    all: Span,
}

impl Targets {
    pub(super) fn new(mut objects: Vec<Span>) -> Targets {
        objects.sort_unstable_by_key(|object| object.start);
        let bounds = objects.first().zip(objects.last());
        let all = bounds.map(|(first, last)| Span::between(first.start, last.end()));
        Targets { sorted: objects, all: all.unwrap_or_default() }
    }

    /// Whether a word, taken for a pointer, leads into one of them.
    pub(super) fn contain(&self, word: u64) -> bool {
        let at = Addr::new(word);
        if !self.all.contains(at) {
            return false;
        }
        around(&self.sorted, at, |object| *object).is_some()
    }
}

/// The places of all aligned words in `area` that lead into one of `targets`; `None` when some of it could
/// not be read, or there are too many.
pub(super) fn hits(memory: &dyn Memory, area: &[Span], targets: &Targets) -> Option<Vec<Addr>> {
    let parts: Vec<Span> = area.iter().copied().flat_map(cut).collect();
    let found: Option<Vec<Vec<Addr>>> =
        parts.par_iter().with_max_len(64).map(|part| within(memory, *part, targets)).collect();
    let found = found?.concat();
    (found.len() <= MOST).then_some(found)
}

/// A span in parts that are read at once.
fn cut(span: Span) -> impl Iterator<Item = Span> {
    let start = Addr::new(span.start.get().next_multiple_of(8));
    let len = Span::between(start, span.end()).len & !7;
    let part =
        move |offset: u64| Span { start: start.offset(offset), len: len.saturating_sub(offset).min(AT_ONCE) };
    (0..len).step_by(AT_ONCE as usize).map(part)
}

fn within(memory: &dyn Memory, part: Span, targets: &Targets) -> Option<Vec<Addr>> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(usize::try_from(part.len).ok()?, 0);
        memory.read(part.start, scratch).ok()?;
        let (words, _) = scratch.as_chunks::<8>();
        let leads = words.iter().zip(0u64..).filter(|(word, _)| targets.contain(u64::from_le_bytes(**word)));
        Some(leads.map(|(_, n)| part.start.offset(n.wrapping_mul(8))).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    fn span(start: u64, len: u64) -> Span {
        Span { start: Addr::new(start), len }
    }

    #[test]
    fn words_that_lead_into_an_object_are_found_wherever_they_point_in_it() {
        let mut memory = SparseMemory::new();
        let words: [u64; 6] = [0x5000, 0x5018, 0x5020, 0x4fff, 0x7008, 0x6000];
        memory.put(Addr::new(0x1000), words.concat_bytes());
        let targets = Targets::new(vec![span(0x7000, 16), span(0x5000, 0x20)]);
        let found = hits(&memory, &[span(0x1000, 48)], &targets).unwrap();
        assert_eq!(found, [0x1000, 0x1008, 0x1020].map(Addr::new));
        // A range that does not begin at a word, and one that can't be read.
        assert_eq!(hits(&memory, &[span(0x1001, 20)], &targets).unwrap(), [Addr::new(0x1008)]);
        assert_eq!(hits(&memory, &[span(0x1000, 64)], &targets), None);
    }

    trait Words {
        fn concat_bytes(self) -> Vec<u8>;
    }

    impl<const N: usize> Words for [u64; N] {
        fn concat_bytes(self) -> Vec<u8> {
            self.iter().flat_map(|word| word.to_le_bytes()).collect()
        }
    }
}
