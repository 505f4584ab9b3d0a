//! Report: text for people. The list: groups of goroutines that are alike, two lines each, in 100
//! columns. The dump: every goroutine with its stack. Names are cleaned on the way.

use super::clean::clean;
use super::style::{Palette, paint};
use super::units::{coarse, counted, fine};
use super::{Report, gaps, model};
use crate::analysis::frames::{is_standard, short_name};
use crate::analysis::group::{self, Group, Waits};
use crate::analysis::survey::{Row, Site, Survey};
use crate::runtime::{Consistency, GoId, Status};
use crate::unwind::stacks::Stack;
use crate::unwind::{Frame, FrameKind, Missing, StackEnd, Trust};
use anstyle::Style;
use std::io::{self, Write};
use std::time::Duration;

/// Columns that the list keeps to.
pub const COLUMNS: usize = 100;

/// Narrowest column of states: room for the numbers of a few goroutines below.
const STATE_MIN: usize = 24;

/// Writes the list. `limit` is the most groups to write.
pub fn list(out: &mut dyn Write, report: &Report<'_>, limit: Option<usize>, p: &Palette) -> io::Result<()> {
    header(out, report, p)?;
    let groups = group::group(report.survey, &report.selection.indices);
    if groups.is_empty() {
        return writeln!(out, "\nno goroutine to show");
    }
    let shown = groups.get(..limit.unwrap_or(groups.len())).unwrap_or(&groups);
    let lines: Vec<Line> = shown.iter().filter_map(|g| Line::of(g, report.survey)).collect();
    let table = Table::fitting(&lines);
    writeln!(out)?;
    table.head(out, p)?;
    for line in &lines {
        table.line(out, line, p)?;
    }
    let left = groups.get(shown.len()..).unwrap_or_default();
    if !left.is_empty() {
        let members: usize = left.iter().map(|g| g.members.len()).sum();
        let what = counted(left.len() as u64, "more group");
        let text = format!("{what} with {} left out by --limit", counted(members as u64, "goroutine"));
        writeln!(out, "{}", paint(p.dim, text))?;
    }
    Ok(())
}

/// Writes what the target is and how it was looked at.
pub(super) fn header(out: &mut dyn Write, report: &Report<'_>, p: &Palette) -> io::Result<()> {
    let target = report.target;
    let exe = clean(target.exe.as_deref().unwrap_or("unknown executable")).into_owned();
    let who = match (&target.core, target.pid) {
        (Some(core), Some(pid)) => format!("core {} of process {pid}, {exe}", clean(core)),
        (Some(core), None) => format!("core {} of {exe}", clean(core)),
        (None, Some(pid)) => format!("process {pid}, {exe}"),
        (None, None) => exe,
    };
    writeln!(out, "{}", paint(p.title, who))?;
    let mut build = vec![clean(&target.go_version).into_owned(), target.arch.to_owned()];
    build.extend(target.main_module.as_deref().map(|module| match &target.main_version {
        Some(version) => format!("{} {}", clean(module), clean(version)),
        None => clean(module).into_owned(),
    }));
    writeln!(out, "{}", build.join(", "))?;
    if let Some(crash) = &target.crash {
        writeln!(out, "{}", paint(p.bad, crash_text(crash)))?;
    }
    writeln!(out, "{}", counts_text(report))
}

fn counts_text(report: &Report<'_>) -> String {
    let (counts, capture) = (report.counts, report.capture);
    let mut text = counted(counts.total, "goroutine");
    if counts.system > 0 {
        let hidden = if report.selection.hidden_system > 0 { " not shown" } else { "" };
        text += &format!(" ({} user, {} system{hidden})", counts.user, counts.system);
    }
    let selected = report.selection.indices.len() + report.selection.beyond_limit;
    let eligible = usize::try_from(counts.total).unwrap_or(usize::MAX);
    if selected + report.selection.hidden_system != eligible {
        text += &format!(", {selected} selected");
    }
    if let Some(threads) = capture.threads {
        text += &format!(", {}", counted(threads, "thread"));
    }
    let pause = capture.pause_ns.map(|pause| fine(pause.0)).unwrap_or_default();
    text + &match capture.consistency {
        "stopped" => format!(", stopped for {pause}"),
        "partial" => format!(", stopped for {pause}, some read at other instants"),
        "asleep" => ", all asleep: not stopped".to_owned(),
        "unstopped" => ", read while it ran".to_owned(),
        _ => String::new(),
    }
}

