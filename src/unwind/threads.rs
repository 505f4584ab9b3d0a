//! Unwind: what the threads of a process run beside goroutines: the runtime's own code on system stacks,
//! and C code.

use super::native::{End, Segment, state_of};
use super::walk::{By, Start};
use super::{Gap, StackEnd, Unwinder, Walk, Walker};
use crate::addr::{Addr, Span};
use crate::image::native::State;
use crate::runtime::M;
use crate::runtime::capture::SYSTEM_STACK;
use crate::source::Thread;

impl Unwinder<'_> {
    /// The frames of a thread down to where it began, or to where the stack of the goroutine goes on that it
    /// works for; none while it is on that stack. `m` is what the runtime knows of it.
    pub fn walk_thread(&self, walker: &mut Walker<'_>, thread: &Thread, m: Option<&M>) -> Walk {
        let state = match m {
            Some(m) => self.thread_state(walker, m),
            None => state_of(thread, self.image.arch),
        };
        let Some(state) = state else { return Walk::nothing(StackEnd::NoRegisters) };
        let sp = state.sp(self.image.arch).unwrap_or_default();
        let own = m.and_then(|m| self.stack_of(m.curg)).unwrap_or_default();
        if own.contains(sp) {
            return Walk::nothing(StackEnd::Complete);
        }
        let Segment { mut frames, end } = self.segment(state);
        let count = frames.len();
        match end {
            End::Outermost => Walk { frames, end: StackEnd::Complete, gaps: Vec::new() },
            End::Lost(why) => Walk { frames, end: StackEnd::Complete, gaps: vec![Gap { after: count, why }] },
            End::Go(at) if count > 0 && self.calls_c(at.pc) => {
                Walk { frames, end: StackEnd::Complete, gaps: Vec::new() }
            }
            End::Go(at) => {
                let walk = self.on_system_stack_alone(walker, &at);
                frames.extend(walk.frames);
                Walk { frames, ..walk }
            }
        }
    }

    /// The frames of Go code on the system stack of a thread. It ends where a goroutine switched to it, or
    /// where the thread began.
    fn on_system_stack_alone(&self, walker: &mut Walker<'_>, at: &State) -> Walk {
        let sp = at.sp(self.image.arch).unwrap_or_default();
        let lr = if at.exact { at.general.get(30) } else { None };
        let lr = lr.filter(|_| self.image.arch.has_link_register()).map(Addr::new).unwrap_or_default();
        let by = if at.exact { By::System } else { By::Saved };
        // As much as is copied: the bounds that `m.g0` has leave out the first frames of a thread, and of a
        // thread that C made they are an estimate.
        let stack = Span { start: sp, len: SYSTEM_STACK };
        let walk = walker.walk(&Start { pc: at.pc, sp, lr, by, stack, onward: None });
        let end = match walk.end {
            StackEnd::Switched { .. } => StackEnd::Complete,
            other => other,
        };
        Walk { end, ..walk }
    }
}
