//! Memory: a map of byte runs. What a capture copied is kept in one; tests and fuzzing build whole
//! targets in one.

use super::{Memory, ReadError, ReadFail, ReadResult};
use crate::addr::Addr;
use std::collections::BTreeMap;

/// Runs of bytes at addresses. Runs that were put later win where they overlap only if they begin at
/// the same address; otherwise overlapping is the caller's mistake and reads see the run that begins
/// nearest below.
#[derive(Default, Clone)]
pub struct SparseMemory {
    runs: BTreeMap<Addr, Vec<u8>>,
}

impl SparseMemory {
    /// Nothing is mapped.
    pub fn new() -> SparseMemory {
        SparseMemory::default()
    }

    /// Maps `bytes` at `at`.
    pub fn put(&mut self, at: Addr, bytes: impl Into<Vec<u8>>) {
        self.runs.insert(at, bytes.into());
    }

    /// Maps one little-endian u64 at `at`.
    pub fn put_u64(&mut self, at: Addr, value: u64) {
        self.put(at, value.to_le_bytes());
    }
}

impl Memory for SparseMemory {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let fail = ReadError { at, len: buf.len() as u64, why: ReadFail::Unmapped };
        let mut at = at;
        let mut rest = buf;
        while !rest.is_empty() {
            let (start, bytes) = self.runs.range(..=at).next_back().ok_or(fail)?;
            let skip = at.above(*start).and_then(|n| usize::try_from(n).ok()).ok_or(fail)?;
            let found = bytes.get(skip..).filter(|b| !b.is_empty()).ok_or(fail)?;
            let n = found.len().min(rest.len());
            let (now, later) = rest.split_at_mut(n);
            now.copy_from_slice(found.get(..n).ok_or(fail)?);
            at = at.offset(n as u64);
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_crosses_adjacent_runs_and_stops_at_holes() {
        let mut m = SparseMemory::new();
        m.put(Addr::new(0x1000), [1, 2]);
        m.put(Addr::new(0x1002), [3, 4]);
        let mut b = [0; 4];
        assert_eq!(m.read(Addr::new(0x1000), &mut b), Ok(()));
        assert_eq!(b, [1, 2, 3, 4]);
        assert!(m.read(Addr::new(0x1001), &mut b).is_err());
        assert!(m.read(Addr::new(u64::MAX), &mut b).is_err());
    }
}
