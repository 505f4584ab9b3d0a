//! Source, core files: unpacking what systemd-coredump (`.zst`, `.lz4`) or people (`.gz`) packed. The
//! core goes as a stream into a file without a name in the folder for temporary files, so it is gone
//! when this process is, however it ends; runs of zeros become holes.

use super::header::{bad, recognise};
use crate::error::{Error, ErrorKind, Result};
use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder as ZstdDecoder};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

/// How far unpacking has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of the packed file that were read.
    pub packed: u64,
    /// Bytes that the packed file has.
    pub packed_total: u64,
    /// Bytes that came out.
    pub unpacked: u64,
}

/// Bytes that are unpacked at a time.
const BLOCK: usize = 1 << 16;
/// Zeros of this size, aligned, become a hole.
const HOLE: usize = 4096;
/// The disk is asked for room every so many bytes.
const ASK_EVERY: u64 = 64 << 20;
/// Room that is always left on the disk.
const RESERVE: u64 = 2 * ASK_EVERY;
/// A core may be so many times larger than the free disk, holes included: a few bytes can unpack to
/// zeros without end.
const HOLES_FACTOR: u64 = 8;

/// A way of packing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    Gzip,
    Zstd,
    Lz4,
}

impl Packing {
    /// The packing of a file with these first bytes; `None` if it is none that is known. Packings
    /// that are known and not read are an error.
    pub(super) fn of(bytes: &[u8], name: &str) -> Result<Option<Packing>> {
        let unread = |by: &str, command: &str| {
            Err(Error::new(ErrorKind::Unsupported, format!("{name} is packed with {by}"))
                .hint(format!("unpack it first: {command}")))
        };
        match bytes {
            [0x1f, 0x8b, ..] => Ok(Some(Packing::Gzip)),
            // The second one is a frame to be skipped, with which parallel packers begin.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Some(Packing::Zstd)),
            [0x04, 0x22, 0x4d, 0x18, ..] => Ok(Some(Packing::Lz4)),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unread("xz", "xz -d"),
            [b'B', b'Z', b'h', ..] => unread("bzip2", "bzip2 -d"),
            _ => Ok(None),
        }
    }
}

/// A core that was unpacked.
pub(super) struct Unpacked {
    pub file: File,
    /// Why unpacking ended before the end, if it did. What came out so far is in the file.
    pub cut: Option<String>,
}

/// Unpacks `file`. Fails when nothing comes out, when what comes out is no core, and when the disk
/// is full.
pub(super) fn unpack(
    file: &File,
    name: &str,
    packing: Packing,
    progress: &mut dyn FnMut(Progress),
) -> Result<Unpacked> {
    let failed = |e: io::Error| Error::new(ErrorKind::Io, format!("cannot read {name}: {e}"));
    let packed_total = file.metadata().map_err(failed)?.len();
    let packed = Cell::new(0);
    let input = BufReader::with_capacity(BLOCK, Counted { file, read: &packed });
    let mut decoder: Box<dyn Read + '_> = match packing {
        Packing::Gzip => Box::new(MultiGzDecoder::new(input)),
        Packing::Zstd => Box::new(ZstdFrames { decoder: ZstdDecoder::new(), input, failed: None }),
        Packing::Lz4 => Box::new(Lz4Frames(Lz4Decoder::new(input))),
    };
    let mut output = Output::create(name)?;
    let mut block = vec![0; BLOCK];
    let mut cut = None;
    while cut.is_none() {
        let (len, ended) = fill(&mut *decoder, &mut block);
        cut = ended.map(|e| e.to_string());
        let bytes = block.get(..len).unwrap_or(&[]);
        if output.len == 0 {
            check_start(bytes, name, cut.as_deref())?;
        }
        if bytes.is_empty() {
            break;
        }
        output.append(bytes)?;
        progress(Progress { packed: packed.get(), packed_total, unpacked: output.len });
    }
    Ok(Unpacked { file: output.finish()?, cut })
}

/// What comes out first must be a core; that is known before gigabytes of something else come out.
fn check_start(bytes: &[u8], name: &str, cut: Option<&str>) -> Result<()> {
    match cut {
        Some(why) if bytes.is_empty() => Err(bad(name, format!("it cannot be unpacked: {why}"))),
        _ => recognise(bytes, name).map(|_| ()),
    }
}

