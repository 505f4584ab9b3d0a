//! Analysis, before: which locks the frames of a goroutine took before they came to the calls that they
//! are parked in. The interpreter runs from a function's entry to the call; arguments, memory and what
//! calls returned have names only. At the end, slots of the frame hold some of the named values still:
//! read in the snapshot, they tell what the names stood for. The run itself knows nothing of the
//! goroutine, so that it is done once for all that are parked at the same place.

use super::convention::Convention;
use super::machine::{Frame, Limits, Machine};
use super::past::{Origin, Past, STACK, Symbol, TOP};
use super::takings::{Takings, Way, word};
pub use super::value::Sites;
use super::value::{REGISTERS, State, Taken, Value, View};
use super::{MOST_FRAMES, Operation, READER_COUNT, Taking, waits};
use crate::addr::Addr;
use crate::image::Image;
use crate::image::pclntab::Func;
use crate::memory::Memory;
use crate::unwind::{Physical, Walk};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// Much more than for what is ahead: what is found serves all goroutines that are parked at one place.
const LIMITS: Limits = Limits { frame: 16_000, goroutine: 16_000, part_of_goroutine: 1, part_of_call: 2 };

/// How often a run is repeated because it turned out what a named value is that it calls.
const ROUNDS: usize = 2;

/// A lock that a goroutine took on its way and did not release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The word that it counts in, as [`lock_word`] has it.
    pub word: Addr,
    /// The instructions that took it, of which one was run.
    pub at: Sites,
    /// Whether all ways to where it is parked take it and keep it.
    pub always: bool,
    /// Whether all that ran since was followed: what was not could have released it.
    pub followed: bool,
}

/// The word that a lock counts in which `operation` releases.
pub fn lock_word(at: Addr, operation: Operation) -> Addr {
    Addr::new(word(at.get(), operation))
}

/// Runs the ways to parked calls. One per thread of ours.
pub struct Before<'a> {
    machine: Machine<'a, Takings>,
    image: &'a Image,
    statics: &'a dyn Memory,
    known: FxHashMap<(Addr, Targets), Rc<Passage>>,
    spent: u64,
}

/// Named values that are called, and the functions that they are.
type Targets = Vec<(u64, u64)>;

/// What is known of the ways from a function's entry to one of its calls.
struct Passage {
    ends: Vec<End>,
    past: Rc<Past>,
    asked: Vec<u64>,
    whole: bool,
    /// The register that holds the closure when a function begins.
    closure: usize,
}

/// What is known at the end of one way.
struct End {
    words: Vec<(u64, Count)>,
    /// Where named values lie, in bytes from the caller's stack pointer.
    slots: Vec<(i64, Symbol)>,
    /// The first argument of the call.
    argument: Option<Symbol>,
    unseen: bool,
}

/// How often a lock was taken: the range over all ways.
#[derive(Clone, Copy, Default)]
struct Count {
    low: i16,
    high: i16,
    taken: Option<Taken>,
}

/// What frames did together.
#[derive(Default)]
struct Sum {
    words: FxHashMap<u64, Count>,
    unseen: bool,
}

