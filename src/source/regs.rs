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
        Some(Registers { pc: word(at.pc)?, sp: word(at.sp)?, bp: word(at.bp)?, lr, g: word(at.g)? })
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
        let arm64 = Registers::from_words(Arch::Arm64, &words).unwrap();
        assert_eq!((arm64.pc, arm64.sp, arm64.bp), (Addr::new(32), Addr::new(31), Addr::new(29)));
        assert_eq!((arm64.lr, arm64.g), (Some(Addr::new(30)), Addr::new(28)));
        assert_eq!(Registers::from_words(Arch::Amd64, &words[..17]), None);
        assert_eq!(Registers::from_words(Arch::Arm64, &words[..33]), None);
    }
}
