//! Base: losses that do not end the run. One unreadable stack among ten thousand is a diagnostic,
//! not an error. The list is bounded: equal losses are counted, not repeated.

use std::fmt::Display;

/// How much a diagnostic takes from the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Worth knowing; nothing is missing.
    Note,
    /// Part of the answer is missing or weaker.
    Warning,
}

impl Severity {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
        }
    }
}

/// One loss: what happened, and what it means for the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// How much it takes.
    pub severity: Severity,
    /// What happened.
    pub what: String,
    /// What it means for the answer.
    pub effect: String,
    /// How many times it happened with this same effect.
    pub count: u64,
}

/// Distinct diagnostics kept before the rest is only counted.
const KEPT: usize = 200;

/// The losses of one run.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    entries: Vec<Diagnostic>,
    dropped: u64,
}

impl Diagnostics {
    /// Notes something that takes nothing from the answer.
    pub fn note(&mut self, what: impl Display, effect: impl Display) {
        self.add(Severity::Note, what.to_string(), effect.to_string(), 1);
    }

    /// Records a loss.
    pub fn warn(&mut self, what: impl Display, effect: impl Display) {
        self.add(Severity::Warning, what.to_string(), effect.to_string(), 1);
    }

    /// Takes over all entries of another list.
    pub fn merge(&mut self, other: Diagnostics) {
        self.dropped = self.dropped.saturating_add(other.dropped);
        for d in other.entries {
            self.add(d.severity, d.what, d.effect, d.count);
        }
    }

    fn add(&mut self, severity: Severity, what: String, effect: String, count: u64) {
        if let Some(same) = self.entries.iter_mut().find(|d| d.what == what && d.effect == effect) {
            same.count = same.count.saturating_add(count);
        } else if self.entries.len() < KEPT {
            self.entries.push(Diagnostic { severity, what, effect, count });
        } else {
            self.dropped = self.dropped.saturating_add(count);
        }
    }

    /// All entries, in the order in which they first appeared.
    pub fn entries(&self) -> &[Diagnostic] {
        &self.entries
    }

    /// How many more there were than are kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_counts_what_repeats() {
        let mut d = Diagnostics::default();
        for _ in 0..3 {
            d.warn("a stack was not readable", "its frames are missing");
        }
        for i in 0..1000 {
            d.note(i, "x");
        }
        assert_eq!(d.entries().first().map(|e| e.count), Some(3));
        assert_eq!(d.entries().len(), KEPT);
        assert_eq!(d.dropped(), 1001 - KEPT as u64);
    }
}
