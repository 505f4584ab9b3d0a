//! Image, statics: code and read-only data of the target's files, read from the files. They are the
//! same bytes as in memory, cost the target nothing, and are there when a core file leaves them out.

use crate::addr::{Addr, Bias, FileOffset, Span};
use crate::image::blob::{Blob, Regions};
use crate::image::elf::ElfFile;
use crate::memory::{Memory, Piece, ReadError, ReadFail, ReadResult};
use std::ops::{Deref, Range};
use std::sync::Arc;

type Bytes = Arc<dyn Deref<Target = [u8]> + Send + Sync>;

/// The unchanging parts of the target's files at their addresses.
#[derive(Default, Clone)]
pub struct Statics {
    parts: Vec<Part>,
}

#[derive(Clone)]
struct Part {
    span: Span,
    file: Bytes,
    offset: FileOffset,
}

impl Statics {
    /// Adds what is unchanging of a file that was loaded with `bias`.
    pub fn add(&mut self, elf: &ElfFile, bias: Bias) {
        for (span, offset) in elf.unchanging(bias) {
            self.parts.push(Part { span, file: elf.shared_bytes(), offset });
        }
        self.parts.sort_by_key(|p| p.span.start);
    }

    /// The file and the range in it that hold all of `span`.
    fn find(&self, at: Addr, len: u64) -> Option<(&Bytes, Range<usize>)> {
        let after = self.parts.partition_point(|p| p.span.start <= at);
        let part = self.parts.get(after.checked_sub(1)?)?;
        if !part.span.contains_range(at, len) {
            return None;
        }
        let start = part.offset.0.checked_add(at.above(part.span.start)?)?;
        let range = usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?;
        (range.end <= part.file.len()).then_some((&part.file, range))
    }
}

impl Memory for Statics {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let fail = ReadError { at, len: buf.len() as u64, why: ReadFail::Unmapped };
        let (file, range) = self.find(at, fail.len).ok_or(fail)?;
        buf.copy_from_slice(file.get(range).ok_or(fail)?);
        Ok(())
    }
}

/// The statics of an image, and another memory for all else.
pub struct ImageMemory<'a> {
    pub(super) statics: &'a Statics,
    pub(super) lower: &'a dyn Memory,
}

impl Memory for ImageMemory<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        self.statics.read(at, buf).or_else(|_| self.lower.read(at, buf))
    }

    fn read_pieces(&self, pieces: &mut [Piece<'_>]) {
        let mut rest: Vec<(&mut bool, Piece<'_>)> = Vec::new();
        for Piece { at, into, ok } in pieces {
            *ok = self.statics.read(*at, into).is_ok();
            if !*ok {
                rest.push((ok, Piece { at: *at, into, ok: false }));
            }
        }
        let (flags, mut lower): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
        self.lower.read_pieces(&mut lower);
        for (flag, piece) in flags.into_iter().zip(lower) {
            *flag = piece.ok;
        }
    }
}

/// Largest table that is copied from memory, in bytes.
const COPIED: u64 = 1 << 30;

impl Regions for ImageMemory<'_> {
    fn blob(&self, span: Span) -> ReadResult<Blob> {
        match self.statics.find(span.start, span.len) {
            Some((file, range)) => Ok(Blob::Mapped(file.clone(), range)),
            None => Ok(Blob::Owned(self.lower.read_span(span, COPIED)?.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    fn statics() -> Statics {
        let part = |start, file: &[u8], offset| Part {
            span: Span { start: Addr::new(start), len: 4 },
            file: Arc::new(file.to_vec()),
            offset: FileOffset(offset),
        };
        Statics { parts: vec![part(0x1000, b"..abcd", 2), part(0x2000, b"cut", 0)] }
    }

    #[test]
    fn files_answer_first_and_only_for_what_they_have() {
        let statics = statics();
        let mut lower = SparseMemory::new();
        lower.put(Addr::new(0x1002), *b"WXYZ");
        lower.put(Addr::new(0x2000), *b"full");
        let memory = ImageMemory { statics: &statics, lower: &lower };
        let text = |at, len| memory.read_span(Span { start: Addr::new(at), len }, 9).ok();
        assert_eq!(text(0x1001, 3).as_deref(), Some(&b"bcd"[..]));
        assert_eq!(text(0x1002, 4).as_deref(), Some(&b"WXYZ"[..]));
        assert_eq!(text(0x2000, 4).as_deref(), Some(&b"full"[..]));
        assert_eq!(text(0x0fff, 1), None);
    }

    #[test]
    fn bulk_reads_are_split() {
        let statics = statics();
        let mut lower = SparseMemory::new();
        lower.put(Addr::new(0x3000), *b"low");
        let memory = ImageMemory { statics: &statics, lower: &lower };
        let (mut a, mut b, mut c) = ([0; 2], [0; 2], [0; 2]);
        let mut pieces = [
            Piece { at: Addr::new(0x3000), into: &mut a, ok: false },
            Piece { at: Addr::new(0x1000), into: &mut b, ok: false },
            Piece { at: Addr::new(0x9000), into: &mut c, ok: true },
        ];
        memory.read_pieces(&mut pieces);
        assert_eq!(pieces.each_ref().map(|p| p.ok), [true, true, false]);
        assert_eq!((&a, &b), (b"lo", b"ab"));
    }
}
