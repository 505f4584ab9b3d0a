//! Analysis, reach: what memory holds at one look, and what a place in it is: a global variable, an object
//! of the heap, a goroutine's stack or its g.

use super::super::blocked::Inputs;
use super::super::blocked::still::same;
use crate::addr::{Addr, Span, around};
use crate::diag::Diagnostics;
use crate::image::ImageMemory;
use crate::memory::Memory;
use crate::memory::share::AllCores;
use crate::runtime::capture::Instant;
use crate::runtime::capture::list::List;
use crate::runtime::capture::looks::{Keys, Roster};
use crate::runtime::heap::{Heap, Special};
use crate::runtime::{G, Status, decode};
use rustc_hash::FxHashMap;

/// How far the size of an object may be above that of the structure in it, in bytes: size classes.
const ROUNDED: u64 = 16;

/// What a place in memory is. Goroutines by their index in the snapshot; one that is not there is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Nothing that is in use.
    Nothing,
    /// A variable of the program.
    Global,
    /// An object of the heap.
    Object(Span),
    /// The g of a goroutine, or the sudog by which it waits.
    Goroutine(Option<u32>),
    /// The part of a stack that is in use.
    Stack(Option<u32>),
    /// The stack of a goroutine that runs, of which it is not known how much is in use.
    Running(Option<u32>),
}

/// A goroutine as it is now.
struct Now {
    g: G,
    index: Option<u32>,
}

/// All of memory that the garbage collector would look at, now.
pub(super) struct Look<'a> {
    inputs: &'a Inputs<'a>,
    memory: ImageMemory<'a>,
    heap: Heap,
    gs: Vec<Now>,
    by_g: FxHashMap<Addr, usize>,
    /// Stacks in the order of addresses, with numbers of `gs`.
    stacks: Vec<(Span, usize)>,
    globals: Vec<Span>,
    list: List<'a>,
    roster: Roster,
    keys: Keys,
}

impl<'a> Look<'a> {
    /// Bytes that a look reads before anything is searched, about: the gs.
    pub(super) fn cost(inputs: &Inputs<'_>) -> u64 {
        let gs = inputs.snapshot.dead.saturating_add(inputs.snapshot.gs.len() as u64);
        gs.saturating_mul(inputs.image.layouts.g.size.into())
    }

    /// Looks; `None` when something can't be read or was not found.
    pub(super) fn now(inputs: &'a Inputs<'a>) -> Option<Look<'a>> {
        let image = inputs.image;
        let memory = image.memory(inputs.source.memory());
        let at = image.globals.mheap?.value;
        let heap = Heap::read(&memory, at, &image.layouts.mheap, &image.layouts.mspan).ok()?;
        let list = List::of(inputs.source, image);
        let mut damage = Diagnostics::default();
        let order = list.read(&mut damage).ok().filter(|_| damage.entries().is_empty())?;
        let roster = Roster::new(order, image.layouts.g.size);
        let (gs, keys) = goroutines(inputs, &memory, &roster)?;
        let by_g = gs.iter().enumerate().map(|(i, now)| (now.g.at, i)).collect();
        let in_use = gs.iter().enumerate().filter_map(|(i, now)| Some((stack(inputs, &now.g)?, i)));
        let mut stacks: Vec<(Span, usize)> = in_use.collect();
        stacks.sort_unstable_by_key(|(span, _)| span.start);
        let modules = image.modules.modules().iter().map(|module| &module.info);
        // The allocator's own variables hold addresses of pages, and nothing that a program made.
        let allocator = Span { start: at, len: image.layouts.mheap.size.into() };
        let globals = modules.flat_map(|info| [info.data, info.bss]).flat_map(|all| without(all, allocator));
        let globals = globals.collect();
        Some(Look { inputs, memory, heap, gs, by_g, stacks, globals, list, roster, keys })
    }

    pub(super) fn memory(&self) -> &ImageMemory<'a> {
        &self.memory
    }

    /// Whether no goroutine ran since this look began.
    pub(super) fn nothing_ran(&self) -> bool {
        let runs = |now: &Now| matches!(now.g.status, Status::Running | Status::Unknown(_));
        let layout = &self.inputs.image.layouts.g;
        let later = || self.roster.keys(&self.memory, layout, &AllCores);
        let none_new = || self.list.read_from(self.roster.len()).is_ok_and(|new| new.is_empty());
        !self.gs.iter().any(runs) && self.roster.differing(&self.keys, &later()).is_empty() && none_new()
    }

    /// Memory outside of the heap: variables and stacks.
    pub(super) fn outside(&self) -> Vec<Span> {
        self.globals.iter().copied().chain(self.stacks.iter().map(|(span, _)| *span)).collect()
    }

    /// Memory of the heap, neighbours together.
    pub(super) fn heap(&self) -> Vec<Span> {
        let mut all: Vec<Span> = Vec::new();
        for span in self.heap.scanned() {
            match all.last_mut().filter(|last| last.end() == span.start) {
                Some(last) => last.len = last.len.saturating_add(span.len),
                None => all.push(span),
            }
        }
        all
    }

    pub(super) fn specials(&self) -> Option<Vec<Special>> {
        self.heap.specials(&self.memory, &self.inputs.image.layouts.special).ok()
    }

    /// The object of the heap around `at`.
    pub(super) fn object(&self, at: Addr) -> Option<Span> {
        self.heap.object(&self.memory, at)
    }

    /// What the place `at` is, which was found in [`Look::outside`] or [`Look::heap`].
    pub(super) fn place(&self, at: Addr) -> Place {
        if let Some((span, number)) = around(&self.stacks, at, |(span, _)| *span) {
            let Some(now) = self.gs.get(*number) else { return Place::Stack(None) };
            let whole = now.g.status == Status::Running && span.start == now.g.stack_lo;
            return if whole { Place::Running(now.index) } else { Place::Stack(now.index) };
        }
        if self.globals.iter().any(|span| span.contains(at)) {
            return Place::Global;
        }
        let Some(object) = self.object(at) else { return Place::Nothing };
        if self.is_no_pointer(object, at) {
            return Place::Nothing;
        }
        match self.goroutine_of(object) {
            Some(number) => Place::Goroutine(self.gs.get(number).and_then(|now| now.index)),
            None => Place::Object(object),
        }
    }

    /// Whether a word of one of the runtime's own objects only looks like a pointer. A processor holds
    /// addresses of pages, and all that it leads to is the runtime's own and empty, but for its timers. A g
    /// has the end of its stack, where an object may begin.
    fn is_no_pointer(&self, object: Span, at: Addr) -> bool {
        let (snapshot, layouts) = (self.inputs.snapshot, &self.inputs.image.layouts);
        if let Some(p) = snapshot.ps.iter().find(|p| object.contains(p.at)) {
            return at != p.at.offset(layouts.p.timers.offset.into());
        }
        let system = |g: Addr| snapshot.ms.iter().any(|m| [m.g0, m.gsignal].contains(&g));
        let end = object.start.offset(layouts.g.stack_hi.offset.into());
        at == end && (self.by_g.contains_key(&object.start) || system(object.start))
    }

    /// Whose g or sudog an object is: nothing else of this size begins with the address of a g.
    fn goroutine_of(&self, object: Span) -> Option<usize> {
        if let Some(number) = self.by_g.get(&object.start) {
            return Some(*number);
        }
        let layout = &self.inputs.image.layouts.sudog;
        let sudog = object.len.checked_sub(layout.size.into()).is_some_and(|more| more <= ROUNDED);
        let g = layout.g.read(&self.memory, object.start).ok().filter(|_| sudog)?;
        self.by_g.get(&g).copied()
    }

    /// Whether a goroutine of the snapshot is where it was then.
    pub(super) fn is_as_before(&self, index: u32) -> bool {
        let before = self.inputs.g(index as usize);
        let now = before.and_then(|g| self.gs.get(*self.by_g.get(&g.at)?));
        before.zip(now).is_some_and(|(before, now)| same(before, &now.g))
    }
}