impl<'a> Before<'a> {
    /// An interpreter of `image`'s code, which is in `statics`.
    pub fn new(image: &'a Image, statics: &'a dyn Memory) -> Before<'a> {
        let notes = Takings::on(Way::default(), &[], Rc::default(), Convention::of(image.arch));
        let machine = Machine::new(image, statics, LIMITS, notes);
        Before { machine, image, statics, known: FxHashMap::default(), spent: 0 }
    }

    /// Instructions run so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// The locks that a goroutine holds by what its frames did. `taking` is the one that it waits for,
    /// `memory` that of the instant.
    pub fn held(&mut self, memory: &dyn Memory, walk: &Walk, taking: Option<Taking>) -> Vec<Held> {
        let innermost = walk.frames.iter().take_while(|frame| waits(self.image, frame)).count();
        let wait = innermost.checked_sub(1).and_then(|n| walk.frames.get(n));
        let attempt = taking.map(|taking| Attempt::of(self.image, wait, taking));
        let mut sum = Sum::default();
        for (n, physical) in walk.frames.iter().enumerate().skip(innermost).take(MOST_FRAMES).rev() {
            let pc = physical.pc.back(u64::from(!physical.trap));
            // What the runtime calls between two frames is deferred calls: they may have released
            // anything of the frames outside.
            let func = self.image.modules.find(pc).filter(|func| !func.name().starts_with("runtime."));
            let Some(func) = func else {
                sum.words.clear();
                continue;
            };
            let receiver = attempt.filter(|_| n == innermost).and_then(|attempt| attempt.receiver);
            match self.frame(memory, physical, &func, receiver) {
                Some(done) => sum.then(done),
                None => sum.doubt(),
            }
        }
        for word in attempt.iter().flat_map(|attempt| attempt.given_back) {
            sum.lower(word);
        }
        sum.held()
    }

    /// What one frame did; `None` where not all ways to its call are known.
    fn frame(
        &mut self,
        memory: &dyn Memory,
        physical: &Physical,
        func: &Func<'_>,
        receiver: Option<u64>,
    ) -> Option<Sum> {
        if physical.trap {
            return None;
        }
        let mut targets = Targets::new();
        let mut passage = self.passage(func, physical.pc, &targets, None);
        for _ in 0..ROUNDS {
            let found = passage.targets(self.image, memory, physical, &targets);
            if found.is_empty() {
                break;
            }
            targets.extend(found);
            passage = self.passage(func, physical.pc, &targets, Some(&passage.past));
        }
        passage.done(memory, physical, receiver)
    }

    /// Runs the ways to the call that comes back to `pc`, or knows it already. Names go on from `past`.
    fn passage(
        &mut self,
        func: &Func<'_>,
        pc: Addr,
        targets: &Targets,
        past: Option<&Rc<Past>>,
    ) -> Rc<Passage> {
        let key = (pc, targets.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let past: Rc<Past> = Rc::new(past.map(|past| (**past).clone()).unwrap_or_default());
        let convention = Convention::of(self.image.arch);
        let way = Way { back_to: pc.get(), from: self.machine.ways_to(func, pc) };
        self.machine.notes = Takings::on(way, targets, past.clone(), convention);
        self.machine.next_goroutine();
        let view = View { memory: self.statics, stack: STACK, floor: 0, past: Some(&past) };
        let frame = Frame { view, pending: Vec::new() };
        self.machine.frame(func.entry(), vec![at_entry(self.image, &past)], &frame);
        self.spent += u64::from(self.machine.spent());
        let notes = &self.machine.notes;
        let end = |state| End::of(state, &frame.view, notes, convention);
        let passage = Rc::new(Passage {
            ends: notes.arrivals.iter().map(end).collect(),
            asked: notes.asked.clone(),
            whole: !notes.lost,
            past: past.clone(),
            closure: convention.closure,
        });
        self.known.insert(key, passage.clone());
        passage
    }
}

/// What is known when a function begins: where its stack is.
fn at_entry(image: &Image, past: &Past) -> State {
    let convention = Convention::of(image.arch);
    let mut state = State::blank();
    for number in (0..REGISTERS).filter(|n| *n != convention.fp) {
        state.set(number, past.name(Origin::Register(number)));
    }
    state.set(convention.sp, Value::known(TOP - image.arch.pushed_return()));
    if let Some(slot) = state.vectors.get_mut(15).filter(|_| convention.zero_vector) {
        *slot = (Value::known(0), Value::known(0));
    }
    state
}

/// An attempt to take a lock in which a goroutine is parked.
#[derive(Clone, Copy)]
struct Attempt {
    /// What the parked call has as its first argument.
    receiver: Option<u64>,
    /// Words that count as taken on the way, though they are not, or not any more.
    given_back: [Option<u64>; 2],
}

