//! Report: what was found, printed. One file per format, each a function of the same [`Report`], which
//! owns no target: everything in it is plain data.

pub mod clean;
pub mod describe;
pub mod dot;
#[cfg(test)]
mod fixture;
pub mod gaps;
pub mod go;
pub mod info;
pub mod json;
pub mod model;
pub mod ps;
pub mod style;
pub mod text;
pub mod threads;
pub mod units;
pub mod waits;
pub mod why;

use crate::analysis::select::Selection;
use crate::analysis::survey::Survey;
use crate::analysis::threads::ThreadRow;
use crate::analysis::why::Why;
use crate::diag::Diagnostics;

/// All that a report prints from.
pub struct Report<'a> {
    /// The target.
    pub target: &'a model::Target,
    /// How it was looked at.
    pub capture: &'a model::Capture,
    /// How many goroutines there are of each kind, before any selection.
    pub counts: &'a model::Counts,
    /// The goroutines.
    pub survey: &'a Survey<'a>,
    /// Those that were asked for.
    pub selection: &'a Selection,
    /// The threads, if they were asked for.
    pub threads: Option<&'a [ThreadRow<'a>]>,
    /// Why they are stuck, if that was asked.
    pub why: Option<&'a Why>,
    /// What is missing from the answer.
    pub diagnostics: &'a Diagnostics,
}
