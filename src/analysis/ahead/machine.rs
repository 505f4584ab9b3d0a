//! Analysis, ahead: follows the code of one frame along all branches, into calls, to its returns.
//! Budgets bound it; code is decoded once per function.

use super::amd64;
use super::operation::{Callee, callee};
use super::value::{State, Value, View};
use super::{Event, Operation, Watched};
use crate::addr::Addr;
use crate::image::Image;
use crate::image::pclntab::Func;
use crate::memory::Memory;
use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Calls that are followed into each other.
const DEPTH: usize = 7;

/// States kept apart where paths meet; more are joined.
const STATES: usize = 4;

/// Instructions of one frame.
const PER_FRAME: u32 = 40_000;

/// Largest function that is decoded, in bytes.
const MOST_CODE: u64 = 1 << 20;

/// Targets taken from one jump table.
const MOST_TARGETS: u64 = 512;

/// Registers that hold after any call: SP, BP and the current g.
const KEPT: [usize; 3] = [amd64::RSP, amd64::RBP, amd64::R14];

/// What an instruction does to the flow.
pub enum Flow {
    /// Goes on with the next.
    Next,
    /// Jumps.
    Jump(u64),
    /// Jumps or goes on.
    Either(u64),
    /// Jumps to one of the targets in a table at this address.
    Table(u64),
    /// Calls, if known where.
    Call(Option<u64>),
    /// Returns.
    Return,
    /// Ends here.
    Stop,
}

/// Is told of atomic operations.
pub trait Touch {
    /// `lock cmpxchg` on this address.
    fn compare_and_swap(&mut self, at: u64, pc: u64, state: &mut State);
    /// An atomic addition of `step` to this address.
    fn add(&mut self, at: u64, step: i64, pc: u64, state: &mut State);
}

/// What is known of the frame that is run.
pub struct Frame<'f> {
    /// Stack and floor for loads.
    pub view: View<'f>,
    /// Closures of deferred calls that are pending in it, last one first.
    pub pending: Vec<u64>,
}

struct Code {
    base: u64,
    instructions: Vec<Instruction>,
    index: FxHashMap<u64, u32>,
    open_coded: bool,
}

/// The interpreter. One per thread of ours.
pub struct Machine<'a> {
    image: &'a Image,
    statics: &'a dyn Memory,
    watched: &'a Watched,
    code: FxHashMap<Addr, Option<Arc<Code>>>,
    info: InstructionInfoFactory,
    events: Vec<Event>,
    left: u32,
    deferred: bool,
}

struct Toucher<'w, 'e> {
    watched: &'w Watched,
    events: &'e mut Vec<Event>,
    deferred: bool,
}

impl Touch for Toucher<'_, '_> {
    fn compare_and_swap(&mut self, at: u64, _pc: u64, state: &mut State) {
        if let Some(object) = self.watched.mutex(Addr::new(at)) {
            state.count(object.number(Operation::Unlock), 1);
        }
    }