impl Attempt {
    fn of(image: &Image, wait: Option<&Physical>, taking: Taking) -> Attempt {
        let func = wait.and_then(|frame| image.modules.find(frame.pc.back(u64::from(!frame.trap))));
        let name = func.map_or("", |func| func.name());
        let name = name.strip_prefix("internal/").unwrap_or(name);
        let at = taking.at.get();
        let called =
            ["sync.(*Mutex).", "sync.(*RWMutex).", "sync.(*rlocker)."].iter().any(|p| name.starts_with(p));
        let given_back = match taking.operation {
            _ if called => [None, None],
            // A Cond has released its lock, which may be an RLocker.
            _ if name.starts_with("sync.(*Cond).") => [Some(at), Some(at.wrapping_add(READER_COUNT))],
            // An inlined RLock counts before it waits.
            Operation::RUnlock => [Some(word(at, taking.operation)), None],
            _ => [None, None],
        };
        Attempt { receiver: called.then_some(at), given_back }
    }
}

impl Count {
    fn plus(self, other: Count) -> Count {
        let taken = other.taken.or(self.taken);
        Count { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high), taken }
    }

    fn join(self, other: Count) -> Count {
        Count {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            taken: Taken::of_either(self.taken, other.taken),
        }
    }
}

impl Sum {
    /// Something ran that may have released anything.
    fn doubt(&mut self) {
        for taken in self.words.values_mut().filter_map(|count| count.taken.as_mut()) {
            taken.followed = false;
        }
    }

    /// Adds what the frame inside did.
    fn then(&mut self, inner: Sum) {
        if inner.unseen {
            self.doubt();
        }
        for (word, count) in inner.words {
            let sum = self.words.entry(word).or_default();
            *sum = sum.plus(count);
        }
    }

    /// What is sure whichever of two ways was taken.
    fn or(mut self, other: Sum) -> Sum {
        for word in other.words.keys() {
            self.words.entry(*word).or_default();
        }
        for (word, count) in &mut self.words {
            *count = count.join(other.words.get(word).copied().unwrap_or_default());
        }
        self.unseen |= other.unseen;
        self
    }

    fn lower(&mut self, word: Option<u64>) {
        if let Some(count) = word.and_then(|word| self.words.get_mut(&word)) {
            *count = Count { low: count.low.saturating_sub(1), high: count.high.saturating_sub(1), ..*count };
        }
    }

    fn held(self) -> Vec<Held> {
        let held = self.words.into_iter().filter(|(_, count)| count.high > 0);
        let mut all: Vec<Held> = held
            .filter_map(|(word, count)| {
                let taken = count.taken?;
                let always = count.low > 0;
                Some(Held { word: Addr::new(word), at: taken.at, always, followed: taken.followed })
            })
            .collect();
        all.sort_unstable_by_key(|held| held.word);
        all
    }
}

impl End {
    fn of(state: &State, view: &View<'_>, notes: &Takings, convention: &Convention) -> End {
        let counted = |balance: &super::value::Balance| {
            let word = notes.words.get(balance.object as usize)?;
            Some((*word, Count { low: balance.low.into(), high: balance.high.into(), taken: balance.taken }))
        };
        let named = |value: Value| value.bits.and_then(Symbol::of);
        let sp = state.register(convention.sp).bits.unwrap_or(TOP);
        let in_frame = state.stores(sp).filter(|(at, _)| *at < STACK.1);
        // Of several stores at one place the last is there.
        let slot = |(at, _): (u64, Value)| {
            Some((at.wrapping_sub(TOP).cast_signed(), named(state.load(view, at, 8))?))
        };
        let mut slots: Vec<(i64, Symbol)> = in_frame.filter_map(slot).collect();
        slots.dedup();
        let first = convention.arguments.first().map_or(Value::UNKNOWN, |first| state.register(*first));
        let words = state.balances.iter().filter_map(counted).collect();
        End { words, slots, argument: named(first), unseen: state.unseen }
    }

    /// What the named values stood for of which a slot of the frame tells; `None` where two differ.
    fn values(
        &self,
        memory: &dyn Memory,
        physical: &Physical,
        receiver: Option<u64>,
    ) -> FxHashMap<u16, Option<u64>> {
        let mut values: FxHashMap<u16, Option<u64>> = FxHashMap::default();
        let mut tell = |symbol: Symbol, bits: u64| {
            let value = bits.wrapping_sub(i64::from(symbol.offset).cast_unsigned());
            let known = values.entry(symbol.number).or_insert(Some(value));
            *known = known.filter(|known| *known == value);
        };
        for (distance, symbol) in &self.slots {
            let at = physical.fp.get().wrapping_add(distance.cast_unsigned());
            if let Ok(bits) = memory.read_u64(Addr::new(at)) {
                tell(*symbol, bits);
            }
        }
        if let (Some(symbol), Some(receiver)) = (self.argument, receiver) {
            tell(symbol, receiver);
        }
        values
    }
}

