//! Unwind: the stacks of many goroutines. Most share their stack with others, so each distinct stack is
//! kept, and symbolized, once.

use super::{Frame, StackEnd};

/// One stack: frames innermost first, and why there are no more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Stack {
    /// Frames, innermost first; inlined calls have frames of their own.
    pub frames: Vec<Frame>,
    /// Why the walk ended.
    pub end: StackEnd,
}

/// The stacks of a list of goroutines.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// For each goroutine of the list, the index of its stack in `distinct`.
    pub of: Vec<u32>,
    /// The distinct stacks.
    pub distinct: Vec<Stack>,
}
