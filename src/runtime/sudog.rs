//! Runtime: sudogs, the tickets by which goroutines queue for channels and semaphores
//! (`runtime/runtime2.go`). Lists of them come from the target, so each walk is bounded and ends at a
//! cycle.

use crate::addr::Addr;
use crate::image::layout::field::Field;
use crate::image::layout::schema;
use crate::memory::{Memory, ReadResult};

/// One ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sudog {
    /// Where it lies.
    pub at: Addr,
    /// The g that waits.
    pub g: Addr,
    /// `elem`: for a channel where the value goes to or comes from, for a semaphore its address.
    pub elem: Addr,
    /// The channel; null for a semaphore.
    pub c: Addr,
    /// Whether it is one of the cases of a select.
    pub is_select: bool,
    /// `waitlink`: the next case of the same goroutine, or the next waiter for the same semaphore.
    pub waitlink: Addr,
}

/// Decodes the sudog at `at`.
pub fn sudog(memory: &dyn Memory, layout: &schema::Sudog, at: Addr) -> ReadResult<Sudog> {
    Ok(Sudog {
        at,
        g: layout.g.read(memory, at)?,
        elem: layout.elem.read(memory, at)?,
        c: layout.c.read(memory, at)?,
        is_select: layout.is_select.read(memory, at)? != 0,
        waitlink: layout.waitlink.read(memory, at)?,
    })
}

/// A list of sudogs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    /// Each sudog and the g that waits with it, first in line first.
    pub tickets: Vec<Ticket>,
    /// Whether the list was followed to its end.
    pub whole: bool,
}

/// One place in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The sudog.
    pub sudog: Addr,
    /// The g that waits with it.
    pub g: Addr,
}

/// Most sudogs that are followed in one list: more than goroutines fit into memory.
const MOST: usize = 1 << 26;

/// Follows a list from `first` by the member `link`.
pub fn queue(memory: &dyn Memory, layout: &schema::Sudog, first: Addr, link: Field<Addr>) -> Queue {
    let mut tickets = Vec::new();
    let whole = follow(memory, first, link, MOST, |sudog| {
        tickets.push(Ticket { sudog, g: layout.g.read(memory, sudog)? });
        Ok(true)
    });
    Queue { tickets, whole }
}

/// Calls `visit` for each structure of a linked list until it says false. Says whether the list was
/// followed to its end: not when memory is missing, `most` is reached, or the list bites its own tail.
pub fn follow(
    memory: &dyn Memory,
    first: Addr,
    link: Field<Addr>,
    most: usize,
    mut visit: impl FnMut(Addr) -> ReadResult<bool>,
) -> bool {
    // Brent: a mark stays behind and is moved up at each power of two; a cycle comes back to it.
    let (mut at, mut mark, mut next_mark) = (first, Addr::NULL, 1);
    for step in 0..most {
        if at.is_null() {
            return true;
        }
        if at == mark || !visit(at).unwrap_or(false) {
            return false;
        }
        if step == next_mark {
            (mark, next_mark) = (at, next_mark.saturating_mul(2));
        }
        let Ok(next) = link.read(memory, at) else { return false };
        at = next;
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    /// The sudog of Go 1.26 and later, by the runtime's source and not by our table.
    pub(crate) fn layout() -> schema::Sudog {
        schema::Sudog {
            size: 104,
            g: Field::at(0),
            next: Field::at(8),
            prev: Field::at(16),
            elem: Field::at(32),
            ticket: Field::at(56),
            is_select: Field::at(60),
            success: Field::at(61),
            parent: Field::at(64),
            waitlink: Field::at(72),
            waittail: Field::at(80),
            c: Field::at(96),
        }
    }

    /// Puts a sudog of `g` at `at`; `words` are (offset, value).
    pub(crate) fn put(memory: &mut SparseMemory, at: u64, g: u64, words: &[(usize, u64)]) {
        let mut bytes = [0; 104];
        for (offset, value) in words.iter().chain(&[(0, g)]) {
            bytes[*offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        }
        memory.put(Addr::new(at), bytes);
    }

    #[test]
    fn a_list_is_followed_to_its_end() {
        let mut memory = SparseMemory::new();
        put(&mut memory, 0x1000, 0xa0, &[(8, 0x2000), (32, 0x99), (96, 0xc0)]);
        put(&mut memory, 0x2000, 0xb0, &[]);
        let layout = layout();
        let found = queue(&memory, &layout, Addr::new(0x1000), layout.next);
        let gs: Vec<u64> = found.tickets.iter().map(|t| t.g.get()).collect();
        assert_eq!((gs, found.whole), (vec![0xa0, 0xb0], true));
        let first = sudog(&memory, &layout, Addr::new(0x1000)).expect("readable");
        assert_eq!((first.elem, first.c), (Addr::new(0x99), Addr::new(0xc0)));
        assert_eq!(queue(&memory, &layout, Addr::NULL, layout.next), Queue { tickets: vec![], whole: true });
    }

    #[test]
    fn a_cycle_and_a_hole_end_a_list_that_is_then_not_whole() {
        let mut memory = SparseMemory::new();
        for (at, next) in [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x2000)] {
            put(&mut memory, at, at, &[(8, next)]);
        }
        let layout = layout();
        let cyclic = queue(&memory, &layout, Addr::new(0x1000), layout.next);
        assert!(!cyclic.whole && cyclic.tickets.len() < 16, "{} tickets", cyclic.tickets.len());
        put(&mut memory, 0x3000, 1, &[(8, 0xdead_0000)]);
        let broken = queue(&memory, &layout, Addr::new(0x1000), layout.next);
        assert_eq!((broken.tickets.len(), broken.whole), (3, false));
    }
}
