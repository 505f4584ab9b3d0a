//! Report: the scripting contract, `allgs.report/1`, as types. What is unknown is absent, never 0 or "".
//! Addresses are hex strings, times are integers of nanoseconds with `_ns` in the name. Members may be
//! added within a major version, never changed. `docs/report.schema.json` says the same for machines.

use super::gaps::GapModel;
use super::waits::BlockedModel;
use crate::addr::Addr;
use crate::analysis::survey::{Row, Survey};
use crate::diag::{Diagnostic, Diagnostics};
use crate::image::Provenance;
use crate::runtime::{Consistency, G, Status};
use crate::unwind::{Frame, FrameKind, StackEnd, Trust};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// The name and major version of the document.
pub const SCHEMA: &str = "allgs.report/1";

/// An address; a hex string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hex(pub Addr);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time in nanoseconds; an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ns(pub Duration);

impl Serialize for Ns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Target {
    /// `live` or `core`.
    pub kind: &'static str,
    /// The process, in our own PID namespace for a live one, in its own for a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The core file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<String>,
    /// The executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The GNU build id, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Go's own build id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_build_id: Option<String>,
    /// Version of the toolchain that built it, as that wrote it.
    pub go_version: String,
    /// `GOARCH`.
    pub arch: &'static str,
    /// Path of the main module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_module: Option<String>,
    /// Version of the main module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_version: Option<String>,
    /// How it was built, by the names of `go version -m`.
    #[serde(serialize_with = "pairs")]
    pub build_settings: Vec<(String, String)>,
    /// What ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// A signal that a process got.
#[derive(Clone, Debug, Serialize)]
pub struct Signal {
    /// Its number.
    #[serde(rename = "signal")]
    pub number: i32,
    /// Its name, e.g. `SIGSEGV`.
    #[serde(rename = "signal_name", skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// `si_code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The address whose access failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_address: Option<Hex>,
}

/// What ended a process.
#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    /// The signal.
    #[serde(flatten)]
    pub signal: Signal,
    /// The thread that died.
    pub thread: i32,
    /// The goroutine that ran on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutine: Option<u64>,
    /// The signal that the runtime made a panic of, which ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// A signal that the processor raised in Go code.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// The signal.
    #[serde(flatten)]
    pub signal: Signal,
    /// Where it was raised.
    pub pc: Hex,
    /// The function that it was raised in.
    pub function: String,
    /// The source file of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// How the target was looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Capture {
    /// When, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// `stopped`, `asleep`, `partial`, `unstopped` or `core`: whether all of it is of one instant.
    pub consistency: &'static str,
    /// How long the target stood still in all; absent for a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ns: Option<Ns>,
    /// Each pause, when there was more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pauses_ns: Vec<Ns>,
    /// Bytes read from the target's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// Its threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// How each thing was found.
    pub provenance: BTreeMap<&'static str, Word>,
    /// How long each phase took, if that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "pairs")]
    pub timings_ns: Vec<(String, Ns)>,
}

/// A stable word of this tool, written as a string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub Provenance);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// How many goroutines there are, before any selection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// All that are not dead.
    pub total: u64,
    /// The program's own.
    pub user: u64,
    /// The runtime's own.
    pub system: u64,
    /// Finished ones whose g is kept for reuse; not in `total`.
    pub dead: u64,
    /// By status.
    pub by_status: BTreeMap<String, u64>,
    /// Of the waiting and leaked, by wait reason.
    pub by_wait_reason: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts the goroutines of a survey; `dead` were left out of it.
    pub fn of(survey: &Survey<'_>, dead: u64) -> Counts {
        let mut counts = Counts { dead, ..Counts::default() };
        let mut add = |g: &G| {
            counts.total += 1;
            *if g.system { &mut counts.system } else { &mut counts.user } += 1;
            bump(&mut counts.by_status, &status(g.status));
            if let Some(reason) = survey.wait_reason(g) {
                bump(&mut counts.by_wait_reason, reason);
            }
        };
        survey.goroutines().iter().for_each(&mut add);
        counts
    }
}

fn bump(counts: &mut BTreeMap<String, u64>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => drop(counts.insert(key.to_owned(), 1)),
    }
}

/// The stable word for a status; `unknown(37)` for a number that the release does not define.
pub fn status(status: Status) -> Cow<'static, str> {
    Cow::Borrowed(match status {
        Status::Idle => "idle",
        Status::Runnable => "runnable",
        Status::Running => "running",
        Status::Syscall => "syscall",
        Status::Waiting => "waiting",
        Status::Dead => "dead",
        Status::Copystack => "copystack",
        Status::Preempted => "preempted",
        Status::Leaked => "leaked",
        Status::DeadExtra => "deadextra",
        Status::Unknown(number) => return Cow::Owned(format!("unknown({number})")),
    })
}

/// One goroutine.
#[derive(Serialize)]
pub struct Goroutine<'a> {
    id: u64,
    status: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_at_least_ns: Option<Ns>,
    system: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    crashed: bool,
    consistency: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_to_thread: Option<i32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "pairs")]
    labels: &'a [(String, String)],
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<CreatedBy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Start<'a>>,
    frames: Frames<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<GapModel>,
    stack_end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_end_at: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_on: Option<BlockedModel<'a>>,
}

