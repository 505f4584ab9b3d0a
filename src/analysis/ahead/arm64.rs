//! Analysis, ahead: one AArch64 instruction. What is not modelled makes its results unknown, never
//! wrong. Encodings as in the Arm Architecture Reference Manual for A-profile, chapter C4.

mod memory;

use super::code::{After, Leads};
use super::flow::{Flow, Swap, Touch};
use super::value::{Flags, State, Value, View};

/// The link register.
pub const LINK: usize = 30;

/// The stack pointer's place among the registers; as an operand of most instructions, 31 is zero.
const SP: usize = 31;

/// One instruction word.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    /// `len` bits from bit `low`.
    const fn bits(self, low: u32, len: u32) -> u32 {
        (self.0 >> low) & ((1 << len) - 1)
    }

    const fn bit(self, n: u32) -> bool {
        self.bits(n, 1) == 1
    }

    /// The same, signed, times `scale`, as an offset to add with wrapping.
    fn signed(self, low: u32, len: u32, scale: u64) -> u64 {
        let unused = 32 - len;
        let value = (self.bits(low, len) << unused).cast_signed() >> unused;
        i64::from(value).cast_unsigned().wrapping_mul(scale)
    }

    const fn is(self, mask: u32, value: u32) -> bool {
        self.0 & mask == value
    }

    const fn rd(self) -> usize {
        self.bits(0, 5) as usize
    }

    const fn rn(self) -> usize {
        self.bits(5, 5) as usize
    }

    const fn rm(self) -> usize {
        self.bits(16, 5) as usize
    }

    /// Whether it works on 64 bits.
    const fn wide(self) -> bool {
        self.bit(31)
    }

    /// Bytes that it works on.
    const fn size(self) -> usize {
        if self.wide() { 8 } else { 4 }
    }
}

/// Reads a register that is zero when its number is 31.
fn read(state: &State, number: usize) -> Value {
    if number == SP { Value::known(0) } else { state.register(number) }
}

/// Writes a register, unless its number is 31.
fn write(state: &mut State, number: usize, size: usize, value: Value) {
    if number != SP {
        state.set(number, value.map(|bits| super::value::truncate(bits, size)));
    }
}

/// Executes the instruction `place` of a function whose code is `words`, from `entry`.
pub fn step(
    words: &[u32],
    entry: u64,
    place: usize,
    state: &mut State,
    view: &View<'_>,
    touch: &mut dyn Touch,
) -> Flow {
    let Some(word) = words.get(place).map(|word| Word(*word)) else { return Flow::Stop };
    let pc = entry.wrapping_add(4 * place as u64);
    match word.bits(25, 4) {
        0b1000 | 0b1001 => immediate(word, pc, state),
        0b1010 | 0b1011 => return branch(word, pc, state),
        0b0101 | 0b1101 => register(word, state),
        0b0111 | 0b1111 => vector(word, state),
        n if n & 0b0101 == 0b0100 => {
            let before = |n: usize| place.checked_sub(n).and_then(|i| words.get(i)).map(|word| Word(*word));
            let at = memory::Place { word, pc, before: [before(1), before(2)] };
            if let Some(swap) = memory::access(&at, state, view, touch) {
                return Flow::Swap(swap);
            }
        }
        // Not allocated, UDF.
        _ => return Flow::Stop,
    }
    Flow::Next
}

/// Where an instruction leads, without running it. Jump tables stay in their function.
pub fn leads(word: u32, pc: u64) -> Leads {
    let word = Word(word);
    if word.is(0x7c00_0000, 0x1400_0000) {
        return Leads::To(pc.wrapping_add(word.signed(0, 26, 4)));
    }
    // BLR; exclusive, compare-and-swap; LDADD and its like.
    let open = word.is(0xffff_fc1f, 0xd63f_0000)
        || word.is(0x3f00_0000, 0x0800_0000) && !word.is(0x3fe0_0000, 0x08c0_0000)
        || word.is(0x3b20_0c00, 0x3820_0000);
    if open { Leads::Anywhere } else { Leads::Nowhere }
}

/// What may be run after an instruction.
pub fn after(word: u32, pc: u64) -> After {
    let word = Word(word);
    let target = |low, len| pc.wrapping_add(word.signed(low, len, 4));
    if word.is(0xfc00_0000, 0x1400_0000) {
        After::Only(target(0, 26))
    } else if word.is(0xff00_0010, 0x5400_0000) || word.is(0x7e00_0000, 0x3400_0000) {
        After::Also(target(5, 19))
    } else if word.is(0x7e00_0000, 0x3600_0000) {
        After::Also(target(5, 14))
    } else if word.is(0xffff_fc1f, 0xd61f_0000) {
        After::Any
    } else if word.is(0xffff_fc1f, 0xd65f_0000) {
        After::Nothing
    } else {
        After::Next
    }
}

