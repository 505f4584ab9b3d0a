//! Memory: one memory over another. Reads are answered by the upper one where it has the bytes, else
//! by the lower one; a read that straddles both is put together.

use super::{Memory, ReadResult};
use crate::addr::Addr;

/// `upper` where it has the bytes, else `lower`.
pub struct Overlay<U, L> {
    /// Asked first.
    pub upper: U,
    /// Asked for what `upper` lacks.
    pub lower: L,
}

/// Granularity in which a straddling read is put together, in bytes: no source ends inside a word.
const STEP: usize = 8;

impl<U: Memory, L: Memory> Memory for Overlay<U, L> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        if self.upper.read(at, buf).is_ok() || self.lower.read(at, buf).is_ok() {
            return Ok(());
        }
        let mut at = at;
        for piece in buf.chunks_mut(STEP) {
            if self.upper.read(at, piece).is_err() {
                self.lower.read(at, piece)?;
            }
            at = at.offset(piece.len() as u64);
        }
        Ok(())
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        (**self).read(at, buf)
    }

    fn read_pieces(&self, pieces: &mut [super::Piece<'_>]) {
        (**self).read_pieces(pieces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn a_straddling_read_takes_from_both() {
        let (mut upper, mut lower) = (SparseMemory::new(), SparseMemory::new());
        lower.put(Addr::new(0x1000), [1; 16]);
        upper.put(Addr::new(0x1008), [2; 16]);
        let mut b = [0; 24];
        let both = Overlay { upper, lower };
        assert!(both.read(Addr::new(0x1000), &mut b).is_ok());
        assert_eq!(b.first(), Some(&1));
        assert_eq!(b.get(8), Some(&2));
        assert!(both.read(Addr::new(0x1008), &mut b).is_err());
    }
}
