//! Runtime, capture: the stacks of threads that are on no goroutine's: system stacks and those of C. They
//! are copied page by page from the stack pointer on, since where they end is not known, and only for
//! threads that are in C, whose C frames lie below a call back into Go, or that were asked for.

use crate::addr::{Addr, Span, Tid};
use crate::image::layout::Layouts;
use crate::memory::{Memory, Piece};
use crate::runtime::M;
use crate::source::{Place, Thread};
use rustc_hash::FxHashMap;

/// What is copied above the stack pointer of a system stack, in bytes.
pub const SYSTEM_STACK: u64 = 64 << 10;

/// Bytes below the stack pointer that code may use on amd64 (the red zone of C).
const RED_ZONE: u64 = 128;

/// Bytes that are read or not as one.
const PAGE: u64 = 4096;

/// Threads whose stacks are copied because of a goroutine that is wired to them: with callbacks from C in
/// more threads than that the rest is not shown.
const LOCKED: usize = 256;

/// Copied pieces of system stacks, and where threads sleep that were left alone.
#[derive(Default)]
pub struct SystemStacks {
    runs: Vec<(Addr, Vec<u8>)>,
    places: FxHashMap<Tid, Place>,
}

impl SystemStacks {
    /// Copies what is above each of these stack pointers, up to a limit or the end of the stack.
    pub fn copy(&mut self, memory: &dyn Memory, sps: &[Addr]) -> u64 {
        let mut wanted: Vec<Span> = sps.iter().flat_map(|sp| pages(*sp)).collect();
        wanted.sort_unstable_by_key(|page| page.start);
        wanted.dedup_by_key(|page| page.start);
        let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|page| vec![1; page.len as usize]).collect();
        let pieces = wanted.iter().zip(&mut buffers);
        let mut pieces: Vec<Piece<'_>> =
            pieces.map(|(page, into)| Piece { at: page.start, into, ok: false }).collect();
        memory.read_pieces(&mut pieces);
        let read: Vec<bool> = pieces.iter().map(|piece| piece.ok).collect();
        let good = wanted.iter().zip(buffers).zip(read).filter(|(_, ok)| *ok);
        self.runs.extend(good.map(|((page, bytes), _)| (page.start, bytes)));
        wanted.len() as u64 * PAGE
    }

    /// Keeps one word, as it was when it was read.
    pub fn keep_word(&mut self, at: Addr, word: Addr) {
        self.runs.push((at, word.get().to_le_bytes().to_vec()));
    }

    /// Remembers where a thread sleeps.
    pub fn keep_place(&mut self, tid: Tid, place: Place) {
        self.places.insert(tid, place);
    }

    /// Tells each thread where it sleeps, if it was looked up.
    pub fn tell(&self, threads: &mut [Thread]) {
        for thread in threads {
            thread.asleep_at = self.places.get(&thread.tid).copied();
        }
    }

    /// The copied pieces, ascending; of two at the same place the longer.
    pub fn into_runs(mut self) -> Vec<(Addr, Vec<u8>)> {
        self.runs.sort_by_key(|(at, bytes)| (*at, std::cmp::Reverse(bytes.len())));
        self.runs.dedup_by_key(|(at, _)| *at);
        self.runs
    }
}

/// From the red zone on: the rest of that page, then whole pages.
fn pages(sp: Addr) -> impl Iterator<Item = Span> {
    let start = sp.back(RED_ZONE);
    let first = Addr::new(start.get() & !(PAGE - 1));
    (0..=SYSTEM_STACK / PAGE).map(move |i| Span { start: first.offset(i * PAGE), len: PAGE })
}

/// Threads that run C code for a goroutine.
pub fn in_c(ms: &[M]) -> impl Iterator<Item = &M> {
    ms.iter().filter(|m| m.incgo)
}

/// Where the C frames begin that lie between Go frames: what `m.g0.sched.sp` holds for each m that is in C
/// or has a goroutine wired to it, as callbacks from C have.
pub fn callback_frames(memory: &dyn Memory, ms: &[M], layouts: &Layouts) -> Vec<(Addr, Addr)> {
    let wired = ms.iter().filter(|m| (m.incgo || !m.lockedg.is_null()) && !m.g0.is_null()).take(LOCKED);
    let at: Vec<Addr> = wired.map(|m| m.g0.offset(layouts.g.sched_sp.offset.into())).collect();
    let mut words = vec![[0; 8]; at.len()];
    let pieces = at.iter().zip(&mut words);
    let mut pieces: Vec<Piece<'_>> = pieces.map(|(at, into)| Piece { at: *at, into, ok: false }).collect();
    memory.read_pieces(&mut pieces);
    let ok: Vec<bool> = pieces.iter().map(|piece| piece.ok).collect();
    let read = at.into_iter().zip(words).zip(ok).filter(|(_, ok)| *ok);
    read.map(|((at, word), _)| (at, Addr::new(u64::from_le_bytes(word)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn a_stack_is_copied_up_to_where_it_ends() {
        let mut memory = SparseMemory::new();
        for page in 4..7u64 {
            memory.put(Addr::new(page * PAGE), vec![page as u8; PAGE as usize]);
        }
        let mut stacks = SystemStacks::default();
        stacks.copy(&memory, &[Addr::new(5 * PAGE + 64), Addr::new(6 * PAGE + 0x400)]);
        stacks.keep_word(Addr::new(0x100), Addr::new(9));
        let runs: Vec<(u64, usize)> =
            stacks.into_runs().iter().map(|(at, bytes)| (at.get(), bytes.len())).collect();
        let page = PAGE as usize;
        assert_eq!(runs, [(0x100, 8), (4 * PAGE, page), (5 * PAGE, page), (6 * PAGE, page)]);
    }
}