/// Numbers in the instruction.
fn immediate(word: Word, pc: u64, state: &mut State) {
    let size = word.size();
    match word.bits(23, 3) {
        0b000 | 0b001 => {
            let distance = Word(word.bits(5, 19) << 2 | word.bits(29, 2));
            let at = if word.wide() {
                (pc & !0xfff).wrapping_add(distance.signed(0, 21, 1 << 12))
            } else {
                pc.wrapping_add(distance.signed(0, 21, 1))
            };
            write(state, word.rd(), 8, Value::known(at));
        }
        0b010 => {
            let number = Value::known(u64::from(word.bits(10, 12)) << (word.bits(22, 1) * 12));
            let first = state.register(word.rn());
            if word.bit(29) {
                return add(word, first, number, state);
            }
            let value = sum(word, first, number);
            state.set(word.rd(), value.map(|bits| super::value::truncate(bits, size)));
        }
        0b100 => {
            let mask = bit_mask(word).map_or(Value::UNKNOWN, Value::known);
            logical(word, mask, word.rd(), state);
        }
        0b101 => wide_move(word, state),
        0b110 => bit_field(word, state),
        _ => write(state, word.rd(), 8, Value::UNKNOWN),
    }
}

fn sum(word: Word, a: Value, b: Value) -> Value {
    if word.bit(30) { a.with(b, u64::wrapping_sub) } else { a.with(b, u64::wrapping_add) }
}

/// ADDS and SUBS, also as CMN and CMP.
fn add(word: Word, a: Value, b: Value, state: &mut State) {
    let value = sum(word, a, b);
    state.flags =
        if word.bit(30) { Flags::Compare(a, b, word.size()) } else { Flags::Result(value, word.size()) };
    if let Some(equal) = state.swapped.take() {
        state.flags = Flags::equal(equal);
    }
    write(state, word.rd(), word.size(), value);
}

/// AND, ORR, EOR, ANDS, with `b` inverted before where the instruction says so.
fn logical(word: Word, b: Value, target: usize, state: &mut State) {
    let a = read(state, word.rn());
    let value = match word.bits(29, 2) {
        0 | 3 => a.with(b, |a, b| a & b),
        1 => a.with(b, |a, b| a | b),
        _ => a.with(b, |a, b| a ^ b),
    };
    if word.bits(29, 2) == 3 {
        state.flags = Flags::Result(value, word.size());
        return write(state, target, word.size(), value);
    }
    // ORR and its like with a number may write SP.
    if word.bits(23, 6) == 0b100100 {
        return state.set(target, value.map(|bits| super::value::truncate(bits, word.size())));
    }
    write(state, target, word.size(), value);
}

/// The number that N, immr and imms stand for (`DecodeBitMasks`).
fn bit_mask(word: Word) -> Option<u64> {
    let (n, rotate, ones) = (word.bits(22, 1), word.bits(16, 6), word.bits(10, 6));
    let len = 31u32.checked_sub((n << 6 | (!ones & 0x3f)).leading_zeros())?;
    let size = 1u32.checked_shl(len)?;
    let (ones, rotate) = (ones & (size - 1), rotate & (size - 1));
    let pattern = u64::MAX.checked_shr(63u32.checked_sub(ones)?)?;
    let element = if size == 64 { u64::MAX } else { (1u64 << size) - 1 };
    let left = pattern.checked_shl(size.checked_sub(rotate)?).unwrap_or(0);
    let mut mask = (pattern.checked_shr(rotate)? | left) & element;
    let mut width = size;
    while width < 64 {
        mask |= mask << width;
        width *= 2;
    }
    Some(mask)
}

/// MOVN, MOVZ, MOVK.
fn wide_move(word: Word, state: &mut State) {
    let shift = word.bits(21, 2) * 16;
    let number = u64::from(word.bits(5, 16)) << shift;
    let value = match word.bits(29, 2) {
        0 => Value::known(!number),
        2 => Value::known(number),
        3 => read(state, word.rd()).map(|bits| bits & !(0xffff << shift) | number),
        _ => Value::UNKNOWN,
    };
    write(state, word.rd(), word.size(), value);
}

