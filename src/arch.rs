//! Base: the processor of the target, as a value. Never `cfg(target_arch)`: an x86-64 build reads
//! arm64 cores.

use std::fmt;

/// A processor that Go programs are decoded for. Both are little endian with 8-byte pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// Go's name (`GOARCH`).
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// Smallest instruction step, `sys.PCQuantum` of the runtime, in bytes.
    pub const fn pc_quantum(self) -> u64 {
        match self {
            Arch::Amd64 => 1,
            Arch::Arm64 => 4,
        }
    }

    /// Size of the return address that a call pushes on the stack, in bytes: 0 where a link register
    /// takes it.
    pub const fn pushed_return(self) -> u64 {
        match self {
            Arch::Amd64 => 8,
            Arch::Arm64 => 0,
        }
    }

    /// `sys.MinFrameSize`: bytes that are always there at the bottom of a frame; arguments begin
    /// that far above the caller's SP.
    pub const fn min_frame_size(self) -> u64 {
        match self {
            Arch::Amd64 => 0,
            Arch::Arm64 => 8,
        }
    }

    /// Whether calls leave the return address in a register.
    pub const fn has_link_register(self) -> bool {
        matches!(self, Arch::Arm64)
    }

    /// The processor of an ELF file's `e_machine`.
    pub const fn from_elf_machine(machine: u16) -> Option<Arch> {
        match machine {
            62 => Some(Arch::Amd64),
            183 => Some(Arch::Arm64),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
