//! Analysis, ahead: follows the code of one frame along all branches, into calls, to its returns.
//! Budgets bound it; code is decoded once per function.

use super::Operation;
use super::code::{Code, Step};
use super::convention::Convention;
use super::flow::{Flow, Swap};
use super::notes::{Notes, Passed};
use super::operation::{Callee, acts, callee};
use super::value::{Flags, Gate, State, Value, View};
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

/// How many instructions are run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one frame.
    pub frame: u32,
    /// Of one goroutine. The innermost frames come first.
    pub goroutine: u32,
    /// A frame is run with this part of what is left of that at most: those outside of it hold locks too, and
    /// what is inside may be all of a network library.
    pub part_of_goroutine: u32,
    /// A call is followed with this part of what is left at most: what comes after it matters as well.
    pub part_of_call: u32,
}

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
pub struct Machine<'a, N> {
    /// What it keeps.
    pub notes: N,
    limits: Limits,
    image: &'a Image,
    statics: &'a dyn Memory,
    convention: &'static Convention,
    code: FxHashMap<Addr, Option<Arc<Code>>>,
    info: InstructionInfoFactory,
    /// Instructions that may still be run: of this frame, and of the goroutine.
    left: u32,
    left_of_all: u32,
    /// Where the functions were called that are being followed, the innermost last.
    sites: Vec<u64>,
    /// Functions of which it is known whether they lead to anything that matters.
    idle: FxHashMap<Addr, bool>,
}