/// SBFM and UBFM: shifts by a number, extensions; BFM is not modelled.
fn bit_field(word: Word, state: &mut State) {
    let (from, to, width) = (word.bits(16, 6), word.bits(10, 6), if word.wide() { 64 } else { 32 });
    let value = read(state, word.rn());
    let signed = word.bits(29, 2) == 0;
    let moved = value.map(|bits| {
        // The bits 0..=to go to where from says.
        let field = if to >= from { bits >> from } else { bits };
        let len = if to >= from { to - from + 1 } else { to + 1 };
        let unused = 64 - len.min(64);
        let field = if signed {
            ((field << unused).cast_signed() >> unused).cast_unsigned()
        } else {
            (field << unused) >> unused
        };
        if to >= from { field } else { field << (width - from) }
    });
    let value = if word.bits(29, 2) == 1 { Value::unknown_of(value.decided) } else { moved };
    write(state, word.rd(), word.size(), value);
}

fn branch(word: Word, pc: u64, state: &mut State) -> Flow {
    let target = |low, len| pc.wrapping_add(word.signed(low, len, 4));
    if word.is(0xfc00_0000, 0x1400_0000) {
        return Flow::Jump(target(0, 26));
    }
    if word.is(0xfc00_0000, 0x9400_0000) {
        return Flow::Call(Some(target(0, 26)));
    }
    if word.is(0xff00_0010, 0x5400_0000) {
        return conditional(
            target(5, 19),
            outcome(word.bits(0, 4), state.flags),
            state.flags.decided(),
            match word.bits(0, 4) {
                0 => Some(true),
                1 => Some(false),
                _ => None,
            },
        );
    }
    if word.is(0x7e00_0000, 0x3400_0000) {
        // CBZ, CBNZ.
        let value = read(state, word.rd()).map(|bits| super::value::truncate(bits, word.size()));
        let answer = value.sure().map(|bits| (bits == 0) != word.bit(24));
        return conditional(target(5, 19), answer, value.decided, None);
    }
    if word.is(0x7e00_0000, 0x3600_0000) {
        // TBZ, TBNZ.
        let bit = word.bits(31, 1) << 5 | word.bits(19, 5);
        let value = read(state, word.rd());
        let answer = value.sure().map(|bits| (bits >> bit & 1 == 0) != word.bit(24));
        return conditional(target(5, 14), answer, value.decided, None);
    }
    if word.is(0xff9f_fc1f, 0xd61f_0000) {
        let to = read(state, word.rn()).bits;
        return match word.bits(21, 2) {
            0 => to.map_or(Flow::Lost, Flow::Jump),
            1 => Flow::Call(to),
            _ => Flow::Return,
        };
    }
    if word.is(0xfff0_0000, 0xd530_0000) {
        // MRS.
        write(state, word.rd(), 8, Value::UNKNOWN);
        return Flow::Next;
    }
    // Hints, barriers, writes of system registers; exceptions end it.
    if word.is(0xff00_0000, 0xd500_0000) { Flow::Next } else { Flow::Stop }
}

fn conditional(target: u64, answer: Option<bool>, decided: bool, equal: Option<bool>) -> Flow {
    match answer {
        Some(true) => Flow::Jump(target),
        Some(false) => Flow::Next,
        None => Flow::Either { target, decided, equal },
    }
}

/// Whether a condition holds.
fn outcome(condition: u32, flags: Flags) -> Option<bool> {
    let (a, b, size) = match flags {
        Flags::Compare(a, b, size) => (a.sure()?, b.sure()?, size),
        Flags::Result(value, size) => (value.sure()?, 0, size),
        Flags::Unknown | Flags::Decided => return None,
    };
    let signed = |bits: u64| if size == 4 { i64::from(bits as i32) } else { bits.cast_signed() };
    let (a, b) = (super::value::truncate(a, size), super::value::truncate(b, size));
    let holds = match condition >> 1 {
        0 => a == b,
        // After a logical operation carry and overflow are clear, after a sum they are not known.
        1 if matches!(flags, Flags::Compare(..)) => a >= b,
        2 => signed(a.wrapping_sub(b)) < 0,
        4 if matches!(flags, Flags::Compare(..)) => a > b,
        5 => signed(a) >= signed(b),
        6 => signed(a) > signed(b),
        _ => return None,
    };
    Some(holds == (condition & 1 == 0))
}

