//! Analysis, ahead: what the interpreter knows at one point of the code: values, registers, stores of
//! its own over the snapshot, and how often each watched lock was taken and released on the way.

use super::past::{Past, Symbol};
use crate::addr::Addr;
use crate::memory::Memory;

/// A 64-bit value, as far as it is known. Tainted is what came out of memory that others may change
/// before the code runs; branches are never decided on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Value {
    /// The bits; `None` = unknown.
    pub bits: Option<u64>,
    /// Whether another goroutine may change it before the code runs.
    pub tainted: bool,
    /// Whether it hangs on something that was decided already when the run began, but is not known:
    /// what a register held, how a comparison or a swap ended.
    pub decided: bool,
}

impl Value {
    /// Nothing is known.
    pub const UNKNOWN: Value = Value { bits: None, tainted: true, decided: false };

    /// It is not known, but settled.
    pub const DECIDED: Value = Value { bits: None, tainted: true, decided: true };

    /// A constant.
    pub const fn known(bits: u64) -> Value {
        Value { bits: Some(bits), tainted: false, decided: false }
    }

    /// Unknown; settled where one of the values is that it is made of.
    pub const fn unknown_of(decided: bool) -> Value {
        if decided { Value::DECIDED } else { Value::UNKNOWN }
    }

    /// The bits, if branches may be decided on them.
    pub fn sure(self) -> Option<u64> {
        if self.tainted { None } else { self.bits }
    }

    /// What `f` makes of this and `other`.
    pub fn with(self, other: Value, f: impl FnOnce(u64, u64) -> u64) -> Value {
        let made = match (self.bits, other.bits) {
            (Some(a), Some(b)) => Some(f(a, b)).filter(|made| keeps_name(a, *made) && keeps_name(b, *made)),
            _ => None,
        };
        match made {
            Some(bits) => Value { bits: Some(bits), tainted: self.tainted || other.tainted, decided: false },
            None => Value::unknown_of(self.decided || other.decided),
        }
    }

    /// What `f` makes of this.
    pub fn map(self, f: impl FnOnce(u64) -> u64) -> Value {
        let made = |bits| Some(f(bits)).filter(|made| keeps_name(bits, *made));
        Value { bits: self.bits.and_then(made), ..self }
    }

    fn join(self, other: Value) -> Value {
        let decided = self.decided || other.decided;
        if self.bits == other.bits {
            Value { bits: self.bits, tainted: self.tainted || other.tainted, decided }
        } else {
            Value::unknown_of(decided)
        }
    }
}

/// Whether what was made of a value is still that value and something added, if it has but a name: a part
/// or a multiple of the name says nothing.
fn keeps_name(bits: u64, made: u64) -> bool {
    Symbol::of(bits).is_none_or(|named| Symbol::of(made).is_some_and(|made| made.number == named.number))
}

/// Keeps the low `bytes` of a number.
pub fn truncate(bits: u64, bytes: usize) -> u64 {
    match bytes {
        1 => bits & 0xff,
        2 => bits & 0xffff,
        4 => bits & 0xffff_ffff,
        _ => bits,
    }
}

/// A comparison whose outcome a branch may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flags {
    /// Nothing is known.
    #[default]
    Unknown,
    /// `a - b` on so many bytes.
    Compare(Value, Value, usize),
    /// The result of a logical operation on so many bytes.
    Result(Value, usize),
    /// It was settled before the run began, but is not known.
    Decided,
}

impl Flags {
    /// Known to say equal, or not equal.
    pub const fn equal(equal: bool) -> Flags {
        Flags::Result(Value::known(!equal as u64), 1)
    }

    /// Whether the outcome was settled before the run began, though it is not known.
    pub fn decided(self) -> bool {
        match self {
            Flags::Unknown => false,
            Flags::Compare(a, b, _) => a.decided || b.decided,
            Flags::Result(value, _) => value.decided,
            Flags::Decided => true,
        }
    }
}

/// On what it hangs that this way is taken, where that is no matter of what is yet to come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Gate {
    /// On nothing.
    #[default]
    Open,
    /// On something that was decided when the run began: the branch that asks for it, and the answer.
    Side(u64, bool),
    /// On an attempt that may fail, or on several things.
    Attempt,
}

