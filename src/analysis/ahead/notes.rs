//! Analysis, ahead: what a run of the interpreter keeps of the operations that it meets. [`Releases`]
//! looks for what will wake somebody.

use super::flow::{Swap, Touch};
use super::value::{Gate, Release, State};
use super::{Event, Object, Operation, Watched};
use crate::addr::Addr;

/// What a call may have done that is not followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// Nothing but what is known of it.
    Known,
    /// Anything.
    Unknown,
}

/// Is told what happens on the ways that are run.
pub trait Notes: Touch {
    /// A swap succeeded; `taken` is the way on from there.
    fn swapped(&mut self, swap: &Swap, pc: u64, taken: &mut State);

    /// An attempt to take a lock, if it is known which, succeeded; `taken` is the way on from there.
    fn tried(&mut self, lock: Option<(u64, Operation)>, pc: u64, taken: &mut State);

    /// A call does something to an object, if it is known which: `step` is that of its balance.
    fn does(&mut self, at: Option<u64>, operation: Operation, step: i8, pc: u64, state: &mut State);

    /// A call waits in an RLock of this RWMutex, if it is known.
    fn queues(&mut self, at: Option<u64>, pc: u64, state: &mut State);

    /// A call was passed that is not followed: forgets what it leaves unknown.
    fn passed(&mut self, _what: Passed, kept: &[usize], _pc: u64, state: &mut State) {
        state.forget(kept);
    }

    /// An instruction will be run.
    fn will_run(&mut self, _state: &State) {}

    /// The instruction at `pc` was run.
    fn ran(&mut self, _pc: u64, _state: &mut State) {}

    /// Calls into one another that are open where a call instruction is met, and where it comes back to.
    fn meets_call(&mut self, _depth: usize, _back_to: u64, _state: &State) {}

    /// Whether it matters what is run from `pc` on, with so many calls open.
    fn goes_on(&self, _depth: usize, _pc: u64) -> bool {
        true
    }

    /// The function that is called, where more is known of it than the code tells.
    fn target(&mut self, target: u64) -> u64 {
        target
    }

    /// A callee was not followed to all of its ends. `passed` is what is known where it is taken as
    /// one that nothing is known of; answers what is known after it.
    fn fell_short(&mut self, ends: Vec<State>, passed: State) -> Vec<State>;

    /// A way was not followed to its end.
    fn lost(&mut self);
}

/// Looks for what will wake somebody.
pub struct Releases<'w> {
    watched: &'w Watched,
    /// Operations on watched objects that were found.
    pub events: Vec<Event>,
    /// Whether a pending deferred call is run on its own.
    pub deferred: bool,
    /// Whether a way was not followed to its end.
    pub lost: bool,
}

impl<'w> Releases<'w> {
    /// Looks at these objects.
    pub fn of(watched: &'w Watched) -> Releases<'w> {
        Releases { watched, events: Vec::new(), deferred: false, lost: false }
    }

    /// Counts a step of an object's balance; notes what it tells.
    fn count(&mut self, object: Object, operation: Operation, step: i8, pc: u64, state: &mut State) {
        let release = state.count(object.number(operation), step);
        if release != Release::OwnTaking {
            let gate = if release == Release::Held { state.gate } else { Gate::Attempt };
            self.note(object, operation, pc, gate);
        }
    }

    fn note(&mut self, object: Object, operation: Operation, pc: u64, gate: Gate) {
        let event = Event { object, operation, at: Addr::new(pc), deferred: self.deferred, gate };
        if self.events.last() != Some(&event) {
            self.events.push(event);
        }
    }

    /// What a swap takes when it succeeds.
    fn taken(&self, swap: &Swap) -> Option<(Object, Operation)> {
        let at = Addr::new(swap.at?);
        if let Some(object) = self.watched.mutex(at) {
            return Some((object, Operation::Unlock));
        }
        let operation = if swap.is_writer() { Operation::Unlock } else { Operation::RUnlock };
        self.watched.readers(at).map(|object| (object, operation))
    }
}

impl Touch for Releases<'_> {
    fn add(&mut self, at: Option<u64>, step: i64, pc: u64, state: &mut State) {
        let Some(at) = at.map(Addr::new) else { return };
        let (object, operation) = match (self.watched.mutex(at), self.watched.readers(at)) {
            (Some(object), _) if step == -1 => (object, Operation::Unlock),
            (_, Some(object)) if step.abs() == 1 => (object, Operation::RUnlock),
            _ => return,
        };
        let down = if operation == Operation::RUnlock && step == 1 { 1 } else { -1 };
        self.count(object, operation, down, pc, state);
    }
}

impl Notes for Releases<'_> {
    fn swapped(&mut self, swap: &Swap, _pc: u64, taken: &mut State) {
        match self.taken(swap) {
            Some((object, operation)) => {
                taken.count(object.number(operation), 1);
            }
            // Who fails has not got what he tried for.
            None if swap.from_constant => taken.gate = Gate::Attempt,
            None => {}
        }
    }

    fn tried(&mut self, lock: Option<(u64, Operation)>, _pc: u64, taken: &mut State) {
        let object =
            lock.and_then(|(at, operation)| Some((self.watched.find(Addr::new(at), operation)?, operation)));
        match object {
            Some((object, operation)) => {
                taken.count(object.number(operation), 1);
            }
            None => taken.gate = Gate::Attempt,
        }
    }

    fn does(&mut self, at: Option<u64>, operation: Operation, step: i8, pc: u64, state: &mut State) {
        let Some(object) = at.and_then(|at| self.watched.find(Addr::new(at), operation)) else { return };
        if operation.balances() {
            self.count(object, operation, step, pc, state);
        } else {
            self.note(object, operation, pc, state.gate);
        }
    }

    fn queues(&mut self, at: Option<u64>, pc: u64, state: &mut State) {
        self.does(at, Operation::RUnlock, 1, pc, state);
    }

    fn fell_short(&mut self, ends: Vec<State>, passed: State) -> Vec<State> {
        self.lost = true;
        if ends.is_empty() { vec![passed] } else { ends }
    }

    fn lost(&mut self) {
        self.lost = true;
    }
}
