//! Analysis, ahead: follows the code of one frame along all branches, into calls, to its returns.
//! Budgets bound it; code is decoded once per function.

use super::code::{Code, Step};
use super::convention::Convention;
use super::flow::{Flow, Swap, Touch};
use super::operation::{Callee, acts, callee};
use super::value::{Flags, Gate, Release, State, Value, View};
use super::{Event, Object, Operation, Watched};
use crate::addr::Addr;
use crate::image::Image;
use crate::image::pclntab::Func;
use crate::memory::Memory;
use iced_x86::InstructionInfoFactory;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Calls that are followed into each other.
const DEPTH: usize = 7;

/// States kept apart where paths meet; more are joined.
const STATES: usize = 4;

/// Instructions of one frame.
const PER_FRAME: u32 = 4_000;

/// Instructions of one goroutine: most are done after a few hundred. The innermost frames come first.
const PER_GOROUTINE: u32 = 8_000;

/// A call is followed with this part of what is left at most: what comes after it matters as well.
const PART_OF_CALL: u32 = 4;

/// Functions up to this length, in bytes, are followed for what they return.
const SMALL: u64 = 256;

/// Calls into each other that are searched for something that matters.
const SEARCHED: usize = 12;

/// Targets taken from one jump table.
const MOST_TARGETS: u64 = 512;

/// What is known of the frame that is run.
pub struct Frame<'f> {
    /// Stack and floor for loads.
    pub view: View<'f>,
    /// Closures of deferred calls that are pending in it, last one first.
    pub pending: Vec<u64>,
}

/// The interpreter. One per thread of ours.
pub struct Machine<'a> {
    image: &'a Image,
    statics: &'a dyn Memory,
    watched: &'a Watched,
    convention: &'static Convention,
    code: FxHashMap<Addr, Option<Arc<Code>>>,
    info: InstructionInfoFactory,
    events: Vec<Event>,
    /// Instructions that may still be run: of this frame, and of the goroutine.
    left: u32,
    left_of_all: u32,
    deferred: bool,
    /// Functions of which it is known whether they lead to anything that matters.
    idle: FxHashMap<Addr, bool>,
}

struct Toucher<'w, 'e> {
    watched: &'w Watched,
    events: &'e mut Vec<Event>,
    deferred: bool,
}

impl Toucher<'_, '_> {
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
        // A reader counts up by one, a writer down by very many.
        let writer = swap.new.bits.is_some_and(|new| (new as u32).cast_signed() < 0);
        let operation = if writer { Operation::Unlock } else { Operation::RUnlock };
        self.watched.readers(at).map(|object| (object, operation))
    }
}

impl Touch for Toucher<'_, '_> {
    fn add(&mut self, at: u64, step: i64, pc: u64, state: &mut State) {
        let (object, operation) =
            match (self.watched.mutex(Addr::new(at)), self.watched.readers(Addr::new(at))) {
                (Some(object), _) if step == -1 => (object, Operation::Unlock),
                (_, Some(object)) if step.abs() == 1 => (object, Operation::RUnlock),
                _ => return,
            };
        let down = if operation == Operation::RUnlock && step == 1 { 1 } else { -1 };
        self.count(object, operation, down, pc, state);
    }
}

impl<'a> Machine<'a> {
    /// An interpreter of `image`'s code that reports operations on `watched` objects. `statics` holds
    /// the code.
    pub fn new(image: &'a Image, statics: &'a dyn Memory, watched: &'a Watched) -> Machine<'a> {
        Machine {
            image,
            statics,
            watched,
            convention: Convention::of(image.arch),
            code: FxHashMap::default(),
            info: InstructionInfoFactory::new(),
            events: Vec::new(),
            left: 0,
            left_of_all: PER_GOROUTINE,
            deferred: false,
            idle: FxHashMap::default(),
        }
    }

    /// Instructions run since the last goroutine began.
    pub fn spent(&self) -> u32 {
        PER_GOROUTINE.saturating_sub(self.left_of_all)
    }

    /// Takes the events found so far; the next goroutine begins.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.left_of_all = PER_GOROUTINE;
        std::mem::take(&mut self.events)
    }

    /// Gives a frame its share.
    fn begin(&mut self) -> u32 {
        let share = PER_FRAME.min(self.left_of_all);
        self.left = share;
        share
    }

    fn end(&mut self, share: u32) {
        self.left_of_all = self.left_of_all.saturating_sub(share.saturating_sub(self.left));
    }

