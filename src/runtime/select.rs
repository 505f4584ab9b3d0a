//! Runtime: the cases of a parked select (`runtime/select.go`). The runtime keeps them in the order of
//! the channels' addresses, not of the source, and without their direction: that is told by the queue
//! of the channel that holds the case's sudog.

use super::sudog::{Sudog, follow, sudog};
use crate::addr::Addr;
use crate::image::layout::schema;
use crate::memory::Memory;

/// Most cases of one select (`runtime/select.go`, selectgo).
const MOST: usize = 1 << 16;

/// What a parked goroutine queues with: one sudog, or one for each case of a select whose channel is
/// not nil. `None` when the list is damaged or belongs to another goroutine.
pub fn cases(memory: &dyn Memory, layout: &schema::Sudog, g: Addr, first: Addr) -> Option<Vec<Sudog>> {
    let mut found = Vec::new();
    let whole = follow(memory, first, layout.waitlink, MOST, |at| {
        let one = sudog(memory, layout, at)?;
        found.push(one);
        Ok(one.g == g)
    });
    // A ticket for a semaphore is linked to those of other goroutines: only the first is its own.
    match found.first() {
        Some(first) if !first.is_select && first.g == g => {
            found.truncate(1);
            Some(found)
        }
        _ => whole.then_some(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;
    use crate::runtime::sudog::tests::{layout, put};

    const SELECT: (usize, u64) = (56, 1 << 32);

    #[test]
    fn a_select_has_all_its_cases_and_a_semaphore_only_its_own_ticket() {
        let mut memory = SparseMemory::new();
        put(&mut memory, 0x1000, 0xa0, &[SELECT, (72, 0x2000), (96, 0xc1)]);
        put(&mut memory, 0x2000, 0xa0, &[SELECT, (96, 0xc2)]);
        let of = |memory: &SparseMemory, g: u64| cases(memory, &layout(), Addr::new(g), Addr::new(0x1000));
        let channels: Vec<u64> = of(&memory, 0xa0).expect("whole").iter().map(|s| s.c.get()).collect();
        assert_eq!(channels, [0xc1, 0xc2]);
        assert_eq!(of(&memory, 0xb0), None);
        put(&mut memory, 0x1000, 0xa0, &[(72, 0x2000), (32, 0x77)]);
        assert_eq!(of(&memory, 0xa0).map(|s| s.len()), Some(1));
    }
}
