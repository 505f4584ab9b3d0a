//! Report, the runtime's own text: which calls of a stack are printed, and where it is cut
//! (`traceback1` and `traceback2` of `runtime/traceback.go`; `gentraceback` until 1.20).

use super::site::Site;
use crate::image::layout::rules::{FrameLimit, FuncKind};
use std::rc::Rc;

/// Frames printed from the inside and from the outside of a long stack, since 1.21.
const HALF: usize = 50;

/// Frames looked at, until 1.20.
const PHYSICAL: usize = 100;

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// A call: which one of which frame.
    Call { frame: usize, call: usize },
    /// So many calls are left out here.
    Elided(usize),
    /// There may be more frames.
    More,
}

/// What is printed of the frames at `sites`, innermost first; with those of the runtime if `all`.
pub(super) fn plan(sites: &[Rc<Site>], limit: FrameLimit, all: bool) -> Vec<Line> {
    match limit {
        FrameLimit::Physical100 => {
            let mut planner = Planner::new(sites.get(..PHYSICAL).unwrap_or(sites), all);
            let mut place = Place::INNERMOST;
            if planner.pass(&mut place, 0, usize::MAX).calls == PHYSICAL {
                planner.lines.push(Line::More);
            }
            planner.lines
        }
        FrameLimit::Halves50 => {
            let mut planner = Planner::new(sites, all);
            planner.both_ends();
            planner.lines
        }
    }
}

/// A place in a walk (`unwinder` of the runtime).
#[derive(Clone, Copy)]
struct Place {
    /// The physical frame.
    frame: usize,
    /// What the next call called.
    callee: FuncKind,
}

impl Place {
    const INNERMOST: Place = Place { frame: 0, callee: FuncKind::Normal };
}

/// What one pass did.
struct Pass {
    /// Calls left out and printed.
    calls: usize,
    /// How many of them are in the physical frame where it stopped.
    in_last: usize,
}

struct Planner<'a> {
    sites: &'a [Rc<Site>],
    all: bool,
    lines: Vec<Line>,
}

impl<'a> Planner<'a> {
    fn new(sites: &'a [Rc<Site>], all: bool) -> Planner<'a> {
        Planner { sites, all, lines: Vec::new() }
    }

    /// The innermost and the outermost calls. As in the runtime, the pass over the outer ones begins
    /// again at the frame where the inner ones ended, and takes the call that it met there for the
    /// callee.
    fn both_ends(&mut self) {
        let mut place = Place::INNERMOST;
        let inner = self.pass(&mut place, 0, HALF);
        if inner.calls < HALF {
            return;
        }
        let mut again = place;
        let rest = self.pass(&mut place, usize::MAX, 0).calls;
        let elided = rest.saturating_sub(inner.in_last).saturating_sub(HALF);
        if elided > 0 {
            self.lines.push(Line::Elided(elided));
        }
        self.pass(&mut again, inner.in_last.saturating_add(elided), HALF);
    }

    /// From `place` on, leaves out `skip` of the calls that appear, then prints at most `most`.
    fn pass(&mut self, place: &mut Place, mut skip: usize, mut most: usize) -> Pass {
        let mut calls = 0_usize;
        while let Some(site) = self.sites.get(place.frame) {
            let mut in_last = 0_usize;
            for (number, call) in site.calls.iter().enumerate() {
                let appears = self.all || call.shown.appears(calls == 0, place.callee);
                place.callee = call.kind;
                if !appears {
                    continue;
                }
                if skip == 0 && most == 0 {
                    return Pass { calls, in_last };
                }
                calls = calls.saturating_add(1);
                in_last = in_last.saturating_add(1);
                if skip > 0 {
                    skip -= 1;
                } else {
                    most -= 1;
                    self.lines.push(Line::Call { frame: place.frame, call: number });
                }
            }
            place.frame = place.frame.saturating_add(1);
            place.callee = site.kind;
        }
        Pass { calls, in_last: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Shown;
    use super::super::site::Call;
    use super::*;

    fn site(shown: &[Shown], kind: FuncKind) -> Rc<Site> {
        let call = |shown: &Shown| Call { shown: *shown, kind, inlined: false, head: vec![], tail: vec![] };
        Rc::new(Site { calls: shown.iter().map(call).collect(), args: None, kind })
    }

    /// Frames and calls that are printed; cuts as negative numbers.
    fn planned(sites: &[Rc<Site>], limit: FrameLimit) -> Vec<i64> {
        let number = |line: &Line| match *line {
            Line::Call { frame, call } => i64::try_from(frame * 10 + call).unwrap(),
            Line::Elided(n) => -i64::try_from(n).unwrap(),
            Line::More => i64::MIN,
        };
        plan(sites, limit, false).iter().map(number).collect()
    }

    fn plain(n: usize) -> Vec<Rc<Site>> {
        vec![site(&[Shown::Always], FuncKind::Normal); n]
    }

    fn frames(range: std::ops::Range<i64>) -> Vec<i64> {
        range.map(|n| n * 10).collect()
    }

    #[test]
    fn a_long_stack_keeps_both_ends() {
        for n in [0, 1, 50, 51, 100] {
            assert_eq!(planned(&plain(n), FrameLimit::Halves50), frames(0..n as i64), "{n}");
        }
        let cut = [frames(0..50), vec![-7], frames(57..107)].concat();
        assert_eq!(planned(&plain(107), FrameLimit::Halves50), cut);
    }

    #[test]
    fn a_cut_may_be_in_the_middle_of_inlined_calls() {
        // Frames of three calls: the 50th is the second call of frame 16.
        let sites = vec![site(&[Shown::Always; 3], FuncKind::Normal); 40];
        let all: Vec<i64> = (0..40).flat_map(|f| (0..3).map(move |c| f * 10 + c)).collect();
        let cut = [&all[..50], &[-20], &all[70..]].concat();
        assert_eq!(planned(&sites, FrameLimit::Halves50), cut);
    }

    #[test]
    fn until_1_20_hidden_frames_count() {
        let mut sites = plain(150);
        assert_eq!(planned(&sites, FrameLimit::Physical100), [frames(0..100), vec![i64::MIN]].concat());
        sites[3] = site(&[Shown::Never], FuncKind::Normal);
        assert_eq!(planned(&sites, FrameLimit::Physical100), [frames(0..3), frames(4..100)].concat());
        assert_eq!(planned(&plain(7), FrameLimit::Physical100), frames(0..7));
    }

    #[test]
    fn wrappers_are_shown_above_panics_only_and_panics_not_first() {
        let wrapper = site(&[Shown::IfPanics], FuncKind::Wrapper);
        let panic = site(&[Shown::NotFirst], FuncKind::Gopanic);
        let user = site(&[Shown::Always], FuncKind::Normal);
        let sites = [panic.clone(), wrapper.clone(), user.clone(), wrapper.clone(), panic, wrapper];
        assert_eq!(planned(&sites, FrameLimit::Halves50), [10, 20, 40, 50]);
        assert_eq!(plan(&sites, FrameLimit::Halves50, true).len(), 6);
    }
}
