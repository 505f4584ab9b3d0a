//! Analysis, ahead: Go's calling convention on each processor (`ABIInternal`, cmd/compile/abi-internal.md):
//! which register holds what. Positions are data, so that either processor is read on any host.

use super::value::Value;
use crate::addr::Addr;
use crate::arch::Arch;

/// Numbers of the registers that Go's calling convention names.
pub struct Convention {
    /// Stack pointer.
    pub sp: usize,
    /// Frame pointer.
    pub fp: usize,
    /// The current g.
    pub g: usize,
    /// The closure of a call.
    pub closure: usize,
    /// Arguments of integers and pointers; results come back in the same.
    pub arguments: [usize; 5],
    /// Whether vector register 15 is zero in all Go code.
    pub zero_vector: bool,
    /// The frame pointer from the stack pointer of the caller, in bytes below it (amd64), or from the
    /// function's own (arm64).
    frame_pointer: FramePointer,
}

enum FramePointer {
    BelowCallers(u64),
    BelowOwn(u64),
}

const AMD64: Convention = Convention {
    sp: 4,
    fp: 5,
    g: 14,
    closure: 2,
    arguments: [0, 3, 1, 7, 6],
    zero_vector: true,
    frame_pointer: FramePointer::BelowCallers(16),
};

const ARM64: Convention = Convention {
    sp: 31,
    fp: 29,
    g: 28,
    closure: 26,
    arguments: [0, 1, 2, 3, 4],
    zero_vector: false,
    frame_pointer: FramePointer::BelowOwn(8),
};

impl Convention {
    /// That of a processor.
    pub const fn of(arch: Arch) -> &'static Convention {
        match arch {
            Arch::Amd64 => &AMD64,
            Arch::Arm64 => &ARM64,
        }
    }

    /// Registers that hold after any call.
    pub const fn kept(&self) -> [usize; 3] {
        [self.sp, self.fp, self.g]
    }

    /// What is known at the return address of a parked frame.
    pub fn at_return(&self, sp: Addr, callers_sp: Addr, g: Addr) -> [(usize, Value); 3] {
        let fp = match self.frame_pointer {
            FramePointer::BelowCallers(distance) => callers_sp.back(distance),
            FramePointer::BelowOwn(distance) => sp.back(distance),
        };
        [(self.sp, sp), (self.fp, fp), (self.g, g)].map(|(n, at)| (n, Value::known(at.get())))
    }
}
