//! Analysis, ahead: what the interpreter knows at one point of the code: values, registers, stores of
//! its own over the snapshot, and how often each watched lock was taken and released on the way.

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
}

impl Value {
    /// Nothing is known.
    pub const UNKNOWN: Value = Value { bits: None, tainted: true };

    /// A constant.
    pub const fn known(bits: u64) -> Value {
        Value { bits: Some(bits), tainted: false }
    }

    /// The bits, if branches may be decided on them.
    pub fn sure(self) -> Option<u64> {
        if self.tainted { None } else { self.bits }
    }

    /// What `f` makes of this and `other`.
    pub fn with(self, other: Value, f: impl FnOnce(u64, u64) -> u64) -> Value {
        match (self.bits, other.bits) {
            (Some(a), Some(b)) => Value { bits: Some(f(a, b)), tainted: self.tainted || other.tainted },
            _ => Value::UNKNOWN,
        }
    }

    /// What `f` makes of this.
    pub fn map(self, f: impl FnOnce(u64) -> u64) -> Value {
        Value { bits: self.bits.map(f), tainted: self.tainted }
    }

    fn join(self, other: Value) -> Value {
        if self.bits == other.bits {
            Value { bits: self.bits, tainted: self.tainted || other.tainted }
        } else {
            Value::UNKNOWN
        }
    }
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
}

/// How often a watched object was taken (+1) and released (-1) on the way here: the range over all
/// paths that were joined, and the lowest point of any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balance {
    /// Which watched object, by its number.
    pub object: u32,
    /// Lowest sum.
    pub low: i8,
    /// Highest sum.
    pub high: i8,
    /// Lowest sum at any point of any path.
    pub least: i8,
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
    stores: Vec<(u64, u8, Value)>,
    /// Sums of the watched objects that were touched, sorted by object.
    pub balances: Vec<Balance>,
    /// Deferred calls pushed on this path: closures, last pushed last.
    pub pushed: Vec<Value>,
}

/// Memory as the interpreter sees it: the snapshot and which part of it nobody else changes.
pub struct View<'a> {
    /// The snapshot.
    pub memory: &'a dyn Memory,
    /// The goroutine's own stack: lowest address, first address above.
    pub stack: (u64, u64),
    /// Below this address of the stack everything is garbage.
    pub floor: u64,
}

impl State {
    /// Nothing is known.
    pub fn blank() -> State {
        State {
            registers: [Value::UNKNOWN; REGISTERS],
            vectors: [(Value::UNKNOWN, Value::UNKNOWN); REGISTERS],
            flags: Flags::Unknown,
            stores: Vec::new(),
            balances: Vec::new(),
            pushed: Vec::new(),
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
                    return value.map(|bits| truncate(bits.checked_shr(shift as u32).unwrap_or(0), bytes));
                }
                return Value::UNKNOWN;
            }
        }
        let own = at >= view.stack.0 && end <= view.stack.1;
        if own && at < view.floor {
            return Value::UNKNOWN;
        }
        let mut buf = [0; 8];
        let read = buf.get_mut(..bytes).is_some_and(|buf| view.memory.read(Addr::new(at), buf).is_ok());
        if read { Value { bits: Some(u64::from_le_bytes(buf)), tainted: !own } } else { Value::UNKNOWN }
    }

    /// Remembers a store of `bytes` (up to 8) at a known address.
    pub fn store(&mut self, at: u64, bytes: usize, value: Value) {
        let len = bytes.min(8) as u8;
        self.stores.retain(|(start, l, _)| !(*start >= at && start + u64::from(*l) <= at + u64::from(len)));
        if self.stores.len() >= MOST_STORES {
            self.stores.remove(0);
        }
        self.stores.push((at, len, value.map(|bits| truncate(bits, bytes))));
    }

    /// Counts one taking (+1) or release (-1); answers whether the sum may now be below zero for the
    /// first time on some path.
    pub fn count(&mut self, object: u32, step: i8) -> bool {
        let place = self.balances.binary_search_by_key(&object, |b| b.object);
        let index = match place {
            Ok(index) => index,
            Err(index) => {
                self.balances.insert(index, Balance { object, low: 0, high: 0, least: 0 });
                index
            }
        };
        let Some(balance) = self.balances.get_mut(index) else { return false };
        let before = balance.least;
        balance.low = (balance.low + step).clamp(-CLAMP, CLAMP);
        balance.high = (balance.high + step).clamp(-CLAMP, CLAMP);
        balance.least = balance.least.min(balance.low);
        before >= 0 && balance.least < 0
    }

    /// Sets the sum that an object starts with.
    pub fn begin(&mut self, object: u32, sum: i8) {
        let step = Balance { object, low: sum, high: sum, least: sum.min(0) };
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
            self.flags = Flags::Unknown;
        }
        self.join_stores(other);
        self.join_balances(other);
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
        for (at, len, value) in &self.stores {
            let there = find(&other.stores, *at, *len).unwrap_or(Value::UNKNOWN);
            joined.push((*at, *len, value.join(there)));
        }
        for (at, len, _) in &other.stores {
            if find(&self.stores, *at, *len).is_none() {
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
                        b.least = b.least.min(theirs.least);
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
        let view = View { memory: &memory, stack: (0x1000, 0x1040), floor: 0x1010 };
        let mut state = State::blank();
        assert_eq!(state.load(&view, 0x1000, 8), Value::UNKNOWN);
        assert_eq!(state.load(&view, 0x1010, 4).sure(), Some(0x1111_1111));
        assert_eq!(state.load(&view, 0x9000, 1), Value { bits: Some(0x22), tainted: true });
        state.store(0x1010, 8, Value::known(0x0102_0304_0506_0708));
        assert_eq!(state.load(&view, 0x1014, 4).sure(), Some(0x0102_0304));
        assert_eq!(state.load(&view, 0x100c, 8), Value::UNKNOWN);
    }

    #[test]
    fn a_release_before_a_taking_shows_below_zero_on_any_path() {
        let mut a = State::blank();
        assert!(!a.count(3, 1));
        assert!(!a.count(3, -1));
        assert!(a.count(3, -1));
        let mut b = State::blank();
        b.join(&a);
        assert_eq!(b.balances.first().map(|b| (b.low, b.high, b.least)), Some((-1, 0, -1)));
    }
}
