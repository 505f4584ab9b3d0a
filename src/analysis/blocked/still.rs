//! Analysis, blocked: which goroutines stayed parked. Objects are read after the stop, from memory that
//! goes on changing. All g structs are looked at before that and after it: a goroutine that looks as in
//! the snapshot before, and the same after, did not run in between, so what was read of its objects is
//! what it waits for.

use super::Inputs;
use crate::memory::share::AllCores;
use crate::runtime::capture::Instant;
use crate::runtime::capture::looks::{Keys, Look, Roster};
use crate::runtime::{Consistency, G, decode};
use rayon::prelude::*;

/// The g structs as they were before objects were read.
pub(super) struct Witness {
    /// Absent for a core, in which nothing moves.
    looked: Option<(Roster, Keys)>,
    /// Goroutines that went on since the snapshot.
    moved: Vec<usize>,
}

impl Witness {
    pub(super) fn look(inputs: &Inputs<'_>) -> Witness {
        let gs = &inputs.snapshot.gs;
        if inputs.snapshot.instant == Instant::Core {
            return Witness { looked: None, moved: Vec::new() };
        }
        let roster = Roster::new(gs.iter().map(|g| g.at).collect(), inputs.image.layouts.g.size);
        let mut look = roster.blank();
        let keys = roster.fill(inputs.source.memory(), &inputs.image.layouts.g, &mut look, &AllCores);
        let moved =
            (0..gs.len()).into_par_iter().filter(|i| !as_before(inputs, &roster, &look, *i)).collect();
        Witness { looked: Some((roster, keys)), moved }
    }

    /// Indices of all goroutines that went on at any time since the snapshot, ascending.
    pub(super) fn moved_until_now(self, inputs: &Inputs<'_>) -> Vec<usize> {
        let mut moved = self.moved;
        if let Some((roster, keys)) = self.looked {
            let later = roster.keys(inputs.source.memory(), &inputs.image.layouts.g, &AllCores);
            moved.extend(roster.differing(&keys, &later));
        }
        moved.sort_unstable();
        moved.dedup();
        moved
    }
}

/// Whether a g looks as it did in the snapshot.
fn as_before(inputs: &Inputs<'_>, roster: &Roster, look: &Look, index: usize) -> bool {
    let Some(before) = inputs.g(index) else { return false };
    let now = roster
        .view(look, index)
        .and_then(|view| decode::g(view, &inputs.image.layouts.g, &inputs.image.rules).ok());
    now.is_some_and(|now| before.consistency != Consistency::Torn && same(before, &now))
}

/// Whether a goroutine is where it was at another look.
pub(crate) fn same(a: &G, b: &G) -> bool {
    let place = |g: &G| (g.id, g.status, g.waitreason, g.sched.sp, g.sched.pc, g.syscallsp, g.stack_lo);
    place(a) == place(b) && a.waiting == b.waiting && a.sleep_when == b.sleep_when
}
