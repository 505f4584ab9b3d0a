//! Analysis, ahead: loads and stores of AArch64, and its atomic operations, of which Go uses two kinds:
//! the single instructions of Armv8.1 and loops of LDAXR and STLXR.

use super::{SP, Swap, Touch, Word, extend, read, write};
use crate::analysis::ahead::value::{Flags, State, Value, View, truncate};

/// A load or store and what is before it.
pub(super) struct Place {
    pub word: Word,
    pub pc: u64,
    /// The instruction before, and the one before that.
    pub before: [Option<Word>; 2],
}

/// Executes a load or store; answers with a swap when it is one.
pub(super) fn access(at: &Place, state: &mut State, view: &View<'_>, touch: &mut dyn Touch) -> Option<Swap> {
    let word = at.word;
    if word.is(0x3a00_0000, 0x2800_0000) {
        pair(word, state, view);
    } else if word.is(0x3f00_0000, 0x0800_0000) {
        return exclusive(at, state, view, touch);
    } else if word.is(0x3b00_0000, 0x1800_0000) {
        literal(word, at.pc, state, view);
    } else if word.is(0x3b20_0c00, 0x3820_0000) {
        atomic(at, state, touch);
    } else if word.is(0x3b00_0000, 0x3900_0000) {
        let base = state.register(word.rn());
        let offset = u64::from(word.bits(10, 12)).wrapping_mul(1 << scale(word));
        single(word, base.map(|at| at.wrapping_add(offset)), state, view);
    } else if word.is(0x3b20_0c00, 0x3820_0800) {
        let shift = if word.bit(12) { scale(word) } else { 0 };
        let index = read(state, word.rm()).map(|bits| extend(bits, word.bits(13, 3)) << shift);
        single(word, state.register(word.rn()).with(index, u64::wrapping_add), state, view);
    } else if word.is(0x3b20_0000, 0x3800_0000) {
        indexed(word, state, view);
    } else {
        // Vectors by structure: what they load or store is not followed.
        state.vectors = [(Value::UNKNOWN, Value::UNKNOWN); crate::analysis::ahead::value::REGISTERS];
        if word.bit(23) {
            state.set(word.rn(), Value::UNKNOWN);
        }
    }
    None
}

/// The logarithm of the bytes that a load or store of one register moves.
const fn scale(word: Word) -> u32 {
    let vector = word.bits(26, 1) & word.bits(23, 1);
    word.bits(30, 2) | vector << 2
}

/// LDUR and STUR, and those that change the base before or after.
fn indexed(word: Word, state: &mut State, view: &View<'_>) {
    let base = state.register(word.rn());
    let moved = base.map(|at| at.wrapping_add(word.signed(12, 9, 1)));
    let kind = word.bits(10, 2);
    single(word, if kind == 1 { base } else { moved }, state, view);
    if kind & 1 == 1 {
        state.set(word.rn(), moved);
    }
}

/// LDR and STR of one register of any width.
fn single(word: Word, at: Value, state: &mut State, view: &View<'_>) {
    let (size, operation) = (1usize << scale(word), word.bits(22, 2));
    if word.bit(26) {
        return vector(at, size, operation & 1 == 1, word.rd(), state, view);
    }
    match operation {
        0 => {
            if let Some(at) = at.bits {
                state.store(at, size, read(state, word.rd()));
            }
        }
        1 => {
            let value = load(at, size, state, view);
            write(state, word.rd(), 8, value);
        }
        // PRFM.
        2 if size == 8 => {}
        _ => {
            let value = load(at, size, state, view);
            let option = 4 | size.trailing_zeros();
            let wide = if operation == 2 { 8 } else { 4 };
            write(state, word.rd(), wide, value.map(|bits| extend(bits, option)));
        }
    }
}

fn load(at: Value, size: usize, state: &State, view: &View<'_>) -> Value {
    at.bits.map_or(Value::UNKNOWN, |at| state.load(view, at, size))
}

fn vector(at: Value, size: usize, loads: bool, number: usize, state: &mut State, view: &View<'_>) {
    let half = |n: u64| at.map(|at| at.wrapping_add(n));
    if loads {
        let low = load(half(0), size.min(8), state, view);
        let high = if size == 16 { load(half(8), 8, state, view) } else { Value::known(0) };
        if let Some(slot) = state.vectors.get_mut(number) {
            *slot = (low, high);
        }
        return;
    }
    let (low, high) = state.vectors.get(number).copied().unwrap_or_default();
    if let Some(at) = at.bits {
        state.store(at, size.min(8), low);
        if size == 16 {
            state.store(at.wrapping_add(8), 8, high);
        }
    }
}

