//! Cli: `allgs list`: goroutines, those that are alike as one group.

use super::super::args::Format;
use super::super::look::look;
use super::super::plan::Look;
use super::dump::go_text;
use crate::report::{json, text};
use anyhow::Result;

/// Runs it.
pub fn run(plan: &Look) -> Result<()> {
    // In text the limit is one of groups, which the text applies.
    let limit = plan.limit.filter(|_| plan.format != Format::Text);
    look(
        plan,
        limit,
        |_| None,
        |out, scene| match plan.format {
            Format::Text => text::list(out, &scene.report, plan.limit, &plan.palette()),
            Format::Json => json::write(out, &scene.report),
            Format::Go => go_text(out, scene, plan),
        },
    )
}
