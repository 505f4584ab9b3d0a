//! Source, core files: the two notes of Delve's own, in cores that its `dump` command writes. The
//! header is in all of them; threads are in this form where Delve knows no `NT_PRSTATUS` (AArch64).
//! Layout as of Delve 1.27, `pkg/proc/dump.go`.

use super::raw::{slice, u16_at, u32_at, u64_at};
use crate::addr::{Addr, Tid};
use crate::arch::Arch;
use crate::source::{General, Registers, Thread};

/// Type of the header note: text lines, first `GOOS/GOARCH`.
pub(super) const HEADER: u32 = 0x444c_5645;
/// Type of a thread note: tid, pc, sp, bp, tls (u64), has g (u8), g (u64), number of registers
/// (u32); then per register the length of its name (u16), name, length of its value (u16), value.
pub(super) const THREAD: u32 = 0x444c_5654;

/// Registers that are looked at in one thread note; vector registers make about 80.
const MAX_REGISTERS: u32 = 512;

/// The operating system that a header note names.
pub(super) fn system(header: &[u8]) -> Option<&str> {
    std::str::from_utf8(header).ok()?.split('/').next()
}

/// The process number of a header note.
pub(super) fn pid(header: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(header).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Target Pid: "))?.trim().parse().ok()
}

/// The thread of a thread note; without registers when one that matters is not listed.
pub(super) fn thread(note: &[u8], arch: Arch) -> Option<Thread> {
    let tid = Tid(i32::try_from(u64_at(note, 0)?).ok()?);
    let (pc, sp, bp) = (u64_at(note, 8)?, u64_at(note, 16)?, u64_at(note, 24)?);
    let (lr_name, g_name): (Option<&[u8]>, &[u8]) = match arch {
        Arch::Amd64 => (None, b"R14"),
        Arch::Arm64 => (Some(b"X30"), b"X28"),
    };
    let g = named(note, g_name);
    let lr = lr_name.map(|name| named(note, name));
    let registers = match (g, lr) {
        (Some(g), None) => Some((g, None)),
        (Some(g), Some(Some(lr))) => Some((g, Some(lr))),
        _ => None,
    };
    let registers = registers.map(|(g, lr)| Registers {
        pc: Addr::new(pc),
        sp: Addr::new(sp),
        bp: Addr::new(bp),
        lr: lr.map(Addr::new),
        g: Addr::new(g),
        general: general(note, arch, sp),
    });
    Some(Thread { tid, name: None, registers, asleep_at: None, state: None })
}

/// Delve's names of amd64's general registers, in DWARF's order without rsp.
const AMD64: [(u16, &[u8]); 15] = [
    (0, b"RAX"),
    (1, b"RDX"),
    (2, b"RCX"),
    (3, b"RBX"),
    (4, b"RSI"),
    (5, b"RDI"),
    (6, b"RBP"),
    (8, b"R8"),
    (9, b"R9"),
    (10, b"R10"),
    (11, b"R11"),
    (12, b"R12"),
    (13, b"R13"),
    (14, b"R14"),
    (15, b"R15"),
];

fn general(note: &[u8], arch: Arch, sp: u64) -> General {
    let mut general = General::default();
    match arch {
        Arch::Amd64 => {
            AMD64.iter().for_each(|(number, name)| general.set(*number, named(note, name)));
            general.set(7, Some(sp));
        }
        Arch::Arm64 => {
            (0..31).for_each(|n: u16| general.set(n, named(note, format!("X{n}").as_bytes())));
            general.set(31, Some(sp));
        }
    }
    general
}

/// The value of the register `name`, which Delve writes in either case.
fn named(note: &[u8], name: &[u8]) -> Option<u64> {
    let count = u32_at(note, 49)?.min(MAX_REGISTERS);
    let mut at = 53u64;
    for _ in 0..count {
        let name_len = u64::from(u16_at(note, at)?);
        let found = slice(note, at.checked_add(2)?, name_len)?;
        let value_at = at.checked_add(4)?.checked_add(name_len)?;
        let value_len = u64::from(u16_at(note, value_at.checked_sub(2)?)?);
        if found.eq_ignore_ascii_case(name) && value_len >= 8 {
            return u64_at(note, value_at);
        }
        at = value_at.checked_add(value_len)?;
    }
    None
}