/// A frame's named values.
struct Reading<'r> {
    values: FxHashMap<u16, Option<u64>>,
    past: &'r Past,
    memory: &'r dyn Memory,
    closure: usize,
    fp: u64,
}

impl Reading<'_> {
    fn value(&self, symbol: Symbol) -> Option<u64> {
        let added = |value: u64| value.wrapping_add(i64::from(symbol.offset).cast_unsigned());
        if let Some(value) = self.values.get(&symbol.number) {
            return value.map(added);
        }
        // What a closure captured never changes.
        let Some(Origin::Word(at)) = self.past.origin(symbol) else { return None };
        let closure = Symbol::of(at)?;
        if self.past.origin(closure) != Some(Origin::Register(self.closure)) {
            return None;
        }
        let start = self.values.get(&closure.number).copied().flatten()?;
        let captured = start.wrapping_add(i64::from(closure.offset).cast_unsigned());
        self.memory.read_u64(Addr::new(captured)).ok().map(added)
    }

    /// The address that a number of the run stands for.
    fn address(&self, bits: u64) -> Option<u64> {
        match Symbol::of(bits) {
            Some(symbol) => self.value(symbol),
            None if (STACK.0..STACK.1).contains(&bits) => Some(self.fp.wrapping_add(bits.wrapping_sub(TOP))),
            None => Some(bits),
        }
    }
}

