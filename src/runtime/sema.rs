//! Runtime: the semaphore table (`runtime/sema.go`). Each root is a treap of addresses, each node of
//! which heads the list of those who wait for it. Until 1.25 nothing else leads from a goroutine to the
//! semaphore it waits for, so one pass over the table answers for all goroutines.

use super::sudog::follow;
use crate::addr::Addr;
use crate::image::layout::schema;
use crate::memory::{Memory, ReadResult};
use rustc_hash::{FxHashMap, FxHashSet};

/// Roots in the table, `semTabSize`.
const ROOTS: u64 = 251;

/// Most nodes and waiters that are followed.
const MOST: usize = 1 << 26;

/// Who waits for which semaphore.
#[derive(Clone, Debug, Default)]
pub struct SemaWaiters {
    /// The address of the semaphore by the g that waits for it.
    pub of: FxHashMap<Addr, Addr>,
    /// Whether the whole table could be read.
    pub whole: bool,
}

/// Reads the table at `table`, whose roots lie `stride` bytes apart.
pub fn waiters(
    memory: &dyn Memory,
    table: Addr,
    stride: u64,
    roots: &schema::SemaRoot,
    sudogs: &schema::Sudog,
) -> SemaWaiters {
    let mut found = SemaWaiters { of: FxHashMap::default(), whole: true };
    for i in 0..ROOTS {
        let root = table.offset(i.wrapping_mul(stride));
        let whole = roots.treap.read(memory, root).map(|top| treap(memory, sudogs, top, &mut found.of));
        found.whole &= whole.unwrap_or(false);
    }
    found
}

fn treap(memory: &dyn Memory, layout: &schema::Sudog, top: Addr, of: &mut FxHashMap<Addr, Addr>) -> bool {
    let (mut seen, mut left, mut whole) = (FxHashSet::default(), vec![top], true);
    while let Some(node) = left.pop() {
        if node.is_null() {
            continue;
        }
        if of.len() >= MOST || !seen.insert(node) {
            return false;
        }
        match line(memory, layout, node, of) {
            Ok((smaller, larger, all)) => {
                left.extend([smaller, larger]);
                whole &= all;
            }
            Err(_) => whole = false,
        }
    }
    whole
}

/// Those who wait with the node `first`; also its children and whether all of the line was read.
fn line(
    memory: &dyn Memory,
    layout: &schema::Sudog,
    first: Addr,
    of: &mut FxHashMap<Addr, Addr>,
) -> ReadResult<(Addr, Addr, bool)> {
    let semaphore = layout.elem.read(memory, first)?;
    let whole = follow(memory, first, layout.waitlink, MOST, |at| {
        of.insert(layout.g.read(memory, at)?, semaphore);
        Ok(true)
    });
    Ok((layout.prev.read(memory, first)?, layout.next.read(memory, first)?, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::field::Field;
    use crate::memory::sparse::SparseMemory;
    use crate::runtime::sudog::tests::{layout, put};

    #[test]
    fn all_waiters_of_all_nodes_are_found_and_cycles_end() {
        let roots = schema::SemaRoot { size: 24, treap: Field::at(8), nwait: Field::at(16) };
        let mut memory = SparseMemory::new();
        let mut table = vec![0u8; 251 * 64];
        table[64 * 7 + 8..64 * 7 + 16].copy_from_slice(&0x1000u64.to_le_bytes());
        memory.put(Addr::new(0x10_0000), table);
        put(&mut memory, 0x1000, 0xa0, &[(32, 0x700), (16, 0x2000), (72, 0x3000)]);
        put(&mut memory, 0x2000, 0xb0, &[(32, 0x600)]);
        put(&mut memory, 0x3000, 0xc0, &[(32, 0x700)]);
        let read = |memory: &SparseMemory| waiters(memory, Addr::new(0x10_0000), 64, &roots, &layout());
        let found = read(&memory);
        assert!(found.whole);
        let of = |g: u64| found.of.get(&Addr::new(g)).map(|at| at.get());
        assert_eq!([of(0xa0), of(0xb0), of(0xc0)], [Some(0x700), Some(0x600), Some(0x700)]);
        put(&mut memory, 0x2000, 0xb0, &[(32, 0x600), (8, 0x1000)]);
        assert!(!read(&memory).whole);
    }
}
