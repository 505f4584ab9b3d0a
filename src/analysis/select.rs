//! Analysis: which goroutines a person asked for. Different conditions must all hold; several values of
//! one condition are alternatives.

use super::survey::{Row, Survey};
use crate::runtime::{GoId, Status};
use crate::unwind::stacks::Stack;
use regex::Regex;
use rustc_hash::FxHashSet;
use std::time::Duration;

/// Conditions on goroutines. An empty one holds for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Numbers. Who names a system goroutine sees it.
    pub ids: Vec<GoId>,
    /// Statuses.
    pub statuses: Vec<Status>,
    /// Wait reasons, whole and in any case.
    pub wait_reasons: Vec<String>,
    /// Matches the function of any frame.
    pub function: Option<Regex>,
    /// Matches the function of the deciding frame.
    pub top: Option<Regex>,
    /// Matches the function that made it.
    pub created_by: Option<Regex>,
    /// Labels that it must have, all of them.
    pub labels: Vec<(String, String)>,
    /// It has been blocked at least so long, for all that is known.
    pub min_wait: Option<Duration>,
    /// Whether the runtime's own goroutines count.
    pub system: System,
}

/// What becomes of the runtime's own goroutines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum System {
    /// They are left out.
    #[default]
    Hide,
    /// They are treated like the others.
    Show,
}

/// What a filter selects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Indices in the survey, in its order.
    pub indices: Vec<u32>,
    /// How many of the runtime's own were left out for being that alone.
    pub hidden_system: usize,
    /// How many more would have been selected but for the limit.
    pub beyond_limit: usize,
    /// Numbers that were asked for and that no goroutine has.
    pub missing: Vec<GoId>,
}

impl Selection {
    /// Keeps the first `limit`.
    pub fn limit(&mut self, limit: usize) {
        self.beyond_limit = self.indices.len().saturating_sub(limit);
        self.indices.truncate(limit);
    }
}

impl Filter {
    /// The goroutines that it selects. One that crashed comes first.
    pub fn select(&self, survey: &Survey<'_>) -> Selection {
        let mut selection = Selection::default();
        let prepared = Prepared::new(self, survey);
        for (index, position) in (0..).zip(0..survey.len()) {
            let Some(row) = survey.row(position) else { continue };
            if !self.holds(row, &prepared) {
                continue;
            }
            if row.g.system && self.system == System::Hide && self.ids.is_empty() && !row.crashed {
                selection.hidden_system += 1;
            } else {
                selection.indices.push(index);
            }
        }
        if let Some(first) = survey.crashed()
            && let Some(at) = selection.indices.iter().position(|i| *i as usize == first)
            && let Some(front) = selection.indices.get_mut(..=at)
        {
            front.rotate_right(1);
        }
        let mut missing = prepared.ids;
        for g in survey.goroutines() {
            missing.remove(&g.id);
        }
        selection.missing = self.ids.iter().copied().filter(|id| missing.contains(id)).collect();
        selection
    }

    /// Whether all conditions hold for a goroutine.
    fn holds(&self, row: Row<'_>, prepared: &Prepared) -> bool {
        let any_or_none = |wanted: &[String], text: Option<&str>| {
            wanted.is_empty() || text.is_some_and(|t| wanted.iter().any(|w| w.eq_ignore_ascii_case(t)))
        };
        let label = |(key, value): &(String, String)| row.labels.iter().any(|(k, v)| k == key && v == value);
        let matches = |regex: &Option<Regex>, function: Option<&str>| {
            regex.as_ref().is_none_or(|regex| function.is_some_and(|f| regex.is_match(f)))
        };
        (prepared.ids.is_empty() || prepared.ids.contains(&row.g.id))
            && (self.statuses.is_empty() || self.statuses.contains(&row.g.status))
            && any_or_none(&self.wait_reasons, row.wait_reason)
            && self.labels.iter().all(label)
            && self.min_wait.is_none_or(|min| row.g.waiting_at_least.is_some_and(|wait| wait >= min))
            && matches(&self.created_by, row.created_by.map(|site| &*site.function))
            && matches(&self.top, row.top().map(|frame| &*frame.function))
            && prepared.stacks.as_ref().is_none_or(|hit| hit.get(row.stack_number()).is_some_and(|hit| *hit))
    }
}

