//! Image: where the moduledata of a target lies when no symbol says it. The header of a function table
//! is recognised by its first words; a moduledata is what leads to a header, and to the name table
//! that the header names, in two words next to each other.

use super::blob::Regions;
use super::layout::schema::Moduledata;
use super::moduledata::Raw;
use super::pclntab::{Module, header_format, header_marks};
use crate::addr::{Addr, Span};
use crate::arch::Arch;
use crate::memory::Memory;
use rustc_hash::{FxHashMap, FxHashSet};

/// Where in a target is looked. Order doesn't matter; spans may overlap.
pub struct SearchSpace<'a> {
    /// What may hold a function table: sections made for it, else all segments (up to 1.25,
    /// position-independent programs have it in the writable one).
    pub tables: &'a [Span],
    /// What may hold a moduledata: `.go.module`, else the writable segments.
    pub data: &'a [Span],
}

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 18;

/// Granularity in which unreadable parts are passed over, in bytes.
const PAGE: u64 = 1 << 12;

/// Bytes that are searched at most.
const BUDGET: u64 = 8 << 30;

/// Matches that are looked at more closely at most.
const MATCHES: usize = 1000;

/// Offset of `pcHeader.funcnameOffset`.
const FUNCNAME_OFFSET: u64 = 32;

/// The first moduledata of each chain found, in order of address: one for each Go runtime in the
/// target, so one in nearly all. Only those that load are counted.
pub fn find_moduledata(
    memory: &dyn Memory,
    regions: &dyn Regions,
    space: &SearchSpace<'_>,
    layout: &Moduledata,
    arch: Arch,
) -> Vec<Addr> {
    let names = name_tables(memory, space.tables, arch);
    let leads = words(memory, space.data, |word| names.contains_key(&Addr::new(word)));
    let mut found = Vec::new();
    let mut nexts = FxHashSet::default();
    for at in leads {
        let fits = |header| names.get(&header).copied() == memory.read_addr(at.offset(8)).ok();
        if !memory.read_addr(at).is_ok_and(fits) {
            continue;
        }
        let Ok(raw) = Raw::read(memory, at, layout) else { continue };
        let next = raw.next;
        if Module::new(raw, regions, arch).is_ok() {
            found.push(at);
            nexts.insert(next);
        }
    }
    found.retain(|at| !nexts.contains(at));
    found
}

/// All headers of function tables, each with the address of its name table.
fn name_tables(memory: &dyn Memory, spans: &[Span], arch: Arch) -> FxHashMap<Addr, Addr> {
    let marks = header_marks(arch);
    let named = |at: Addr| {
        let header = memory.read_span(Span { start: at, len: FUNCNAME_OFFSET }, FUNCNAME_OFFSET).ok()?;
        header_format(&header, arch)?;
        let offset = memory.read_u64(at.offset(FUNCNAME_OFFSET)).ok()?;
        Some((at, at.offset(offset)))
    };
    words(memory, spans, |word| marks.contains(&word)).into_iter().filter_map(named).collect()
}

/// The places of all aligned words that `wanted` picks, sorted.
fn words(memory: &dyn Memory, spans: &[Span], wanted: impl Fn(u64) -> bool) -> Vec<Addr> {
    let mut places = Vec::new();
    let mut budget = BUDGET;
    let mut buf = vec![0; CHUNK as usize];
    for span in spans {
        let mut at = Addr::new(span.start.get() & !7);
        while at < span.end() && budget > 0 && places.len() < MATCHES {
            let left = Span::between(at, span.end()).len;
            let mut len = left.min(CHUNK);
            let mut chunk = filled(memory, at, len, &mut buf);
            if chunk.is_none() {
                len = left.min(PAGE);
                chunk = filled(memory, at, len, &mut buf);
            }
            let (words, _) = chunk.unwrap_or_default().as_chunks::<8>();
            let hits = words.iter().zip(0..).filter(|(word, _)| wanted(u64::from_le_bytes(**word)));
            places.extend(hits.map(|(_, n): (_, u64)| at.offset(n * 8)));
            budget = budget.saturating_sub(len);
            at = at.offset(len);
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// `len` bytes at `at`, read into `buf`.
fn filled<'b>(memory: &dyn Memory, at: Addr, len: u64, buf: &'b mut [u8]) -> Option<&'b [u8]> {
    let part = buf.get_mut(..usize::try_from(len).ok()?)?;
    memory.read(at, part).ok()?;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::blob::FromMemory;
    use crate::image::testing::{FuncSpec, MODULEDATA, Spec, TABLE, layout};
    use crate::memory::sparse::SparseMemory;

    fn program() -> SparseMemory {
        let func = FuncSpec { name: "main.main", ..FuncSpec::default() };
        let funcs = vec![func];
        Spec { magic: 0xffff_fff1, quantum: 1, funcs, end: 0x20, files: vec![], names: vec![] }.build().memory
    }

    fn find(memory: &SparseMemory) -> Vec<Addr> {
        let span = |start, len| Span { start: Addr::new(start), len };
        // The first table span begins in a hole, the data span has one between its parts.
        let tables = [span(TABLE - 0x2000, 0x2008)];
        let data = [span(MODULEDATA - 8, 0x4000)];
        let space = SearchSpace { tables: &tables, data: &data };
        find_moduledata(memory, &FromMemory(memory), &space, &layout(), Arch::Amd64)
    }

    /// Fills up so that whole pages can be read.
    fn padded(mut memory: SparseMemory) -> SparseMemory {
        memory.put(Addr::new(TABLE - 0x1000), [0; 0x1000]);
        memory.put(Addr::new(MODULEDATA - 8), [0; 8]);
        memory.put(Addr::new(MODULEDATA + 592), [0; 0x3000]);
        memory
    }

    #[test]
    fn it_is_found_across_holes() {
        assert_eq!(find(&padded(program())), [Addr::new(MODULEDATA)]);
    }

    #[test]
    fn a_word_that_only_looks_like_one_is_passed_over() {
        let mut memory = padded(program());
        let mut decoy = vec![0; 0x3000];
        decoy[0x10..0x18].copy_from_slice(&TABLE.to_le_bytes());
        decoy[0x18..0x20].copy_from_slice(&(TABLE + 72).to_le_bytes());
        memory.put(Addr::new(MODULEDATA + 592), decoy);
        assert_eq!(find(&memory), [Addr::new(MODULEDATA)]);
    }

    #[test]
    fn only_the_first_of_a_chain_counts() {
        let mut memory = padded(program());
        let mut first = memory.read_span(Span { start: Addr::new(MODULEDATA), len: 592 }, 592).unwrap();
        let second = MODULEDATA + 592 + 0x1000;
        let mut after = vec![0; 0x3000];
        after[0x1000..0x1000 + 592].copy_from_slice(&first);
        memory.put(Addr::new(MODULEDATA + 592), after);
        assert_eq!(find(&memory), [Addr::new(MODULEDATA), Addr::new(second)]);
        first[584..].copy_from_slice(&second.to_le_bytes());
        memory.put(Addr::new(MODULEDATA), first);
        assert_eq!(find(&memory), [Addr::new(MODULEDATA)]);
    }
}
