//! Analysis: who waits for whom. Nodes are goroutines and the operations they want to do on objects;
//! an operation leads to those who could make it possible. From that: who may go on, who cannot, rings of
//! goroutines that wait for one another, and for everybody else the end of the chain it waits in.
//!
//! Two rules keep it honest. A goroutine counts as stuck only when everybody known to be able to wake it
//! is stuck. And a ring is a deadlock only where nobody else could interfere: a lock is released by its
//! holder alone, but on a channel anybody may send who has it, so rings over channels need proof that
//! nobody else has it ([`Seclusion`]), or a process in which nobody is left.

use super::blocked::{Blocked, BlockedOn, Kind, ObjectKind, Operation, Want};
use super::wakers::{Agent, Answers, Trust, Waker};
use rustc_hash::FxHashMap;

mod scc;

/// What can become of a goroutine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It runs, or time or the kernel wakes it, or not enough is known to say that nothing does.
    Free,
    /// Somebody who may go on could wake it.
    Awaited,
    /// Nobody was found who could wake it and may go on.
    Stuck,
}

/// One step of a chain: for whom a goroutine waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The goroutine that could wake it.
    pub to: u32,
    /// By making this possible; absent for the other side of a coroutine.
    pub want: Option<Want>,
    /// How sure that is.
    pub trust: Trust,
}

/// Goroutines that wait for one another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    /// All of them, ascending.
    pub members: Vec<u32>,
    /// A way round, each with the step to the next one; the last one's leads to the first.
    pub cycle: Vec<(u32, Step)>,
    /// How sure it is; nothing when others could interfere, so that it is no deadlock.
    pub deadlock: Option<Trust>,
}

/// Where a chain ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Root {
    /// At a goroutine, which may be the one that was asked for.
    Goroutine(u32),
    /// At a ring, by its index in [`Graph::rings`].
    Ring(u32),
}

/// Who waits for whom. All lists are by index in the snapshot's list of goroutines.
#[derive(Debug, Default)]
pub struct Graph {
    /// What can become of each goroutine.
    pub fates: Vec<Fate>,
    /// Whom it waits for first of all.
    pub next: Vec<Option<Step>>,
    /// Where its chain ends.
    pub roots: Vec<Root>,
    /// Rings.
    pub rings: Vec<Ring>,
}

/// Whether a want is satisfied only when all of its wakers have done their part: a writer waits for every
/// reader, a WaitGroup for every Done. Of the others any one will do.
pub fn needs_all(blocked: &Blocked, want: Want) -> bool {
    let kind = blocked.object(want.object).map(|object| object.kind);
    matches!(
        (kind, want.operation),
        (Some(ObjectKind::RwMutex), Operation::Lock)
            | (Some(ObjectKind::WaitGroup), _)
            | (Some(ObjectKind::Descriptor), Operation::Close)
    )
}

/// Tells whether goroutines that wait for one another are alone with what they wait for.
pub trait Seclusion {
    /// Whether nobody but the goroutines of `ring`, and others that are stuck for good with them, can get
    /// at any of the objects that they wait for. `false` where that is not known.
    fn is_secluded(&self, ring: &[u32], fates: &[Fate]) -> bool;
}

/// Whether nobody but the wakers that were found can satisfy a want, if any was found.
pub(super) fn is_closed(blocked: &Blocked, want: Want) -> bool {
    let kind = blocked.object(want.object).map(|object| object.kind);
    matches!(
        kind,
        Some(
            ObjectKind::Mutex
                | ObjectKind::RwMutex
                | ObjectKind::Once
                | ObjectKind::WaitGroup
                | ObjectKind::Descriptor
        )
    )
}

impl Graph {
    /// Builds the graph. Where anything beyond the parked goroutines could still act (running code, timers,
    /// connections), `seclusion` tells which rings are out of its reach.
    pub fn of(blocked: &Blocked, answers: &Answers, seclusion: &dyn Seclusion) -> Graph {
        let nodes = Nodes::new(blocked, answers);
        let fates = nodes.fates();
        let outside = fates.contains(&Fate::Free) || !blocked.timers.is_empty();
        let rings = nodes.rings(&fates, outside, seclusion);
        let next: Vec<Option<Step>> = (0..fates.len()).map(|i| nodes.next(i, &fates)).collect();
        let roots = roots(&next, &rings);
        Graph { fates, next, roots, rings }
    }

