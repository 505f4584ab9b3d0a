//! Runtime: notifyList, the queue of a `sync.Cond` (`runtime/sema.go`; the same in all releases 1.18 to
//! 1.27): `{wait, notify u32, lock, head *sudog @16, tail *sudog @24}`.

use super::sudog::{Queue, queue};
use crate::addr::Addr;
use crate::image::layout::schema;
use crate::memory::Memory;

/// Where the list lies in a `sync.Cond`, after its `L` (`sync/cond.go`).
pub const IN_COND: u64 = 16;

/// Size of `runtime.mutex`, eight bytes, plus the two counters before it.
const HEAD: u64 = 16;

/// Who waits in the list at `at`, first in line first; `None` when what lies there is no such list.
pub fn waiters(memory: &dyn Memory, layout: &schema::Sudog, at: Addr) -> Option<Queue> {
    let (wait, notify) = (memory.read_u32(at).ok()?, memory.read_u32(at.offset(4)).ok()?);
    let head = memory.read_addr(at.offset(HEAD)).ok()?;
    let tail = memory.read_addr(at.offset(HEAD + 8)).ok()?;
    // Tickets are handed out by `wait` and served up to `notify`: the counters wrap, their distance
    // is the number of waiters (those that gave up their ticket's place are none).
    if head.is_null() || tail.is_null() || wait == notify {
        return None;
    }
    let found = queue(memory, layout, head, layout.next);
    (found.tickets.last().map(|last| last.sudog) == Some(tail)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;
    use crate::runtime::sudog::tests::{layout, put};

    #[test]
    fn only_a_list_that_ends_at_its_tail_is_one() {
        let mut memory = SparseMemory::new();
        put(&mut memory, 0x1000, 0xa0, &[(8, 0x2000)]);
        put(&mut memory, 0x2000, 0xb0, &[]);
        let mut list = |wait: u64, tail: u64| {
            let words = [wait, 0, 0x1000, tail];
            memory.put(Addr::new(0x5000), words.map(u64::to_le_bytes).concat());
            waiters(&memory, &layout(), Addr::new(0x5000)).map(|queue| queue.tickets.len())
        };
        assert_eq!(list(2, 0x2000), Some(2));
        assert_eq!(list(2, 0x3000), None);
        assert_eq!(list(0, 0x2000), None);
    }
}
