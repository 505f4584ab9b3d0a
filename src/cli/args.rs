//! Cli: the arguments as they are typed. The help texts, the man page and the completions are made from
//! these definitions.

use super::duration::parse_duration;
use crate::runtime::{GoId, Status};
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Args, ColorChoice, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use regex::Regex;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TEMPLATE: &str = "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Shows every goroutine of a running Go program or of a core file, from outside.
///
/// The program needs no preparation. It is stopped for a few milliseconds at most, is never changed, and
/// always goes on.
#[derive(Parser, Debug)]
#[command(name = "allgs", version, help_template = TEMPLATE, max_term_width = 100, color = ColorChoice::Auto)]
#[command(override_usage = "allgs <TARGET> [OPTIONS]\n       allgs <COMMAND> [OPTIONS]")]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(before_help = "\
Examples:
  allgs 4242                           what all goroutines of process 4242 are doing, grouped
  allgs dump 4242                      every stack
  allgs dump 4242 18 19                the stacks of two goroutines
  allgs why 4242                       what they wait for, and who could wake them
  allgs core.4242                      the same for a core file
  allgs dump core.4242 --format go     the text that the Go runtime itself would print
  allgs 4242 --top db --min-wait 1m    goroutines stuck in functions that match `db`
  allgs 4242 --format json | jq .counts
  allgs ps                             the Go programs that run here
")]
#[command(after_help = "\
A TARGET is the number of a process, or the path of a core file (./1234 for a file named like a number).
`allgs TARGET` is short for `allgs list TARGET`. Exit status: 0 done, 1 done and the condition of --fail-on holds, 2 could not be done.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

/// What holds for all commands.
#[derive(Args, Debug, Clone, Copy)]
pub struct Common {
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    pub color: ColorChoice,
    /// Say nothing on stderr about what is missing from the answer
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// Say more on stderr: notes too
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List goroutines, those that are alike as one group
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  allgs 4242                                    short for `allgs list 4242`
  allgs list 4242 --limit 10                    the ten largest groups
  allgs list 4242 --wait-reason 'chan receive'  only goroutines that receive
  allgs list core.4242 --exe ./app              a core file, with its executable
")]
    List(ListArgs),
    /// Print the stack of every goroutine
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  allgs dump 4242                          all of the program's own goroutines
  allgs dump 4242 18 19                    two of them
  allgs dump 4242 --all                    with the runtime's own goroutines and frames
  allgs dump 4242 --threads                with the threads, those that Go does not know too
  allgs dump 4242 --format go -o dump.txt  as the runtime itself prints them (debug=2)
  allgs dump 4242 --format json | jq '.goroutines[] | select(.labels.handler == \"/pay\")'
")]
    Dump(DumpArgs),
    /// Tell why goroutines are blocked: on what, who could wake them, who waits in a circle
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  allgs why 4242                              what the waits add up to, worst first
  allgs why 4242 18                           what goroutine 18 waits for, and who could wake it
  allgs why 4242 --fail-on deadlock           exit status 1 if there is a deadlock
  allgs why core.4242 --format dot | dot -Tsvg -o waits.svg
  allgs why 4242 --format json | jq '.situations[] | select(.kind == \"deadlock\")'
")]
    Why(WhyArgs),
    /// Show what was found of a target and how: Go version, build, layout, what is missing
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  allgs info 4242
  allgs info core.4242 --exe ./app
  allgs info 4242 --format json | jq .target.go_version
")]
    Info(InfoArgs),
    /// List the Go programs that run on this host
    #[command(help_template = TEMPLATE, before_help = "\
Examples:
  allgs ps
  allgs ps --format json | jq '.processes[] | select(.attachable) | .pid'
")]
    Ps(PsArgs),
    /// Print the man page, or completions for a shell
    #[command(hide = true)]
    Generate(GenerateArgs),
}

/// The target and where the answer goes.
#[derive(Args, Debug)]
pub struct TargetArgs {
    /// Number of a process, or path of a core file
    #[arg(value_name = "TARGET", value_hint = ValueHint::FilePath)]
    pub target: OsString,
    /// The executable that the target runs, if it is not found by itself
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub exe: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Where the answer goes.
#[derive(Args, Debug)]
pub struct OutputArgs {
    /// Write to FILE, which appears once it is complete
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Tell how long each phase took
    #[arg(long, help_heading = "Output")]
    pub timings: bool,
}

/// How a list of goroutines is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people
    Text,
    /// For programs, see docs/report.schema.json
    Json,
    /// The Go runtime's own text
    Go,
}

/// How anything else is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlainFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How the target is looked at.
#[derive(Args, Debug)]
pub struct LookArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to write it
    #[arg(long, value_enum, default_value = "text", help_heading = "Output")]
    pub format: Format,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// What is looked at and how gently.
#[derive(Args, Debug)]
pub struct HowArgs {
    /// Show the runtime's own goroutines and frames too
    #[arg(long)]
    pub all: bool,
    /// Read while the target runs; each goroutine is marked exact or torn
    #[arg(long, conflicts_with = "max_pause")]
    pub no_stop: bool,
    /// Stop the target no longer than this, e.g. 50ms; what could not be read is said
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_pause: Option<Duration>,
}

