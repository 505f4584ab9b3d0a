//! Unwind: from a goroutine's registers and stack to its frames, by the runtime's own tables and
//! exactly as the runtime walks them. Pure: needs a memory and an image, knows nothing of sources.

pub(crate) mod args;
pub(crate) mod code;
#[cfg(test)]
pub(crate) mod fixture;
mod live;
mod native;
mod stack;
pub mod stacks;
mod start;
pub(crate) mod symbolize;
mod threads;
pub mod walk;

use crate::addr::Addr;
use crate::image::native::Native;
use crate::image::{Image, ImageMemory};
use crate::memory::Memory;
use crate::runtime::G;
use crate::runtime::snapshot::Snapshot;
use code::Code;
pub use native::{Gap, Missing};
use start::Part;
use std::sync::Arc;
use symbolize::{Names, frames_at};
pub use walk::Walker;
pub use walk::{Physical, Walk};

/// What kind of code a frame runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameKind {
    /// Go code.
    Go,
    /// C code, or code of another language that was linked in.
    C,
}

/// How a frame was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Trust {
    /// By the runtime's own tables, or by the registers of a thread.
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
    /// The function there moves the stack pointer to where no table says; such functions are at the
    /// end of system stacks.
    Switched {
        /// An address in it.
        pc: Addr,
    },
    /// More frames than the limit.
    Limit,
    /// Nothing to walk: it runs on a thread whose registers are not known, or has no stack.
    NoRegisters,
}

/// Unwinds the goroutines of one snapshot.
pub struct Unwinder<'a> {
    image: &'a Image,
    snapshot: &'a Snapshot<'a>,
    memory: ImageMemory<'a>,
    native: Option<&'a Native<'a>>,
}

impl<'a> Unwinder<'a> {
    /// For the goroutines of `snapshot`, a snapshot of the target of `image`.
    pub fn new(image: &'a Image, snapshot: &'a Snapshot<'a>) -> Unwinder<'a> {
        Unwinder { image, snapshot, memory: image.memory(&snapshot.memory), native: None }
    }

    /// The same, with the frames of C code by the files of the target.
    pub fn with_native(self, native: &'a Native<'a>) -> Unwinder<'a> {
        Unwinder { native: Some(native), ..self }
    }

    /// All frames of Go of a goroutine: what its thread does for it on the system stack, too.
    pub fn walk(&self, g: &G) -> Walk {
        self.walk_with(&mut self.walker(), g)
    }

    /// As [`Unwinder::walk`]; faster for many, with one walker for all of them.
    pub fn walk_with(&self, walker: &mut Walker<'_>, g: &G) -> Walk {
        self.walk_part(walker, g, Part::Whole)
    }

    /// The frames on a goroutine's own stack, as the runtime prints it.
    pub(crate) fn walk_own(&self, walker: &mut Walker<'_>, g: &G) -> Walk {
        self.walk_part(walker, g, Part::Own)
    }

    fn walk_part(&self, walker: &mut Walker<'_>, g: &G, part: Part) -> Walk {
        match self.start(walker, g, part) {
            Ok(start) => walker.walk(&start),
            Err(end) => Walk::nothing(end),
        }
    }

    /// A walker for goroutines of this snapshot. Not shared between threads: it remembers.
    pub fn walker(&self) -> Walker<'_> {
        Walker::new(self.code())
    }

    /// The functions and lines of a walk, inlined calls told apart.
    pub fn symbolize(&self, walk: &Walk) -> Vec<Frame> {
        let mut names = Names::default();
        let mut frames = Vec::new();
        for frame in &walk.frames {
            let bare = frames_at(self.code(), frame.pc, frame.trap);
            frames.extend(bare.iter().map(|f| f.named(&mut names)));
        }
        frames
    }

    /// Whether the word at `slot` of the stack that `walk` goes through may be a pointer that its
    /// goroutine still needs.
    pub fn may_be_live(&self, walk: &Walk, slot: Addr) -> bool {
        live::may_be_live(self.code(), &walk.frames, slot)
    }

    /// The target's program.
    pub fn image(&self) -> &'a Image {
        self.image
    }

    /// The goroutines and threads.
    pub fn snapshot(&self) -> &'a Snapshot<'a> {
        self.snapshot
    }

    /// Memory of the instant of the capture, and of the executables.
    pub fn memory(&self) -> &dyn Memory {
        &self.memory
    }

    pub(crate) fn code(&self) -> Code<'_> {
        let Image { arch, modules, rules, .. } = self.image;
        Code { arch: *arch, modules, rules, memory: &self.memory }
    }
}
