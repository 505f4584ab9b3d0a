//! Unwind: the values of a function's arguments as the runtime prints them (`printArgs` in
//! `runtime/traceback.go`; the same format in all releases since 1.18). A value comes from the
//! argument's slot on the stack; where a register held it, the slot may be stale, and `?` says so.

use super::code::Code;
use crate::addr::Addr;
use crate::image::pclntab::{Func, funcdata, pcdata};
use crate::memory::Memory;

/// One element of the printed list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Item {
    /// `{`: a struct, array, string, slice or interface begins.
    Open,
    /// `}`.
    Close,
    /// `...`: the compiler left the rest out.
    Rest,
    /// `_`: too far up to be told.
    TooFar,
    /// A value.
    Value {
        /// Its slot, in bytes above the first argument.
        offset: u8,
        /// Its size in bytes.
        size: u8,
        /// Whether the slot is known to hold the current value.
        live: bool,
    },
}

/// How the arguments of one function are printed at one address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Args(Vec<Item>);

/// Longest description (`abi.TraceArgsMaxLen`), in bytes.
const DESCRIPTION: u64 = 171;

/// Codes of the description; smaller numbers are offsets (`internal/abi/symtab.go`, `TraceArgs...`).
mod code {
    pub const END: u8 = 0xff;
    pub const OPEN: u8 = 0xfe;
    pub const CLOSE: u8 = 0xfd;
    pub const REST: u8 = 0xfc;
    pub const TOO_FAR: u8 = 0xfb;
}

/// Which slots are known to hold current values at one address.
struct Liveness {
    /// Slots below this offset always are: the caller put them on the stack.
    first: u8,
    /// One bit for each of the other slots; absent when all are.
    bits: Option<Vec<u8>>,
}

impl Liveness {
    /// All slots are.
    const ALL: Liveness = Liveness { first: 0xff, bits: None };

    fn at(code: Code<'_>, func: Func<'_>, pc: Addr) -> Option<Liveness> {
        let Some(info) = func.funcdata(funcdata::ARG_LIVE_INFO) else { return Some(Liveness::ALL) };
        let first = code.memory.read_u8(info).ok()?;
        let index = func.pcdata(pcdata::ARG_LIVE_INDEX, pc);
        let Some(index) = u64::try_from(index).ok().filter(|index| *index > 0) else {
            return Some(Liveness { first, bits: None });
        };
        // At most ten values are printed, so two bytes always do; the last entry may have only one.
        let at = info.offset(index);
        let low = code.memory.read_u8(at).ok()?;
        let high = code.memory.read_u8(at.offset(1)).unwrap_or(0);
        Some(Liveness { first, bits: Some(vec![low, high]) })
    }

    /// Whether the slot at `offset`, the `number`th of those that registers hold, is current.
    fn is_live(&self, offset: u8, number: usize) -> bool {
        let Some(bits) = self.bits.as_ref().filter(|_| offset >= self.first) else { return true };
        bits.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 != 0)
    }
}

impl Args {
    /// The list of `func` at `pc`; `None` when the function has no description or it can't be read:
    /// nothing is printed then. Which `pc` the liveness is looked up at differs by release.
    pub(crate) fn of(code: Code<'_>, func: Func<'_>, pc: Addr) -> Option<Args> {
        let info = func.funcdata(funcdata::ARG_INFO)?;
        let liveness = Liveness::at(code, func, pc)?;
        let mut items = Vec::new();
        let (mut at, mut number) = (0, 0);
        while at < DESCRIPTION {
            let byte = code.memory.read_u8(info.offset(at)).ok()?;
            at += 1;
            items.push(match byte {
                code::END => break,
                code::OPEN => Item::Open,
                code::CLOSE => Item::Close,
                code::REST => Item::Rest,
                code::TOO_FAR => Item::TooFar,
                offset => {
                    let size = code.memory.read_u8(info.offset(at)).ok()?;
                    at += 1;
                    let live = liveness.is_live(offset, number);
                    number += usize::from(offset >= liveness.first);
                    Item::Value { offset, size, live }
                }
            });
        }
        Some(Args(items))
    }

    /// Prints the list. `first` is where the first argument lies: the frame's `fp`, plus
    /// [`crate::arch::Arch::min_frame_size`]. A value that can't be read is `_`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, first: Addr, memory: &dyn Memory) {
        let mut separate = false;
        for item in &self.0 {
            if separate && *item != Item::Close {
                out.extend(b", ");
            }
            match *item {
                Item::Open => out.push(b'{'),
                Item::Close => out.push(b'}'),
                Item::Rest => out.extend(b"..."),
                Item::TooFar => out.push(b'_'),
                Item::Value { offset, size, live } => match value(memory, first, offset, size) {
                    Some(value) => {
                        write_hex(out, value);
                        if !live {
                            out.push(b'?');
                        }
                    }
                    None => out.push(b'_'),
                },
            }
            separate = *item != Item::Open;
        }
    }
}

