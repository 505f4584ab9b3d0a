//! Runtime, capture: memory of one instant with the target stopped for as short as can be.
//!
//! What need not be read in the stop is copied before it and proved after it: a g whose [`key::Key`]
//! is the same before the stop and after it did not run in between, so the early copy of its stack is
//! its stack at the instant of the stop. The stop reads what is expected to move: the goroutines that
//! changed between two early looks, those that run or are about to, and the scheduler itself.
//! docs/ARCHITECTURE.md, "The proof", has the argument and its holes.

mod handed;
#[cfg(test)]
mod holes;
pub mod key;
pub mod list;
pub mod looks;
mod pace;
mod rules;
mod scheduler;
mod session;
mod stacks;
mod system;
mod verify;

pub use scheduler::{Copied, Scheduler};
pub use stacks::Captured;
pub use system::SYSTEM_STACK;
pub use verify::Verdict;

use crate::addr::Nanotime;
use crate::diag::Diagnostics;
use crate::error::Result;
use crate::image::Image;
use crate::memory::share::AllCores;
use crate::runtime::Consistency;
use crate::source::{Origin, Source, Thread};
use list::List;
use looks::{Look, Roster};
use rules::Rules;
use std::time::{Duration, SystemTime};

/// How a target is to be captured; by default with stops, and of threads what goroutines need.
#[derive(Clone, Copy, Default, Debug)]
pub struct CaptureOptions {
    /// Whether the threads may be stopped.
    pub stopping: Stopping,
    /// The stop ends after this time even if not all was read; what is missing is marked.
    pub max_pause: Option<Duration>,
    /// Reads everything in the stop as well and compares: for tests.
    pub verify: bool,
    /// Copies the system stacks of all threads, not only of those that run C code for a goroutine.
    pub threads: bool,
}

impl CaptureOptions {
    /// Without a stop, and nothing beyond goroutines.
    pub const UNSTOPPED: CaptureOptions =
        CaptureOptions { stopping: Stopping::Never, max_pause: None, verify: false, threads: false };
}

/// Whether the threads of a live target may be stopped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Stopping {
    /// For as short as it takes.
    #[default]
    Allowed,
    /// Not at all: each goroutine is of an instant of its own.
    Never,
}

/// What the whole of a capture is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instant {
    /// All of it is of one instant, in which the target stood still.
    Stopped,
    /// All of it is of one instant; no thread ran while it was read, so nothing was stopped.
    Asleep,
    /// Some goroutines could not be proved to be of the instant of the stop; they are marked.
    Partial,
    /// Nothing was stopped: each goroutine is of an instant of its own.
    Unstopped,
    /// A core file.
    Core,
}

impl Instant {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Instant::Stopped => "stopped",
            Instant::Asleep => "asleep",
            Instant::Partial => "partial",
            Instant::Unstopped => "unstopped",
            Instant::Core => "core",
        }
    }
}

/// Memory of one instant.
pub struct Capture<'a> {
    pub(crate) roster: Roster,
    pub(crate) look: Look,
    pub(crate) consistency: Vec<Consistency>,
    pub(crate) scheduler: Scheduler,
    /// The threads, with registers where they were stopped.
    pub threads: Vec<Thread>,
    /// Copied stacks over the source's memory.
    pub memory: Captured<'a>,
    /// What the whole is.
    pub instant: Instant,
    /// When.
    pub at: SystemTime,
    /// When, by the target's monotonic clock.
    pub now: Option<Nanotime>,
    /// Each stop of the target, from the first interrupt to the last resume.
    pub pauses: Vec<Duration>,
    /// Goroutines read while the target was stopped.
    pub read_in_stop: u64,
    /// Goroutines whose early copy was proved to be of the instant.
    pub proved: u64,
    /// Goroutines that are of another instant.
    pub unproved: u64,
    /// Bytes copied.
    pub bytes_read: u64,
    /// What the check found, if it was asked for.
    pub verdict: Option<Verdict>,
    /// What went missing.
    pub diagnostics: Diagnostics,
}

/// Captures `source`.
pub fn capture<'a>(source: &'a dyn Source, image: &Image, options: &CaptureOptions) -> Result<Capture<'a>> {
    match source.origin() {
        Origin::Core { .. } => of_core(source, image),
        Origin::Live { .. } => session::run(source, image, options, Rules::ALL),
    }
}

/// A core never changes: only the g structs are copied, stacks are read where they lie.
fn of_core<'a>(source: &'a dyn Source, image: &Image) -> Result<Capture<'a>> {
    let memory = source.memory();
    let mut diagnostics = Diagnostics::default();
    let order = List::of(source, image).read(&mut diagnostics)?;
    let roster = Roster::new(order, image.layouts.g.size);
    let mut look = roster.blank();
    roster.fill(memory, &image.layouts.g, &mut look, &AllCores);
    let mut scheduler = Scheduler::find(memory, &image.globals, &image.layouts);
    scheduler.read(memory, &image.globals, &image.layouts);
    let stopped = source.trace()?.stop(Duration::MAX)?;
    Ok(Capture {
        consistency: vec![Consistency::Exact; roster.len()],
        bytes_read: roster.bytes() as u64,
        roster,
        look,
        scheduler,
        threads: stopped.threads,
        memory: Captured::of_core(memory),
        instant: Instant::Core,
        at: SystemTime::now(),
        now: None,
        pauses: Vec::new(),
        read_in_stop: 0,
        proved: 0,
        unproved: 0,
        verdict: None,
        diagnostics,
    })
}
