//! Cli: `allgs generate`: the man page and shell completions, from the same definitions as the help.

use super::super::args::{Cli, GenerateArgs, Generated};
use super::super::output::Output;
use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_complete::aot::generate;
use clap_mangen::Man;
use std::io::{self, Write};

/// Runs it.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    match args.what {
        Generated::Man => man_page(&mut text, command)?,
        Generated::Bash => generate(Shell::Bash, &mut command, "allgs", &mut text),
        Generated::Zsh => generate(Shell::Zsh, &mut command, "allgs", &mut text),
        Generated::Fish => generate(Shell::Fish, &mut command, "allgs", &mut text),
    }
    Output::open(None)?.write(|out| out.write_all(&text))
}

/// One page for the program and all its commands.
fn man_page(out: &mut Vec<u8>, mut command: Command) -> io::Result<()> {
    command.build();
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    writeln!(out, ".SH EXAMPLES")?;
    examples(out, &command)?;
    man.render_options_section(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        command_section(out, sub)?;
    }
    writeln!(out, ".SH NOTES")?;
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    notes.lines().try_for_each(|line| writeln!(out, "{}", roff(line)))
}

/// What a command does, its examples and those options that not all commands have.
fn command_section(out: &mut Vec<u8>, command: &Command) -> io::Result<()> {
    let own = command.clone().mut_args(|arg| {
        let common = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(common)
    });
    let name = command.get_display_name().unwrap_or(command.get_name()).replace('-', " ");
    writeln!(out, ".SH \"{}\"", roff(&name.to_uppercase()))?;
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(out, "{}.", roff(&about))?;
    examples(out, command)?;
    let mut options = Vec::new();
    Man::new(own).render_options_section(&mut options)?;
    // Its headings are those of a page of its own; here they are one level lower.
    for line in String::from_utf8_lossy(&options).lines() {
        match line.strip_prefix(".SH ") {
            Some(heading) => writeln!(out, ".SS {heading}")?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn examples(out: &mut Vec<u8>, command: &Command) -> io::Result<()> {
    let text = command.get_before_help().map(ToString::to_string).unwrap_or_default();
    writeln!(out, ".PP\n.nf")?;
    for line in text.lines().filter(|line| line.starts_with(' ')) {
        writeln!(out, "{}", roff(line))?;
    }
    writeln!(out, ".fi\n.PP")
}

/// Text in which roff sees no commands of its own.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
}
