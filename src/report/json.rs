//! Report: the JSON document `allgs.report/1`, streamed: one goroutine at a time goes through the
//! serializer, and no tree is ever built. Each goroutine is on a line of its own, so that plain text
//! tools find their way in it too.

use super::Report;
use super::clean::is_unsafe;
use super::model::{self, Frames, Goroutine};
use super::threads::ThreadModel;
use super::waits::{BlockedModel, SituationModel, edges};
use crate::analysis::survey::Row;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::value::RawValue;
use std::cell::{Cell, OnceCell};
use std::io::{self, Write};

/// Writes the whole document.
pub fn write(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    write_value(out, &Document { report, frames: FrameTexts::new(report.survey.distinct_stacks().len()) })
}

/// Writes any value in the layout of this tool's documents.
pub fn write_value(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Lines::default());
    value.serialize(&mut serializer).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

struct Document<'a> {
    report: &'a Report<'a>,
    frames: FrameTexts,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = self.report;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", model::SCHEMA)?;
        map.serialize_entry("target", report.target)?;
        map.serialize_entry("capture", report.capture)?;
        map.serialize_entry("counts", report.counts)?;
        map.serialize_entry("goroutines", &Each(|| goroutines(report, &self.frames)))?;
        if let Some(threads) = report.threads {
            map.serialize_entry("threads", &Each(|| threads.iter().map(ThreadModel::of)))?;
        }
        if let Some(why) = report.why {
            let situation = |s| SituationModel::of(s, why, report.survey);
            map.serialize_entry("situations", &Each(|| why.situations.iter().map(situation)))?;
            let edges = || edges(why, report.survey, report.selection);
            map.serialize_entry("graph", &Graph { edges: Each(edges) })?;
        }
        map.serialize_entry("diagnostics", &Each(|| model::diagnostics(report.diagnostics)))?;
        map.end()
    }
}

/// The selected goroutines, with what they wait for if that was asked.
fn goroutines<'a>(report: &'a Report<'a>, frames: &'a FrameTexts) -> impl Iterator<Item = Goroutine<'a>> {
    report.selection.indices.iter().filter_map(move |index| {
        let row = report.survey.row(*index as usize)?;
        let blocked = report.why.and_then(|why| BlockedModel::of(*index, why, report.survey));
        Some(Goroutine::of(row).written(frames.of(row)).blocked_on(blocked))
    })
}

/// Most bytes of frames that are kept as text.
const KEPT: usize = 16 << 20;

/// How deep in the document the frames of a goroutine are.
const DEPTH_OF_FRAMES: u32 = 3;

/// The frames of each stack as text, from when it is first written on. Most goroutines share their stack
/// with many others, and frames are most of the document.
struct FrameTexts {
    of: Vec<OnceCell<Box<RawValue>>>,
    left: Cell<usize>,
}

impl FrameTexts {
    fn new(stacks: usize) -> FrameTexts {
        FrameTexts { of: (0..stacks).map(|_| OnceCell::new()).collect(), left: Cell::new(KEPT) }
    }

    fn of(&self, row: Row<'_>) -> Option<&RawValue> {
        let text = self.of.get(row.stack_number())?;
        if text.get().is_none() && self.left.get() > 0 {
            let made = FrameTexts::text(row)?;
            self.left.set(self.left.get().saturating_sub(made.get().len()));
            text.set(made).ok()?;
        }
        text.get().map(AsRef::as_ref)
    }

    fn text(row: Row<'_>) -> Option<Box<RawValue>> {
        let mut text = Vec::new();
        let inside = Lines { depth: DEPTH_OF_FRAMES };
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, inside);
        Frames::Of(row).serialize(&mut serializer).ok()?;
        RawValue::from_string(String::from_utf8(text).ok()?).ok()
    }
}

/// Who waits for whom.
#[derive(Serialize)]
struct Graph<E> {
    edges: E,
}

/// A sequence made anew each time it is written.
pub struct Each<F>(pub F);

impl<F: Fn() -> I, I: IntoIterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Compact JSON, but for line ends between the members of the document and the elements of its arrays.
/// Characters that would act on a terminal are escaped, which changes nothing in the values.
#[derive(Default)]
struct Lines {
    depth: u32,
}

impl Lines {
    fn separate<W: ?Sized + Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        match (first, self.depth <= 2) {
            (true, true) => out.write_all(b"\n"),
            (true, false) => Ok(()),
            (false, true) => out.write_all(b",\n"),
            (false, false) => out.write_all(b","),
        }
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        CompactFormatter.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_array(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        CompactFormatter.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        CompactFormatter.end_object(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match self.depth {
            1 => self.separate(out, first),
            _ => CompactFormatter.begin_object_key(out, first),
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            let (safe, unsafe_on) = rest.split_at(at);
            out.write_all(safe.as_bytes())?;
            for unit in found.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = unsafe_on.strip_prefix(found).unwrap_or_default();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests;
