//! Cli: the way from a target to a report, phase by phase, each of them timed.

use super::plan::{Look, Voice};
use super::status_line::StatusLine;
use super::{exit, output::Output};
use crate::analysis::blocked::Inputs;
use crate::analysis::names::ImageNames;
use crate::analysis::survey::Survey;
use crate::analysis::threads;
use crate::analysis::why::Why;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind};
use crate::image::Image;
use crate::image::native::Native;
use crate::report::{Report, describe, model};
use crate::runtime::snapshot::Snapshot;
use crate::source::core::Progress;
use crate::source::{self, Source, TargetSpec, live::guard};
use crate::unwind::Unwinder;
use crate::unwind::stacks::Stacks;
use anyhow::Result;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Measures phases.
pub struct Clock {
    since: Instant,
    /// What each phase took.
    pub phases: Vec<(String, Duration)>,
}

impl Clock {
    /// Starts the first phase.
    pub fn start() -> Clock {
        Clock { since: Instant::now(), phases: Vec::new() }
    }

    /// Ends a phase and starts the next.
    pub fn lap(&mut self, phase: &str) {
        let now = Instant::now();
        self.phases.push((phase.to_owned(), now.duration_since(self.since)));
        self.since = now;
    }
}

/// What is at hand to write a report from.
pub struct Scene<'a> {
    /// The report.
    pub report: Report<'a>,
    /// The target's program.
    pub image: &'a Image,
    /// Its goroutines.
    pub snapshot: &'a Snapshot<'a>,
    /// Whether a person sees the answer while it is written.
    pub to_terminal: bool,
}

/// Looks at a target and writes what `body` makes of it; `ask` may ask further questions first.
pub fn look(
    plan: &Look,
    limit: Option<usize>,
    ask: impl FnOnce(&Inputs<'_>) -> Option<Why>,
    body: impl FnOnce(&mut dyn Write, &Scene<'_>) -> io::Result<()>,
) -> Result<()> {
    guard::install()?;
    let out = Output::open(plan.output.as_deref())?;
    let mut clock = Clock::start();
    let source = open_source(&plan.target, plan.voice)?;
    clock.lap("open");
    let line = StatusLine::start(plan.voice.losses);
    line.phase("opening the program");
    let image = Image::open(&*source, &plan.open)?;
    clock.lap("image");
    line.phase("reading goroutines");
    let snapshot = Snapshot::take(&*source, &image, &plan.capture)?;
    clock.lap("capture");
    line.phase("unwinding stacks");
    let native = Native::new(&*source, &image);
    let unwinder = Unwinder::new(&image, &snapshot).with_native(&native);
    let stacks = Stacks::of(&unwinder, &snapshot.gs);
    clock.lap("unwind");
    let inputs =
        Inputs { source: &*source, image: &image, snapshot: &snapshot, unwinder: &unwinder, stacks: &stacks };
    line.phase("analysing");
    let why = ask(&inputs);
    let memory = image.memory(&snapshot.memory);
    let names = ImageNames::new(&image, &memory);
    let died = snapshot.crash.map(|crash| crash.tid);
    let survey = Survey::new(&snapshot.gs, &snapshot.ms, &stacks, died, plan.show, &names);
    let mut diagnostics = source.diagnostics();
    diagnostics.merge(image.diagnostics.clone());
    diagnostics.merge(snapshot.diagnostics.clone());
    diagnostics.merge(names.losses());
    diagnostics.merge(why.as_ref().map(|why| why.blocked.diagnostics.clone()).unwrap_or_default());
    let selection = select(plan, limit, &survey, &mut diagnostics)?;
    clock.lap("analyse");

    let mut capture = describe::capture(&image, &snapshot);
    if plan.timings {
        capture.timings_ns = clock.phases.iter().map(|(name, t)| (name.clone(), model::Ns(*t))).collect();
    }
    let threads = plan.capture.threads.then(|| threads::threads(&unwinder, &snapshot));
    diagnostics.merge(native.losses());
    let report = Report {
        target: &describe::target(&*source, &image, Some(&survey)),
        capture: &capture,
        counts: &model::Counts::of(&survey, snapshot.dead),
        survey: &survey,
        selection: &selection,
        threads: threads.as_deref(),
        why: why.as_ref(),
        diagnostics: &diagnostics,
    };
    line.phase("writing");
    // The answer and the line would mix on one terminal.
    let to_terminal = out.is_terminal();
    let line = Some(line).filter(|_| !to_terminal);
    out.write(|out| body(out, &Scene { report, image: &image, snapshot: &snapshot, to_terminal }))?;
    drop(line);
    clock.lap("write");
    if plan.voice.losses && plan.format != super::args::Format::Json {
        exit::losses(&diagnostics, plan.voice.notes);
    }
    if plan.timings {
        exit::timings(&clock.phases);
    }
    Ok(())
}

/// The goroutines that were asked for. To name one that does not exist is an error only when none does.
fn select(
    plan: &Look,
    limit: Option<usize>,
    survey: &Survey<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<crate::analysis::select::Selection> {
    let mut selection = plan.filter.select(survey);
    let missing: Vec<String> = selection.missing.iter().map(|id| id.0.to_string()).collect();
    if !missing.is_empty() {
        let what = format!("there is no goroutine {}", missing.join(", "));
        if selection.missing.len() == plan.filter.ids.len() {
            return Err(Error::new(ErrorKind::Usage, what)
                .hint("it may have ended; `list` shows all")
                .into());
        }
        diagnostics.warn(what, "it may have ended; the others are shown");
    }
    if let Some(limit) = limit {
        selection.limit(limit);
    }
    Ok(selection)
}

/// What `info` looks at: the source and its image.
pub fn open(plan: &super::plan::Inspect, clock: &mut Clock) -> Result<(Box<dyn Source>, Image)> {
    let source = open_source(&plan.target, plan.voice)?;
    clock.lap("open");
    let image = Image::open(&*source, &plan.open)?;
    clock.lap("image");
    Ok((source, image))
}

/// How long a packed core is unpacked before that is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens a target. A word that names no file may have been meant as a command.
fn open_source(target: &TargetSpec, voice: Voice) -> Result<Box<dyn Source>> {
    let started = Instant::now();
    let mut told = !voice.losses;
    let mut progress = |so_far: Progress| {
        if !told && started.elapsed() >= PATIENCE {
            told = true;
            exit::unpacking(so_far);
        }
    };
    source::open_with(target, &mut progress).map_err(|error| match target {
        TargetSpec::Core(path) if path.components().count() == 1 && !path.exists() => error
            .hint("a target is the number of a process or the path of a core file; for commands see --help")
            .into(),
        _ => error.into(),
    })
}