    /// Runs one frame from `pc` to its returns; the states there, joined to at most `STATES`. None
    /// when no return is reached.
    pub fn frame(&mut self, pc: Addr, starts: Vec<State>, frame: &Frame<'_>) -> Vec<State> {
        let share = self.begin();
        self.deferred = false;
        let ends = self.function(pc.get(), starts, frame, 0);
        self.end(share);
        ends
    }

    /// Runs the pending deferred calls of a frame on their own.
    pub fn deferred(&mut self, closures: &[u64], state: State, frame: &Frame<'_>) -> State {
        let share = self.begin();
        self.deferred = true;
        let mut state = state;
        for closure in closures {
            for end in self.closure(*closure, state.clone(), frame, 0) {
                state.join(&end);
            }
        }
        self.deferred = false;
        self.end(share);
        state
    }

    fn closure(&mut self, closure: u64, mut state: State, frame: &Frame<'_>, depth: usize) -> Vec<State> {
        let Some(target) = state.load(&frame.view, closure, 8).bits else { return vec![state] };
        state.set(self.convention.closure, Value::known(closure));
        self.call(target, state, 0, frame, depth)
    }

    fn code_of(&mut self, func: &Func<'_>) -> Option<Arc<Code>> {
        if let Some(known) = self.code.get(&func.entry()) {
            return known.clone();
        }
        let code = Code::read(func, self.image.arch, self.statics).map(Arc::new);
        self.code.insert(func.entry(), code.clone());
        code
    }

    /// Follows one function from `pc`.
    fn function(&mut self, pc: u64, starts: Vec<State>, frame: &Frame<'_>, depth: usize) -> Vec<State> {
        let Some(func) = self.image.modules.find(Addr::new(pc)) else { return Vec::new() };
        let Some(code) = self.code_of(&func) else { return Vec::new() };
        let mut work: Vec<(u64, State)> = starts.into_iter().map(|state| (pc, state)).collect();
        let mut seen: FxHashMap<u64, Vec<State>> = FxHashMap::default();
        let mut ends = Vec::new();
        while let Some((pc, mut state)) = work.pop() {
            if self.left == 0 {
                break;
            }
            if meet(seen.entry(pc).or_default(), &mut state) {
                self.path(pc, state, &code, frame, depth, &mut work, &mut ends);
            }
        }
        ends
    }

    /// Follows straight code until it branches.
    #[allow(clippy::too_many_arguments)]
    fn path(
        &mut self,
        pc: u64,
        mut state: State,
        code: &Code,
        frame: &Frame<'_>,
        depth: usize,
        work: &mut Vec<(u64, State)>,
        ends: &mut Vec<State>,
    ) {
        let Some(mut place) = code.place(pc) else {
            return self.leave(pc, state, code, frame, depth, ends);
        };
        while let Some(at) = code.address(place) {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let mut touch =
                Toucher { watched: self.watched, events: &mut self.events, deferred: self.deferred };
            let step = Step { place, info: &mut self.info, view: &frame.view, touch: &mut touch };
            let flow = code.step(step, &mut state);
            let next = code.address(place.saturating_add(1)).unwrap_or(code.end);
            match flow {
                Flow::Next => place += 1,
                Flow::Jump(target) => {
                    if code.place(target).is_some() {
                        work.push((target, state));
                    } else {
                        self.leave(target, state, code, frame, depth, ends);
                    }
                    return;
                }
                Flow::Either { target, decided, equal } => {
                    let answered = |mut state: State, answer: bool| {
                        if decided {
                            state.gate = state.gate.side(at, answer);
                        }
                        if let Some(equal) = equal {
                            state.flags = Flags::equal(equal == answer);
                        }
                        state
                    };
                    work.push((target, answered(state.clone(), true)));
                    work.push((next, answered(state, false)));
                    return;
                }
                Flow::Table(table) => return self.table(table, state, code, frame, work),
                Flow::Return => {
                    keep(ends, state);
                    return;
                }
                Flow::Swap(swap) => {
                    let (taken, missed) = swapped(&touch, &swap, state);
                    work.push((next, taken));
                    work.push((next, missed));
                    return;
                }
                Flow::Stop => return,
                Flow::Call(target) => {
                    let call = Called { at, next, target };
                    for after in self.called(&call, state, code, frame, depth) {
                        work.push((next, after));
                    }
                    return;
                }
            }
        }
    }