impl Gate {
    /// What a way hangs on where two have met.
    pub fn join(self, other: Gate) -> Gate {
        match (self, other) {
            (Gate::Open, _) | (_, Gate::Open) => Gate::Open,
            (Gate::Side(a, x), Gate::Side(b, y)) if a == b => {
                if x == y {
                    self
                } else {
                    Gate::Open
                }
            }
            _ => Gate::Attempt,
        }
    }

    /// After one more branch on something decided.
    pub fn side(self, at: u64, answer: bool) -> Gate {
        match self {
            Gate::Open => Gate::Side(at, answer),
            // It was asked before: in a loop that comes back with something new.
            Gate::Side(before, _) if before == at => self,
            _ => Gate::Attempt,
        }
    }
}

/// How often a watched object was taken (+1) and released (-1) on the way here: the range over all
/// paths that were joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balance {
    /// Which watched object, by its number.
    pub object: u32,
    /// Lowest sum.
    pub low: i8,
    /// Highest sum.
    pub high: i8,
    /// The last taking, where takings are looked for.
    pub taken: Option<Taken>,
}

/// Instructions, of which one was run: on different ways different ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sites {
    all: [Option<Addr>; 4],
    more: bool,
}

impl Sites {
    /// One instruction.
    pub fn one(at: Addr) -> Sites {
        Sites { all: [Some(at), None, None, None], more: false }
    }

    /// Those of either of two ways.
    pub fn join(mut self, other: Sites) -> Sites {
        self.more |= other.more;
        for at in other.all.into_iter().flatten() {
            if self.all.contains(&Some(at)) {
                continue;
            }
            match self.all.iter_mut().find(|slot| slot.is_none()) {
                Some(slot) => *slot = Some(at),
                None => self.more = true,
            }
        }
        self.all.sort_unstable_by_key(|at| (at.is_none(), *at));
        self
    }

    /// All of them; nothing when there are too many.
    pub fn all(self) -> impl Iterator<Item = Addr> {
        self.all.into_iter().filter(move |_| !self.more).flatten()
    }
}

/// How an object was taken on the way here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The instructions that did it.
    pub at: Sites,
    /// Whether all that ran since was followed.
    pub followed: bool,
}

impl Taken {
    /// The taking of one of two ways.
    pub fn join(self, other: Taken) -> Taken {
        Taken { at: self.at.join(other.at), followed: self.followed && other.followed }
    }

    /// That of those of two ways that have one.
    pub fn of_either(one: Option<Taken>, other: Option<Taken>) -> Option<Taken> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.join(other)),
            (one, other) => one.or(other),
        }
    }
}

/// Registers that exist: 16 on amd64, 32 on arm64.
pub const REGISTERS: usize = 32;

/// Stores that are remembered; more make the oldest unknown.
const MOST_STORES: usize = 192;

/// Sums are kept in this range: no code holds a lock more often.
const CLAMP: i8 = 4;

/// What is known at one point of the code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// General registers.
    pub registers: [Value; REGISTERS],
    /// Vector registers, low and high half.
    pub vectors: [(Value, Value); REGISTERS],
    /// The last comparison.
    pub flags: Flags,
    /// What the next comparison will say, when it asks how a swap went.
    pub swapped: Option<bool>,
    stores: Vec<(u64, u8, Value)>,
    /// Sums of the watched objects that were touched, sorted by object.
    pub balances: Vec<Balance>,
    /// Deferred calls pushed on this path: closures, last pushed last.
    pub pushed: Vec<Value>,
    /// On what this path hangs.
    pub gate: Gate,
    /// Whether something ran that was not followed, where that is looked for.
    pub unseen: bool,
}

/// What a release says of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// It was taken on the way: no more than that is given back.
    OwnTaking,
    /// On some of the ways that met here it was not taken.
    Perhaps,
    /// It was not taken on any way here: it is held now.
    Held,
}

/// Memory as the interpreter sees it: the snapshot and which part of it nobody else changes.
pub struct View<'a> {
    /// The snapshot.
    pub memory: &'a dyn Memory,
    /// The goroutine's own stack: lowest address, first address above.
    pub stack: (u64, u64),
    /// Below this address of the stack everything is garbage.
    pub floor: u64,
    /// Names for what memory held at an earlier time, where that is asked for and not what it holds now.
    pub past: Option<&'a Past>,
}

impl View<'_> {
    fn is_own(&self, at: u64, end: u64) -> bool {
        at >= self.stack.0 && end <= self.stack.1
    }
}

