//! Analysis, ahead: notes of a run from the entry of a function to the call that it is parked in: which
//! words were counted up and down on the way, as locks are. Whether they are locks, and whose, is found
//! where the run is used ([`super::before`]).

use super::convention::Convention;
use super::flow::{Swap, Touch};
use super::machine::keep;
use super::notes::{Notes, Passed};
use super::past::{Origin, Past, STACK, Symbol};
use super::value::{REGISTERS, Sites, State, Taken, Value};
use super::{Operation, READER_COUNT};
use crate::addr::Addr;
use rustc_hash::{FxHashMap, FxHashSet};
use std::rc::Rc;

/// Looks for locks that are taken on the way to a call.
pub struct Takings {
    /// Names of the values that the run does not know.
    pub past: Rc<Past>,
    /// Words that were counted, by the number under which a state counts them.
    pub words: Vec<u64>,
    /// Named values that were called, of which it is not known what they are.
    pub asked: Vec<u64>,
    /// What is known where the run came to the call, once for each way.
    pub arrivals: Vec<State>,
    /// Whether a way was not followed to its end.
    pub lost: bool,
    /// Registers of which nothing was known before the instruction that is run, one bit each.
    unknown: u32,
    convention: &'static Convention,
    way: Way,
    targets: FxHashMap<u64, u64>,
}

/// The way to a call.
#[derive(Default)]
pub struct Way {
    /// Where the call comes back to.
    pub back_to: u64,
    /// Addresses of the function from which it may get there.
    pub from: FxHashSet<u64>,
}

impl Takings {
    /// Looks at the way to a call. `targets` are named values that are called of which it is known what
    /// they are.
    pub fn on(way: Way, targets: &[(u64, u64)], past: Rc<Past>, convention: &'static Convention) -> Takings {
        Takings {
            past,
            words: Vec::new(),
            asked: Vec::new(),
            arrivals: Vec::new(),
            lost: false,
            unknown: 0,
            convention,
            way,
            targets: targets.iter().copied().collect(),
        }
    }

    fn number(&mut self, word: u64) -> u32 {
        let known = self.words.iter().position(|known| *known == word);
        known.unwrap_or_else(|| {
            self.words.push(word);
            self.words.len() - 1
        }) as u32
    }

    fn take(&mut self, word: u64, pc: u64, state: &mut State) {
        let number = self.number(word);
        state.count(number, 1);
        state.took(number, Taken { at: Sites::one(Addr::new(pc)), followed: true });
    }

    /// A release of what is not known may be that of anything.
    fn release(&mut self, word: Option<u64>, state: &mut State) {
        match word {
            Some(word) => {
                let number = self.number(word);
                state.count(number, -1);
            }
            None => state.doubt(),
        }
    }

    /// The name of what an instruction or call leaves in a register. In a loop that is something else each
    /// time: what it was before keeps the name, if it is still there.
    fn result(&self, pc: u64, register: usize, state: &State) -> Value {
        let name = self.past.name(Origin::Result(pc, register));
        let Some(number) = name.bits.and_then(Symbol::of).map(|symbol| symbol.number) else { return name };
        let same = |bits: u64| Symbol::of(bits).is_some_and(|symbol| symbol.number == number);
        let kept = state.registers.iter().any(|value| value.bits.is_some_and(same));
        let stored = kept || state.stores(0).any(|(at, value)| same(at) || value.bits.is_some_and(same));
        let counted = state.balances.iter().any(|balance| {
            self.words.get(balance.object as usize).is_some_and(|word| same(*word))
                && (balance.low, balance.high) != (0, 0)
        });
        if stored || counted { Value::UNKNOWN } else { name }
    }

    /// What was not followed may store where it was given an address of the stack, or somewhere above.
    fn taint(&self, kept: &[usize], state: &mut State) {
        let sp = state.register(self.convention.sp).bits.unwrap_or(STACK.0);
        let own = |value: Value| value.bits.filter(|bits| (sp..STACK.1).contains(bits));
        let registers = state.registers.iter().enumerate().filter(|(n, _)| !kept.contains(n));
        let given = registers.filter_map(|(_, value)| own(*value));
        let stored = state.stores(sp).filter_map(|(_, value)| own(value));
        if let Some(lowest) = given.chain(stored).min() {
            state.taint(lowest);
        }
    }
}

/// The word that a lock counts in: the first of a Mutex, and of an RWMutex that is held for writing; the
/// count of readers when it is held for reading.
pub fn word(at: u64, operation: Operation) -> u64 {
    if operation == Operation::RUnlock { at.wrapping_add(READER_COUNT) } else { at }
}

/// Registers of which nothing is known, one bit each.
fn unknown(state: &State) -> u32 {
    let bit = |(n, value): (usize, &Value)| u32::from(value.bits.is_none()) << n;
    state.registers.iter().enumerate().map(bit).fold(0, |all, bit| all | bit)
}

impl Touch for Takings {
    fn add(&mut self, at: Option<u64>, step: i64, pc: u64, state: &mut State) {
        match (at, step) {
            (Some(word), 1) => self.take(word, pc, state),
            (_, -1) => self.release(at, state),
            _ => {}
        }
    }
}

impl Notes for Takings {
    fn swapped(&mut self, swap: &Swap, pc: u64, taken: &mut State) {
        if let Some(at) = swap.at {
            let word = if swap.is_writer() { at.wrapping_sub(READER_COUNT) } else { at };
            self.take(word, pc, taken);
        }
    }

