//! Report: the threads of a process, as text and as the `threads` of the JSON document.

use super::clean::clean;
use super::gaps::GapModel;
use super::model::{FrameModel, stack_end};
use super::style::{Palette, paint};
use super::text::stack_lines;
use crate::analysis::threads::{Role, ThreadRow};
use crate::runtime::GoId;
use serde::{Serialize, Serializer};
use std::io::{self, Write};

/// One thread.
#[derive(Serialize)]
pub struct ThreadModel<'a> {
    tid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<char>,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goroutine: Option<u64>,
    frames: Frames<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<GapModel>,
    stack_end: &'static str,
}

impl<'a> ThreadModel<'a> {
    /// What the contract says of a thread.
    pub fn of(thread: &'a ThreadRow<'a>) -> ThreadModel<'a> {
        let (role, goroutine, _) = words(thread.role);
        ThreadModel {
            tid: thread.tid.0,
            name: thread.name,
            state: thread.state,
            role,
            goroutine: goroutine.map(|id| id.0),
            frames: Frames(thread),
            gaps: thread.stack.gaps.iter().map(|gap| GapModel::of(gap.after, &gap.why)).collect(),
            stack_end: stack_end(&thread.stack.end).0,
        }
    }
}

struct Frames<'a>(&'a ThreadRow<'a>);

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.stack.frames.iter().map(FrameModel::of))
    }
}

/// The stable word for a role, the goroutine it is about, and words for people.
fn words(role: Role) -> (&'static str, Option<GoId>, &'static str) {
    match role {
        Role::Runs(id) => ("running", Some(id), "runs goroutine"),
        Role::SystemCall(id) => ("system_call", Some(id), "in a system call of goroutine"),
        Role::InC(id) => ("in_c", Some(id), "in C called by goroutine"),
        Role::WorksFor(id) => ("works_for", Some(id), "works for goroutine"),
        Role::WaitsFor(id) => ("waits_for_locked", Some(id), "waits for its locked goroutine"),
        Role::Monitor => ("sysmon", None, "sysmon"),
        Role::Template => ("template", None, "template thread"),
        Role::Idle => ("idle", None, "idle"),
        Role::Seeks => ("spinning", None, "looks for work"),
        Role::Native => ("native", None, "not in Go, made by C code"),
        Role::Runtime => ("runtime", None, "of the runtime"),
    }
}

/// `asleep`; states that have no plain word keep the kernel's letter.
fn state(letter: char) -> String {
    match letter {
        'R' => "running, ".to_owned(),
        'S' => "asleep, ".to_owned(),
        'D' => "in disk sleep, ".to_owned(),
        'T' | 't' => "stopped, ".to_owned(),
        other => format!("state {other}, "),
    }
}

/// Writes all threads with their stacks.
pub fn text(
    out: &mut dyn Write,
    threads: &[ThreadRow<'_>],
    main_module: Option<&str>,
    p: &Palette,
) -> io::Result<()> {
    for thread in threads {
        let name = thread.name.map(|name| format!(" ({})", clean(name))).unwrap_or_default();
        let title = paint(p.title, format!("thread {}{name}:", thread.tid));
        let (_, goroutine, words) = words(thread.role);
        let id = goroutine.map(|id| format!(" {}", id.0)).unwrap_or_default();
        writeln!(out, "\n{title} {}{words}{id}", thread.state.map(state).unwrap_or_default())?;
        stack_lines(out, &thread.stack, main_module, p)?;
    }
    Ok(())
}