/// `SIGSEGV at 0x18`.
fn signal_text(signal: &model::Signal) -> String {
    let name = signal.name.map_or_else(|| format!("signal {}", signal.number), str::to_owned);
    signal.fault_address.map_or(name.clone(), |at| format!("{name} at {}", at.0))
}

/// `killed by SIGSEGV at 0x18, thread 7, goroutine 18`, and what made the runtime abort.
pub(super) fn crash_text(crash: &model::Crash) -> String {
    let mut text = "killed by ".to_owned();
    text += &signal_text(&crash.signal);
    if let Some(cause) = &crash.cause {
        text += " after ";
        text += &signal_text(&cause.signal);
        text += &format!(" in {}", clean(short_name(&cause.function)));
        let place = place(cause.file.as_deref(), cause.line.unwrap_or_default());
        if !place.is_empty() {
            text += &format!(" ({place})");
        }
    }
    text += &format!(", thread {}", crash.thread);
    if let Some(id) = crash.goroutine {
        text += &format!(", goroutine {id}");
    }
    text
}

/// The cells of one group, cleaned.
struct Line {
    count: String,
    state: String,
    status: Status,
    crashed: bool,
    waited: String,
    ids: Vec<u64>,
    name: String,
    place: String,
    creator: Option<(String, String)>,
}

impl Line {
    fn of(group: &Group, survey: &Survey<'_>) -> Option<Line> {
        let row = group.example(survey)?;
        let top = row.top();
        let creator = row.created_by.map(|site| {
            let place = match (group.creators, group.creating_functions) {
                (0 | 1, _) => place(site.file.as_deref(), site.line),
                (places, 1) => format!("in {places} places"),
                (_, functions) => format!("and {}", counted(functions as u64 - 1, "other")),
            };
            (format!("created by {}", clean(short_name(&site.function))), place)
        });
        Some(Line {
            count: group.members.len().to_string(),
            state: state(row) + if group.crashed { ", crashed" } else { "" },
            status: row.g.status,
            crashed: group.crashed,
            waited: waited(group.waits),
            ids: survey.rows(&group.members).take(8).map(|row| row.g.id.0).collect(),
            name: top.map_or_else(|| no_frame(row), |frame| clean(short_name(&frame.function)).into_owned()),
            place: top.map_or_else(String::new, |frame| place(frame.file.as_deref(), frame.line)),
            creator,
        })
    }

    fn ids(&self, width: usize) -> String {
        let more = |shown: usize| self.count.parse::<usize>().is_ok_and(|count| count > shown);
        let text = |shown: &[u64]| {
            let ids: Vec<String> = shown.iter().map(u64::to_string).collect();
            let tail = if more(shown.len()) { ", ..." } else { "" };
            let noun = if self.count == "1" { "goroutine" } else { "goroutines" };
            format!("{noun} {}{tail}", ids.join(", "))
        };
        let fitting = (1..=self.ids.len()).rev().filter_map(|n| self.ids.get(..n)).map(text);
        fitting.into_iter().find(|t| t.len() <= width).unwrap_or_default()
    }
}

fn no_frame(row: Row<'_>) -> String {
    match row.stack.end {
        StackEnd::NoRegisters => "(on a thread, registers unknown)".to_owned(),
        _ => "(no frame)".to_owned(),
    }
}

/// `waiting, chan receive`.
fn state(row: Row<'_>) -> String {
    let status = model::status(row.g.status);
    match row.wait_reason {
        Some(reason) => format!("{status}, {}", clean(reason)),
        None => status.into_owned(),
    }
}

/// `5m+`: it has waited at least so long. `?` where nothing is known of some of the group.
fn waited(waits: Waits) -> String {
    let bound = |wait: Duration| coarse(wait) + "+";
    match waits.known {
        None => String::new(),
        Some((_, high)) if waits.unknown > 0 => format!("?..{}", bound(high)),
        Some((low, high)) if coarse(low) == coarse(high) => bound(high),
        Some((low, high)) => format!("{}..{}", coarse(low), bound(high)),
    }
}