impl<'a> Goroutine<'a> {
    /// What the contract says of a row.
    pub fn of(row: Row<'a>) -> Goroutine<'a> {
        let (stack_end, stack_end_at) = stack_end(&row.stack.end);
        Goroutine {
            id: row.g.id.0,
            status: status(row.g.status),
            wait_reason: row.wait_reason,
            waiting_at_least_ns: row.g.waiting_at_least.map(Ns),
            system: row.g.system,
            crashed: row.crashed,
            consistency: consistency(row.g.consistency),
            thread: row.thread.map(|tid| tid.0),
            locked_to_thread: row.locked_to.map(|tid| tid.0),
            labels: row.labels,
            created_by: row.created_by.map(|site| CreatedBy {
                function: &site.function,
                file: site.file.as_deref(),
                line: known_line(site.line),
                goroutine: row.g.parent.map(|id| id.0),
            }),
            start: row.start.map(|function| Start { function }),
            frames: Frames::Of(row),
            gaps: row.gaps().map(|(after, why)| GapModel::of(after, why)).collect(),
            stack_end,
            stack_end_at: stack_end_at.map(Hex),
            blocked_on: None,
        }
    }

    /// The same with its frames as they were written before, if they were.
    pub fn written(self, frames: Option<&'a RawValue>) -> Goroutine<'a> {
        let frames = frames.map_or(self.frames, Frames::Written);
        Goroutine { frames, ..self }
    }

    /// The same with what it waits for.
    pub fn blocked_on(self, blocked_on: Option<BlockedModel<'a>>) -> Goroutine<'a> {
        Goroutine { blocked_on, ..self }
    }
}

#[derive(Serialize)]
struct CreatedBy<'a> {
    function: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
}

#[derive(Serialize)]
struct Start<'a> {
    function: &'a str,
}

/// The frames of a goroutine.
pub enum Frames<'a> {
    /// As they are known.
    Of(Row<'a>),
    /// As they were written before.
    Written(&'a RawValue),
}

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Frames::Of(row) => serializer.collect_seq(row.frames().map(FrameModel::of)),
            Frames::Written(text) => text.serialize(serializer),
        }
    }
}

/// One frame.
#[derive(Serialize)]
pub struct FrameModel<'a> {
    function: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    pc: Hex,
    inlined: bool,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<&'static str>,
}

impl<'a> FrameModel<'a> {
    /// What the contract says of a frame.
    pub fn of(frame: &'a Frame) -> FrameModel<'a> {
        FrameModel {
            function: &frame.function,
            file: frame.file.as_deref(),
            line: known_line(frame.line),
            pc: Hex(frame.pc),
            inlined: frame.inlined,
            kind: match frame.kind {
                FrameKind::Go => "go",
                FrameKind::C => "c",
            },
            trust: match frame.trust {
                Trust::Exact => None,
                Trust::Cfi => Some("cfi"),
                Trust::FramePointer => Some("frame_pointer"),
            },
        }
    }
}

pub(super) fn known_line(line: u32) -> Option<u32> {
    Some(line).filter(|line| *line != 0)
}

/// The stable word for why a walk ended, and the address that it is about.
pub fn stack_end(end: &StackEnd) -> (&'static str, Option<Addr>) {
    match end {
        StackEnd::Complete => ("complete", None),
        StackEnd::Unreadable { at } => ("unreadable", Some(*at)),
        StackEnd::UnknownCode { pc } => ("unknown_code", Some(*pc)),
        StackEnd::OutOfStack { sp } => ("out_of_stack", Some(*sp)),
        StackEnd::Switched { pc } => ("stack_switch", Some(*pc)),
        StackEnd::Limit => ("limit", None),
        StackEnd::NoRegisters => ("no_registers", None),
    }
}

/// The stable word for how far a goroutine's data can be trusted.
pub fn consistency(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Exact => "exact",
        Consistency::OtherInstant => "other_instant",
        Consistency::Torn => "torn",
    }
}

/// One entry of `diagnostics`.
#[derive(Serialize)]
pub struct DiagnosticModel<'a> {
    severity: &'static str,
    what: Cow<'a, str>,
    effect: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// What the contract says of the losses of a run.
pub fn diagnostics(list: &Diagnostics) -> impl Iterator<Item = DiagnosticModel<'_>> {
    let kept = list.entries().iter().map(|d: &Diagnostic| DiagnosticModel {
        severity: d.severity.as_str(),
        what: Cow::Borrowed(&d.what),
        effect: &d.effect,
        count: Some(d.count).filter(|count| *count > 1),
    });
    let dropped = Some(list.dropped()).filter(|n| *n > 0).map(|n| DiagnosticModel {
        severity: "warning",
        what: Cow::Owned(format!("{n} more diagnostics were dropped")),
        effect: "what they said of the answer is unknown",
        count: None,
    });
    kept.chain(dropped)
}

/// Writes pairs as an object, in their order.
fn pairs<S: Serializer, P: AsRef<[(String, V)]>, V: Serialize>(list: P, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(list.as_ref().iter().map(|(key, value)| (key, value)))
}