/// Fills `block` as far as it goes; says what stopped it, unless it was the end.
fn fill(from: &mut dyn Read, block: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut len = 0usize;
    while let Some(rest) = block.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => len = len.saturating_add(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (len, Some(e)),
        }
    }
    (len, None)
}

/// Counts what is read.
struct Counted<'a> {
    file: &'a File,
    read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.read.set(self.read.get().saturating_add(n as u64));
        Ok(n)
    }
}

/// The frames of a zstd file, one after the other.
struct ZstdFrames<R> {
    decoder: ZstdDecoder,
    input: R,
    /// What stopped decoding, once it did.
    failed: Option<io::Error>,
}

/// An empty last block of a frame, and room for the checksum that may follow. The decoder keeps back
/// up to 128 MB until it sees the last block; given this one, it hands out all that it has.
const LAST_BLOCK: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

impl<R: BufRead> ZstdFrames<R> {
    /// Goes to the next frame that holds data; `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.input.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }

    /// Whether the frame that just ended is what was packed.
    fn verify(&self) -> io::Result<()> {
        let stated = self.decoder.get_checksum_from_data();
        match (stated, self.decoder.get_calculated_checksum()) {
            (Some(a), Some(b)) if a != b => Err(io::Error::other("its checksum is wrong")),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                if let Err(e) = self.decoder.decode_blocks(&mut self.input, one) {
                    self.failed = Some(io::Error::other(e));
                    let end = self.decoder.decode_blocks(&LAST_BLOCK[..], BlockDecodingStrategy::All);
                    end.map_err(io::Error::other)?;
                }
                continue;
            }
            if let Some(e) = self.failed.take() {
                return Err(e);
            }
            self.verify()?;
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        self.decoder.read(buf)
    }
}

/// The frames of an lz4 file, one after the other: the decoder ends after each.
struct Lz4Frames<R: Read>(Lz4Decoder<R>);

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.0.read(buf)?;
            if n > 0 || self.0.get_mut().fill_buf()?.is_empty() {
                return Ok(n);
            }
        }
    }
}

/// The file that takes what comes out.
struct Output {
    file: File,
    name: String,
    len: u64,
    /// The length at which the disk is asked next.
    ask_at: u64,
    /// The length that is not exceeded.
    limit: u64,
}

impl Output {
    fn create(name: &str) -> Result<Output> {
        let folder = std::env::temp_dir();
        let file = tempfile::tempfile().map_err(|e| {
            let message = format!("cannot create a temporary file in {}: {e}", folder.display());
            Error::new(ErrorKind::Io, message).hint("set TMPDIR to a folder that can be written")
        })?;
        let mut output = Output { file, name: name.to_owned(), len: 0, ask_at: 0, limit: u64::MAX };
        output.limit = output.room()?.saturating_mul(HOLES_FACTOR);
        Ok(output)
    }