    /// A jump out of the function is a call in the place of a return.
    fn leave(
        &mut self,
        pc: u64,
        state: State,
        code: &Code,
        frame: &Frame<'_>,
        depth: usize,
        ends: &mut Vec<State>,
    ) {
        if pc == code.entry {
            return;
        }
        for end in self.call(pc, state, pc, frame, depth) {
            keep(ends, end);
        }
    }

    fn table(
        &mut self,
        table: u64,
        state: State,
        code: &Code,
        frame: &Frame<'_>,
        work: &mut Vec<(u64, State)>,
    ) {
        let mut targets = FxHashSet::default();
        for i in 0..MOST_TARGETS {
            match frame.view.memory.read_u64(Addr::new(table.wrapping_add(8 * i))) {
                Ok(target) if code.place(target).is_some() => targets.insert(target),
                _ => break,
            };
        }
        work.extend(targets.into_iter().map(|target| (target, state.clone())));
    }

    /// A call instruction: notes the return address, follows or forgets, comes back.
    fn called(
        &mut self,
        call: &Called,
        mut state: State,
        code: &Code,
        frame: &Frame<'_>,
        depth: usize,
    ) -> Vec<State> {
        let Some(target) = call.target else {
            state.forget(&self.convention.kept());
            return vec![state];
        };
        let kept = [self.convention.sp, self.convention.fp].map(|n| (n, state.register(n)));
        if self.is_deferreturn(target) {
            return self.deferreturn(state, code, frame, depth);
        }
        code.calls(&mut state, call.next);
        let mut ends = self.call(target, state, call.at, frame, depth);
        for end in &mut ends {
            // Whatever the callee did, Go code gets SP and the frame pointer back as they were.
            kept.iter().for_each(|(register, value)| end.set(*register, *value));
        }
        ends
    }

    fn is_deferreturn(&self, target: u64) -> bool {
        self.image.modules.find(Addr::new(target)).is_some_and(|f| f.name() == "runtime.deferreturn")
    }

    /// `runtime.deferreturn` runs the frame's pending records. In a function with open-coded defers it
    /// is only the landing of a recovered panic: no path of ours goes on there.
    fn deferreturn(&mut self, state: State, code: &Code, frame: &Frame<'_>, depth: usize) -> Vec<State> {
        if code.open_coded {
            return Vec::new();
        }
        let mut state = state;
        let mut closures: Vec<u64> = state.pushed.drain(..).rev().filter_map(|v| v.bits).collect();
        if depth == 0 {
            closures.extend(&frame.pending);
        }
        for closure in closures {
            let ends = self.closure(closure, state.clone(), frame, depth + 1);
            let mut ends = ends.into_iter();
            let Some(mut joined) = ends.next() else { return Vec::new() };
            ends.for_each(|end| joined.join(&end));
            joined.pushed.clear();
            state = joined;
        }
        state.forget(&self.convention.kept());
        vec![state]
    }

    /// Runs a callee, or applies what is known of it.
    fn call(
        &mut self,
        target: u64,
        mut state: State,
        pc: u64,
        frame: &Frame<'_>,
        depth: usize,
    ) -> Vec<State> {
        let Some(func) = self.image.modules.find(Addr::new(target)) else {
            state.forget(&self.convention.kept());
            return vec![state];
        };
        match callee(func.name(), self.convention, &state, &frame.view) {
            Callee::NeverReturns => Vec::new(),
            Callee::Keeps => vec![state],
            Callee::Opaque => {
                state.forget(&self.convention.kept());
                vec![state]
            }
            Callee::Pushes(closure) => {
                state.forget(&self.convention.kept());
                state.pushed.push(closure);
                state.set(self.result(), Value::known(0));
                vec![state]
            }
            Callee::Does(operations) => {
                for (at, operation, step) in operations {
                    self.does(at, operation, step, pc, &mut state);
                }
                state.forget(&self.convention.kept());
                vec![state]
            }
            Callee::Tries(object) => {
                state.forget(&self.convention.kept());
                self.tried(object, state)
            }
            Callee::Follow if depth < DEPTH && func.entry().get() == target && self.matters(&func) => {
                self.follow(target, state, frame, depth)
            }
            Callee::Follow => {
                state.forget(&self.convention.kept());
                vec![state]
            }
        }
    }

    /// Runs the code of a callee with a part of what is left. Where that does not do, the callee is taken
    /// as one that nothing is known of.
    fn follow(&mut self, target: u64, mut state: State, frame: &Frame<'_>, depth: usize) -> Vec<State> {
        let before = self.left;
        let share = before / PART_OF_CALL;
        self.left = share;
        let mut ends = self.function(target, vec![state.clone()], frame, depth + 1);
        let cut = self.left == 0;
        self.left = before.saturating_sub(share.saturating_sub(self.left));
        if ends.is_empty() && cut {
            state.forget(&self.convention.kept());
            return vec![state];
        }
        ends.iter_mut().for_each(|end| end.pushed.clear());
        ends
    }