/// All goroutines of now.
fn goroutines(inputs: &Inputs<'_>, memory: &dyn Memory, roster: &Roster) -> Option<(Vec<Now>, Keys)> {
    let (snapshot, image) = (inputs.snapshot, inputs.image);
    let mut look = roster.blank();
    let keys = roster.fill(memory, &image.layouts.g, &mut look, &AllCores);
    let known: FxHashMap<Addr, u32> = (0u32..).zip(&snapshot.gs).map(|(i, g)| (g.at, i)).collect();
    let now = |number: usize| {
        let g = decode::g(roster.view(&look, number)?, &image.layouts.g, &image.rules).ok()?;
        let index = known.get(&g.at).copied();
        let same = index.and_then(|i| inputs.g(i as usize)).is_some_and(|before| before.id == g.id);
        Some(Now { index: index.filter(|_| same), g })
    };
    let all: Option<Vec<Now>> = (0..roster.len()).map(now).collect();
    Some((all?, keys))
}

/// What is left of `all` before and after `part`.
fn without(all: Span, part: Span) -> impl Iterator<Item = Span> {
    let cut = |at: Addr| at.clamp(all.start, all.end());
    let sides = [Span::between(all.start, cut(part.start)), Span::between(cut(part.end()), all.end())];
    sides.into_iter().filter(|side| side.len > 0)
}

/// The part of a goroutine's stack that is in use, or all of it where that is not known.
fn stack(inputs: &Inputs<'_>, g: &G) -> Option<Span> {
    let whole = Span::between(g.stack_lo, g.stack_hi);
    let from = match g.status {
        Status::Dead | Status::DeadExtra | Status::Idle => return None,
        Status::Waiting | Status::Leaked | Status::Runnable | Status::Preempted | Status::Syscall => {
            decode::stack_start(g)
        }
        Status::Running => of_thread(inputs, g).unwrap_or(g.stack_lo),
        Status::Copystack | Status::Unknown(_) => g.stack_lo,
    };
    if whole.len == 0 {
        return None;
    }
    Some(if whole.contains(from) { Span::between(from, g.stack_hi) } else { whole })
}

/// The stack pointer of the thread that a goroutine runs on, in a core: a live one has gone on.
fn of_thread(inputs: &Inputs<'_>, g: &G) -> Option<Addr> {
    let snapshot = inputs.snapshot;
    let thread = snapshot.thread_of(snapshot.m_of(g)?)?;
    thread.registers.as_ref().filter(|_| snapshot.instant == Instant::Core).map(|registers| registers.sp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_out_wherever_it_lies() {
        let span = |start, len| Span { start: Addr::new(start), len };
        let left =
            |part| without(span(0x100, 0x100), part).map(|s| (s.start.get(), s.len)).collect::<Vec<_>>();
        assert_eq!(left(span(0x140, 0x20)), [(0x100, 0x40), (0x160, 0xa0)]);
        assert_eq!(left(span(0x80, 0xa0)), [(0x120, 0xe0)]);
        assert_eq!(left(span(0x1f0, 0x100)), [(0x100, 0xf0)]);
        assert_eq!(left(span(0x80, 0x400)), []);
        assert_eq!(left(span(0x80, 0x80)), [(0x100, 0x100)]);
        assert_eq!(left(span(0x400, 0x80)), [(0x100, 0x100)]);
    }
}