/// What is worked out once and not per goroutine.
struct Prepared {
    ids: FxHashSet<GoId>,
    /// For each distinct stack, whether [`Filter::function`] matches one of its frames.
    stacks: Option<Vec<bool>>,
}

impl Prepared {
    fn new(filter: &Filter, survey: &Survey<'_>) -> Prepared {
        let hits = |regex: &Regex| {
            let hit = |stack: &Stack| stack.frames.iter().any(|frame| regex.is_match(&frame.function));
            survey.distinct_stacks().iter().map(hit).collect()
        };
        Prepared { ids: filter.ids.iter().copied().collect(), stacks: filter.function.as_ref().map(hits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Tid;
    use crate::analysis::fixture::World;
    use crate::analysis::survey::Show;

    fn world() -> World {
        let mut w = World::default();
        let by_main = w.creator("main.main", 7);
        let pay = w.label("handler", "/pay");
        w.add(1, Status::Waiting, 2, &["main.main"]);
        let g = w.add(18, Status::Waiting, 1, &["runtime.gopark", "sync.(*WaitGroup).Wait", "main.leak"]);
        (g.gopc, g.labels, g.waiting_at_least) = (by_main, pay, Some(Duration::from_secs(300)));
        w.add(19, Status::Running, 0, &["main.spin", "main.outer"]).gopc = by_main;
        w.add(2, Status::Waiting, 1, &["runtime.forcegchelper"]).system = true;
        w
    }

    fn ids(w: &World, filter: Filter) -> Vec<u64> {
        let survey = w.survey(Show::Users);
        let selection = filter.select(&survey);
        survey.rows(&selection.indices).map(|row| row.g.id.0).collect()
    }

    #[test]
    fn each_condition_selects_by_itself() {
        let w = world();
        let regex = |text: &str| Some(Regex::new(text).unwrap());
        let none = Filter::default;
        assert_eq!(ids(&w, none()), [1, 18, 19]);
        assert_eq!(ids(&w, Filter { system: System::Show, ..none() }), [1, 18, 19, 2]);
        assert_eq!(ids(&w, Filter { ids: vec![GoId(2)], ..none() }), [2]);
        assert_eq!(ids(&w, Filter { statuses: vec![Status::Running], ..none() }), [19]);
        assert_eq!(ids(&w, Filter { wait_reasons: vec!["Chan Receive".into()], ..none() }), [18]);
        assert_eq!(ids(&w, Filter { function: regex("WaitGroup|outer"), ..none() }), [18, 19]);
        assert_eq!(ids(&w, Filter { top: regex("^main.(leak|outer)"), ..none() }), [18]);
        assert_eq!(ids(&w, Filter { created_by: regex("main$"), ..none() }), [18, 19]);
        assert_eq!(ids(&w, Filter { labels: vec![("handler".into(), "/pay".into())], ..none() }), [18]);
        assert_eq!(ids(&w, Filter { min_wait: Some(Duration::from_secs(300)), ..none() }), [18]);
        assert_eq!(ids(&w, Filter { min_wait: Some(Duration::from_secs(301)), ..none() }), [0u64; 0]);
    }

    #[test]
    fn conditions_must_all_hold() {
        let w = world();
        let created_by = Some(Regex::new("main").unwrap());
        let running = Filter { created_by, statuses: vec![Status::Running], ..Filter::default() };
        assert_eq!(ids(&w, running), [19]);
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let w = world();
        let survey = w.survey(Show::Users);
        let mut selection = Filter::default().select(&survey);
        selection.limit(1);
        assert_eq!((selection.hidden_system, selection.beyond_limit), (1, 2));
        let filter = Filter { ids: vec![GoId(18), GoId(99)], ..Filter::default() };
        assert_eq!(filter.select(&survey).missing, [GoId(99)]);
    }

    #[test]
    fn the_goroutine_that_crashed_comes_first() {
        let mut w = world();
        w.died = Some(Tid(77));
        w.thread(76, 18);
        w.thread(77, 19);
        assert_eq!(ids(&w, Filter::default()), [19, 1, 18]);
    }
}
