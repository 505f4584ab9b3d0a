//! Runtime, capture: goroutines that wait while others write to their stacks. Whoever sends on a channel copies
//! the value into the stack of the goroutine that waits for it, or clears it there when he closes the
//! channel, and makes the goroutine runnable only then (`send` and `closechan`, runtime/chan.go): until then
//! nothing in its g is otherwise. All the while its g, or the sudog that it waits with, is in the innermost
//! frames of who does that, which hold a P.

use super::looks::Roster;
use crate::addr::Addr;
use crate::image::Image;
use crate::image::layout::Layouts;
use crate::memory::{Memory, Piece};
use crate::runtime::{M, Status, decode};
use crate::source::Thread;
use rustc_hash::{FxHashMap, FxHashSet};

/// Bytes of the innermost frames: from the copying of the value, or the waking of a thread that waits for the
/// lock of the channel, to `send`.
const FRAMES: usize = 1024;

/// Addresses of a program's data are above this, and below that.
const ADDRESSES: std::ops::Range<u64> = 1 << 16..1 << 47;

/// Numbers of the goroutines that somebody may be about to make runnable. `ms` and `threads` are those of the
/// stop.
pub fn handed(
    memory: &dyn Memory,
    roster: &Roster,
    image: &Image,
    ms: &[M],
    threads: &[Thread],
) -> FxHashSet<usize> {
    let layouts = &image.layouts;
    let by_tid: FxHashMap<_, _> = threads.iter().map(|t| (t.tid, t)).collect();
    let mut tops = Vec::new();
    for m in ms.iter().filter(|m| !m.p.is_null()) {
        let registers = m.procid.and_then(|tid| by_tid.get(&tid)?.registers);
        let Some(registers) = registers else { continue };
        tops.push(registers.sp);
        // What runs on a system stack was called from here.
        if !m.curg.is_null() {
            tops.extend(layouts.g.sched_sp.read(memory, m.curg).ok());
        }
    }
    let mut words: Vec<Addr> = tops.into_iter().flat_map(|top| frames(memory, top)).collect();
    words.sort_unstable();
    words.dedup();
    let gs = words.iter().copied().chain(waiting(memory, layouts, &words));
    let mut found = FxHashSet::default();
    for g in gs {
        let mut next = g;
        // Those that a closed channel lets go are in a list, linked by their gs; others are in queues.
        while let Some(number) = roster.number_of(next) {
            if !waits(memory, image, next) || !found.insert(number) {
                break;
            }
            next = layouts.g.schedlink.read(memory, next).unwrap_or(Addr::NULL);
        }
    }
    found
}

fn waits(memory: &dyn Memory, image: &Image, g: Addr) -> bool {
    let status = image.layouts.g.atomicstatus.read(memory, g);
    status.is_ok_and(|raw| decode::status(raw, &image.rules) == Status::Waiting)
}

/// The words of the innermost frames that may be addresses. Near the end of a stack less can be read.
fn frames(memory: &dyn Memory, top: Addr) -> Vec<Addr> {
    let mut bytes = [0; FRAMES];
    let sizes = [FRAMES, FRAMES / 2, FRAMES / 4, FRAMES / 8];
    let read = sizes.into_iter().find_map(|size| {
        let part = bytes.get_mut(..size)?;
        memory.read(top, part).ok().map(|()| size)
    });
    let part = bytes.get(..read.unwrap_or(0)).unwrap_or_default();
    let words = part.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    words.filter(|word| ADDRESSES.contains(word) && word % 8 == 0).map(Addr::new).collect()
}

/// The gs of those addresses that are of sudogs; of others, whatever is there.
fn waiting(memory: &dyn Memory, layouts: &Layouts, words: &[Addr]) -> Vec<Addr> {
    let mut values = vec![[0; 8]; words.len()];
    let at = words.iter().map(|word| word.offset(layouts.sudog.g.offset.into()));
    let mut pieces: Vec<Piece<'_>> =
        at.zip(&mut values).map(|(at, into)| Piece { at, into, ok: false }).collect();
    memory.read_pieces(&mut pieces);
    let ok: Vec<bool> = pieces.iter().map(|piece| piece.ok).collect();
    let read = values.iter().zip(ok).filter(|(_, ok)| *ok);
    read.map(|(value, _)| Addr::new(u64::from_le_bytes(*value))).collect()
}
