//! Cli: `allgs info`: what was found of a target, and how. Stops nothing.

use super::super::args::PlainFormat;
use super::super::exit;
use super::super::look::{self, Clock};
use super::super::output::Output;
use super::super::plan::Inspect;
use crate::report::describe;
use crate::report::info::{self, Info};
use anyhow::Result;

/// Runs it.
pub fn run(plan: &Inspect) -> Result<()> {
    let out = Output::open(plan.output.as_deref())?;
    let mut clock = Clock::start();
    let (source, image) = look::open(plan, &mut clock)?;
    let target = describe::target(&*source, &image, None);
    let info = Info::of(&target, &image);
    let mut diagnostics = source.diagnostics();
    diagnostics.merge(image.diagnostics.clone());
    let palette = plan.voice.palette(plan.output.is_some());
    out.write(|out| match plan.format {
        PlainFormat::Text => info::text(out, &info, &diagnostics, &palette),
        PlainFormat::Json => info::json(out, &info, &diagnostics),
    })?;
    clock.lap("write");
    if plan.timings {
        exit::timings(&clock.phases);
    }
    Ok(())
}
