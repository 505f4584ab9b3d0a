//! Cli: `allgs why`: what goroutines wait for, who could wake them, who waits in a circle.

use super::super::args::{Condition, WhyFormat};
use super::super::exit::Outcome;
use super::super::look::look;
use super::super::plan;
use crate::analysis::blocked::Inputs;
use crate::analysis::why::Why;
use crate::report::{dot, json, why};
use anyhow::Result;

/// Runs it; says whether the condition holds that was asked for.
pub fn run(plan: &plan::Why) -> Result<Outcome> {
    let palette = plan.look.palette();
    let mut outcome = Outcome::Done;
    let ask = |inputs: &Inputs<'_>| {
        let found = Why::of(inputs);
        outcome = match plan.fail_on {
            Some(Condition::Deadlock) if found.has_deadlock() => Outcome::ConditionHolds,
            _ => Outcome::Done,
        };
        Some(found)
    };
    // In text the limit is one of situations, which the text applies.
    let limit = plan.look.limit.filter(|_| plan.format != WhyFormat::Text || plan.one_by_one);
    look(&plan.look, limit, ask, |out, scene| {
        let report = &scene.report;
        let Some(found) = report.why else { return Ok(()) };
        match plan.format {
            WhyFormat::Json => json::write(out, report),
            WhyFormat::Dot => dot::write(out, report, found),
            WhyFormat::Text if plan.one_by_one => why::goroutines(out, report, found, &palette),
            WhyFormat::Text => why::situations(out, report, found, plan.look.limit, &palette),
        }
    })?;
    Ok(outcome)
}
