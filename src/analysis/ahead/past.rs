//! Analysis, ahead: names for values of the past. What a register held when a function began, what a
//! word of memory held, what a call returned is not known any more; but it has a name, and who finds
//! the same value later, at a place that is known, knows it again.

use super::value::Value;
use rustc_hash::FxHashMap;
use std::cell::RefCell;

/// Where a value came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// A register when the function began.
    Register(usize),
    /// The word of memory at this address, which may be a named value itself.
    Word(u64),
    /// What the instruction at this address, or the call there, left in a register.
    Result(u64, usize),
}

/// A named value and what was added to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Symbol {
    /// Its number.
    pub number: u16,
    /// What was added.
    pub offset: i32,
}

/// The highest 16 bits of a named value, which no address has; then comes the number, then what was added,
/// from [`MIDDLE`].
const TAG: u64 = 0x5a5a;

/// A named value to which nothing was added has this in its lower half, so that less may be added, too.
const MIDDLE: u32 = 1 << 31;

/// The caller's stack pointer in the frame that is run: the highest address of its own.
pub const TOP: u64 = 0x6b6b_0000_8000_0000;

/// Bytes of stack that the run may use, and those above the frame, where its own arguments are spilled.
pub const STACK: (u64, u64) = (TOP - (1 << 24), TOP + 512);

/// Where no address of a program lies, and above.
const NO_ADDRESS: u64 = 1 << 47;

impl Symbol {
    /// The named value that a number is, if it is one.
    pub fn of(bits: u64) -> Option<Symbol> {
        let offset = (bits as u32).wrapping_sub(MIDDLE).cast_signed();
        (bits >> 48 == TAG).then_some(Symbol { number: (bits >> 32) as u16, offset })
    }

    /// As a number.
    pub fn bits(self) -> u64 {
        let low = self.offset.cast_unsigned().wrapping_add(MIDDLE);
        TAG << 48 | u64::from(self.number) << 32 | u64::from(low)
    }
}

/// The names that were given in one run.
#[derive(Clone, Default, Debug)]
pub struct Past {
    names: RefCell<Names>,
}

#[derive(Clone, Default, Debug)]
struct Names {
    all: Vec<Origin>,
    numbers: FxHashMap<Origin, u16>,
}

impl Past {
    /// The value from `origin`, always the same; unknown when there are too many.
    pub fn name(&self, origin: Origin) -> Value {
        let mut names = self.names.borrow_mut();
        let known = names.numbers.get(&origin).copied();
        let number = known.or_else(|| {
            let number = u16::try_from(names.all.len()).ok()?;
            names.all.push(origin);
            names.numbers.insert(origin, number);
            Some(number)
        });
        let bits = number.map(|number| Symbol { number, offset: 0 }.bits());
        Value { bits, tainted: true, decided: false }
    }

    /// What a word of memory held that the run itself did not store.
    pub fn word(&self, at: u64, bytes: usize) -> Value {
        let callers = (TOP..STACK.1).contains(&at);
        if bytes == 8 && (callers || at < NO_ADDRESS || Symbol::of(at).is_some()) {
            self.name(Origin::Word(at))
        } else {
            Value::UNKNOWN
        }
    }

    /// Where a named value came from.
    pub fn origin(&self, symbol: Symbol) -> Option<Origin> {
        self.names.borrow().all.get(usize::from(symbol.number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_name_and_what_was_added() {
        let past = Past::default();
        let a = past.name(Origin::Register(0));
        let b = past.word(a.bits.unwrap() + 8, 8);
        assert_eq!((past.name(Origin::Register(0)), past.word(a.bits.unwrap() + 8, 8)), (a, b));
        assert_ne!(a.bits, b.bits);
        assert_eq!(a.sure(), None);
        let moved = Symbol::of(b.bits.unwrap().wrapping_sub(16)).unwrap();
        assert_eq!(moved, Symbol { number: 1, offset: -16 });
        assert_eq!(past.origin(moved), Some(Origin::Word(a.bits.unwrap() + 8)));
    }

    #[test]
    fn what_is_no_name_is_not_taken_for_one() {
        let past = Past::default();
        let a = past.name(Origin::Register(0)).bits.unwrap();
        for bits in [0, 0xc000_0012_3456, TOP, a << 1, a << 3, a.wrapping_add(a), a & 0xffff_ffff, !a] {
            assert_eq!(Symbol::of(bits), None, "{bits:#x}");
        }
        // Part of a word, what the run itself has on its stack, and no address at all.
        for (at, bytes) in [(a, 4), (TOP - 8, 8), (a << 1, 8)] {
            assert_eq!(past.word(at, bytes), Value::UNKNOWN);
        }
    }
}