    /// How many goroutines wait behind each root, and the trust of the way to it, without those that are
    /// their own root.
    pub fn behind(&self) -> FxHashMap<Root, Vec<u32>> {
        let mut behind: FxHashMap<Root, Vec<u32>> = FxHashMap::default();
        for (index, root) in (0..).zip(&self.roots) {
            let itself = match root {
                Root::Goroutine(own) => *own == index,
                Root::Ring(ring) => {
                    self.rings.get(*ring as usize).is_some_and(|r| r.members.binary_search(&index).is_ok())
                }
            };
            if !itself {
                behind.entry(*root).or_default().push(index);
            }
        }
        behind
    }
}

/// What a goroutine's own circumstances say, before others are asked.
fn at_first(on: Option<&BlockedOn>, answers: &Answers, index: u32) -> Fate {
    let Some(on) = on else { return Fate::Free };
    match on.kind {
        Kind::Forever => Fate::Stuck,
        Kind::Coroutine if answers.without_object(index).is_empty() => Fate::Free,
        Kind::Coroutine => Fate::Stuck,
        _ if on.timed || on.wants.is_empty() => Fate::Free,
        Kind::Channel
        | Kind::Select
        | Kind::Mutex
        | Kind::RwMutex
        | Kind::WaitGroup
        | Kind::Cond
        | Kind::Once
        | Kind::Semaphore => Fate::Stuck,
        _ => Fate::Free,
    }
}

/// The goroutines, and after them everything that they want.
struct Nodes<'a> {
    blocked: &'a Blocked,
    answers: &'a Answers,
    wants: Vec<Want>,
    ids: FxHashMap<Want, usize>,
}

