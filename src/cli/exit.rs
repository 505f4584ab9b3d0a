//! Cli: the outcome as an exit status and words on stderr. 0: done; 2: it could not be done. A reader
//! that had enough (a closed pipe) is no failure.

use crate::diag::{Diagnostics, Severity};
use crate::error::{Error, ErrorKind};
use crate::report::clean::clean;
use crate::report::units::fine;
use crate::source::core::Progress;
use anyhow::anyhow;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// The condition of `--fail-on` holds.
const CONDITION: u8 = 1;

/// It could not be done.
const FAILED: u8 = 2;

/// Says why the arguments were not understood, or prints the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told of a failure to print.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(FAILED))
}

/// How it went, when it could be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done, and the condition holds that was asked for with `--fail-on`.
    ConditionHolds,
}

/// Says what went wrong, if something did.
pub fn status(outcome: anyhow::Result<Outcome>) -> ExitCode {
    let error = match outcome {
        Ok(Outcome::Done) => return ExitCode::SUCCESS,
        Ok(Outcome::ConditionHolds) => return ExitCode::from(CONDITION),
        Err(error) => error,
    };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    let library = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    if library.is_some_and(|e| e.kind() == ErrorKind::Interrupted) {
        // Everything is cleaned up by now: ends as the signal would have ended us.
        crate::source::live::guard::obey();
    }
    let causes: Vec<String> =
        error.chain().map(|cause| clean(&plain(&cause.to_string())).into_owned()).collect();
    say(&format!("allgs: {}", causes.join(": ")));
    if let Some(hint) = library.and_then(Error::hint_text) {
        say(&format!("hint: {}", clean(hint)));
    }
    ExitCode::from(FAILED)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken))
}

/// The error of a file that could not be written.
pub fn cannot_write(name: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => error.into(),
        _ => anyhow!("cannot write {name}: {error}"),
    }
}

/// A message without the numbers that the standard library adds to the system's words.
fn plain(message: &str) -> String {
    match message.rsplit_once(" (os error ") {
        Some((words, number)) if number.trim_start_matches(|c: char| c.is_ascii_digit()) == ")" => {
            words.to_owned()
        }
        _ => message.to_owned(),
    }
}

/// Says on stderr what is missing from an answer that went to a person.
pub fn losses(diagnostics: &Diagnostics, notes_too: bool) {
    for entry in diagnostics.entries() {
        if entry.severity == Severity::Note && !notes_too {
            continue;
        }
        let times = if entry.count > 1 { format!(" ({} times)", entry.count) } else { String::new() };
        let (what, effect) = (clean(&entry.what), clean(&entry.effect));
        say(&format!("allgs: {}: {what}{times}: {effect}", entry.severity.as_str()));
    }
    if diagnostics.dropped() > 0 {
        say(&format!("allgs: warning: {} more like these", diagnostics.dropped()));
    }
}

/// Says on stderr that a packed core is being unpacked.
pub fn unpacking(so_far: Progress) {
    let Progress { packed, packed_total, unpacked } = so_far;
    let percent = packed.saturating_mul(100).checked_div(packed_total).unwrap_or(0);
    say(&format!("allgs: unpacking the core file: {percent}% read, {} MB so far", unpacked >> 20));
}

/// Says on stderr how long each phase took.
pub fn timings(phases: &[(String, Duration)]) {
    let total: Duration = phases.iter().map(|(_, time)| *time).sum();
    for (name, time) in phases {
        say(&format!("{name:<12} {:>9}", fine(*time)));
    }
    say(&format!("{:<12} {:>9}", "total", fine(total)));
}

/// A line on stderr; a closed one must not end the program.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_error_numbers() {
        assert_eq!(
            plain(&format!("cannot open x: {}", io::Error::from_raw_os_error(2))),
            "cannot open x: No such file or directory"
        );
        assert_eq!(plain("a (os error x)"), "a (os error x)");
    }
}