/// `main.go:16`; nothing when the file is unknown.
fn place(file: Option<&str>, line: u32) -> String {
    let Some(file) = file else { return String::new() };
    let base = file.rsplit('/').next().unwrap_or(file);
    match line {
        0 => clean(base).into_owned(),
        line => format!("{}:{line}", clean(base)),
    }
}

/// Where the columns of a list begin.
struct Table {
    count: usize,
    state: usize,
    waited: usize,
}

impl Table {
    fn fitting(lines: &[Line]) -> Table {
        let widest = |cell: &dyn Fn(&Line) -> &str| lines.iter().map(|l| width(cell(l))).max().unwrap_or(0);
        let waited = widest(&|l| &l.waited);
        Table {
            count: widest(&|l| &l.count).max("COUNT".len()),
            state: widest(&|l| &l.state).clamp(STATE_MIN, COLUMNS / 3),
            waited: if waited == 0 { 0 } else { waited.max("WAITED".len()) },
        }
    }

    /// Columns before the last one.
    fn indent(&self) -> usize {
        let gap = if self.waited == 0 { 0 } else { 2 };
        self.count + 2 + self.state + gap + self.waited + 2
    }

    fn cells(&self, count: &str, state: &str, waited: &str) -> [String; 3] {
        let waited_cell =
            if self.waited == 0 { String::new() } else { format!("  {waited:w$}", w = self.waited) };
        [format!("{count:>w$}", w = self.count), pad(state, self.state), waited_cell]
    }

    fn head(&self, out: &mut dyn Write, p: &Palette) -> io::Result<()> {
        let [count, state, waited] = self.cells("COUNT", "STATE", "WAITED");
        writeln!(out, "{}", paint(p.title, format!("{count}  {state}{waited}  WHERE")))
    }

    fn line(&self, out: &mut dyn Write, line: &Line, p: &Palette) -> io::Result<()> {
        let [count, state, waited] = self.cells(&line.count, &line.state, &line.waited);
        let style = if line.crashed { p.bad } else { state_style(line.status, p) };
        let place = self.whereabouts(&line.name, &line.place, p.name, p);
        writeln!(out, "{count}  {}{waited}  {place}", paint(style, state))?;
        let left = self.indent() - self.count - 4;
        let ids = line.ids(left);
        let (creator, place) = match &line.creator {
            Some((creator, place)) => (creator.as_str(), place.as_str()),
            None => ("", ""),
        };
        let creator = self.whereabouts(creator, place, p.dim, p);
        let margin = " ".repeat(self.count + 2);
        if creator.is_empty() {
            writeln!(out, "{margin}{}", paint(p.dim, ids))
        } else {
            writeln!(out, "{margin}{}  {creator}", paint(p.dim, pad(&ids, left)))
        }
    }

    /// A function and its place, in what is left of the line. The end of a long name says more than
    /// its beginning.
    fn whereabouts(&self, name: &str, place: &str, style: Style, p: &Palette) -> String {
        let room = COLUMNS.saturating_sub(self.indent());
        let place = shorten(place, room / 2);
        let gap = if place.is_empty() || name.is_empty() { 0 } else { 2 };
        let name = shorten(name, room.saturating_sub(width(&place) + gap));
        match (name.is_empty(), place.is_empty()) {
            (true, _) => String::new(),
            (false, true) => paint(style, name),
            (false, false) => format!("{}  {}", paint(style, name), paint(p.dim, place)),
        }
    }
}

fn state_style(status: Status, p: &Palette) -> Style {
    match status {
        Status::Running | Status::Runnable | Status::Syscall => p.busy,
        Status::Waiting | Status::Preempted | Status::Copystack => p.waits,
        _ => p.bad,
    }
}

/// Columns that a cleaned text takes.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text in exactly `columns`.
fn pad(text: &str, columns: usize) -> String {
    let text = shorten(text, columns);
    let space = columns.saturating_sub(width(&text));
    text + &" ".repeat(space)
}

