//! Image, inflate: section bytes that are unpacked only as far as they are asked for. The debug
//! information of a large program is a hundred megabytes, of which the first few hold what is needed.

use crate::error::{Error, ErrorKind, Result};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::Read;

/// How a section is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// `ELFCOMPRESS_ZLIB`, and the old `.zdebug_` sections.
    Zlib,
    /// `ELFCOMPRESS_ZSTD`: C objects of some distributions.
    Zstd,
}

/// Largest section that is unpacked, in bytes.
const LIMIT: u64 = 8 << 30;
/// No byte of deflate becomes more than this many.
const MAX_RATIO: u64 = 1040;

/// Bytes of a section.
pub struct Inflated<'a> {
    state: State<'a>,
    len: usize,
}

enum State<'a> {
    Plain(&'a [u8]),
    Zlib { input: &'a [u8], stream: Box<Decompress>, out: Vec<u8> },
    Zstd { input: &'a [u8], out: Vec<u8> },
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadExecutable, format!("damaged compressed section: {what}"))
}

impl<'a> Inflated<'a> {
    /// Bytes that are not packed.
    pub fn plain(bytes: &'a [u8]) -> Inflated<'a> {
        Inflated { state: State::Plain(bytes), len: bytes.len() }
    }

    /// Packed bytes that claim to become `size`.
    pub fn new(kind: Compression, input: &'a [u8], size: u64) -> Result<Inflated<'a>> {
        let possible = match kind {
            Compression::Zlib => (input.len() as u64).saturating_mul(MAX_RATIO),
            Compression::Zstd => LIMIT,
        };
        let len = usize::try_from(size).ok().filter(|_| size <= possible.min(LIMIT));
        let len = len.ok_or_else(|| bad(format!("{size} bytes from {}", input.len())))?;
        let state = match kind {
            Compression::Zlib => {
                State::Zlib { input, stream: Box::new(Decompress::new(true)), out: Vec::new() }
            }
            Compression::Zstd => State::Zstd { input, out: Vec::new() },
        };
        Ok(Inflated { state, len })
    }

    /// How many bytes there are in all, unpacked or not yet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At least the first `want` bytes, or all when there are fewer.
    pub fn prefix(&mut self, want: usize) -> Result<&[u8]> {
        let want = want.min(self.len);
        match &mut self.state {
            State::Plain(bytes) => Ok(bytes),
            State::Zlib { input, stream, out } => {
                unpack(stream, input, out, want)?;
                Ok(out)
            }
            State::Zstd { input, out } => {
                if out.len() < want {
                    *out = unpack_zstd(input, self.len)?;
                }
                Ok(out)
            }
        }
    }

    /// All bytes.
    pub fn all(&mut self) -> Result<&[u8]> {
        self.prefix(usize::MAX)
    }
}

/// Goes on unpacking until `out` has `want` bytes.
fn unpack(stream: &mut Decompress, input: &[u8], out: &mut Vec<u8>, want: usize) -> Result<()> {
    let more = want.saturating_sub(out.len());
    out.try_reserve_exact(more).map_err(bad)?;
    while out.len() < want {
        let used = usize::try_from(stream.total_in()).map_err(bad)?;
        let rest = input.get(used..).ok_or_else(|| bad("it ends early"))?;
        let before = out.len();
        let status = stream.decompress_vec(rest, out, FlushDecompress::None).map_err(bad)?;
        let ended = status == Status::StreamEnd || out.len() == before;
        if ended && out.len() < want {
            return Err(bad("it ends early"));
        }
    }
    Ok(())
}

fn unpack_zstd(input: &[u8], len: usize) -> Result<Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(input).map_err(bad)?;
    let mut out = Vec::new();
    decoder.take(len as u64).read_to_end(&mut out).map_err(bad)?;
    if out.len() < len {
        return Err(bad("it ends early"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn unpacks_in_steps() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
        let packed = packed(&bytes);
        let mut section = Inflated::new(Compression::Zlib, &packed, bytes.len() as u64).unwrap();
        assert_eq!(section.prefix(1000).unwrap().get(..1000), bytes.get(..1000));
        assert!(section.prefix(1000).unwrap().len() < bytes.len() / 2);
        assert_eq!(section.prefix(70_000).unwrap().get(..70_000), bytes.get(..70_000));
        assert_eq!(section.all().unwrap(), bytes);
    }

    #[test]
    fn lies_about_the_size_are_errors() {
        let packed = packed(&[7; 1000]);
        assert!(Inflated::new(Compression::Zlib, &packed, u64::MAX).is_err());
        assert!(Inflated::new(Compression::Zlib, &packed, 1001).unwrap().all().is_err());
        let cut = packed.get(..packed.len() - 8).unwrap();
        assert!(Inflated::new(Compression::Zlib, cut, 1000).unwrap().all().is_err());
        assert!(Inflated::new(Compression::Zlib, b"no zlib", 100).unwrap().all().is_err());
        assert!(Inflated::new(Compression::Zstd, b"no zstd", 100).unwrap().all().is_err());
    }
}