/// The `size` low bytes at `offset`, without sign.
fn value(memory: &dyn Memory, first: Addr, offset: u8, size: u8) -> Option<u64> {
    let mut bytes = [0; 8];
    let size = usize::from(size).min(bytes.len());
    memory.read(first.offset(offset.into()), bytes.get_mut(..size)?).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Writes `0x` and the number without leading zeros, as the runtime's `print(hex(n))` does.
pub(crate) fn write_hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    out.extend(b"0x");
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let index = usize::try_from(number >> (4 * digit) & 0xf).unwrap_or(0);
        out.push(DIGITS.get(index).copied().unwrap_or(b'?'));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Function, Program, plain};
    use super::*;
    use crate::arch::Arch;
    use crate::memory::sparse::SparseMemory;

    fn printed(items: Vec<Item>, slots: &[u64]) -> String {
        let mut memory = SparseMemory::new();
        for (n, word) in (0..).zip(slots) {
            memory.put_u64(Addr::new(0x1000 + 8 * n), *word);
        }
        let mut out = Vec::new();
        Args(items).write(&mut out, Addr::new(0x1000), &memory);
        String::from_utf8(out).unwrap()
    }

    fn live(offset: u8, size: u8) -> Item {
        Item::Value { offset, size, live: true }
    }

    #[test]
    fn lists_are_separated_as_the_runtime_does() {
        use Item::*;
        assert_eq!(printed(vec![], &[]), "");
        assert_eq!(printed(vec![live(0, 8), live(8, 8)], &[1, 0]), "0x1, 0x0");
        let nested = vec![Open, live(0, 8), Open, live(8, 8), Close, Rest, Close, TooFar];
        assert_eq!(printed(nested, &[0xff, 2]), "{0xff, {0x2}, ...}, _");
        assert_eq!(printed(vec![Open, Close, Open, Close, live(0, 8)], &[3]), "{}, {}, 0x3");
    }

    #[test]
    fn values_are_cut_to_their_size_and_marked_when_stale() {
        let minus5 = u64::MAX - 4;
        assert_eq!(
            printed(vec![live(0, 1), live(0, 2), live(0, 8)], &[minus5]),
            "0xfb, 0xfffb, 0xfffffffffffffffb"
        );
        let stale = Item::Value { offset: 0, size: 4, live: false };
        assert_eq!(printed(vec![stale], &[0x1_0000_0002]), "0x2?");
        assert_eq!(printed(vec![live(0, 0)], &[9]), "0x0");
        assert_eq!(printed(vec![live(0, 8), live(200, 8)], &[9]), "0x9, _");
    }

    #[test]
    fn a_description_is_read_with_what_is_live_at_an_address() {
        const F: Function = Function {
            // A value on the stack, one in a struct and one more, both in registers.
            arg_info: &[0, 8, 0xfe, 8, 8, 0xfd, 16, 4, 0xfb, 0xfc, 0xff],
            // Registers from offset 8; at entry 1 the second of them is current, at 3 both are.
            live_info: &[8, 0b10, 0, 0b11],
            live: &[(0x10, -1), (0x20, 1), (0x100, 3)],
            ..plain("main.f", &[(0x100, 0)])
        };
        let mut p = Program::new(Arch::Amd64, "go1.27.0", &[F, plain("main.bare", &[(0x100, 0)])]);
        p.push(0x7000, &[Addr::new(1), Addr::new(2), Addr::new(3)]);
        let at = |name: &str, offset| {
            let pc = p.at(name, offset);
            let args = Args::of(p.code(), p.code().modules.find(pc).unwrap(), pc)?;
            let mut out = Vec::new();
            args.write(&mut out, Addr::new(0x7000), &p.memory);
            Some(String::from_utf8(out).unwrap())
        };
        assert_eq!(at("main.f", 4).as_deref(), Some("0x1, {0x2}, 0x3, _, ..."));
        assert_eq!(at("main.f", 0x14).as_deref(), Some("0x1, {0x2?}, 0x3, _, ..."));
        assert_eq!(at("main.f", 0x24).as_deref(), Some("0x1, {0x2}, 0x3, _, ..."));
        assert_eq!(at("main.bare", 4), None);
    }

    #[test]
    fn numbers_in_hex() {
        let hex = |n| {
            let mut out = Vec::new();
            write_hex(&mut out, n);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            (hex(0), hex(0xf), hex(0x10), hex(u64::MAX)),
            ("0x0".into(), "0xf".into(), "0x10".into(), "0xffffffffffffffff".into())
        );
    }
}