/// The text in at most `columns`: its end, after three dots.
fn shorten(text: &str, columns: usize) -> String {
    let too_many = width(text).saturating_sub(columns);
    if too_many == 0 {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(too_many + 3).collect();
    if columns < 4 { ".".repeat(columns) } else { format!("...{kept}") }
}

/// Writes every selected goroutine with its stack.
pub fn dump(out: &mut dyn Write, report: &Report<'_>, p: &Palette) -> io::Result<()> {
    header(out, report, p)?;
    for row in report.survey.rows(&report.selection.indices) {
        writeln!(out)?;
        goroutine(out, report, row, p)?;
    }
    if let n @ 1.. = report.selection.beyond_limit {
        writeln!(out, "\n{}", paint(p.dim, counted(n as u64, "more goroutine") + " left out by --limit"))?;
    }
    match report.threads {
        Some(threads) => super::threads::text(out, threads, module_of(report), p),
        None => Ok(()),
    }
}

fn module_of<'a>(report: &Report<'a>) -> Option<&'a str> {
    report.target.main_module.as_deref()
}

fn goroutine(out: &mut dyn Write, report: &Report<'_>, row: Row<'_>, p: &Palette) -> io::Result<()> {
    let style = if row.crashed { p.bad } else { state_style(row.g.status, p) };
    let title = paint(p.title, format!("goroutine {}:", row.g.id.0));
    writeln!(out, "{title} {}{}", paint(style, state(row)), circumstances(row))?;
    if !row.labels.is_empty() {
        let pairs: Vec<String> =
            row.labels.iter().map(|(key, value)| format!("{}={}", clean(key), clean(value))).collect();
        writeln!(out, "    {}", paint(p.dim, format!("labels: {}", pairs.join(", "))))?;
    }
    let module = module_of(report);
    let lines = frame_lines(row.frames(), row.gaps(), module, p);
    let creator = row.created_by.map(|site| FrameLine::of_creator(site, row.g.parent, module, p));
    write_lines(out, lines, &row.stack.end, creator, p)
}

/// Writes the stack of a thread.
pub(super) fn stack_lines(
    out: &mut dyn Write,
    stack: &Stack,
    main_module: Option<&str>,
    p: &Palette,
) -> io::Result<()> {
    let gaps = stack.gaps.iter().map(|gap| (gap.after, &gap.why));
    write_lines(out, frame_lines(stack.frames.iter(), gaps, main_module, p), &stack.end, None, p)
}

/// One line for each frame and gap, innermost first.
fn frame_lines<'a>(
    frames: impl Iterator<Item = &'a Frame>,
    gaps: impl Iterator<Item = (usize, &'a Missing)>,
    main_module: Option<&str>,
    p: &Palette,
) -> Vec<FrameLine> {
    let mut lines: Vec<FrameLine> = frames.map(|frame| FrameLine::of_frame(frame, main_module, p)).collect();
    for (at, (after, why)) in gaps.enumerate() {
        lines.insert((after + at).min(lines.len()), FrameLine::of_gap(why, p));
    }
    lines
}

/// Writes frames in columns, as far as they fit, with what is to be said of their end.
fn write_lines(
    out: &mut dyn Write,
    mut lines: Vec<FrameLine>,
    stack_end: &StackEnd,
    creator: Option<FrameLine>,
    p: &Palette,
) -> io::Result<()> {
    let end = lines.len();
    lines.extend(creator);
    let placed = lines.iter().filter(|line| !line.place.is_empty());
    let name_width = placed.map(|line| width(&line.name)).max().unwrap_or(0);
    let one_line = lines.iter().all(|line| 4 + name_width + 2 + width(&line.place) <= COLUMNS);
    let column = if one_line { Some(name_width) } else { None };
    for line in lines.get(..end).unwrap_or_default() {
        line.write(out, column, p)?;
    }
    if let Some(end) = end_text(stack_end) {
        writeln!(out, "    {}", paint(p.bad, end))?;
    }
    lines.get(end..).unwrap_or_default().iter().try_for_each(|line| line.write(out, column, p))
}

/// A function and its place in a dump, cleaned.
struct FrameLine {
    name: String,
    place: String,
    style: Style,
}

