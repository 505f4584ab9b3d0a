//! Cli: `allgs dump`: the stack of every goroutine.

use super::super::args::Format;
use super::super::look::{Scene, look};
use super::super::plan::Look;
use crate::analysis::survey::Show;
use crate::report::clean::Terminal;
use crate::report::go::{Level, write_go};
use crate::report::{json, text};
use crate::runtime::G;
use anyhow::Result;
use std::io::{self, Write};

/// Runs it.
pub fn run(plan: &Look) -> Result<()> {
    look(
        plan,
        plan.limit,
        |_| None,
        |out, scene| match plan.format {
            Format::Text => text::dump(out, &scene.report, &plan.palette()),
            Format::Json => json::write(out, &scene.report),
            Format::Go => go_text(out, scene, plan),
        },
    )
}

/// Writes the selected goroutines as the runtime itself does; on a terminal, names that could harm it are
/// made visible.
pub fn go_text(out: &mut dyn Write, scene: &Scene<'_>, plan: &Look) -> io::Result<()> {
    let level = match plan.show {
        Show::Users => Level::User,
        Show::All => Level::System,
    };
    let report = &scene.report;
    let gs: Vec<&G> = report.survey.rows(&report.selection.indices).map(|row| row.g).collect();
    let mut terminal = Terminal(&mut *out);
    let out: &mut dyn Write = if scene.to_terminal { &mut terminal } else { terminal.0 };
    write_go(out, scene.image, scene.snapshot, &gs, level)
}
