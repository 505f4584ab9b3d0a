//! Image, code reading: AArch64. Globals are reached by ADRP and an offset in the page, which ADD
//! makes an address, or which a load or store has in itself. Encodings as in the Arm Architecture
//! Reference Manual for A-profile, chapter C4.

use super::{Access, Reader};
use crate::addr::Addr;

/// Reads the function whose `code` begins at `entry`.
pub(super) fn read(reader: &mut Reader<'_>, code: &[u8], entry: Addr) {
    let (words, _) = code.as_chunks::<4>();
    for (word, n) in words.iter().zip(0u64..) {
        step(reader, u32::from_le_bytes(*word), entry.offset(n.wrapping_mul(4)));
    }
}

/// `len` bits of `word` from bit `low`.
const fn bits(word: u32, low: u32, len: u32) -> u32 {
    (word >> low) & ((1 << len) - 1)
}

/// The same, signed, times `scale`, as an offset to add with wrapping.
fn signed(word: u32, low: u32, len: u32, scale: u64) -> u64 {
    let unused = 32 - len;
    let value = (bits(word, low, len) << unused).cast_signed() >> unused;
    i64::from(value).cast_unsigned().wrapping_mul(scale)
}

fn register(word: u32, low: u32) -> usize {
    bits(word, low, 5) as usize
}

fn step(reader: &mut Reader<'_>, word: u32, at: Addr) {
    let target = register(word, 0);
    if word & 0x1f00_0000 == 0x1000_0000 {
        address_of_page(reader, word, at);
    } else if word & 0xff80_0000 == 0x9100_0000 {
        add_immediate(reader, word);
    } else if word & 0x7f80_001f == 0x7100_001f {
        // CMP with a number (SUBS to the zero register).
        let shift = bits(word, 22, 1) * 12;
        reader.reading.compared.push(u64::from(bits(word, 10, 12)) << shift);
    } else if word & 0xffe0_ffe0 == 0xaa00_03e0 {
        // MOV between registers.
        let value = reader.known(register(word, 16));
        reader.set(target, value);
    } else if word & 0x0a00_0000 == 0x0800_0000 {
        load_or_store(reader, word);
    } else if word & 0xfc00_0000 == 0x9400_0000 {
        // BL.
        reader.reading.calls.push(at.offset(signed(word, 0, 26, 4)));
        reader.forget_all();
    } else if word & 0xfc00_0000 == 0x1400_0000 || word & 0xfe00_0000 == 0xd600_0000 {
        // B, and the branches to registers: BR, BLR, RET. What follows is reached from elsewhere.
        reader.forget_all();
    } else if word & 0x1c00_0000 != 0x1400_0000 {
        // All other branches and system instructions write no register that matters; arithmetic
        // writes the one in the lowest bits.
        reader.set(target, None);
    }
}

/// ADR and ADRP.
fn address_of_page(reader: &mut Reader<'_>, word: u32, at: Addr) {
    let distance = bits(word, 5, 19) << 2 | bits(word, 29, 2);
    let target = register(word, 0);
    if word >> 31 == 0 {
        return reader.take_address(target, at.offset(signed(distance, 0, 21, 1)));
    }
    // The start of a page is no reference yet.
    let page = Addr::new(at.get() & !0xfff);
    reader.set(target, Some(page.offset(signed(distance, 0, 21, 1 << 12))));
}

/// ADD of a number to a 64-bit register.
fn add_immediate(reader: &mut Reader<'_>, word: u32) {
    let number = u64::from(bits(word, 10, 12)) << (bits(word, 22, 1) * 12);
    let target = register(word, 0);
    match reader.known(register(word, 5)) {
        Some(base) => reader.take_address(target, base.offset(number)),
        None => reader.set(target, None),
    }
}

/// All loads and stores.
fn load_or_store(reader: &mut Reader<'_>, word: u32) {
    if word & 0x3a00_0000 == 0x2800_0000 {
        pair(reader, word);
    } else if word & 0x3b00_0000 == 0x3900_0000 {
        let scale = access_size(word);
        single(reader, word, u64::from(bits(word, 10, 12)).wrapping_mul(scale));
    } else if word & 0x3b20_0c00 == 0x3800_0000 {
        single(reader, word, signed(word, 12, 9, 1));
    } else if word & 0x3b20_0c00 == 0x3820_0000 {
        // Atomic operations: the base as it is; they read and write.
        refer_at_base(reader, word, 0, Access::Store);
        reader.set(register(word, 0), None);
    } else if word & 0x3f00_0000 == 0x0800_0000 {
        exclusive_or_ordered(reader, word);
    } else {
        // With an index, with write-back, or relative to the instruction: where it leads is not told.
        let (loaded, base) = (register(word, 0), register(word, 5));
        reader.set(loaded, None);
        reader.set(base, None);
    }
}

/// Notes a reference to what lies `offset` from the base register.
fn refer_at_base(reader: &mut Reader<'_>, word: u32, offset: u64, access: Access) {
    if let Some(base) = reader.known(register(word, 5)) {
        reader.refer(base.offset(offset), access);
    }
}

/// Bytes that a load or store of one register moves.
const fn access_size(word: u32) -> u64 {
    let vector = bits(word, 26, 1) & bits(word, 23, 1);
    1 << (bits(word, 30, 2) | vector << 2)
}

/// LDR and STR of all widths, at an offset from the base.
fn single(reader: &mut Reader<'_>, word: u32, offset: u64) {
    let (target, vector, operation) = (register(word, 0), bits(word, 26, 1) == 1, bits(word, 22, 2));
    let store = if vector { operation & 1 == 0 } else { operation == 0 };
    if store {
        return refer_at_base(reader, word, offset, Access::Store);
    }
    let word_wide = !vector && operation == 1 && bits(word, 30, 2) == 3;
    match reader.known(register(word, 5)) {
        Some(base) if word_wide => return reader.load_word(target, base.offset(offset)),
        Some(base) => reader.refer(base.offset(offset), Access::Load),
        None => {}
    }
    if !vector {
        reader.set(target, None);
    }
}

/// LDP and STP: two registers in a row.
fn pair(reader: &mut Reader<'_>, word: u32) {
    let (vector, load, kind) = (bits(word, 26, 1) == 1, bits(word, 22, 1) == 1, bits(word, 30, 2));
    let size = match (vector, kind) {
        (true, _) => 4 << kind,
        (false, 2) => 8,
        (false, _) => 4,
    };
    let moves_base = bits(word, 23, 1) == 1;
    if !moves_base {
        let access = if load { Access::Load } else { Access::Store };
        let offset = signed(word, 15, 7, size);
        refer_at_base(reader, word, offset, access);
        refer_at_base(reader, word, offset.wrapping_add(size), access);
    }
    if load && !vector {
        reader.set(register(word, 0), None);
        reader.set(register(word, 10), None);
    }
    if moves_base {
        reader.set(register(word, 5), None);
    }
}

/// LDAR, STLR, LDXR, STXR, CAS and their like: the base as it is.
fn exclusive_or_ordered(reader: &mut Reader<'_>, word: u32) {
    let (load, pair_or_swap) = (bits(word, 22, 1) == 1, bits(word, 21, 1) == 1);
    let access = if load && !pair_or_swap { Access::Load } else { Access::Store };
    refer_at_base(reader, word, 0, access);
    // The status of a store and what a swap finds.
    reader.set(register(word, 16), None);
    if load {
        reader.set(register(word, 0), None);
    }
    if pair_or_swap {
        reader.set(register(word, 10), None);
    }
}