    /// Free bytes of the disk.
    fn room(&self) -> Result<u64> {
        let stat = nix::sys::statvfs::fstatvfs(&self.file).map_err(|e| self.failed(e.into()))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.len >= self.ask_at {
            self.ask_at = self.len.saturating_add(ASK_EVERY);
            if self.room()? < RESERVE {
                return Err(self.failed(io::ErrorKind::StorageFull.into()));
            }
        }
        for piece in bytes.chunks(HOLE) {
            if piece.iter().any(|b| *b != 0) {
                self.file.write_all_at(piece, self.len).map_err(|e| self.failed(e))?;
            }
            self.len = self.len.saturating_add(piece.len() as u64);
        }
        if self.len > self.limit {
            return Err(self.failed(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(())
    }

    fn finish(self) -> Result<File> {
        self.file.set_len(self.len).map_err(|e| self.failed(e))?;
        Ok(self.file)
    }

    fn failed(&self, e: io::Error) -> Error {
        let folder = std::env::temp_dir();
        let message =
            format!("cannot unpack {} in {}: {e} after {} bytes", self.name, folder.display(), self.len);
        Error::new(ErrorKind::Io, message).hint("set TMPDIR to a folder on a disk with more room")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::synth::{AMD64, Core};
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// `bytes`, packed by `command`; `None` where there is no such command.
    fn packed(command: &str, arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new(command)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|_| println!("skipped: {command} is not installed"))
            .ok()?;
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        Some(output.stdout)
    }

    /// A core that does not pack well, larger than the largest block of any packer, with a hole.
    fn core() -> Vec<u8> {
        let mut memory = vec![0; 7 << 20];
        let mut word = 1u64;
        for chunk in memory.chunks_mut(8).take(6 << 17) {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        memory.extend([7; 100]);
        Core::new(AMD64).thread(1, 6, 0).load(0x1000, memory).build()
    }

    fn unpacked(bytes: &[u8]) -> Result<(Vec<u8>, Option<String>, Vec<Progress>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let packing = Packing::of(bytes, "x").unwrap().unwrap();
        let mut seen = Vec::new();
        let mut done = unpack(&file, "x", packing, &mut |p| seen.push(p))?;
        let mut out = Vec::new();
        std::io::Seek::rewind(&mut done.file).unwrap();
        done.file.read_to_end(&mut out).unwrap();
        Ok((out, done.cut, seen))
    }

    const COMMANDS: [(&str, &[&str]); 5] = [
        ("gzip", &["-c"]),
        ("zstd", &["-c", "-q"]),
        ("zstd", &["-c", "-q", "-19", "--long=27", "--check"]),
        ("lz4", &["-c", "-q"]),
        ("lz4", &["-c", "-q", "-BD", "-9"]),
    ];

    #[test]
    fn what_was_packed_comes_out_and_progress_is_told() {
        let core = core();
        for (command, arguments) in COMMANDS {
            let Some(bytes) = packed(command, arguments, &core) else { continue };
            let (out, cut, seen) = unpacked(&bytes).unwrap();
            assert!(out == core, "{command} {arguments:?}");
            assert_eq!(cut, None);
            let last = *seen.last().unwrap();
            let total = bytes.len() as u64;
            assert_eq!(last, Progress { packed: total, packed_total: total, unpacked: core.len() as u64 });
        }
    }

    #[test]
    fn frames_one_after_the_other_are_one_core() {
        let core = core();
        let (a, b) = core.split_at(1_700_000);
        for (command, arguments) in COMMANDS {
            let Some(mut bytes) = packed(command, arguments, a) else { continue };
            bytes.extend(packed(command, arguments, b).unwrap());
            let (out, cut, _) = unpacked(&bytes).unwrap();
            assert!(out == core, "{command} {arguments:?}");
            assert_eq!(cut, None);
        }
    }

    #[test]
    fn a_frame_to_be_skipped_is_skipped() {
        let core = core();
        let Some(bytes) = packed("zstd", &["-c", "-q"], &core) else { return };
        let mut all = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        all.extend(&bytes);
        all.extend([0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
        assert!(unpacked(&all).unwrap().0 == core);
    }

    #[test]
    fn a_packed_file_that_is_cut_gives_its_beginning() {
        let core = core();
        for (command, arguments) in COMMANDS {
            let Some(bytes) = packed(command, arguments, &core) else { continue };
            let (out, cut, _) = unpacked(&bytes[..bytes.len() - 20_000]).unwrap();
            assert!(out.len() > 65_536, "{command} {arguments:?}");
            assert!(core.starts_with(&out) && out.len() < core.len(), "{command} {arguments:?}");
            // The lz4 decoder takes an end between two blocks for the end of the file.
            assert!(cut.is_some() || command == "lz4", "{command}");
            let early = unpacked(&bytes[..8]).err().unwrap();
            assert_eq!(early.kind(), ErrorKind::BadCore, "{early}");
        }
    }

    #[test]
    fn what_comes_out_must_be_a_core() {
        let Some(bytes) = packed("gzip", &["-c"], b"text") else { return };
        let e = unpacked(&bytes).err().unwrap();
        assert!(e.to_string().contains("not an ELF file"), "{e}");
    }

    #[test]
    fn packings_that_are_not_read_name_the_command() {
        let e = Packing::of(b"\xfd7zXZ\0", "x").unwrap_err();
        assert_eq!((e.kind(), e.hint_text()), (ErrorKind::Unsupported, Some("unpack it first: xz -d")));
        assert_eq!(Packing::of(b"\x7fELF", "x").unwrap(), None);
    }
}