impl Passage {
    fn reading<'r>(
        &'r self,
        memory: &'r dyn Memory,
        physical: &Physical,
        values: FxHashMap<u16, Option<u64>>,
    ) -> Reading<'r> {
        Reading { values, past: &self.past, memory, closure: self.closure, fp: physical.fp.get() }
    }

    /// What the frame did, whichever way it took.
    fn done(&self, memory: &dyn Memory, physical: &Physical, receiver: Option<u64>) -> Option<Sum> {
        let one = |end: &End| {
            let reading = self.reading(memory, physical, end.values(memory, physical, receiver));
            let mut sum = Sum { words: FxHashMap::default(), unseen: end.unseen };
            let mut doubtful = false;
            for (bits, count) in &end.words {
                let Some(word) = reading.address(*bits) else {
                    // A release of what is not known may be that of anything.
                    doubtful |= count.low < 0;
                    continue;
                };
                let of = sum.words.entry(word).or_default();
                *of = of.plus(*count);
            }
            if doubtful {
                sum.unseen = true;
                sum.doubt();
            }
            sum
        };
        self.ends.iter().filter(|_| self.whole).map(one).reduce(Sum::or)
    }

    /// Functions that are called by a value out of a closure or a table of methods, neither of which
    /// ever changes, and which are not in `known`.
    fn targets(&self, image: &Image, memory: &dyn Memory, physical: &Physical, known: &Targets) -> Targets {
        let readings: Vec<Reading<'_>> = self
            .ends
            .iter()
            .map(|end| self.reading(memory, physical, end.values(memory, physical, None)))
            .collect();
        let target = |asked: &u64| {
            let Some(Origin::Word(at)) = self.past.origin(Symbol::of(*asked)?) else { return None };
            let holder = Symbol::of(at)?;
            let mut all = readings.iter().map(|reading| reading.value(holder));
            let first = all.next().flatten()?;
            let code = all.all(|other| other == Some(first)).then(|| memory.read_addr(Addr::new(first)));
            let code = code?.ok()?;
            let begins = image.modules.find(code).is_some_and(|func| func.entry() == code);
            begins.then_some((*asked, code.get()))
        };
        let asked = self.asked.iter().filter(|asked| known.iter().all(|(known, _)| known != *asked));
        asked.filter_map(target).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;
    use crate::unwind::Trust;

    const FP: u64 = 0xc000_1000;

    fn physical() -> Physical {
        let [pc, sp, fp] = [0x40_0010, FP - 64, FP].map(Addr::new);
        Physical { pc, sp, fp, trap: false, trust: Trust::Exact }
    }

    fn symbol(number: u16, offset: i32) -> Symbol {
        Symbol { number, offset }
    }

    fn end(slots: &[(i64, Symbol)]) -> End {
        let slots = slots.to_vec();
        End { words: Vec::new(), slots, argument: Some(symbol(9, 8)), unseen: false }
    }

    fn took(low: i16, high: i16, followed: bool) -> Count {
        let at = Sites::one(Addr::new(0x40_0000));
        Count { low, high, taken: Some(Taken { at, followed }) }
    }

    fn sum(words: &[(u64, Count)], unseen: bool) -> Sum {
        Sum { words: words.iter().copied().collect(), unseen }
    }

    #[test]
    fn slots_tell_what_values_were_unless_two_differ() {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(FP - 16), 0xc000_2010u64.to_le_bytes());
        memory.put(Addr::new(FP - 24), 0xc000_2000u64.to_le_bytes());
        memory.put(Addr::new(FP + 8), 0xc000_3000u64.to_le_bytes());
        let same = [(-16, symbol(1, 16)), (-24, symbol(1, 0)), (8, symbol(2, 0)), (64, symbol(3, 0))];
        let values = end(&same).values(&memory, &physical(), Some(0xc000_4008));
        let got = [1, 2, 3, 9].map(|n| values.get(&n).copied().flatten());
        assert_eq!(got, [Some(0xc000_2000), Some(0xc000_3000), None, Some(0xc000_4000)]);
        let differ = [(-16, symbol(1, 16)), (8, symbol(1, 0))];
        let values = end(&differ).values(&memory, &physical(), None);
        assert_eq!((values.get(&1), values.get(&9)), (Some(&None), None));
    }

    #[test]
    fn a_release_that_is_not_known_may_be_that_of_anything() {
        let passage = |words: Vec<(u64, Count)>| {
            let end = End { words, slots: Vec::new(), argument: None, unseen: false };
            let past = Rc::<Past>::default();
            Passage { ends: vec![end], past, asked: Vec::new(), whole: true, closure: 2 }
        };
        let named = symbol(5, 0).bits();
        let released = Count { low: -1, high: -1, taken: None };
        let memory = SparseMemory::new();
        let followed = |words| {
            let sum = passage(words).done(&memory, &physical(), None).unwrap();
            (sum.unseen, sum.held().first().map(|held| held.followed))
        };
        assert_eq!(followed(vec![(0x10, took(1, 1, true))]), (false, Some(true)));
        assert_eq!(followed(vec![(0x10, took(1, 1, true)), (named, released)]), (true, Some(false)));
        assert_eq!(followed(vec![(0x10, took(1, 1, true)), (named, took(0, 0, true))]), (false, Some(true)));
    }

    #[test]
    fn frames_add_up_from_the_outermost() {
        let mut all = Sum::default();
        all.then(sum(&[(0x10, took(1, 1, true)), (0x20, took(1, 1, true)), (0x30, took(0, 1, true))], false));
        all.then(sum(&[(0x20, Count { low: -1, high: -1, taken: None })], false));
        let held =
            |sum: Sum| sum.held().iter().map(|h| (h.word.get(), h.always, h.followed)).collect::<Vec<_>>();
        let mut unseen = sum(&[], false);
        unseen.then(sum(&[(0x10, took(1, 1, true))], false));
        unseen.then(sum(&[(0x40, took(1, 1, true))], true));
        assert_eq!(held(unseen), [(0x10, true, false), (0x40, true, true)]);
        assert_eq!(held(all), [(0x10, true, true), (0x30, false, true)]);
    }

    #[test]
    fn of_two_ways_only_what_both_take_is_sure() {
        let both = sum(&[(0x10, took(1, 1, true)), (0x20, took(1, 1, true))], false);
        let one = both.or(sum(&[(0x10, took(1, 1, false))], false));
        let held: Vec<_> = one.held().iter().map(|h| (h.word.get(), h.always, h.followed)).collect();
        assert_eq!(held, [(0x10, true, false), (0x20, false, true)]);
    }
}