impl FrameLine {
    fn of_frame(frame: &Frame, main_module: Option<&str>, p: &Palette) -> FrameLine {
        let standard = is_standard(&frame.function, main_module);
        FrameLine {
            name: frame_name(frame),
            place: full_place(frame.file.as_deref(), frame.line, standard),
            style: p.name,
        }
    }

    fn of_gap(why: &Missing, p: &Palette) -> FrameLine {
        let name = format!("C frames missing: {}", gaps::text(why));
        FrameLine { name, place: String::new(), style: p.bad }
    }

    fn of_creator(site: &Site, parent: Option<GoId>, main_module: Option<&str>, p: &Palette) -> FrameLine {
        let by = parent.map_or_else(String::new, |id| format!(" in goroutine {}", id.0));
        let standard = is_standard(&site.function, main_module);
        FrameLine {
            name: format!("created by {}{by}", clean(&site.function)),
            place: full_place(site.file.as_deref(), site.line, standard),
            style: p.dim,
        }
    }

    /// With a column for places: on one line; else the place is on the next.
    fn write(&self, out: &mut dyn Write, column: Option<usize>, p: &Palette) -> io::Result<()> {
        let (name, place) = (paint(self.style, &self.name), paint(p.dim, &self.place));
        match column {
            _ if self.place.is_empty() => writeln!(out, "    {name}"),
            Some(column) => {
                let space = " ".repeat(column.saturating_sub(width(&self.name)));
                writeln!(out, "    {name}{space}  {place}")
            }
            None => writeln!(out, "    {name}\n        {place}"),
        }
    }
}

/// `/src/main.go:16`. Where Go itself is installed says nothing to a reader: `$GOROOT/src/...`.
fn full_place(file: Option<&str>, line: u32, standard: bool) -> String {
    let Some(file) = file else { return String::new() };
    let root = file.rfind("/src/").filter(|at| standard && *at > 0);
    let file = match root.and_then(|at| file.get(at..)) {
        Some(inside) => format!("$GOROOT{}", clean(inside)),
        None => clean(file).into_owned(),
    };
    if line == 0 { file } else { format!("{file}:{line}") }
}

/// What else is to be said of a goroutine, each part after a comma.
fn circumstances(row: Row<'_>) -> String {
    let mut text = String::new();
    if row.crashed {
        text += ", crashed";
    }
    if let Some(wait) = row.g.waiting_at_least {
        text += &format!(", at least {}", coarse(wait));
    }
    match (row.thread, row.locked_to) {
        (Some(on), Some(to)) if on == to => text += &format!(", on thread {on}, locked to it"),
        (on, to) => {
            text += &on.map_or_else(String::new, |tid| format!(", on thread {tid}"));
            text += &to.map_or_else(String::new, |tid| format!(", locked to thread {tid}"));
        }
    }
    if row.g.system {
        text += ", system";
    }
    match row.g.consistency {
        Consistency::Exact => {}
        Consistency::OtherInstant => text += ", read at another instant",
        Consistency::Torn => text += ", changed while it was read",
    }
    text
}

fn frame_name(frame: &Frame) -> String {
    let name = clean(&frame.function);
    match (frame.kind, frame.trust) {
        (FrameKind::C, Trust::FramePointer) => format!("{name} (C, by frame pointer)"),
        (FrameKind::C, _) => format!("{name} (C)"),
        (FrameKind::Go, Trust::FramePointer) => format!("{name} (by frame pointer)"),
        (FrameKind::Go, _) => name.into_owned(),
    }
}

fn end_text(end: &StackEnd) -> Option<String> {
    Some(match end {
        StackEnd::Complete => return None,
        StackEnd::Unreadable { at } => format!("the rest is unknown: memory at {at} is not readable"),
        StackEnd::UnknownCode { pc } => format!("the rest is unknown: {pc} is in no known function"),
        StackEnd::OutOfStack { sp } => format!("the rest is unknown: {sp} is outside its stack"),
        StackEnd::Switched { pc } => format!("the rest is unknown: the code at {pc} switches stacks"),
        StackEnd::Limit => "more frames were left out".to_owned(),
        StackEnd::NoRegisters => "it is on a thread whose registers are unknown".to_owned(),
    })
}

#[cfg(test)]
mod tests;