impl State {
    /// Nothing is known.
    pub fn blank() -> State {
        State {
            registers: [Value::UNKNOWN; REGISTERS],
            vectors: [(Value::UNKNOWN, Value::UNKNOWN); REGISTERS],
            flags: Flags::Unknown,
            swapped: None,
            stores: Vec::new(),
            balances: Vec::new(),
            pushed: Vec::new(),
            gate: Gate::Open,
            unseen: false,
        }
    }

    /// A register.
    pub fn register(&self, number: usize) -> Value {
        self.registers.get(number).copied().unwrap_or(Value::UNKNOWN)
    }

    /// Sets a register.
    pub fn set(&mut self, number: usize, value: Value) {
        if let Some(slot) = self.registers.get_mut(number) {
            *slot = value;
        }
    }

    /// Reads `bytes` (up to 8) at a known address: own stores first, then the snapshot.
    pub fn load(&self, view: &View<'_>, at: u64, bytes: usize) -> Value {
        let end = at.wrapping_add(bytes as u64);
        for (start, len, value) in self.stores.iter().rev() {
            let (s, e) = (*start, start.wrapping_add(u64::from(*len)));
            if s < end && at < e {
                if s <= at && end <= e {
                    let shift = (at - s) * 8;
                    let value =
                        value.map(|bits| truncate(bits.checked_shr(shift as u32).unwrap_or(0), bytes));
                    // Of the past it is not known who else stored there before it is read.
                    let others = view.past.is_some() && !view.is_own(at, end);
                    return Value { tainted: value.tainted || others, ..value };
                }
                return Value::UNKNOWN;
            }
        }
        if let Some(past) = view.past {
            return past.word(at, bytes);
        }
        let own = view.is_own(at, end);
        if own && at < view.floor {
            return Value::UNKNOWN;
        }
        let mut buf = [0; 8];
        let read = buf.get_mut(..bytes).is_some_and(|buf| view.memory.read(Addr::new(at), buf).is_ok());
        if read {
            Value { bits: Some(u64::from_le_bytes(buf)), tainted: !own, decided: false }
        } else {
            Value::UNKNOWN
        }
    }

    /// Remembers a store of `bytes` (up to 8) at a known address.
    pub fn store(&mut self, at: u64, bytes: usize, value: Value) {
        let len = bytes.min(8) as u8;
        let covered = |start: u64, old: u8| {
            let skip = start.checked_sub(at);
            skip.is_some_and(|skip| skip.saturating_add(old.into()) <= len.into())
        };
        self.stores.retain(|(start, old, _)| !covered(*start, *old));
        if self.stores.len() >= MOST_STORES {
            self.stores.remove(0);
        }
        self.stores.push((at, len, value.map(|bits| truncate(bits, bytes))));
    }

    /// Counts one taking (+1) or release (-1); says what a release tells of the object.
    pub fn count(&mut self, object: u32, step: i8) -> Release {
        let place = self.balances.binary_search_by_key(&object, |b| b.object);
        let index = match place {
            Ok(index) => index,
            Err(index) => {
                self.balances.insert(index, Balance { object, low: 0, high: 0, taken: None });
                index
            }
        };
        let Some(balance) = self.balances.get_mut(index) else { return Release::OwnTaking };
        balance.low = (balance.low + step).clamp(-CLAMP, CLAMP);
        balance.high = (balance.high + step).clamp(-CLAMP, CLAMP);
        match (balance.low < 0, balance.high < 0) {
            _ if step >= 0 => Release::OwnTaking,
            (_, true) => Release::Held,
            (true, false) => Release::Perhaps,
            (false, false) => Release::OwnTaking,
        }
    }

    /// Sets the sum that an object starts with.
    pub fn begin(&mut self, object: u32, sum: i8) {
        let step = Balance { object, low: sum, high: sum, taken: None };
        match self.balances.binary_search_by_key(&object, |b| b.object) {
            Ok(index) => {
                if let Some(b) = self.balances.get_mut(index) {
                    b.low += sum;
                    b.high += sum;
                }
            }
            Err(index) => self.balances.insert(index, step),
        }
    }

    /// Notes how an object was taken that was counted.
    pub fn took(&mut self, object: u32, taken: Taken) {
        if let Ok(index) = self.balances.binary_search_by_key(&object, |b| b.object)
            && let Some(balance) = self.balances.get_mut(index)
        {
            balance.taken = Some(taken);
        }
    }

