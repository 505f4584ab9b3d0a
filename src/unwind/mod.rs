//! Unwind: from a goroutine's registers and stack to its frames, by the runtime's own tables and
//! exactly as the runtime walks them. Pure: needs a memory and an image, knows nothing of sources.

pub mod stacks;

use crate::addr::Addr;
use std::sync::Arc;

/// What kind of code a frame runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// Go code.
    Go,
    /// C code, or code of another language that was linked in.
    C,
}

/// How a frame was found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trust {
    /// By the runtime's own tables.
    Exact,
    /// By call frame information of C code.
    Cfi,
    /// By following frame pointers.
    FramePointer,
}

/// One frame of a stack, innermost first; inlined calls have frames of their own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The function's name as the tables have it (not shortened for print).
    pub function: Arc<str>,
    /// Source file; absent when unknown.
    pub file: Option<Arc<str>>,
    /// Source line; 0 when unknown.
    pub line: u32,
    /// The address in the code: a return address but for the innermost frame and below traps.
    pub pc: Addr,
    /// Entry of the physical function.
    pub entry: Addr,
    /// Whether the call was inlined into the next frame.
    pub inlined: bool,
    /// What kind of code it is.
    pub kind: FrameKind,
    /// How it was found.
    pub trust: Trust,
}

/// Why a walk ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StackEnd {
    /// At the outermost frame.
    Complete,
    /// Memory could not be read.
    Unreadable {
        /// Where.
        at: Addr,
    },
    /// A return address is in no known function.
    UnknownCode {
        /// The address.
        pc: Addr,
    },
    /// A frame goes outside the goroutine's stack.
    OutOfStack {
        /// The stack pointer that was found.
        sp: Addr,
    },
    /// More frames than the limit.
    Limit,
    /// Nothing to walk: it runs on a thread whose registers are not known.
    NoRegisters,
}
