//! Memory: reading bytes of the target, wherever they come from. Everything above this layer sees a
//! [`Memory`] and nothing else of live processes or core files. `&self` and `Sync`, so that
//! goroutines are decoded in parallel.

pub mod cache;
pub mod overlay;
pub mod share;
pub mod sparse;

use crate::addr::{Addr, Span};

/// Why bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFail {
    /// Nothing is mapped there.
    Unmapped,
    /// The core file does not hold these bytes.
    NotInCore,
    /// The process ended.
    Gone,
    /// The kernel refused.
    Denied,
    /// The range goes past the end of the address space, or is longer than a limit allows.
    Overflow,
}

impl ReadFail {
    const fn text(self) -> &'static str {
        match self {
            ReadFail::Unmapped => "not mapped",
            ReadFail::NotInCore => "not in the core file",
            ReadFail::Gone => "the process ended",
            ReadFail::Denied => "not permitted",
            ReadFail::Overflow => "outside what can be addressed",
        }
    }
}

/// Bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{len} bytes of memory at {at}: {}", why.text())]
pub struct ReadError {
    /// First byte asked for.
    pub at: Addr,
    /// Bytes asked for.
    pub len: u64,
    /// Why.
    pub why: ReadFail,
}

impl From<ReadError> for crate::error::Error {
    fn from(e: ReadError) -> crate::error::Error {
        crate::error::Error::new(crate::error::ErrorKind::Memory, e)
    }
}

/// Result of a read.
pub type ReadResult<T> = Result<T, ReadError>;

/// One piece of a bulk read.
pub struct Piece<'a> {
    /// Where it begins.
    pub at: Addr,
    /// What it fills.
    pub into: &'a mut [u8],
    /// Set to whether all of it was read.
    pub ok: bool,
}

/// Bytes of the target.
pub trait Memory: Sync {
    /// Fills `buf` from `at`. Never partial on `Ok`; on `Err` the content of `buf` means nothing.
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()>;

    /// Reads many pieces, in as few steps as the source allows; says of each whether it was read.
    fn read_pieces(&self, pieces: &mut [Piece<'_>]) {
        for piece in pieces {
            piece.ok = self.read(piece.at, piece.into).is_ok();
        }
    }

    /// Reads a little-endian u64.
    fn read_u64(&self, at: Addr) -> ReadResult<u64> {
        let mut b = [0; 8];
        self.read(at, &mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    /// Reads a little-endian u32.
    fn read_u32(&self, at: Addr) -> ReadResult<u32> {
        let mut b = [0; 4];
        self.read(at, &mut b)?;
        Ok(u32::from_le_bytes(b))
    }

    /// Reads one byte.
    fn read_u8(&self, at: Addr) -> ReadResult<u8> {
        let mut b = [0];
        self.read(at, &mut b)?;
        let [byte] = b;
        Ok(byte)
    }

    /// Reads a pointer.
    fn read_addr(&self, at: Addr) -> ReadResult<Addr> {
        self.read_u64(at).map(Addr::new)
    }

    /// Reads `span` into a new buffer; refuses more than `limit` bytes.
    fn read_span(&self, span: Span, limit: u64) -> ReadResult<Vec<u8>> {
        let too_long = ReadError { at: span.start, len: span.len, why: ReadFail::Overflow };
        if span.len > limit {
            return Err(too_long);
        }
        let mut buf = vec![0; usize::try_from(span.len).map_err(|_| too_long)?];
        self.read(span.start, &mut buf)?;
        Ok(buf)
    }
}

/// A Go slice header: `{array, len, cap}` of `runtime/slice.go`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SliceHeader {
    /// First element.
    pub array: Addr,
    /// Elements in use.
    pub len: u64,
    /// Elements allocated.
    pub cap: u64,
}

/// Reads a slice header at `at`.
pub fn read_slice(memory: &dyn Memory, at: Addr) -> ReadResult<SliceHeader> {
    Ok(SliceHeader {
        array: memory.read_addr(at)?,
        len: memory.read_u64(at.offset(8))?,
        cap: memory.read_u64(at.offset(16))?,
    })
}

/// Reads the bytes of the Go string whose header `{ptr, len}` is at `at`; refuses more than `limit`
/// bytes.
pub fn read_string(memory: &dyn Memory, at: Addr, limit: u64) -> ReadResult<Vec<u8>> {
    let start = memory.read_addr(at)?;
    let len = memory.read_u64(at.offset(8))?;
    memory.read_span(Span { start, len }, limit)
}
