//! Cli: what the arguments mean, checked: what to open, what to select, where and how to write it.

use super::args::{
    Common, Condition, DumpArgs, FilterArgs, Format, InfoArgs, ListArgs, LookArgs, PlainFormat, STATUSES,
    WhyArgs, WhyFormat,
};
use crate::analysis::select::{Filter, System};
use crate::analysis::survey::Show;
use crate::error::{Error, ErrorKind, Result};
use crate::image::OpenOptions;
use crate::report::style::Palette;
use crate::runtime::GoId;
use crate::runtime::capture::{CaptureOptions, Stopping};
use crate::source::TargetSpec;
use clap::ColorChoice;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

/// How to talk to the person.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    color: ColorChoice,
    /// What is missing is said on stderr.
    pub losses: bool,
    /// Notes too.
    pub notes: bool,
}

impl Voice {
    /// What the common arguments say.
    pub fn of(common: &Common) -> Voice {
        Voice { color: common.color, losses: !common.quiet, notes: common.verbose }
    }

    /// Colours for an answer that goes to stdout, or to a file.
    pub fn palette(self, to_file: bool) -> Palette {
        let coloured = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => !to_file && terminal_wants_colour(),
        };
        if coloured { Palette::coloured() } else { Palette::plain() }
    }
}

/// Whether stdout is a terminal and its user wants colours (NO_COLOR, CLICOLOR_FORCE, TERM).
fn terminal_wants_colour() -> bool {
    let choice = anstream::AutoStream::choice(&io::stdout());
    choice != anstream::ColorChoice::Never
        && (io::stdout().is_terminal() || choice != anstream::ColorChoice::Auto)
}

/// A look at the goroutines of a target.
#[derive(Debug)]
pub struct Look {
    /// What to open.
    pub target: TargetSpec,
    /// How to open its executable.
    pub open: OpenOptions,
    /// How to capture it.
    pub capture: CaptureOptions,
    /// Which goroutines.
    pub filter: Filter,
    /// At most so many of them.
    pub limit: Option<usize>,
    /// Which frames.
    pub show: Show,
    /// How to write.
    pub format: Format,
    /// Where to write.
    pub output: Option<PathBuf>,
    /// Whether to tell how long it took.
    pub timings: bool,
    /// How to talk.
    pub voice: Voice,
}

impl Look {
    /// What the arguments of `list` mean.
    pub fn of_list(args: ListArgs, voice: Voice) -> Result<Look> {
        Look::of(args.look, Vec::new(), voice)
    }

    /// What the arguments of `why` mean.
    pub fn of_why(args: WhyArgs, voice: Voice) -> Result<Why> {
        let format = if args.format == WhyFormat::Json { Format::Json } else { Format::Text };
        let one_by_one = !args.goids.is_empty() || !args.filter.ids.is_empty();
        let look = LookArgs { target: args.target, format, how: args.how, filter: args.filter };
        let look = Look::of(look, args.goids, voice)?;
        Ok(Why { look, format: args.format, one_by_one, fail_on: args.fail_on })
    }

    /// What the arguments of `dump` mean.
    pub fn of_dump(args: DumpArgs, voice: Voice) -> Result<Look> {
        if args.threads && args.look.format == Format::Go {
            let text = "the Go runtime's own text has no threads: --threads goes with --format text or json";
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let mut look = Look::of(args.look, args.goids, voice)?;
        look.capture.threads = args.threads;
        Ok(look)
    }

    fn of(args: LookArgs, goids: Vec<GoId>, voice: Voice) -> Result<Look> {
        let (system, show) =
            if args.how.all { (System::Show, Show::All) } else { (System::Hide, Show::Users) };
        let stopping = if args.how.no_stop { Stopping::Never } else { Stopping::Allowed };
        Ok(Look {
            target: TargetSpec::parse(&args.target.target)?,
            open: OpenOptions { exe: args.target.exe },
            capture: CaptureOptions { stopping, max_pause: args.how.max_pause, ..CaptureOptions::default() },
            limit: args.filter.limit,
            filter: filter(args.filter, goids, system),
            show,
            format: args.format,
            output: args.target.output.output,
            timings: args.target.output.timings,
            voice,
        })
    }

    /// The colours to write with.
    pub fn palette(&self) -> Palette {
        self.voice.palette(self.output.is_some())
    }
}

fn filter(args: FilterArgs, goids: Vec<GoId>, system: System) -> Filter {
    let status = |word: &String| STATUSES.iter().find(|(name, _)| name == word).map(|(_, status)| *status);
    Filter {
        ids: [args.ids, goids].concat(),
        statuses: args.statuses.iter().filter_map(status).collect(),
        wait_reasons: args.wait_reasons,
        function: args.function,
        top: args.top,
        created_by: args.created_by,
        labels: args.labels,
        min_wait: args.min_wait,
        system,
    }
}

/// A look at why goroutines are blocked.
#[derive(Debug)]
pub struct Why {
    /// The look.
    pub look: Look,
    /// How to write.
    pub format: WhyFormat,
    /// Whether goroutines were named, so that each is told of instead of what it all adds up to.
    pub one_by_one: bool,
    /// What decides the exit status.
    pub fail_on: Option<Condition>,
}

/// A look at what a target is, without its goroutines.
#[derive(Debug)]
pub struct Inspect {
    /// What to open.
    pub target: TargetSpec,
    /// How to open its executable.
    pub open: OpenOptions,
    /// How to write.
    pub format: PlainFormat,
    /// Where to write.
    pub output: Option<PathBuf>,
    /// Whether to tell how long it took.
    pub timings: bool,
    /// How to talk.
    pub voice: Voice,
}

impl Inspect {
    /// What the arguments of `info` mean.
    pub fn of(args: InfoArgs, voice: Voice) -> Result<Inspect> {
        Ok(Inspect {
            target: TargetSpec::parse(&args.target.target)?,
            open: OpenOptions { exe: args.target.exe },
            format: args.format,
            output: args.target.output.output,
            timings: args.target.output.timings,
            voice,
        })
    }
}