    fn add(&mut self, at: u64, step: i64, pc: u64, state: &mut State) {
        let (object, operation) =
            match (self.watched.mutex(Addr::new(at)), self.watched.readers(Addr::new(at))) {
                (Some(object), _) if step == -1 => (object, Operation::Unlock),
                (_, Some(object)) if step.abs() == 1 => (object, Operation::RUnlock),
                _ => return,
            };
        let down = if operation == Operation::RUnlock && step == 1 { 1 } else { -1 };
        if state.count(object.number(operation), down) {
            self.events.push(Event { object, operation, at: Addr::new(pc), deferred: self.deferred });
        }
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
            code: FxHashMap::default(),
            info: InstructionInfoFactory::new(),
            events: Vec::new(),
            left: 0,
            deferred: false,
        }
    }

    /// Takes the events found so far.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Runs one frame from `pc` to its returns; the states there, joined to at most `STATES`. None
    /// when no return is reached.
    pub fn frame(&mut self, pc: Addr, state: State, frame: &Frame<'_>) -> Vec<State> {
        self.left = PER_FRAME;
        self.deferred = false;
        self.function(pc.get(), state, frame, 0)
    }

    /// Runs the pending deferred calls of a frame on their own.
    pub fn deferred(&mut self, closures: &[u64], state: State, frame: &Frame<'_>) -> State {
        self.left = PER_FRAME;
        self.deferred = true;
        let mut state = state;
        for closure in closures {
            for end in self.closure(*closure, state.clone(), frame, 0) {
                state.join(&end);
            }
        }
        self.deferred = false;
        state
    }

    fn closure(&mut self, closure: u64, mut state: State, frame: &Frame<'_>, depth: usize) -> Vec<State> {
        let Some(target) = state.load(&frame.view, closure, 8).bits else { return vec![state] };
        if let Some(slot) = state.registers.get_mut(amd64::RDX) {
            *slot = Value::known(closure);
        }
        self.call(target, state, 0, frame, depth)
    }

    fn code_of(&mut self, func: &Func<'_>) -> Option<Arc<Code>> {
        if let Some(known) = self.code.get(&func.entry()) {
            return known.clone();
        }
        let code = self.decode(func).map(Arc::new);
        self.code.insert(func.entry(), code.clone());
        code
    }

    fn decode(&self, func: &Func<'_>) -> Option<Code> {
        let len = func.end().above(func.entry()).filter(|len| *len <= MOST_CODE)?;
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        self.statics.read(func.entry(), &mut bytes).ok()?;
        let base = func.entry().get();
        let instructions: Vec<Instruction> =
            Decoder::with_ip(64, &bytes, base, DecoderOptions::NONE).into_iter().collect();
        let index = instructions.iter().enumerate().map(|(i, ins)| (ins.ip(), i as u32)).collect();
        let open_coded = func.funcdata(crate::image::pclntab::funcdata::OPEN_CODED_DEFER_INFO).is_some();
        Some(Code { base, instructions, index, open_coded })
    }

    /// Follows one function from `pc`.
    fn function(&mut self, pc: u64, state: State, frame: &Frame<'_>, depth: usize) -> Vec<State> {
        let Some(func) = self.image.modules.find(Addr::new(pc)) else { return Vec::new() };
        let Some(code) = self.code_of(&func) else { return Vec::new() };
        let mut work = vec![(pc, state)];
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
        let Some(mut place) = code.index.get(&pc).map(|i| *i as usize) else {
            return self.leave(pc, state, code, frame, depth, ends);
        };
        while let Some(ins) = code.instructions.get(place) {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let mut touch =
                Toucher { watched: self.watched, events: &mut self.events, deferred: self.deferred };
            match amd64::step(ins, &mut self.info, &mut state, &frame.view, &mut touch) {
                Flow::Next => place += 1,
                Flow::Jump(target) => {
                    if code.index.contains_key(&target) {
                        work.push((target, state));
                    } else {
                        self.leave(target, state, code, frame, depth, ends);
                    }
                    return;
                }
                Flow::Either(target) => {
                    work.push((target, state.clone()));
                    work.push((ins.next_ip(), state));
                    return;
                }
                Flow::Table(table) => return self.table(table, state, code, frame, work),
                Flow::Return => {
                    amd64::pop(&mut state, &frame.view);
                    keep(ends, state);
                    return;
                }
                Flow::Stop => return,
                Flow::Call(target) => {
                    for next in self.called(target, state, ins, code, frame, depth) {
                        work.push((ins.next_ip(), next));
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
        if pc == code.base {
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
                Ok(target) if code.index.contains_key(&target) => targets.insert(target),
                _ => break,
            };
        }
        work.extend(targets.into_iter().map(|target| (target, state.clone())));
    }

    /// A call instruction: pushes the return address, follows or forgets, comes back.
    fn called(
        &mut self,
        target: Option<u64>,
        mut state: State,
        ins: &Instruction,
        code: &Code,
        frame: &Frame<'_>,
        depth: usize,
    ) -> Vec<State> {
        let Some(target) = target else {
            state.forget(&KEPT);
            return vec![state];
        };
        let sp = state.registers.get(amd64::RSP).copied().unwrap_or(Value::UNKNOWN);
        let bp = state.registers.get(amd64::RBP).copied().unwrap_or(Value::UNKNOWN);
        if self.is_deferreturn(target) {
            return self.deferreturn(state, code, frame, depth);
        }
        amd64::push(&mut state, Value::known(ins.next_ip()));
        let mut ends = self.call(target, state, ins.ip(), frame, depth);
        for end in &mut ends {
            // Whatever the callee did, Go code gets SP and BP back as they were.
            for (register, value) in [(amd64::RSP, sp), (amd64::RBP, bp)] {
                if let Some(slot) = end.registers.get_mut(register) {
                    *slot = value;
                }
            }
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
        state.forget(&KEPT);
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
            state.forget(&KEPT);
            return vec![state];
        };
        match callee(func.name(), &state, &frame.view) {
            Callee::NeverReturns => Vec::new(),
            Callee::Keeps => vec![state],
            Callee::Opaque => {
                state.forget(&KEPT);
                vec![state]
            }
            Callee::Pushes(closure) => {
                state.forget(&KEPT);
                state.pushed.push(closure);
                if let Some(slot) = state.registers.get_mut(amd64::RAX) {
                    *slot = Value::known(0);
                }
                vec![state]
            }
            Callee::Does(operations) => {
                for (at, operation, step) in operations {
                    self.does(at, operation, step, pc, &mut state);
                }
                state.forget(&KEPT);
                vec![state]
            }
            Callee::Follow if depth < DEPTH && func.entry().get() == target => {
                let mut ends = self.function(target, state, frame, depth + 1);
                ends.iter_mut().for_each(|end| end.pushed.clear());
                ends
            }
            Callee::Follow => {
                state.forget(&KEPT);
                vec![state]
            }
        }
    }

    fn does(&mut self, at: u64, operation: Operation, step: i8, pc: u64, state: &mut State) {
        let Some(object) = self.watched.find(Addr::new(at), operation) else { return };
        let event = Event { object, operation, at: Addr::new(pc), deferred: self.deferred };
        if !operation.balances() || state.count(object.number(operation), step) {
            self.events.push(event);
        }
    }
}

/// Whether a state that arrives where others did brings something new; it may be joined with them.
fn meet(seen: &mut Vec<State>, state: &mut State) -> bool {
    if seen.contains(state) {
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
