//! A memory with some words changed.

use allgs::addr::Addr;
use allgs::memory::{Memory, ReadResult};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a word became.
#[derive(Clone, Copy)]
pub struct Word {
    pub new: u64,
    /// Every other read sees the old value: the memory of a target that runs.
    pub flickers: bool,
}

/// The lower memory with other words at some addresses.
pub struct Words<'a> {
    lower: &'a dyn Memory,
    words: BTreeMap<u64, Word>,
    reads: AtomicU64,
}

impl<'a> Words<'a> {
    pub fn over(lower: &'a dyn Memory, words: BTreeMap<u64, Word>) -> Words<'a> {
        Words { lower, words, reads: AtomicU64::new(0) }
    }
}

impl Memory for Words<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        self.lower.read(at, buf)?;
        let old = self.reads.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let (from, end) = (at.get().saturating_sub(7), at.get() + buf.len() as u64);
        for (start, word) in self.words.range(from..end).filter(|(_, word)| !(word.flickers && old)) {
            for (i, byte) in (*start..).zip(word.new.to_le_bytes()) {
                if let Some(place) = i.checked_sub(at.get()).and_then(|n| buf.get_mut(n as usize)) {
                    *place = byte;
                }
            }
        }
        Ok(())
    }
}
