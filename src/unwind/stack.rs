//! Unwind: reads words of one stack. The used part is fetched in large pieces, since most stacks are
//! a few hundred bytes and each read of the lower layers costs more than its bytes.

use crate::addr::{Addr, Span};
use crate::memory::{Memory, ReadError, ReadFail, ReadResult};

/// Bytes fetched at a time.
const PIECE: u64 = 64 << 10;

/// Words of one stack, never from outside of it.
pub(super) struct StackReader<'a> {
    memory: &'a dyn Memory,
    stack: Span,
    held: Vec<u8>,
    from: Addr,
}

impl<'a> StackReader<'a> {
    pub(super) fn new(memory: &'a dyn Memory) -> StackReader<'a> {
        StackReader { memory, stack: Span::default(), held: Vec::new(), from: Addr::NULL }
    }

    /// Turns to another stack; keeps the buffer.
    pub(super) fn turn_to(&mut self, stack: Span) {
        self.stack = stack;
        self.held.clear();
    }

    /// The word at `at`, which must lie in the stack.
    pub(super) fn word(&mut self, at: Addr) -> ReadResult<Addr> {
        if !self.stack.contains_range(at, 8) {
            return Err(ReadError { at, len: 8, why: ReadFail::Overflow });
        }
        if let Some(word) = self.held_word(at) {
            return Ok(word);
        }
        self.fetch(at);
        match self.held_word(at) {
            Some(word) => Ok(word),
            None => self.memory.read_addr(at),
        }
    }

    fn held_word(&self, at: Addr) -> Option<Addr> {
        let skip = usize::try_from(at.above(self.from)?).ok()?;
        let bytes = self.held.get(skip..)?.first_chunk()?;
        Some(Addr::new(u64::from_le_bytes(*bytes)))
    }

    /// Fetches a piece that begins at `at`; holds nothing when not all of it can be read.
    fn fetch(&mut self, at: Addr) {
        let len = self.stack.end().above(at).unwrap_or(0).min(PIECE);
        self.held.clear();
        self.held.resize(usize::try_from(len).unwrap_or(0), 0);
        self.from = at;
        if self.memory.read(at, &mut self.held).is_err() {
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn words_are_read_inside_the_stack_only_and_around_holes() {
        let mut memory = SparseMemory::new();
        memory.put_u64(Addr::new(0x1000), 7);
        memory.put_u64(Addr::new(0x1010), 8);
        memory.put_u64(Addr::new(0x1018), 9);
        let mut reader = StackReader::new(&memory);
        reader.turn_to(Span { start: Addr::new(0x1000), len: 0x18 });
        assert_eq!(reader.word(Addr::new(0x1000)), Ok(Addr::new(7)));
        assert!(reader.word(Addr::new(0x1008)).is_err());
        assert_eq!(reader.word(Addr::new(0x1010)), Ok(Addr::new(8)));
        assert!(reader.word(Addr::new(0x1018)).is_err());
        assert!(reader.word(Addr::new(u64::MAX - 3)).is_err());
    }
}