impl<'a> Nodes<'a> {
    fn new(blocked: &'a Blocked, answers: &'a Answers) -> Nodes<'a> {
        let mut wants: Vec<Want> =
            blocked.of.iter().flatten().flat_map(|on| on.wants.iter().copied()).collect();
        wants.sort_unstable();
        wants.dedup();
        let ids = wants.iter().enumerate().map(|(i, want)| (*want, i)).collect();
        Nodes { blocked, answers, wants, ids }
    }

    fn wants(&self, index: usize) -> &'a [Want] {
        self.blocked.on(index).map_or(&[], |on| on.wants.as_slice())
    }

    /// Wakers that count: where all are needed, a mere hint is no proof that one more is; and a lock has
    /// one holder, so who is found to have it leaves no room for hints at other goroutines.
    fn wakers(&self, want: Want) -> impl Iterator<Item = &'a Waker> + use<'a> {
        let all = self.answers.of(want);
        let needs_all = needs_all(self.blocked, want);
        let told = needs_all
            || is_closed(self.blocked, want) && all.iter().any(|waker| waker.trust >= Trust::Likely);
        let goroutine = |waker: &Waker| matches!(waker.agent, Agent::Goroutine(_));
        all.iter()
            .filter(move |waker| waker.trust >= Trust::Likely || !told || !needs_all && !goroutine(waker))
    }

    /// Spreads from those who may go on to those whom they could wake.
    fn fates(&self) -> Vec<Fate> {
        let count = self.blocked.of.len();
        let mut fates: Vec<Fate> =
            (0u32..).zip(&self.blocked.of).map(|(i, on)| at_first(on.as_ref(), self.answers, i)).collect();
        let mut spread = Spread::new(self, count);
        let mut alive: Vec<u32> =
            (0u32..).zip(&fates).filter(|(_, f)| **f == Fate::Free).map(|(i, _)| i).collect();
        alive.extend(spread.at_once(self, &mut fates));
        while let Some(one) = alive.pop() {
            alive.extend(spread.wake(one, &mut fates));
        }
        fates
    }

    /// Whom the node `from` leads to: from a goroutine to its wants, from a want to its wakers. Goroutines
    /// that are not stuck lead nowhere.
    fn edges(&self, from: usize, fates: &[Fate], closed: bool) -> Vec<usize> {
        let count = self.blocked.of.len();
        let stuck = |i: u32| fates.get(i as usize) == Some(&Fate::Stuck);
        let goroutines = |wakers: &mut dyn Iterator<Item = &'a Waker>| -> Vec<usize> {
            let agents = wakers.filter_map(|waker| match waker.agent {
                Agent::Goroutine(i) if stuck(i) => Some(i as usize),
                _ => None,
            });
            agents.collect()
        };
        if let Some(want) = from.checked_sub(count).and_then(|i| self.wants.get(i)) {
            // A deadlock is not made of hints.
            return goroutines(&mut self.wakers(*want).filter(|w| !closed || w.trust >= Trust::Likely));
        }
        let Ok(index) = u32::try_from(from) else { return Vec::new() };
        if !stuck(index) {
            return Vec::new();
        }
        match self.wants(from) {
            [] if !closed => goroutines(&mut self.answers.without_object(index).iter()),
            wants if closed && (wants.len() > 1 || wants.iter().any(|w| !is_closed(self.blocked, *w))) => {
                Vec::new()
            }
            wants => {
                wants.iter().filter_map(|want| Some(self.ids.get(want)?.saturating_add(count))).collect()
            }
        }
    }

    /// Rings over locks first: they are deadlocks whatever else goes on. Then rings over anything.
    fn rings(&self, fates: &[Fate], outside: bool, seclusion: &dyn Seclusion) -> Vec<Ring> {
        let count = self.blocked.of.len();
        let nodes = count.saturating_add(self.wants.len());
        let mut rings = Vec::new();
        let mut taken = vec![false; count];
        for closed in [true, false] {
            for component in scc::components(nodes, |node| self.edges(node, fates, closed)) {
                let mut members: Vec<u32> =
                    component.iter().filter(|i| **i < count).filter_map(|i| u32::try_from(*i).ok()).collect();
                members.sort_unstable();
                if members.iter().any(|i| taken.get(*i as usize) != Some(&false)) {
                    continue;
                }
                members.iter().filter_map(|i| taken.get_mut(*i as usize).map(|t| *t = true)).count();
                let alone =
                    closed || !outside || !members.is_empty() && seclusion.is_secluded(&members, fates);
                rings.extend(self.ring(members, fates, alone));
            }
        }
        rings
    }

    fn ring(&self, members: Vec<u32>, fates: &[Fate], nobody_interferes: bool) -> Option<Ring> {
        let inside = |i: u32| members.binary_search(&i).is_ok();
        let step = |from: u32| self.steps(from as usize, fates).into_iter().find(|step| inside(step.to));
        let mut way = vec![];
        let mut at = *members.first()?;
        let start = loop {
            if let Some(seen) = way.iter().position(|(i, _): &(u32, Step)| *i == at) {
                break seen;
            }
            let step = step(at)?;
            way.push((at, step));
            at = step.to;
        };
        let cycle = way.split_off(start);
        let deadlock = nobody_interferes.then(|| cycle.iter().map(|(_, step)| self.certainty(step)).min());
        Some(Ring { members, cycle, deadlock: deadlock.flatten() })
    }

    /// A step is certain only if nobody but this one waker can make it.
    fn certainty(&self, step: &Step) -> Trust {
        let alone = step.want.is_some_and(|want| {
            is_closed(self.blocked, want) && (needs_all(self.blocked, want) || self.wakers(want).count() == 1)
        });
        if alone { step.trust } else { step.trust.min(Trust::Likely) }
    }

    /// All steps from a goroutine: to those who are stuck themselves first, then the surest.
    fn steps(&self, index: usize, fates: &[Fate]) -> Vec<Step> {
        let step = |want: Option<Want>, waker: &Waker| match waker.agent {
            Agent::Goroutine(to) => Some(Step { to, want, trust: waker.trust }),
            _ => None,
        };
        let mut steps: Vec<Step> = Vec::new();
        for want in self.wants(index) {
            steps.extend(self.wakers(*want).filter_map(|waker| step(Some(*want), waker)));
        }
        if let Ok(index) = u32::try_from(index) {
            steps.extend(self.answers.without_object(index).iter().filter_map(|waker| step(None, waker)));
        }
        steps.sort_by_key(|s| {
            let goes_on = fates.get(s.to as usize) != Some(&Fate::Stuck);
            (goes_on, std::cmp::Reverse(s.trust), s.to)
        });
        steps
    }

    /// Whom a goroutine waits for first of all. Nobody where it waits for any of several, and where it is
    /// natural that it waits: for the next piece of work from somebody who is busy.
    fn next(&self, index: usize, fates: &[Fate]) -> Option<Step> {
        let fate = fates.get(index)?;
        if *fate == Fate::Free {
            return None;
        }
        let wants = self.wants(index);
        if *fate == Fate::Awaited && wants.len() > 1 {
            return None;
        }
        let step = self.steps(index, fates).into_iter().next()?;
        let open =
            step.want.is_none_or(|want| !is_closed(self.blocked, want) && want.operation != Operation::Send);
        let busy = fates.get(step.to as usize) == Some(&Fate::Free);
        (!(open && busy)).then_some(step)
    }
}

/// How far waking has got.
struct Spread {
    /// By goroutine, the wants that it can help to satisfy.
    helps: Vec<Vec<u32>>,
    /// By want, how many helpers are still missing.
    missing: Vec<u32>,
    /// By want, who waits.
    waiters: Vec<Vec<u32>>,
    /// By goroutine, the coroutines on whose other side it is.
    partners: FxHashMap<u32, Vec<u32>>,
}

