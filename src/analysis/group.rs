//! Analysis: goroutines in the same state with stacks that look the same, as one group. What a person
//! reads first: ten thousand goroutines are a dozen groups.

use super::survey::{Row, Site, Survey};
use crate::runtime::Status;
use rustc_hash::FxHashMap;
use std::time::Duration;

/// Goroutines that are alike.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Their indices in the survey, in its order. Never empty.
    pub members: Vec<u32>,
    /// How long they have been blocked.
    pub waits: Waits,
    /// How many different go statements made them.
    pub creators: usize,
    /// How many different functions these go statements are in.
    pub creating_functions: usize,
    /// Whether the goroutine that crashed is among them.
    pub crashed: bool,
}

impl Group {
    /// One of them, which stands for all.
    pub fn example<'s>(&self, survey: &'s Survey<'_>) -> Option<Row<'s>> {
        self.members.first().and_then(|index| survey.row(*index as usize))
    }
}

/// Lower bounds of the time that goroutines have been blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// The shortest and the longest of those known.
    pub known: Option<(Duration, Duration)>,
    /// Of how many nothing is known.
    pub unknown: usize,
}

impl Waits {
    fn add(&mut self, wait: Option<Duration>) {
        match (wait, self.known) {
            (None, _) => self.unknown = self.unknown.saturating_add(1),
            (Some(wait), None) => self.known = Some((wait, wait)),
            (Some(wait), Some((low, high))) => self.known = Some((low.min(wait), high.max(wait))),
        }
    }
}

/// Groups the goroutines at `indices`: the crashed one's group first, then the largest.
pub fn group(survey: &Survey<'_>, indices: &[u32]) -> Vec<Group> {
    type Key<'a> = (Status, Option<&'a str>, u32);
    let mut numbers: FxHashMap<Key<'_>, usize> = FxHashMap::default();
    let mut building: Vec<(Group, Vec<Option<&Site>>)> = Vec::new();
    for index in indices {
        let Some(row) = survey.row(*index as usize) else { continue };
        let next = building.len();
        let number = *numbers.entry((row.g.status, row.wait_reason, row.looks())).or_insert(next);
        if number == next {
            building.push((Group::default(), Vec::new()));
        }
        let Some((group, creators)) = building.get_mut(number) else { continue };
        group.members.push(*index);
        group.waits.add(row.g.waiting_at_least);
        group.crashed |= row.crashed;
        if !creators.contains(&row.created_by) {
            creators.push(row.created_by);
        }
    }
    let finish = |(group, sites): (Group, Vec<Option<&Site>>)| {
        let mut functions: Vec<_> = sites.iter().map(|site| site.map(|s| &s.function)).collect();
        functions.sort_unstable();
        functions.dedup();
        Group { creators: sites.len(), creating_functions: functions.len(), ..group }
    };
    let mut groups: Vec<Group> = building.into_iter().map(finish).collect();
    groups.sort_by_key(|group| (!group.crashed, std::cmp::Reverse(group.members.len())));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Tid;
    use crate::analysis::fixture::World;
    use crate::analysis::survey::Show;

    fn sizes(w: &World) -> Vec<usize> {
        let survey = w.survey(Show::Users);
        let indices: Vec<u32> = (0..).take(survey.len()).collect();
        group(&survey, &indices).iter().map(|g| g.members.len()).collect()
    }

    #[test]
    fn state_and_shown_frames_decide_and_the_largest_comes_first() {
        let mut w = World::default();
        w.add(1, Status::Running, 0, &["main.a"]);
        w.add(2, Status::Waiting, 1, &["main.a"]);
        w.add(3, Status::Waiting, 1, &["main.a", "runtime.goexit"]);
        w.add(4, Status::Waiting, 2, &["main.a"]);
        w.add(5, Status::Waiting, 1, &["main.a", "main.b"]);
        assert_eq!(sizes(&w), [2, 1, 1, 1]);
        w.add(6, Status::Running, 0, &["main.b"]);
        w.thread(9, 6);
        w.died = Some(Tid(9));
        assert_eq!(sizes(&w), [1, 2, 1, 1, 1]);
    }

    #[test]
    fn waits_and_creators_are_summed_up() {
        let mut w = World::default();
        let (here, there) = (w.creator("main.main", 1), w.creator("main.main", 2));
        for (id, gopc, wait) in
            [(1, here, Some(5)), (2, there, None), (3, here, Some(2)), (4, there, Some(9))]
        {
            let g = w.add(id, Status::Waiting, 1, &["main.a"]);
            (g.gopc, g.waiting_at_least) = (gopc, wait.map(Duration::from_secs));
        }
        let survey = w.survey(Show::Users);
        let groups = group(&survey, &[0, 1, 2, 3]);
        let group = groups.first().unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(group.waits, Waits { known: Some((seconds(2), seconds(9))), unknown: 1 });
        assert_eq!((group.creators, group.creating_functions), (2, 1));
    }
}