    /// Something ran that was not followed, and may have done anything.
    pub fn doubt(&mut self) {
        self.unseen = true;
        for taken in self.balances.iter_mut().filter_map(|balance| balance.taken.as_mut()) {
            taken.followed = false;
        }
    }

    /// What was stored at `from` and above, with the addresses, the last last.
    pub fn stores(&self, from: u64) -> impl Iterator<Item = (u64, Value)> + '_ {
        self.stores.iter().filter(move |(at, ..)| *at >= from).map(|(at, _, value)| (*at, *value))
    }

    /// What was stored from `from` up to `to` is garbage by now: the stack of callees that have returned.
    pub fn discard(&mut self, from: u64, to: u64) {
        self.stores.retain(|(at, ..)| !(from..to).contains(at));
    }

    /// Branches are no longer decided on what was stored at `from` and above.
    pub fn taint(&mut self, from: u64) {
        self.stores.iter_mut().filter(|(at, ..)| *at >= from).for_each(|(.., value)| value.tainted = true);
    }

    /// Forgets what a call that is not followed leaves unknown: everything but the kept registers.
    pub fn forget(&mut self, kept: &[usize]) {
        for (i, register) in self.registers.iter_mut().enumerate() {
            if !kept.contains(&i) {
                *register = Value::UNKNOWN;
            }
        }
        self.vectors = [(Value::UNKNOWN, Value::UNKNOWN); REGISTERS];
        self.flags = Flags::Unknown;
    }

    /// Joins another state into this one: what differs becomes unknown, sums become ranges.
    pub fn join(&mut self, other: &State) {
        for (a, b) in self.registers.iter_mut().zip(&other.registers) {
            *a = a.join(*b);
        }
        for (a, b) in self.vectors.iter_mut().zip(&other.vectors) {
            *a = (a.0.join(b.0), a.1.join(b.1));
        }
        if self.flags != other.flags {
            let decided = self.flags.decided() || other.flags.decided();
            self.flags = if decided { Flags::Decided } else { Flags::Unknown };
        }
        self.join_stores(other);
        self.join_balances(other);
        self.gate = self.gate.join(other.gate);
        self.unseen |= other.unseen;
        self.swapped = self.swapped.filter(|_| self.swapped == other.swapped);
        if self.pushed != other.pushed {
            let longer = self.pushed.len().max(other.pushed.len());
            let mut joined = Vec::with_capacity(longer);
            for i in 0..longer {
                let pair = (self.pushed.get(i), other.pushed.get(i));
                joined.push(match pair {
                    (Some(a), Some(b)) => a.join(*b),
                    (Some(v), None) | (None, Some(v)) => *v,
                    (None, None) => Value::UNKNOWN,
                });
            }
            self.pushed = joined;
        }
    }

    fn join_stores(&mut self, other: &State) {
        if self.stores == other.stores {
            return;
        }
        let find = |stores: &[(u64, u8, Value)], at, len| {
            stores.iter().rev().find(|(a, l, _)| *a == at && *l == len).map(|(_, _, v)| *v)
        };
        let mut joined = Vec::with_capacity(self.stores.len());
        for (i, (at, len, value)) in self.stores.iter().enumerate() {
            // Mostly both have the same stores in the same order.
            let there = match other.stores.get(i) {
                Some((a, l, there)) if a == at && l == len => *there,
                _ => find(&other.stores, *at, *len).unwrap_or(Value::UNKNOWN),
            };
            joined.push((*at, *len, value.join(there)));
        }
        for (i, (at, len, _)) in other.stores.iter().enumerate() {
            let here = self.stores.get(i).is_some_and(|(a, l, _)| a == at && l == len);
            if !here && find(&self.stores, *at, *len).is_none() {
                joined.push((*at, *len, Value::UNKNOWN));
            }
        }
        joined.truncate(MOST_STORES);
        self.stores = joined;
    }

    fn join_balances(&mut self, other: &State) {
        for theirs in &other.balances {
            match self.balances.binary_search_by_key(&theirs.object, |b| b.object) {
                Ok(index) => {
                    if let Some(b) = self.balances.get_mut(index) {
                        b.low = b.low.min(theirs.low);
                        b.high = b.high.max(theirs.high);
                        b.taken = Taken::of_either(b.taken, theirs.taken);
                    }
                }
                Err(index) => {
                    let low = theirs.low.min(0);
                    let high = theirs.high.max(0);
                    self.balances.insert(index, Balance { low, high, ..*theirs });
                }
            }
        }
        for own in &mut self.balances {
            if other.balances.binary_search_by_key(&own.object, |b| b.object).is_err() {
                own.low = own.low.min(0);
                own.high = own.high.max(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn own_stores_hide_the_snapshot_and_garbage_is_unknown() {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x1000), [0x11; 64]);
        memory.put(Addr::new(0x9000), [0x22; 8]);
        let view = View { memory: &memory, stack: (0x1000, 0x1040), floor: 0x1010, past: None };
        let mut state = State::blank();
        assert_eq!(state.load(&view, 0x1000, 8), Value::UNKNOWN);
        assert_eq!(state.load(&view, 0x1010, 4).sure(), Some(0x1111_1111));
        assert_eq!(state.load(&view, 0x9000, 1), Value { bits: Some(0x22), tainted: true, decided: false });
        state.store(0x1010, 8, Value::known(0x0102_0304_0506_0708));
        assert_eq!(state.load(&view, 0x1014, 4).sure(), Some(0x0102_0304));
        assert_eq!(state.load(&view, 0x100c, 8), Value::UNKNOWN);
        // A wild address at the end of all, as met in a goroutine that ran.
        state.store(u64::MAX - 3, 8, Value::known(1));
        state.store(u64::MAX - 3, 8, Value::known(2));
        assert_eq!(state.load(&view, u64::MAX - 3, 8), Value::UNKNOWN);
    }

    #[test]
    fn a_release_before_a_taking_tells_that_it_is_held() {
        let mut a = State::blank();
        assert_eq!(a.count(3, 1), Release::OwnTaking);
        assert_eq!(a.count(3, -1), Release::OwnTaking);
        assert_eq!(a.count(3, -1), Release::Held);
        // Where a way met that has it from here, nothing is sure.
        let (mut b, mut c) = (State::blank(), State::blank());
        b.count(3, 1);
        c.join(&b);
        assert_eq!(c.count(3, -1), Release::Perhaps);
        assert_eq!(c.count(3, -1), Release::Held);
    }

    #[test]
    fn what_both_answers_lead_to_hangs_on_neither() {
        let (yes, no) = (Gate::Open.side(7, true), Gate::Open.side(7, false));
        assert_eq!((yes.join(no), yes.join(yes)), (Gate::Open, yes));
        assert_eq!(yes.join(Gate::Open), Gate::Open);
        assert_eq!((yes.side(7, false), yes.side(8, true)), (yes, Gate::Attempt));
        assert_eq!(yes.join(Gate::Attempt), Gate::Attempt);
    }

    #[test]
    fn of_a_value_that_has_but_a_name_a_part_or_a_multiple_is_unknown() {
        let named = Value { tainted: true, ..Value::known(Symbol { number: 3, offset: 8 }.bits()) };
        let moved = named.with(Value::known(16), u64::wrapping_add);
        assert_eq!(moved.bits, Some(Symbol { number: 3, offset: 24 }.bits()));
        assert_eq!(named.map(|bits| bits.wrapping_sub(8)).bits.map(|bits| bits as u32), Some(1 << 31));
        for value in [
            named.map(|bits| truncate(bits, 4)),
            named.map(|bits| bits << 3),
            named.with(Value::known(15), |a, b| a & b),
            named.with(named, u64::wrapping_sub),
        ] {
            assert_eq!(value.bits, None);
        }
    }

    #[test]
    fn where_ways_meet_all_places_of_a_taking_are_kept_unless_there_are_too_many() {
        let at = |n: u64| Taken { at: Sites::one(Addr::new(n)), followed: n != 2 };
        let both = at(2).join(at(1)).join(at(2));
        assert_eq!(both.at.all().map(Addr::get).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((both.followed, Taken::of_either(None, Some(both))), (false, Some(both)));
        let many = (1..6).map(at).reduce(Taken::join);
        assert_eq!(many.map(|many| many.at.all().count()), Some(0));
        // A way that did not take it leaves the place.
        let (mut a, mut b) = (State::blank(), State::blank());
        b.count(7, 1);
        b.took(7, at(1));
        a.join(&b);
        assert_eq!(a.balances, [Balance { object: 7, low: 0, high: 1, taken: Some(at(1)) }]);
        a.doubt();
        assert_eq!(a.balances.first().and_then(|b| b.taken).map(|taken| taken.followed), Some(false));
    }
}