    /// Whether a function is worth following: for what it returns, when it is small, or for what it
    /// leads to.
    fn matters(&mut self, func: &Func<'_>) -> bool {
        func.end().above(func.entry()).is_none_or(|len| len <= SMALL) || !self.is_idle(func, SEARCHED)
    }

    /// Whether a function leads to nothing that matters, as far as that can be seen.
    fn is_idle(&mut self, func: &Func<'_>, depth: usize) -> bool {
        if let Some(known) = self.idle.get(&func.entry()) {
            return *known;
        }
        let Some(code) = self.code_of(func).filter(|code| !code.reach.open && depth > 0) else {
            self.idle.insert(func.entry(), false);
            return false;
        };
        // Whoever calls himself is followed.
        self.idle.insert(func.entry(), false);
        let image = self.image;
        let idle = code.reach.calls.iter().all(|target| {
            let callee = image.modules.find(Addr::new(*target));
            callee.is_none_or(|callee| match acts(callee.name()) {
                Some(acts) => !acts,
                None => self.is_idle(&callee, depth - 1),
            })
        });
        self.idle.insert(func.entry(), idle);
        idle
    }

    /// The register of a call's first result.
    fn result(&self) -> usize {
        self.convention.arguments.first().copied().unwrap_or_default()
    }

    /// An attempt has two outcomes, and only one of them takes anything.
    fn tried(&self, object: Option<(u64, Operation)>, state: State) -> Vec<State> {
        let mut missed = state.clone();
        missed.set(self.result(), Value::known(0));
        let mut taken = state;
        taken.set(self.result(), Value::known(1));
        match object
            .and_then(|(at, operation)| Some((self.watched.find(Addr::new(at), operation)?, operation)))
        {
            Some((object, operation)) => {
                taken.count(object.number(operation), 1);
            }
            None => taken.gate = Gate::Attempt,
        }
        vec![taken, missed]
    }

    fn does(&mut self, at: u64, operation: Operation, step: i8, pc: u64, state: &mut State) {
        let Some(object) = self.watched.find(Addr::new(at), operation) else { return };
        let mut touch = Toucher { watched: self.watched, events: &mut self.events, deferred: self.deferred };
        if operation.balances() {
            touch.count(object, operation, step, pc, state);
        } else {
            touch.note(object, operation, pc, state.gate);
        }
    }
}

/// A call instruction.
struct Called {
    at: u64,
    /// Where it comes back to.
    next: u64,
    target: Option<u64>,
}

/// The two ways on from a swap: it succeeded, or not.
fn swapped(touch: &Toucher<'_, '_>, swap: &Swap, state: State) -> (State, State) {
    let (mut taken, mut missed) = (state.clone(), state);
    taken.flags = Flags::equal(true);
    missed.flags = Flags::equal(false);
    if swap.compared_next {
        (taken.swapped, missed.swapped) = (Some(true), Some(false));
    }
    match touch.taken(swap) {
        Some((object, operation)) => {
            taken.count(object.number(operation), 1);
        }
        // Who fails has not got what he tried for.
        None if swap.from_constant => taken.gate = Gate::Attempt,
        None => {}
    }
    (taken, missed)
}

/// Whether a state that arrives where others did brings something new; it may be joined with them.
fn meet(seen: &mut Vec<State>, state: &mut State) -> bool {
    let hangs = std::mem::take(&mut state.gate);
    let known = seen.iter().any(|s| s.gate == Gate::Open && *s == *state);
    state.gate = hangs;
    if known || seen.contains(state) {
        return false;
    }
    if seen.len() < STATES {
        seen.push(state.clone());
        return true;
    }
    let Some(last) = seen.last_mut() else { return true };
    let mut joined = last.clone();
    joined.join(state);
    if joined == *last {
        return false;
    }
    *last = joined.clone();
    *state = joined;
    true
}

/// Keeps a state at a return; joins it when there are enough.
fn keep(ends: &mut Vec<State>, state: State) {
    if ends.contains(&state) {
        return;
    }
    if ends.len() < STATES {
        ends.push(state);
    } else if let Some(last) = ends.last_mut() {
        last.join(&state);
    }
}
