//! Runtime, capture: the check that can fail. Reads everything inside the stop as well, and compares it
//! with what was accepted unread. For tests and benchmarks: it makes the stop as long as the rules of
//! this folder exist to avoid.

use super::looks::{Key, Look, Roster};
use super::stacks::{Copies, Prepared, Wanted};
use crate::image::layout::schema;
use crate::memory::Memory;
use crate::runtime::Consistency;
use rayon::prelude::*;

/// What the check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Goroutines that were accepted as of the instant of the stop.
    pub accepted: u64,
    /// Those of them that were otherwise in the stop: must be 0.
    pub different: u64,
}

/// Everything, read in the stop.
pub struct Truth {
    look: Look,
    copies: Copies,
}

impl Truth {
    /// Reads all gs and the stacks that `wanted` names of them. Runs in the stop.
    pub fn read(roster: &Roster, memory: &dyn Memory, wanted: impl FnOnce(&Look) -> Vec<Wanted>) -> Truth {
        let mut look = roster.blank();
        roster.look(memory, &mut look);
        let wanted = wanted(&look);
        let mut copies = Copies::new(roster.len());
        copies.keep(Prepared::new(&wanted, Vec::new()).read_parallel(memory), memory);
        Truth { look, copies }
    }

    /// Compares what was accepted with the truth.
    pub fn judge(
        &self,
        roster: &Roster,
        look: &Look,
        copies: &Copies,
        consistency: &[Consistency],
        layout: &schema::G,
    ) -> Verdict {
        (0..roster.len())
            .into_par_iter()
            .with_min_len(1024)
            .filter(|i| consistency.get(*i) == Some(&Consistency::Exact))
            .map(|i| {
                let key = |look| roster.view(look, i).and_then(|view| Key::of(view, layout));
                let equal = key(look) == key(&self.look) && self.same_stack(copies, i);
                Verdict { accepted: 1, different: u64::from(!equal) }
            })
            .reduce(Verdict::default, |a, b| Verdict {
                accepted: a.accepted + b.accepted,
                different: a.different + b.different,
            })
    }

    /// Whether the copied stack, where there is one in both, has the same bytes.
    fn same_stack(&self, copies: &Copies, index: usize) -> bool {
        match (copies.span(index), self.copies.span(index)) {
            (Some(a), Some(b)) if a == b => copies.bytes(index) == self.copies.bytes(index),
            _ => true,
        }
    }
}
