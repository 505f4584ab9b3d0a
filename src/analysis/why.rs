//! Analysis: why goroutines are stuck, put together: what each waits for, who could wake it, who waits
//! for whom, and what that adds up to.

use super::blocked::{self, Blocked, Inputs};
use super::by_code::ByCode;
use super::graph::Graph;
use super::reach::Reach;
use super::situations::{Scene, Situation, SituationKind, situations};
use super::wakers::{Answers, Provable, Trust, Waking};

/// The whole answer.
#[derive(Debug, Default)]
pub struct Why {
    /// What each goroutine waits for.
    pub blocked: Blocked,
    /// Who could wake them.
    pub answers: Answers,
    /// Who waits for whom.
    pub graph: Graph,
    /// What it adds up to, worst first.
    pub situations: Vec<Situation>,
}

impl Why {
    /// Answers for all goroutines of a snapshot.
    pub fn of(inputs: &Inputs<'_>) -> Why {
        let mut blocked = blocked::find(inputs);
        let provable = Provable::new(inputs, &blocked);
        let by_code = ByCode::of(inputs, &blocked);
        let sources: [&dyn Waking; 2] = [&provable, &by_code];
        let answers = Answers::ask(&blocked, &sources);
        if by_code.skipped > 0 {
            blocked.diagnostics.note(
                format!(
                    "the code of {} goroutines was not followed: many share their stacks, or there are too many",
                    by_code.skipped
                ),
                "what they could wake may be missing",
            );
        }
        Why::put_together(inputs, blocked, answers)
    }

    /// The whole answer, of what goroutines wait for and who could wake them.
    pub fn put_together(inputs: &Inputs<'_>, blocked: Blocked, answers: Answers) -> Why {
        let graph = Graph::of(&blocked, &answers, &Reach::new(inputs, &blocked, &answers));
        let situations = situations(&Scene {
            gs: &inputs.snapshot.gs,
            stacks: inputs.stacks,
            main_module: inputs.image.build.main_module.as_deref(),
            blocked: &blocked,
            answers: &answers,
            graph: &graph,
        });
        Why { blocked, answers, graph, situations }
    }

    /// Whether there are goroutines that wait for one another, as far as that can be relied on.
    pub fn has_deadlock(&self) -> bool {
        self.situations.iter().any(|s| s.kind == SituationKind::Deadlock && s.trust >= Trust::Likely)
    }
}
