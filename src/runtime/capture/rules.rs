//! Runtime, capture: the rules that close the holes of the proof (docs/ARCHITECTURE.md, "The proof"), as
//! a value: a capture always keeps all of them, and the tests show of each what goes wrong without it.

/// One rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// A goroutine that waits as a coroutine is read in the stop: others switch to it by a bare
    /// compare-and-swap (`coroswitch_m`, runtime/coro.go), which nothing counts.
    Coroutines,
    /// A goroutine that runs or is about to is read in the stop: preemption for a scan, and since 1.26
    /// the way into a system call and back, are not counted (`castogscanstatus`, runtime/proc.go).
    Uncounted,
    /// `m.curg` of every m is read in the stop, whatever its status: the runtime may work for it on a
    /// system stack.
    WorkedFor,
    /// A goroutine of which the g or the sudog is in the frames of a thread that has a P is read in the stop:
    /// whoever sends to it writes to its stack before it becomes runnable.
    Handed,
    /// A goroutine that left the processor often while the early copies were made is read in the stop, and one
    /// that does so after a stop that did not read it is not accepted: the count of that may have wrapped
    /// in between.
    Often,
    /// A stack that was accepted unread of a goroutine that has left the processor more than a few times is read
    /// once more after the stop: one that is not as it was copied is not accepted.
    Afterwards,
    /// gs that were added to `allgs` are looked for in the stop.
    New,
    /// An early copy of a stack counts only between two equal looks at its g.
    Between,
    /// What changed from the base to the check and was not read in the stop is read again.
    Residue,
    /// What one stop read, the next reads again.
    Again,
}

/// Those that a capture keeps.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    without: Option<Rule>,
}

impl Rules {
    /// All of them.
    pub const ALL: Rules = Rules { without: None };

    /// All but one.
    #[cfg(test)]
    pub(super) const fn without(rule: Rule) -> Rules {
        Rules { without: Some(rule) }
    }

    /// Whether a rule is kept.
    pub fn hold(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
