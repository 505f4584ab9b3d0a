//! Cli: `allgs generate`: the man page and shell completions, from the same definitions as the help.

use super::super::args::{Cli, GenerateArgs, Generated};
use super::super::output::Output;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_complete::aot::generate;

/// Runs it.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    match args.what {
        Generated::Man => clap_mangen::Man::new(command).render(&mut text)?,
        Generated::Bash => generate(Shell::Bash, &mut command, "allgs", &mut text),
        Generated::Zsh => generate(Shell::Zsh, &mut command, "allgs", &mut text),
        Generated::Fish => generate(Shell::Fish, &mut command, "allgs", &mut text),
    }
    Output::open(None)?.write(|out| out.write_all(&text))
}