/// Registers alone.
fn register(word: Word, state: &mut State) {
    if word.is(0x1f00_0000, 0x0a00_0000) {
        let b = shifted(word, state);
        let b = if word.bit(21) { b.map(|bits| !bits) } else { b };
        logical(word, b, word.rd(), state);
    } else if word.is(0x1f20_0000, 0x0b00_0000) {
        let (a, b) = (read(state, word.rn()), shifted(word, state));
        set_sum(word, a, b, state);
    } else if word.is(0x1fe0_0000, 0x0b20_0000) {
        let (a, b) = (state.register(word.rn()), extended(word, state));
        if word.bit(29) {
            return add(word, a, b, state);
        }
        state.set(word.rd(), sum(word, a, b).map(|bits| super::value::truncate(bits, word.size())));
    } else if word.is(0x1fe0_0000, 0x1a80_0000) {
        select(word, state);
    } else if word.is(0x1fe0_0000, 0x1a40_0000) {
        // CCMP and CCMN.
        state.flags = if state.flags.decided() { Flags::Decided } else { Flags::Unknown };
    } else {
        // ADC, multiplication, division, shifts by a register, counting of bits.
        let decided =
            [word.rn(), word.rm(), word.bits(10, 5) as usize].iter().any(|n| read(state, *n).decided);
        if word.is(0x3fe0_0000, 0x3a00_0000) {
            state.flags = Flags::Unknown;
        }
        write(state, word.rd(), 8, Value::unknown_of(decided));
    }
}

fn set_sum(word: Word, a: Value, b: Value, state: &mut State) {
    if word.bit(29) {
        add(word, a, b, state);
    } else {
        write(state, word.rd(), word.size(), sum(word, a, b));
    }
}

/// The second operand, shifted by a number.
fn shifted(word: Word, state: &State) -> Value {
    let by = word.bits(10, 6);
    let size = word.size();
    read(state, word.rm()).map(|bits| {
        let bits = super::value::truncate(bits, size);
        match word.bits(22, 2) {
            0 => bits << by,
            1 => bits >> by,
            2 if size == 4 => u64::from(((bits as i32) >> (by & 31)) as u32),
            2 => (bits.cast_signed() >> by).cast_unsigned(),
            _ if size == 4 => u64::from((bits as u32).rotate_right(by)),
            _ => bits.rotate_right(by),
        }
    })
}

/// The second operand, extended and shifted.
fn extended(word: Word, state: &State) -> Value {
    let by = word.bits(10, 3);
    read(state, word.rm()).map(|bits| extend(bits, word.bits(13, 3)).wrapping_shl(by))
}

/// UXTB to SXTX.
fn extend(bits: u64, option: u32) -> u64 {
    match option {
        0 => bits & 0xff,
        1 => bits & 0xffff,
        2 => bits & 0xffff_ffff,
        4 => bits as u8 as i8 as u64,
        5 => bits as u16 as i16 as u64,
        6 => bits as u32 as i32 as u64,
        _ => bits,
    }
}

/// CSEL, CSINC, CSINV, CSNEG, also as CSET.
fn select(word: Word, state: &mut State) {
    let (a, b) = (read(state, word.rn()), read(state, word.rm()));
    let other = match (word.bit(30), word.bit(10)) {
        (false, false) => b,
        (false, true) => b.map(|bits| bits.wrapping_add(1)),
        (true, false) => b.map(|bits| !bits),
        (true, true) => b.map(u64::wrapping_neg),
    };
    let value = match outcome(word.bits(12, 4), state.flags) {
        Some(true) => a,
        Some(false) => other,
        None => Value::unknown_of(state.flags.decided() || a.decided || b.decided),
    };
    write(state, word.rd(), word.size(), value);
}

/// Floating point and vectors: the result is unknown, in whichever kind of register it goes to.
fn vector(word: Word, state: &mut State) {
    // FCMP, FCCMP.
    let compares = word.is(0xff20_fc07, 0x1e20_2000) || word.is(0xff20_0c00, 0x1e20_0400);
    if compares {
        state.flags = Flags::Unknown;
        return;
    }
    if let Some(slot) = state.vectors.get_mut(word.rd()) {
        *slot = (Value::UNKNOWN, Value::UNKNOWN);
    }
    // VEOR of a register with itself is how zero is made.
    let zero = word.is(0xffe0_fc00, 0x6e20_1c00) && word.rn() == word.rm();
    if zero && let Some(slot) = state.vectors.get_mut(word.rd()) {
        *slot = (Value::known(0), Value::known(0));
    }
    // Moves and conversions to general registers, and UMOV, SMOV.
    let general = word.is(0x7f20_fc00, 0x1e20_0000)
        || word.is(0x5f20_0000, 0x1e20_0000) && word.bits(10, 6) == 0
        || word.is(0xbfe0_d400, 0x0e00_1400)
        || word.is(0xbfe0_ec00, 0x0e00_2c00);
    if general {
        write(state, word.rd(), 8, Value::UNKNOWN);
    }
}

#[cfg(test)]
mod tests;
