//! Source, core files: which addresses the core holds, and where in the file. Built once from the
//! program headers; every read of memory searches it.

use super::header::{EntryKind, Header};
use super::raw::slice;
use crate::addr::{Addr, Span, around};
use crate::memory::{Memory, ReadError, ReadFail, ReadResult};
use crate::source::mmap::FileMap;

/// Memory whose bytes are in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    at: u64,
    len: u64,
    offset: u64,
}

/// Memory that the process had, whether the file holds its bytes or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Region {
    pub span: Span,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
}

/// The memory that a core describes.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// Sorted, without overlap.
    runs: Vec<Run>,
    /// Sorted, without overlap.
    pub regions: Vec<Region>,
    /// What the program headers promise and the file does not hold.
    pub lost: Lost,
}

/// What a core promises and does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Lost {
    /// Segments that are cut or missing.
    pub segments: u64,
    /// Their missing bytes.
    pub bytes: u64,
    /// Segments whose addresses another one has already.
    pub overlapping: u64,
}

impl Segments {
    /// Indexes the `PT_LOAD` headers. Of segments that overlap, the one that begins first counts.
    ///
    /// `p_filesz < p_memsz` does not mean zeros, as it does in an executable: the kernel leaves out
    /// pages that a file backs, so what is not in the core is absent.
    pub(super) fn index(header: &Header, bytes: &[u8]) -> Segments {
        let mut found = Segments::default();
        for e in header.entries(bytes).filter(|e| e.kind == EntryKind::Load) {
            let to_end = u64::MAX.saturating_sub(e.vaddr);
            let stated = e.file_size.min(to_end);
            let present = stated.min((bytes.len() as u64).saturating_sub(e.offset));
            if present < stated {
                found.lost.segments = found.lost.segments.saturating_add(1);
                found.lost.bytes = found.lost.bytes.saturating_add(stated.saturating_sub(present));
            }
            if present > 0 {
                found.runs.push(Run { at: e.vaddr, len: present, offset: e.offset });
            }
            found.regions.push(Region {
                span: Span { start: Addr::new(e.vaddr), len: e.mem_size.max(stated).min(to_end) },
                readable: e.readable,
                writable: e.writable,
                executable: e.executable,
            });
        }
        found.runs.sort_by_key(|r| r.at);
        found.regions.sort_by_key(|r| r.span.start);
        found.lost.overlapping = part_runs(&mut found.runs);
        part_regions(&mut found.regions);
        found
    }

    /// Bytes of memory that the file holds.
    pub(super) fn held(&self) -> u64 {
        self.runs.iter().fold(0, |sum, r| sum.saturating_add(r.len))
    }

    /// The bytes of the run that has `at`, from `at` to its end.
    fn bytes_from<'a>(&self, bytes: &'a [u8], at: u64) -> Option<&'a [u8]> {
        let after = self.runs.partition_point(|r| r.at <= at);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let skip = at.checked_sub(run.at)?;
        let len = run.len.checked_sub(skip).filter(|n| *n > 0)?;
        slice(bytes, run.offset.checked_add(skip)?, len)
    }
}

/// Cuts off the front of runs that begin inside an earlier one; says how many there were.
fn part_runs(runs: &mut Vec<Run>) -> u64 {
    let (mut end, mut overlapping) = (0u64, 0u64);
    runs.retain_mut(|run| {
        let inside = end.saturating_sub(run.at);
        if inside > 0 {
            overlapping = overlapping.saturating_add(1);
        }
        if inside >= run.len {
            return false;
        }
        run.at = run.at.saturating_add(inside);
        run.offset = run.offset.saturating_add(inside);
        run.len = run.len.saturating_sub(inside);
        end = run.at.saturating_add(run.len);
        true
    });
    overlapping
}

/// The same for regions.
fn part_regions(regions: &mut Vec<Region>) {
    let mut end = Addr::NULL;
    regions.retain_mut(|region| {
        let span = Span::between(region.span.start.max(end), region.span.end());
        region.span = span;
        end = end.max(span.end());
        span.len > 0
    });
}

/// The memory of the process, as far as the core holds it.
pub(super) struct CoreMemory {
    pub map: FileMap,
    pub segments: Segments,
    /// Everything that was mapped, sorted: tells what the core lacks from what never was.
    pub mapped: Vec<Span>,
}

impl CoreMemory {
    fn why_not(&self, at: Addr) -> ReadFail {
        match around(&self.mapped, at, |span| *span) {
            Some(_) => ReadFail::NotInCore,
            None => ReadFail::Unmapped,
        }
    }
}

impl Memory for CoreMemory {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let len = buf.len() as u64;
        if at.get().checked_add(len).is_none() {
            return Err(ReadError { at, len, why: ReadFail::Overflow });
        }
        let mut cursor = at;
        let mut rest = buf;
        while !rest.is_empty() {
            let missing = || ReadError { at, len, why: self.why_not(cursor) };
            let found = self.segments.bytes_from(&self.map, cursor.get()).ok_or_else(missing)?;
            let n = found.len().min(rest.len());
            let (now, later) = rest.split_at_mut(n);
            now.copy_from_slice(found.get(..n).ok_or_else(missing)?);
            cursor = cursor.offset(n as u64);
            rest = later;
        }
        Ok(())
    }
}
