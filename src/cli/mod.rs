//! Cli: what the program does with its arguments. `args` is what was typed, `plan` what it means,
//! `cmd` has one file per command, `exit` turns the outcome into an exit status and words on stderr.

mod args;
mod cmd;
mod duration;
mod exit;
mod look;
mod output;
mod plan;
mod status_line;

use args::{Cli, Command};
use exit::Outcome;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with these arguments, of which the first is its own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::parse(args.into_iter().collect()) {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    exit::status(execute(cli))
}

fn execute(cli: Cli) -> anyhow::Result<Outcome> {
    let voice = plan::Voice::of(&cli.common);
    match cli.command {
        Command::Why(args) => return cmd::why::run(&plan::Look::of_why(args, voice)?),
        Command::List(args) => cmd::list::run(&plan::Look::of_list(args, voice)?),
        Command::Dump(args) => cmd::dump::run(&plan::Look::of_dump(args, voice)?),
        Command::Info(args) => cmd::info::run(&plan::Inspect::of(args, voice)?),
        Command::Ps(args) => cmd::ps::run(&args, voice),
        Command::Generate(args) => cmd::generate::run(&args),
    }
    .map(|()| Outcome::Done)
}
