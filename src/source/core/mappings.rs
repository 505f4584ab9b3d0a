//! Source, core files: what was mapped where, put together from the segments, which know addresses
//! and rights, and from `NT_FILE`, which knows files.

use super::notes::MappedFile;
use super::segments::Region;
use crate::addr::{Addr, FileOffset, Span};
use crate::diag::Diagnostics;
use crate::source::Mapping;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bytes of file names that are kept in all: bounds what a damaged note may cost.
const NAMES_LIMIT: usize = 64 << 20;

/// Joins regions and files, both of which may be incomplete, into mappings that are sorted and do
/// not overlap. A file without a region (gdb leaves out what it takes for unchanged) is taken as
/// readable and nothing more.
pub(super) fn join(regions: &[Region], files: &[MappedFile], to: &mut Diagnostics) -> Vec<Mapping> {
    let files = sorted(files);
    let mut joined = Joined { mappings: Vec::new(), names: 0, dropped: 0 };
    let mut next = 0;
    let mut end = Addr::NULL;
    for region in regions {
        next = joined.files_alone(&files, next, end, region.span.start);
        let last = joined.region(&files, next, region);
        next = last;
        end = region.span.end();
    }
    joined.files_alone(&files, next, end, Addr::new(u64::MAX));
    if joined.dropped > 0 {
        let what = format!("the names of {} mapped files are too long", joined.dropped);
        to.warn(what, "the core file is damaged; these mappings have no name");
    }
    joined.mappings
}

/// Files in the order of their addresses; of those that overlap, the first counts.
fn sorted(files: &[MappedFile]) -> Vec<&MappedFile> {
    let mut sorted: Vec<&MappedFile> = files.iter().filter(|f| f.span.len > 0).collect();
    sorted.sort_by_key(|f| f.span.start);
    let mut end = Addr::NULL;
    sorted.retain(|f| {
        let keep = f.span.start >= end;
        if keep {
            end = f.span.end();
        }
        keep
    });
    sorted
}

struct Joined {
    mappings: Vec<Mapping>,
    names: usize,
    dropped: u64,
}

impl Joined {
    /// Adds the files, from the one at `next`, that lie in the gap from `from` to `until`. Returns
    /// the first that reaches past it.
    fn files_alone(&mut self, files: &[&MappedFile], next: usize, from: Addr, until: Addr) -> usize {
        let rights = Region { span: Span::default(), readable: true, writable: false, executable: false };
        let mut next = next;
        while let Some(file) = files.get(next).filter(|f| f.span.start < until) {
            let span = Span::between(file.span.start.max(from), file.span.end().min(until));
            self.push(span, &rights, Some(file));
            if file.span.end() > until {
                break;
            }
            next = next.saturating_add(1);
        }
        next
    }

    /// Adds a region, split where files begin and end. Returns the first file that reaches past it.
    fn region(&mut self, files: &[&MappedFile], next: usize, region: &Region) -> usize {
        let end = region.span.end();
        let mut at = region.span.start;
        let mut next = next;
        while let Some(file) = files.get(next).filter(|f| f.span.start < end) {
            self.push(Span::between(at, file.span.start), region, None);
            let until = file.span.end().min(end);
            self.push(Span::between(at.max(file.span.start), until), region, Some(file));
            at = at.max(until);
            if file.span.end() > end {
                break;
            }
            next = next.saturating_add(1);
        }
        self.push(Span::between(at, end), region, None);
        next
    }

    fn push(&mut self, span: Span, rights: &Region, file: Option<&MappedFile>) {
        if span.len == 0 {
            return;
        }
        let (path, deleted) = file.map_or((None, false), |f| self.path(&f.name));
        let into = file.and_then(|f| span.start.above(f.span.start)).unwrap_or(0);
        let offset = file.map_or(0, |f| f.offset.0.saturating_add(into));
        self.mappings.push(Mapping {
            span,
            offset: FileOffset(offset),
            path,
            deleted,
            readable: rights.readable,
            writable: rights.writable,
            executable: rights.executable,
        });
    }

    /// The path of a name, and whether the kernel marked it as deleted.
    fn path(&mut self, name: &[u8]) -> (Option<PathBuf>, bool) {
        let (name, deleted) = match name.strip_suffix(b" (deleted)") {
            Some(short) => (short, true),
            None => (name, false),
        };
        self.names = self.names.saturating_add(name.len());
        if name.is_empty() || self.names > NAMES_LIMIT {
            self.dropped = self.dropped.saturating_add(1);
            return (None, deleted);
        }
        (Some(PathBuf::from(OsStr::from_bytes(name))), deleted)
    }
}
