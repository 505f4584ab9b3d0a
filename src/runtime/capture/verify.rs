//! Runtime, capture: the check that can fail. Reads everything inside the stop as well, and compares it
//! with what was accepted unread. For tests and benchmarks: it makes the stop as long as the rules of
//! this folder exist to avoid.

use super::looks::{Look, Roster};
use super::stacks::{Copies, Wanted};
use crate::image::layout::schema;
use crate::memory::Memory;
use crate::memory::share::AllCores;
use crate::runtime::Consistency;
use rayon::prelude::*;
use rustc_hash::FxHashSet;

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
    /// Reads all gs and their stacks. Runs in the stop.
    pub fn read(roster: &Roster, memory: &dyn Memory, layout: &schema::G) -> Truth {
        let mut look = roster.blank();
        let keys = roster.fill(memory, layout, &mut look, &AllCores);
        let parked = roster.keyed(&keys).filter_map(|(index, key)| Wanted::parked(index, key));
        let mut copies = Copies::new(roster.len());
        copies.copy(&parked.collect::<Vec<_>>(), memory, &AllCores);
        Truth { look, copies }
    }

    /// Compares what was accepted with the truth.
    pub fn judge(&self, answer: &Answer<'_>, layout: &schema::G) -> Verdict {
        (0..answer.roster.len())
            .into_par_iter()
            .with_min_len(1024)
            .filter(|i| answer.consistency.get(*i) == Some(&Consistency::Exact))
            .map(|i| {
                let key = |look| answer.roster.key(look, i, layout);
                let equal = key(answer.look) == key(&self.look) && self.same_stack(answer, i);
                Verdict { accepted: 1, different: u64::from(!equal) }
            })
            .reduce(Verdict::default, |a, b| Verdict {
                accepted: a.accepted + b.accepted,
                different: a.different + b.different,
            })
    }

    /// Whether the copied stack has the same bytes. Of what was read in the stop, another part may have
    /// been copied: that which the thread's own stack pointer tells.
    fn same_stack(&self, answer: &Answer<'_>, index: usize) -> bool {
        let (ours, theirs) = (answer.copies.span(index), self.copies.span(index));
        if ours == theirs {
            return answer.copies.bytes(index) == self.copies.bytes(index);
        }
        answer.read.contains(&index)
    }
}

/// What a capture is about to say.
pub struct Answer<'s> {
    pub roster: &'s Roster,
    pub look: &'s Look,
    pub copies: &'s Copies,
    pub consistency: &'s [Consistency],
    /// Numbers of the goroutines that were read in the stop.
    pub read: &'s FxHashSet<usize>,
}