impl Spread {
    fn new(nodes: &Nodes<'_>, count: usize) -> Spread {
        let mut spread = Spread {
            helps: vec![Vec::new(); count],
            missing: vec![1; nodes.wants.len()],
            waiters: vec![Vec::new(); nodes.wants.len()],
            partners: FxHashMap::default(),
        };
        for (id, want) in (0u32..).zip(&nodes.wants) {
            let mut helpers = 0;
            for waker in nodes.wakers(*want) {
                if let Agent::Goroutine(i) = waker.agent {
                    helpers += 1;
                    spread.helps.get_mut(i as usize).map(|helps| helps.push(id)).unwrap_or_default();
                }
            }
            if let Some(missing) =
                spread.missing.get_mut(id as usize).filter(|_| needs_all(nodes.blocked, *want))
            {
                *missing = helpers.max(1);
            }
        }
        for index in 0u32.. {
            if index as usize >= count {
                break;
            }
            for want in nodes.wants(index as usize) {
                let id = nodes.ids.get(want);
                if let Some(waiters) = id.and_then(|id| spread.waiters.get_mut(*id)) {
                    waiters.push(index);
                }
            }
            for waker in nodes.answers.without_object(index) {
                if let Agent::Goroutine(partner) = waker.agent {
                    spread.partners.entry(partner).or_default().push(index);
                }
            }
        }
        spread
    }

    /// Those whom time or something outside of the process could wake.
    fn at_once(&mut self, nodes: &Nodes<'_>, fates: &mut [Fate]) -> Vec<u32> {
        let mut woken = Vec::new();
        for (id, want) in nodes.wants.iter().enumerate() {
            if nodes.wakers(*want).any(|waker| !matches!(waker.agent, Agent::Goroutine(_))) {
                woken.extend(self.satisfied(id, fates));
            }
        }
        woken
    }

    /// Those whom a goroutine could wake that may go on.
    fn wake(&mut self, one: u32, fates: &mut [Fate]) -> Vec<u32> {
        let mut woken = Vec::new();
        for id in self.helps.get_mut(one as usize).map(std::mem::take).unwrap_or_default() {
            let Some(missing) = self.missing.get_mut(id as usize) else { continue };
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                woken.extend(self.satisfied(id as usize, fates));
            }
        }
        for partner in self.partners.remove(&one).unwrap_or_default() {
            woken.extend(awaited(partner, fates));
        }
        woken
    }

    fn satisfied(&mut self, id: usize, fates: &mut [Fate]) -> Vec<u32> {
        let waiters = self.waiters.get_mut(id).map(std::mem::take).unwrap_or_default();
        waiters.into_iter().filter_map(|index| awaited(index, fates)).collect()
    }
}

/// Marks a goroutine that was stuck until now.
fn awaited(index: u32, fates: &mut [Fate]) -> Option<u32> {
    let fate = fates.get_mut(index as usize).filter(|fate| **fate == Fate::Stuck)?;
    *fate = Fate::Awaited;
    Some(index)
}

/// The end of each goroutine's chain. A chain that comes back to itself without being a ring ends where
/// that is noticed.
fn roots(next: &[Option<Step>], rings: &[Ring]) -> Vec<Root> {
    let mut roots: Vec<Option<Root>> = vec![None; next.len()];
    for (number, ring) in (0u32..).zip(rings) {
        for member in &ring.members {
            if let Some(root) = roots.get_mut(*member as usize) {
                *root = Some(Root::Ring(number));
            }
        }
    }
    let mut on_path = vec![u32::MAX; next.len()];
    for start in 0u32.. {
        if start as usize >= next.len() {
            break;
        }
        let (mut path, mut at) = (Vec::new(), start);
        let root = loop {
            let i = at as usize;
            if let Some(root) = roots.get(i).copied().flatten() {
                break root;
            }
            let seen = on_path.get_mut(i).is_none_or(|mark| std::mem::replace(mark, start) == start);
            if seen {
                break Root::Goroutine(at);
            }
            path.push(i);
            match next.get(i).copied().flatten() {
                Some(step) => at = step.to,
                None => break Root::Goroutine(at),
            }
        };
        for i in path {
            if let Some(slot) = roots.get_mut(i) {
                *slot = Some(root);
            }
        }
    }
    (0u32..).zip(roots).map(|(i, root)| root.unwrap_or(Root::Goroutine(i))).collect()
}

#[cfg(test)]
pub(crate) mod tests;