    fn tried(&mut self, lock: Option<(u64, Operation)>, pc: u64, taken: &mut State) {
        if let Some((at, operation)) = lock {
            self.take(word(at, operation), pc, taken);
        }
    }

    fn does(&mut self, at: Option<u64>, operation: Operation, step: i8, pc: u64, state: &mut State) {
        let counted = at.map(|at| word(at, operation));
        match (counted, step) {
            _ if !operation.balances() => {}
            (Some(word), 1) => self.take(word, pc, state),
            (_, -1) => self.release(counted, state),
            _ => {}
        }
    }

    /// It was counted before.
    fn queues(&mut self, _at: Option<u64>, _pc: u64, _state: &mut State) {}

    fn passed(&mut self, what: Passed, kept: &[usize], pc: u64, state: &mut State) {
        if what == Passed::Unknown {
            state.doubt();
        }
        self.taint(kept, state);
        state.forget(kept);
        for register in self.convention.arguments {
            let result = self.result(pc, register, state);
            state.set(register, result);
        }
    }

    fn will_run(&mut self, state: &State) {
        self.unknown = unknown(state);
    }

    /// What an instruction makes of what is not known gets a name as well.
    fn ran(&mut self, pc: u64, state: &mut State) {
        let made = unknown(state) & !self.unknown;
        for register in (0..REGISTERS).filter(|register| made >> register & 1 != 0) {
            let made = self.result(pc, register, state);
            state.set(register, made);
        }
    }

    fn meets_call(&mut self, depth: usize, back_to: u64, state: &State) {
        if depth == 0 && back_to == self.way.back_to {
            keep(&mut self.arrivals, state.clone());
        }
    }

    fn goes_on(&self, depth: usize, pc: u64) -> bool {
        depth > 0 || self.way.from.contains(&pc)
    }

    fn target(&mut self, target: u64) -> u64 {
        if let Some(known) = self.targets.get(&target) {
            return *known;
        }
        if Symbol::of(target).is_some() && !self.asked.contains(&target) {
            self.asked.push(target);
        }
        target
    }

    fn fell_short(&mut self, _ends: Vec<State>, passed: State) -> Vec<State> {
        vec![passed]
    }

    fn lost(&mut self) {
        self.lost = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    const CALL: u64 = 0x40_0010;

    fn notes() -> Takings {
        let way = Way { back_to: CALL, from: FxHashSet::default() };
        Takings::on(way, &[], Rc::default(), Convention::of(Arch::Amd64))
    }

    fn low_and_high(state: &State) -> Vec<(i8, i8, bool)> {
        let followed = |taken: Option<Taken>| taken.is_some_and(|taken| taken.followed);
        state.balances.iter().map(|b| (b.low, b.high, followed(b.taken))).collect()
    }

    #[test]
    fn what_is_passed_unseen_may_have_released_what_was_taken_before() {
        let (mut notes, mut state) = (notes(), State::blank());
        notes.does(Some(0x10), Operation::Unlock, 1, 1, &mut state);
        notes.passed(Passed::Known, &[], 2, &mut state);
        assert_eq!((low_and_high(&state), state.unseen), (vec![(1, 1, true)], false));
        notes.passed(Passed::Unknown, &[], 3, &mut state);
        notes.does(Some(0x20), Operation::RUnlock, 1, 4, &mut state);
        assert_eq!((low_and_high(&state), state.unseen), (vec![(1, 1, false), (1, 1, true)], true));
        assert_eq!(notes.words, [0x10, 0x20 + READER_COUNT]);
        // So may a release of what is not known.
        notes.add(None, -1, 5, &mut state);
        assert_eq!(low_and_high(&state), [(1, 1, false), (1, 1, false)]);
        notes.add(Some(0x10), -1, 6, &mut state);
        assert_eq!(low_and_high(&state)[0], (0, 0, false));
    }

    #[test]
    fn what_a_call_in_a_loop_returned_before_keeps_its_name() {
        let (mut notes, mut state) = (notes(), State::blank());
        notes.passed(Passed::Known, &[], 7, &mut state);
        let first = state.register(0);
        assert!(first.bits.and_then(Symbol::of).is_some());
        notes.passed(Passed::Known, &[], 7, &mut state);
        assert_eq!(state.register(0), first);
        state.store(0x100, 8, first);
        notes.passed(Passed::Known, &[], 7, &mut state);
        assert_eq!(state.register(0), Value::UNKNOWN);
    }

    #[test]
    fn only_calls_of_the_function_itself_are_the_one_that_it_is_parked_in() {
        let (mut notes, state) = (notes(), State::blank());
        notes.meets_call(1, CALL, &state);
        notes.meets_call(0, CALL + 5, &state);
        assert!(notes.arrivals.is_empty());
        notes.meets_call(0, CALL, &state);
        assert_eq!(notes.arrivals.len(), 1);
    }

    #[test]
    fn branches_are_not_decided_on_what_a_callee_could_change() {
        let (mut notes, mut state) = (notes(), State::blank());
        let sp = super::super::past::TOP - 64;
        state.set(notes.convention.sp, Value::known(sp));
        state.store(sp + 8, 8, Value::known(1));
        state.store(sp + 16, 8, Value::known(1));
        state.set(0, Value::known(sp + 16));
        notes.passed(Passed::Known, &notes.convention.kept(), 7, &mut state);
        let sure: Vec<_> = state.stores(sp).map(|(_, value)| value.sure()).collect();
        assert_eq!(sure, [Some(1), None]);
    }
}
