//! Source: the general registers as the kernel lays them out, the same for a live thread
//! (`PTRACE_GETREGSET`) and in the `NT_PRSTATUS` note of a core. Positions are data, so that either
//! processor is read on any host.

use super::Registers;
use crate::addr::Addr;
use crate::arch::Arch;

/// Where the registers that unwinding needs lie, as numbers of 8-byte words.
struct Positions {
    pc: usize,
    sp: usize,
    bp: usize,
    lr: Option<usize>,
    g: usize,
    /// Words that a complete set has.
    words: usize,
}

/// `struct user_regs_struct`, arch/x86/include/asm/user_64.h of Linux.
const AMD64: Positions = Positions { pc: 16, sp: 19, bp: 4, lr: None, g: 1, words: 27 };

/// `struct user_pt_regs`, arch/arm64/include/uapi/asm/ptrace.h of Linux.
const ARM64: Positions = Positions { pc: 32, sp: 31, bp: 29, lr: Some(30), g: 28, words: 34 };

/// Words that hold a register set of either processor.
pub const MAX_WORDS: usize = 34;

/// Words of the kernel's set, by the register's number in DWARF.
const AMD64_GENERAL: [usize; 16] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];

/// Registers that DWARF numbers from 0 on: 16 of amd64, x0 to x30 and SP of arm64.
const GENERAL: usize = 32;

/// The general registers by their numbers in DWARF, as far as they are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct General {
    known: u32,
    values: [u64; GENERAL],
}

impl General {
    /// The value of register `number`; `None` when it is not known, or is no general register.
    pub fn get(&self, number: u16) -> Option<u64> {
        let known = self.known.checked_shr(number.into()).unwrap_or(0) & 1 == 1;
        self.values.get(usize::from(number)).copied().filter(|_| known)
    }

    /// The values of all registers that are known.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        (0..GENERAL as u16).filter_map(|number| self.get(number))
    }

    /// Sets register `number`, or says that it is not known.
    pub fn set(&mut self, number: u16, value: Option<u64>) {
        let Some(slot) = self.values.get_mut(usize::from(number)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1u32.checked_shl(number.into()).unwrap_or(0);
        self.known = if value.is_some() { self.known | bit } else { self.known & !bit };
    }

    fn from_words(arch: Arch, words: &[u64]) -> General {
        let mut general = General::default();
        let mut set = |number: u16, at: usize| general.set(number, words.get(at).copied());
        match arch {
            Arch::Amd64 => (0..).zip(AMD64_GENERAL).for_each(|(number, at)| set(number, at)),
            Arch::Arm64 => (0..).zip(0..GENERAL).for_each(|(number, at)| set(number, at)),
        }
        general
    }
}

impl Registers {
    /// Takes the registers out of the kernel's general register set. `None` when the set is shorter
    /// than this processor's, as that of a 32-bit program is.
    pub fn from_words(arch: Arch, words: &[u64]) -> Option<Registers> {
        let at = match arch {
            Arch::Amd64 => AMD64,
            Arch::Arm64 => ARM64,
        };
        if words.len() < at.words {
            return None;
        }
        let word = |n: usize| words.get(n).copied().map(Addr::new);
        let lr = match at.lr {
            Some(n) => Some(word(n)?),
            None => None,
        };
        let general = General::from_words(arch, words);
        Some(Registers { pc: word(at.pc)?, sp: word(at.sp)?, bp: word(at.bp)?, lr, g: word(at.g)?, general })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_right_words_and_refuses_short_sets() {
        let words: Vec<u64> = (0..34).collect();
        let amd64 = Registers::from_words(Arch::Amd64, &words).unwrap();
        // r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp
        assert_eq!((amd64.pc, amd64.sp, amd64.bp), (Addr::new(16), Addr::new(19), Addr::new(4)));
        assert_eq!((amd64.lr, amd64.g), (None, Addr::new(1)));
        // DWARF: rax rdx rcx rbx rsi rdi rbp rsp r8 to r15.
        let by_dwarf = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];
        assert!((0..).zip(by_dwarf).all(|(n, word)| amd64.general.get(n) == Some(word)));
        assert_eq!(amd64.general.get(16), None);
        let arm64 = Registers::from_words(Arch::Arm64, &words).unwrap();
        assert_eq!((arm64.pc, arm64.sp, arm64.bp), (Addr::new(32), Addr::new(31), Addr::new(29)));
        assert_eq!((arm64.lr, arm64.g), (Some(Addr::new(30)), Addr::new(28)));
        assert!((0..32).all(|n| arm64.general.get(n) == Some(n.into())));
        let mut general = arm64.general;
        general.set(7, None);
        assert_eq!((general.get(7), general.get(40)), (None, None));
        assert_eq!(Registers::from_words(Arch::Amd64, &words[..17]), None);
        assert_eq!(Registers::from_words(Arch::Arm64, &words[..33]), None);
    }
}
