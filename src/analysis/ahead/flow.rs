//! Analysis, ahead: what one instruction, of either processor, does to the flow and to objects.

use super::value::{State, Value};

/// What an instruction does to the flow.
pub enum Flow {
    /// Goes on with the next.
    Next,
    /// Jumps.
    Jump(u64),
    /// Jumps or goes on: each with what is known then.
    Either {
        /// Where the jump leads.
        target: u64,
        /// Whether the answer was settled before the run began.
        decided: bool,
        /// The answer "equal" of the comparison that it asks for, if it asks for that: of the way that
        /// jumps; the other way has the opposite.
        equal: Option<bool>,
    },
    /// Jumps to one of the targets in a table at this address.
    Table(u64),
    /// Calls, if known where.
    Call(Option<u64>),
    /// Returns.
    Return,
    /// Compares and swaps: goes on in two ways.
    Swap(Swap),
    /// Ends here.
    Stop,
    /// Goes on where it is not known.
    Lost,
}

/// An attempt to change a word that may fail.
pub struct Swap {
    /// The word, if known where.
    pub at: Option<u64>,
    /// What it would become.
    pub new: Value,
    /// Whether it is tried with a constant, so that who fails has not got what he wants; an attempt with
    /// what was read before is repeated until it succeeds.
    pub from_constant: bool,
    /// Whether the answer is not in the flags, but in what the next comparison says.
    pub compared_next: bool,
}

impl Swap {
    /// Whether a count of readers would become that of a writer: a reader counts up by one, a writer down
    /// by very many.
    pub fn is_writer(&self) -> bool {
        self.new.bits.is_some_and(|new| (new as u32).cast_signed() < 0)
    }
}

/// Is told of atomic operations.
pub trait Touch {
    /// An atomic addition of `step` to this address, if it is known.
    fn add(&mut self, at: Option<u64>, step: i64, pc: u64, state: &mut State);
}