/// LDP and STP.
fn pair(word: Word, state: &mut State, view: &View<'_>) {
    let (is_vector, loads, kind) = (word.bit(26), word.bit(22), word.bits(30, 2));
    let size = match (is_vector, kind) {
        (true, _) => 4usize << kind,
        (false, 2) => 8,
        (false, _) => 4,
    };
    let base = state.register(word.rn());
    let moved = base.map(|at| at.wrapping_add(word.signed(15, 7, size as u64)));
    let mode = word.bits(23, 2);
    let at = if mode == 1 { base } else { moved };
    let registers = [word.rd(), word.bits(10, 5) as usize];
    for (n, number) in (0u64..).zip(registers) {
        let at = at.map(|at| at.wrapping_add(n.wrapping_mul(size as u64)));
        if is_vector {
            vector(at, size, loads, number, state, view);
        } else if loads {
            let value = load(at, size, state, view);
            let value = if kind == 1 { value.map(|bits| extend(bits, 6)) } else { value };
            write(state, number, 8, value);
        } else if let Some(at) = at.bits {
            state.store(at, size, read(state, number));
        }
    }
    if mode & 1 == 1 {
        state.set(word.rn(), moved);
    }
}

/// LDR of a word near the code.
fn literal(word: Word, pc: u64, state: &mut State, view: &View<'_>) {
    let at = Value::known(pc.wrapping_add(word.signed(5, 19, 4)));
    if word.bit(26) {
        let size = 4usize << word.bits(30, 2);
        return vector(at, size, true, word.rd(), state, view);
    }
    let size = if word.bits(30, 2) == 1 { 8 } else { 4 };
    let value = load(at, size, state, view);
    write(state, word.rd(), 8, value);
}

/// LDADD, LDCLR, LDSET, SWP and their like.
fn atomic(at: &Place, state: &mut State, touch: &mut dyn Touch) {
    let word = at.word;
    let size = 1usize << word.bits(30, 2);
    let (address, operand) = (state.register(word.rn()), read(state, word.rm()));
    // LDADD.
    if word.bits(12, 4) == 0
        && let Some(bits) = operand.bits
    {
        touch.add(address.bits, signed(bits, size), at.pc, state);
    }
    if let Some(address) = address.bits {
        state.store(address, size, Value::UNKNOWN);
    }
    write(state, word.rd(), 8, Value::UNKNOWN);
}

fn signed(bits: u64, size: usize) -> i64 {
    if size == 4 { i64::from(bits as i32) } else { bits.cast_signed() }
}

/// LDAR, STLR, LDAXR, STLXR, CAS.
fn exclusive(at: &Place, state: &mut State, view: &View<'_>, touch: &mut dyn Touch) -> Option<Swap> {
    let word = at.word;
    let size = 1usize << word.bits(30, 2);
    let address = state.register(word.rn());
    let (ordered, loads, second) = (word.bit(23), word.bit(22), word.bit(21));
    match (ordered, loads, second) {
        // CAS: Rs is compared and gets what was there.
        (true, _, true) => {
            let (new, old) = (read(state, word.rd()), read(state, word.rm()));
            if let Some(at) = address.bits {
                state.store(at, size, Value::UNKNOWN);
            }
            write(state, word.rm(), 8, Value::UNKNOWN);
            let new = new.map(|bits| truncate(bits, size));
            Some(Swap { at: address.bits, new, from_constant: old.sure().is_some(), compared_next: true })
        }
        // Pairs are not used.
        (false, _, true) => {
            write(state, word.rd(), 8, Value::UNKNOWN);
            write(state, word.bits(10, 5) as usize, 8, Value::UNKNOWN);
            write(state, word.rm(), 8, Value::UNKNOWN);
            None
        }
        (_, true, false) => {
            // What LDAXR loads may have changed by then.
            let value = load(address, size, state, view);
            write(state, word.rd(), 8, Value { tainted: true, ..value });
            None
        }
        (true, false, false) => {
            if let Some(at) = address.bits {
                state.store(at, size, read(state, word.rd()));
            }
            None
        }
        (false, false, false) => store_exclusive(at, address, size, state, touch),
    }
}

/// STLXR, the end of a loop that began with LDAXR; what is between them tells an addition from a swap.
/// That it succeeds at once is all that matters: else the loop is run again.
fn store_exclusive(
    at: &Place,
    address: Value,
    size: usize,
    state: &mut State,
    touch: &mut dyn Touch,
) -> Option<Swap> {
    let word = at.word;
    let new = read(state, word.rd());
    if let Some(at) = address.bits {
        state.store(at, size, Value::UNKNOWN);
    }
    write(state, word.rm(), 8, Value::known(0));
    let before = at.before[0]?;
    // ADD of a register to what was loaded.
    if before.is(0x7fe0_fc00, 0x0b00_0000) && before.rd() == word.rd() && before.rd() != SP {
        let step = if before.rn() == before.rd() { before.rm() } else { before.rn() };
        if let Some(bits) = read(state, step).bits {
            touch.add(address.bits, signed(bits, size), at.pc, state);
        }
        return None;
    }
    // CMP and a branch that leaves the loop.
    let compares = at.before[1]?;
    let leaves = before.is(0xff00_0010, 0x5400_0000);
    if !leaves || !compares.is(0x7f20_001f, 0x6b00_001f) {
        return None;
    }
    let old = [compares.rn(), compares.rm()].map(|n| read(state, n));
    // It gets here when both are equal; the other way has left already.
    state.flags = Flags::equal(true);
    let from_constant = old.iter().any(|value| value.sure().is_some());
    let new = new.map(|bits| truncate(bits, size));
    Some(Swap { at: address.bits, new, from_constant, compared_next: false })
}