/// Which goroutines; all conditions must hold.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which goroutines (all conditions must hold)")]
pub struct FilterArgs {
    /// Only these numbers
    #[arg(long = "id", value_name = "GOID", value_delimiter = ',', value_parser = parse_goid)]
    pub ids: Vec<GoId>,
    /// Only in this state
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',', value_parser = status_parser())]
    pub statuses: Vec<String>,
    /// Only waiting for this reason, in the runtime's words, e.g. 'chan receive'
    #[arg(long = "wait-reason", value_name = "REASON")]
    pub wait_reasons: Vec<String>,
    /// Only with a function on the stack that matches
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    pub function: Option<Regex>,
    /// Only where the deciding function, the one that `list` shows, matches
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    pub top: Option<Regex>,
    /// Only created by a function that matches
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    pub created_by: Option<Regex>,
    /// Only with this profiler label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Only blocked for at least this time, as far as is known, e.g. 5m, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub min_wait: Option<Duration>,
    /// At most N of them; N groups for the text of `list`
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Arguments of `list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    pub look: LookArgs,
}

/// Arguments of `dump`.
#[derive(Args, Debug)]
pub struct DumpArgs {
    #[command(flatten)]
    pub look: LookArgs,
    /// List the threads too: what each is there for, and its frames on system stacks and in C
    #[arg(long)]
    pub threads: bool,
    /// Numbers of goroutines; all if none is given
    #[arg(value_name = "GOID", value_parser = parse_goid)]
    pub goids: Vec<GoId>,
}

/// How the reasons of waits are written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhyFormat {
    /// For people
    Text,
    /// For programs, see docs/report.schema.json
    Json,
    /// A graph for Graphviz
    Dot,
}

/// Conditions that decide the exit status.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Goroutines that wait for one another
    Deadlock,
}

/// Arguments of `why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to write it
    #[arg(long, value_enum, default_value = "text", help_heading = "Output")]
    pub format: WhyFormat,
    /// Exit with status 1 when there is one
    #[arg(long, value_enum, value_name = "CONDITION")]
    pub fail_on: Option<Condition>,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Numbers of goroutines; all if none is given
    #[arg(value_name = "GOID", value_parser = parse_goid)]
    pub goids: Vec<GoId>,
}

/// Arguments of `info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to write it
    #[arg(long, value_enum, default_value = "text", help_heading = "Output")]
    pub format: PlainFormat,
}

/// Arguments of `ps`.
#[derive(Args, Debug)]
pub struct PsArgs {
    /// How to write it
    #[arg(long, value_enum, default_value = "text", help_heading = "Output")]
    pub format: PlainFormat,
    /// Write to FILE, which appears once it is complete
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub output: Option<PathBuf>,
}

/// Arguments of `generate`.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// What to print
    #[arg(value_enum)]
    pub what: Generated,
}

/// What can be generated.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generated {
    /// The man page
    Man,
    /// Completions for bash
    Bash,
    /// Completions for zsh
    Zsh,
    /// Completions for fish
    Fish,
}

/// Statuses by their words; dead goroutines are never listed.
pub const STATUSES: [(&str, Status); 8] = [
    ("idle", Status::Idle),
    ("runnable", Status::Runnable),
    ("running", Status::Running),
    ("syscall", Status::Syscall),
    ("waiting", Status::Waiting),
    ("copystack", Status::Copystack),
    ("preempted", Status::Preempted),
    ("leaked", Status::Leaked),
];

fn status_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(STATUSES.map(|(word, _)| word))
}

fn parse_goid(text: &str) -> Result<GoId, String> {
    text.parse().map(GoId).map_err(|_| "the number of a goroutine is a positive integer".to_owned())
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads the arguments. What is no command is a target for `list`.
pub fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let first_try = match Cli::try_parse_from(&args) {
        Err(error) if may_lack_command(&error, &args) => error,
        done => return done,
    };
    let mut with_list = args.clone();
    with_list.insert(1, OsString::from("list"));
    Cli::try_parse_from(with_list).map_err(|error| {
        // `allgs lst 4242` is a typing error of `list`, not a list of a file named `lst`.
        let typo = args.get(1).is_some_and(|arg| is_unlikely_target(arg));
        if typo && error.kind() == ErrorKind::UnknownArgument { first_try } else { error }
    })
}

fn may_lack_command(error: &clap::Error, args: &[OsString]) -> bool {
    let is_command = |arg: &OsString| {
        Cli::command().get_subcommands().any(|command| OsStr::new(command.get_name()) == arg.as_os_str())
    };
    matches!(
        error.kind(),
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument | ErrorKind::MissingSubcommand
    ) && args.get(1).is_some_and(|first| !is_command(first))
}

fn is_unlikely_target(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    let is_number = bytes.iter().all(u8::is_ascii_digit);
    !bytes.starts_with(b"-") && !is_number && !Path::new(arg).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        parse(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_target_alone_is_a_list() {
        for line in ["allgs 4242", "allgs ./core --all", "allgs --all 4242", "allgs --color never list 4242"]
        {
            assert!(matches!(parsed(line).map(|c| c.command), Ok(Command::List(_))), "{line}");
        }
        assert!(matches!(parsed("allgs dump 4242 18 19").map(|c| c.command), Ok(Command::Dump(_))));
    }

    #[test]
    fn mistakes_are_told_in_terms_of_what_was_typed() {
        let error = |line: &str| parsed(line).unwrap_err().to_string();
        assert!(error("allgs lst 4242").contains("'lst'"), "{}", error("allgs lst 4242"));
        assert!(error("allgs 4242 --formt json").contains("--format"));
        assert!(error("allgs 4242 --min-wait 5").contains("unit"));
        assert!(error("allgs 4242 --top (").contains("regex parse error"));
        assert!(error("allgs 4242 --label x").contains("KEY=VALUE"));
        assert!(error("allgs 4242 --no-stop --max-pause 1s").contains("cannot be used with"));
    }
}