impl<'a, N: Notes> Machine<'a, N> {
    /// An interpreter of `image`'s code that tells `notes` what it meets. `statics` holds the code.
    pub fn new(image: &'a Image, statics: &'a dyn Memory, limits: Limits, notes: N) -> Machine<'a, N> {
        Machine {
            notes,
            limits,
            image,
            statics,
            convention: Convention::of(image.arch),
            code: FxHashMap::default(),
            info: InstructionInfoFactory::new(),
            left: 0,
            left_of_all: limits.goroutine,
            sites: Vec::new(),
            idle: FxHashMap::default(),
        }
    }

    /// Instructions run since the last goroutine began.
    pub fn spent(&self) -> u32 {
        self.limits.goroutine.saturating_sub(self.left_of_all)
    }

    /// The next goroutine begins.
    pub fn next_goroutine(&mut self) {
        self.left_of_all = self.limits.goroutine;
    }

    /// Gives a frame its share.
    fn begin(&mut self) -> u32 {
        let share = self.limits.frame.min(self.left_of_all.div_ceil(self.limits.part_of_goroutine.max(1)));
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
        let ends = self.function(pc.get(), starts, frame, 0);
        if self.left == 0 {
            self.notes.lost();
        }
        self.end(share);
        ends
    }

    /// Runs the pending deferred calls of a frame on their own, as if made at `pc`.
    pub fn deferred(&mut self, closures: &[u64], pc: u64, state: State, frame: &Frame<'_>) -> State {
        let share = self.begin();
        let mut state = state;
        for closure in closures {
            for end in self.closure(*closure, state.clone(), pc, frame, 0) {
                state.join(&end);
            }
        }
        self.end(share);
        state
    }

    fn closure(
        &mut self,
        closure: u64,
        mut state: State,
        pc: u64,
        frame: &Frame<'_>,
        depth: usize,
    ) -> Vec<State> {
        let Some(target) = state.load(&frame.view, closure, 8).bits else { return vec![state] };
        state.set(self.convention.closure, Value::known(closure));
        self.call(target, state, pc, frame, depth)
    }

    /// Addresses of a function from which its code may get to the call that comes back to `back_to`.
    pub fn ways_to(&mut self, func: &Func<'_>, back_to: Addr) -> FxHashSet<u64> {
        self.code_of(func).map(|code| code.ways_to(back_to.get())).unwrap_or_default()
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
            if self.notes.goes_on(depth, pc) && meet(seen.entry(pc).or_default(), &mut state) {
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
            self.notes.will_run(&state);
            let step = Step { place, info: &mut self.info, view: &frame.view, touch: &mut self.notes };
            let flow = code.step(step, &mut state);
            self.notes.ran(at, &mut state);
            let next = code.address(place.saturating_add(1)).unwrap_or(code.end);
            match flow {
                Flow::Next => place += 1,
                Flow::Jump(target) => match code.place(target) {
                    // Forward, it is as good as straight code: what is known is best used before the way
                    // meets others.
                    Some(to) if to > place => place = to,
                    Some(_) => {
                        work.push((target, state));
                        return;
                    }
                    None => return self.leave(target, state, code, frame, depth, ends),
                },
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
                Flow::Table(table) => return self.table(table, state, code, work),
                Flow::Return => {
                    keep(ends, state);
                    return;
                }
                Flow::Swap(swap) => {
                    let (mut taken, missed) = swapped(&swap, state);
                    self.notes.swapped(&swap, at, &mut taken);
                    // The two are told apart by the next branch: where states meet before it, they could
                    // be joined.
                    work.push((next, missed));
                    state = taken;
                    place += 1;
                }
                Flow::Stop => return,
                Flow::Lost => return self.notes.lost(),
                Flow::Call(target) => {
                    self.notes.meets_call(depth, next, &state);
                    if !self.notes.goes_on(depth, next) {
                        return;
                    }
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

    fn table(&mut self, table: u64, state: State, code: &Code, work: &mut Vec<(u64, State)>) {
        let mut targets = FxHashSet::default();
        for i in 0..MOST_TARGETS {
            match self.statics.read_u64(Addr::new(table.wrapping_add(8 * i))) {
                Ok(target) if code.place(target).is_some() => targets.insert(target),
                _ => break,
            };
        }
        if targets.is_empty() {
            self.notes.lost();
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
        let Some(target) = call.target.map(|target| self.notes.target(target)) else {
            return self.pass(Passed::Unknown, call.at, state);
        };
        let kept = [self.convention.sp, self.convention.fp].map(|n| (n, state.register(n)));
        if self.is_deferreturn(target) {
            return self.deferreturn(state, call.at, code, frame, depth);
        }
        code.calls(&mut state, call.next);
        let mut ends = self.call(target, state, call.at, frame, depth);
        for end in &mut ends {
            // Whatever the callee did, Go code gets SP and the frame pointer back as they were.
            kept.iter().for_each(|(register, value)| end.set(*register, *value));
            if let Some(sp) = end.register(self.convention.sp).bits {
                end.discard(frame.view.stack.0, sp);
            }
        }
        ends
    }

    fn is_deferreturn(&self, target: u64) -> bool {
        self.image.modules.find(Addr::new(target)).is_some_and(|f| f.name() == "runtime.deferreturn")
    }

    /// `runtime.deferreturn` runs the frame's pending records. In a function with open-coded defers it
    /// is only the landing of a recovered panic: no path of ours goes on there.
    fn deferreturn(
        &mut self,
        state: State,
        pc: u64,
        code: &Code,
        frame: &Frame<'_>,
        depth: usize,
    ) -> Vec<State> {
        if code.open_coded {
            return Vec::new();
        }
        let mut state = state;
        let mut closures: Vec<u64> = state.pushed.drain(..).rev().filter_map(|v| v.bits).collect();
        if depth == 0 {
            closures.extend(&frame.pending);
        }
        for closure in closures {
            let ends = self.closure(closure, state.clone(), pc, frame, depth + 1);
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
            return self.pass(Passed::Unknown, pc, state);
        };
        match callee(func.name(), self.convention, &state, &frame.view) {
            Callee::NeverReturns => Vec::new(),
            Callee::Keeps => vec![state],
            Callee::Moves => self.function(target, vec![state], frame, depth + 1),
            Callee::Opaque => self.pass(opaque(func.name()), pc, state),
            Callee::Pushes(closure) => {
                self.notes.passed(Passed::Known, &self.convention.kept(), pc, &mut state);
                state.pushed.push(closure);
                state.set(self.result(), Value::known(0));
                vec![state]
            }
            Callee::Does(operations) => {
                for (at, operation, step) in operations {
                    let told = self.told(operation, pc);
                    self.notes.does(at, operation, step, told, &mut state);
                }
                self.pass(Passed::Known, pc, state)
            }
            Callee::Queues(at) => {
                self.notes.queues(at, pc, &mut state);
                self.pass(Passed::Known, pc, state)
            }
            Callee::Tries(object) => {
                self.notes.passed(Passed::Known, &self.convention.kept(), pc, &mut state);
                self.tried(object, pc, state)
            }
            Callee::Follow if !self.matters(&func) => self.pass(Passed::Known, pc, state),
            Callee::Follow if depth < DEPTH && func.entry().get() == target => {
                self.follow(&func, pc, state, frame, depth)
            }
            Callee::Follow => self.pass(Passed::Unknown, pc, state),
        }
    }

    /// Where the program does an operation: of next and stop of an iterator where they are called, since
    /// what they do themselves is in package iter for all.
    fn told(&self, operation: Operation, pc: u64) -> u64 {
        let called = self.sites.last().filter(|_| operation == Operation::Resume);
        called.copied().unwrap_or(pc)
    }

    /// Goes on after a call that is not followed.
    fn pass(&mut self, what: Passed, pc: u64, mut state: State) -> Vec<State> {
        self.notes.passed(what, &self.convention.kept(), pc, &mut state);
        vec![state]
    }

    /// Runs the code of a callee with a part of what is left. Where that does not do, the callee is taken
    /// as one that nothing is known of.
    fn follow(
        &mut self,
        func: &Func<'_>,
        pc: u64,
        mut state: State,
        frame: &Frame<'_>,
        depth: usize,
    ) -> Vec<State> {
        let before = self.left;
        let share = before / self.limits.part_of_call.max(1);
        self.left = share;
        self.sites.push(pc);
        let mut ends = self.function(func.entry().get(), vec![state.clone()], frame, depth + 1);
        self.sites.pop();
        let cut = self.left == 0;
        self.left = before.saturating_sub(share.saturating_sub(self.left));
        ends.iter_mut().for_each(|end| end.pushed.clear());
        if cut {
            let what = if self.is_idle(func, SEARCHED) { Passed::Known } else { Passed::Unknown };
            self.notes.passed(what, &self.convention.kept(), pc, &mut state);
            return self.notes.fell_short(ends, state);
        }
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
    fn tried(&mut self, lock: Option<(u64, Operation)>, pc: u64, state: State) -> Vec<State> {
        let mut missed = state.clone();
        missed.set(self.result(), Value::known(0));
        let mut taken = state;
        taken.set(self.result(), Value::known(1));
        self.notes.tried(lock, pc, &mut taken);
        vec![taken, missed]
    }
}

/// What a call of a function may have done whose package is not followed: package reflect calls whatever
/// it is given.
fn opaque(name: &str) -> Passed {
    if name.starts_with("reflect.") { Passed::Unknown } else { Passed::Known }
}

/// A call instruction.
struct Called {
    at: u64,
    /// Where it comes back to.
    next: u64,
    target: Option<u64>,
}

/// The two ways on from a swap: it succeeded, or not.
fn swapped(swap: &Swap, state: State) -> (State, State) {
    let (mut taken, mut missed) = (state.clone(), state);
    taken.flags = Flags::equal(true);
    missed.flags = Flags::equal(false);
    if swap.compared_next {
        (taken.swapped, missed.swapped) = (Some(true), Some(false));
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

/// Keeps a state that arrives somewhere; joins it when there are enough.
pub fn keep(ends: &mut Vec<State>, state: State) {
    if ends.contains(&state) {
        return;
    }
    if ends.len() < STATES {
        ends.push(state);
    } else if let Some(last) = ends.last_mut() {
        last.join(&state);
    }
}
