//! Analysis: what the waits add up to, worst first, each situation once, in plain words. Thousands of
//! goroutines behind one are one situation; so is a ring of three hundred.

use super::blocked::{Blocked, BlockedOn, Kind, Object, ObjectId, ObjectKind, Operation, State, Want};
use super::graph::{Fate, Graph, Ring, Root, Step, is_closed};
use super::wakers::{Agent, Answers, Trust, place};
use crate::runtime::{G, Status};
use crate::unwind::stacks::Stacks;
use rustc_hash::FxHashMap;
use std::time::Duration;

/// Kinds of situations, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SituationKind {
    /// Goroutines that wait for one another.
    Deadlock,
    /// Nothing was found that could wake them.
    DeadEnd,
    /// A chain; its end is the root.
    WaitsBehind,
    /// The kernel or another process wakes them.
    Io,
    /// A timer wakes them.
    Time,
    /// Parked as designed.
    Idle,
}

impl SituationKind {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            SituationKind::Deadlock => "deadlock",
            SituationKind::DeadEnd => "dead_end",
            SituationKind::WaitsBehind => "waits_behind",
            SituationKind::Io => "io",
            SituationKind::Time => "time",
            SituationKind::Idle => "idle",
        }
    }
}

/// One situation.
#[derive(Clone, PartialEq, Debug)]
pub struct Situation {
    /// What kind it is.
    pub kind: SituationKind,
    /// How sure it is.
    pub trust: Trust,
    /// Who is in it, by index in the snapshot's list, ascending. Those who wait behind a ring are not in
    /// it.
    pub goroutines: Vec<u32>,
    /// How many are in it or wait behind it.
    pub count: usize,
    /// The goroutine for which the others wait.
    pub root: Option<u32>,
    /// What they wait for, as far as it is one or a few things.
    pub objects: Vec<ObjectId>,
    /// In words: one line that says it, then details.
    pub text: Vec<String>,
}

/// What is needed to say who somebody is and where.
pub struct Scene<'a> {
    /// The goroutines.
    pub gs: &'a [G],
    /// Their stacks.
    pub stacks: &'a Stacks,
    /// Path of the main module, by which the program's own frames are known.
    pub main_module: Option<&'a str>,
    /// What they wait for.
    pub blocked: &'a Blocked,
    /// Who could wake them.
    pub answers: &'a Answers,
    /// Who waits for whom.
    pub graph: &'a Graph,
}

/// All situations, worst first.
pub fn situations(scene: &Scene<'_>) -> Vec<Situation> {
    let places: Vec<String> =
        scene.stacks.distinct.iter().map(|stack| place(&stack.frames, scene.main_module)).collect();
    let teller = Teller { scene, places };
    let mut all = teller.rings();
    all.extend(teller.merged(teller.chains()));
    all.sort_by_key(|s| {
        (s.kind, std::cmp::Reverse(s.trust), std::cmp::Reverse(s.count), s.goroutines.first().copied())
    });
    all
}

/// Goroutines of a cycle that are told one by one.
const TOLD: usize = 12;

/// Objects that are named of one situation.
const NAMED: usize = 16;

struct Teller<'a> {
    scene: &'a Scene<'a>,
    /// Where each distinct stack is.
    places: Vec<String>,
}

/// What makes blocked goroutines one situation: they wait for the same thing, or in the same place.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Alike<'a> {
    Want(Want),
    Place(Kind, Operation, &'a str),
}

impl<'a> Teller<'a> {
    fn at(&self, index: u32) -> &str {
        let stack = self.scene.stacks.of.get(index as usize);
        stack.and_then(|i| self.places.get(*i as usize)).map_or("", String::as_str)
    }

    fn id(&self, index: u32) -> u64 {
        self.scene.gs.get(index as usize).map_or(0, |g| g.id.0)
    }

    fn system(&self, index: u32) -> bool {
        self.scene.gs.get(index as usize).is_some_and(|g| g.system)
    }

    fn on(&self, index: u32) -> Option<&'a BlockedOn> {
        self.scene.blocked.on(index as usize)
    }

    /// `goroutine 7 in main.f (f.go:3)`.
    fn who(&self, index: u32) -> String {
        format!("goroutine {} in {}", self.id(index), self.at(index))
    }

    fn rings(&self) -> Vec<Situation> {
        let behind = self.scene.graph.behind();
        let numbered = (0u32..).zip(&self.scene.graph.rings);
        numbered.map(|(i, ring)| self.ring(ring, behind.get(&Root::Ring(i)).map_or(0, Vec::len))).collect()
    }

    fn ring(&self, ring: &Ring, behind: usize) -> Situation {
        let members = ring.members.len();
        let head = match (ring.deadlock, ring.cycle.as_slice()) {
            (Some(_), [(one, _)]) => format!("goroutine {} waits for itself", self.id(*one)),
            (Some(_), cycle) => {
                let all = counted(cycle.len(), "goroutine");
                let locks = cycle
                    .iter()
                    .all(|(_, step)| step.want.is_some_and(|want| is_closed(self.scene.blocked, want)));
                let alone =
                    if locks { "" } else { ", and nobody is left who could reach what they wait for" };
                format!("{all} wait for one another{alone}")
            }
            (None, cycle) => format!(
                "{} wait for one another, and nobody else was found who could wake them",
                counted(cycle.len(), "goroutine")
            ),
        };
        let mut text = vec![head];
        let told = ring.cycle.get(..TOLD.min(ring.cycle.len())).unwrap_or_default();
        text.extend(told.iter().map(|(from, step)| self.step(*from, step)));
        if let Some(left) = ring.cycle.len().checked_sub(told.len()).filter(|n| *n > 0) {
            text.push(format!(
                "... and {left} more, the last of which waits for goroutine {}",
                self.cycle_start(ring)
            ));
        }
        let also = members.saturating_sub(ring.cycle.len());
        if also > 0 {
            text.push(format!("{} more are tied to them in the same way", also));
        }
        if behind > 0 {
            text.push(format!("{} behind them", counted_verb(behind, "more goroutine", "waits", "wait")));
        }
        let mut objects: Vec<ObjectId> =
            ring.cycle.iter().filter_map(|(_, step)| step.want.map(|want| want.object)).collect();
        objects.dedup();
        Situation {
            kind: if ring.deadlock.is_some() { SituationKind::Deadlock } else { SituationKind::DeadEnd },
            trust: ring.deadlock.unwrap_or(Trust::Possible),
            goroutines: ring.members.clone(),
            count: members.saturating_add(behind),
            root: ring.members.first().copied(),
            objects,
            text,
        }
    }

    fn cycle_start(&self, ring: &Ring) -> u64 {
        ring.cycle.first().map_or(0, |(first, _)| self.id(*first))
    }

    /// One link: who, what it wants, and who could make that possible and why.
    fn step(&self, from: u32, step: &Step) -> String {
        let wants = match step.want {
            Some(want) => self.wish(want),
            None => "waits for the other side of an iterator".to_owned(),
        };
        let waker = self.reason(from, step);
        format!("{} {wants}; goroutine {} {waker}", self.who(from), self.id(step.to))
    }

    fn reason(&self, from: u32, step: &Step) -> &'a str {
        let wakers = match step.want {
            Some(want) => self.scene.answers.of(want),
            None => self.scene.answers.without_object(from),
        };
        let waker = wakers.iter().find(|waker| waker.agent == Agent::Goroutine(step.to));
        waker.map_or("could wake it", |waker| waker.because.as_str())
    }

    /// `wants to lock sync.Mutex 0xc000012345`.
    fn wish(&self, want: Want) -> String {
        let object = self.scene.blocked.object(want.object).map_or_else(String::new, object_text);
        format!("{} {object}", wish_verb(want.operation))
    }

    /// Everything that is no ring: by the end of the chain, then by what the end waits for.
    fn chains(&self) -> Vec<Situation> {
        let behind = self.scene.graph.behind();
        let mut alike: FxHashMap<Alike<'_>, Vec<u32>> = FxHashMap::default();
        let mut all = Vec::new();
        let roots = (0u32..).zip(&self.scene.graph.roots).filter(|(i, root)| **root == Root::Goroutine(*i));
        for (index, root) in roots {
            let followers = behind.get(root).map_or(&[][..], Vec::as_slice);
            let fate = self.fate(index);
            if !followers.is_empty() && fate != Fate::Stuck {
                all.push(self.queue(index, followers));
            } else if let Some(on) = self.on(index).filter(|_| !self.system(index) || !followers.is_empty()) {
                let key = match on.wants.as_slice() {
                    [want] if fate == Fate::Stuck => Alike::Want(*want),
                    _ => Alike::Place(on.kind, on.operation, self.at(index)),
                };
                alike.entry(key).or_default().push(index);
            }
        }
        let mut groups: Vec<_> = alike.into_iter().collect();
        groups.sort_unstable();
        all.extend(groups.into_iter().filter_map(|(_, members)| self.group(members, &behind)));
        all
    }

    fn fate(&self, index: u32) -> Fate {
        self.scene.graph.fates.get(index as usize).copied().unwrap_or(Fate::Free)
    }

    /// Goroutines behind one that may go on.
    fn queue(&self, root: u32, followers: &[u32]) -> Situation {
        let direct: Vec<&Step> = followers
            .iter()
            .filter_map(|i| self.scene.graph.next.get(*i as usize)?.as_ref())
            .filter(|step| step.to == root)
            .collect();
        let trust = direct.iter().map(|step| step.trust).max().unwrap_or(Trust::Possible);
        let mut text = vec![format!(
            "{} behind goroutine {}, which {}",
            counted_verb(followers.len(), "goroutine", "waits", "wait"),
            self.id(root),
            self.does(root)
        )];
        let mut wants: Vec<Want> = direct.iter().filter_map(|step| step.want).collect();
        wants.sort_unstable();
        wants.dedup();
        for want in wants.iter().take(4) {
            let first = followers.iter().find(|i| self.on(**i).is_some_and(|on| on.wants.contains(want)));
            if let Some(example) = first {
                text.push(self.direct(*example, *want, root));
            }
        }
        Situation {
            kind: SituationKind::WaitsBehind,
            trust,
            goroutines: followers.to_vec(),
            count: followers.len(),
            root: Some(root),
            objects: wants.iter().map(|want| want.object).take(NAMED).collect(),
            text,
        }
    }

    /// How many want a thing, for instance who, and what the one in front has to do with it.
    fn direct(&self, example: u32, want: Want, root: u32) -> String {
        let waiters = self.scene.blocked.object(want.object).map_or(0, |object| object.waiters.len());
        let step = Step { to: root, want: Some(want), trust: Trust::Possible };
        let others = match waiters.saturating_sub(1) {
            0 => String::new(),
            n => format!(" and {}", counted(n, "other")),
        };
        let reason = self.reason(example, &step);
        format!("{}{others} {}; goroutine {} {reason}", self.who(example), self.wish(want), self.id(root))
    }

    /// Goroutines that wait alike and for nobody in particular.
    fn group(&self, members: Vec<u32>, behind: &FxHashMap<Root, Vec<u32>>) -> Option<Situation> {
        let first = *members.first()?;
        let on = self.on(first)?;
        let followers: usize =
            members.iter().map(|i| behind.get(&Root::Goroutine(*i)).map_or(0, Vec::len)).sum();
        let (kind, trust, what) = self.verdict(first, on);
        let subject = match members.as_slice() {
            [one] => format!("goroutine {} in {}", self.id(*one), self.at(*one)),
            _ => format!("{} in {}", counted(members.len(), "goroutine"), self.at(first)),
        };
        let elsewhere = members.iter().any(|i| self.at(*i) != self.at(first));
        let subject = if elsewhere { subject + " and elsewhere" } else { subject };
        let mut text = vec![format!("{subject} {what}")];
        if followers > 0 {
            text.push(format!("{} behind", counted_verb(followers, "more goroutine", "waits", "wait")));
        }
        let mut objects: Vec<ObjectId> = members
            .iter()
            .filter_map(|i| self.on(*i))
            .flat_map(|on| on.wants.iter().map(|want| want.object))
            .take(NAMED)
            .collect();
        objects.sort_unstable();
        objects.dedup();
        let count = members.len().saturating_add(followers);
        Some(Situation { kind, trust, root: None, count, goroutines: members, objects, text })
    }

    /// Makes one situation of those that differ in nothing but who waits and at which object: a thousand
    /// leaked goroutines, each on a channel of its own.
    fn merged(&self, all: Vec<Situation>) -> Vec<Situation> {
        let mut merged: Vec<Situation> = Vec::with_capacity(all.len());
        let mut known: FxHashMap<(SituationKind, Trust, String), usize> = FxHashMap::default();
        for one in all {
            let shape =
                one.text.first().filter(|_| one.root.is_none() && one.text.len() == 1).map(|t| shape(t));
            let Some(shape) = shape.filter(|_| !one.objects.is_empty()) else {
                merged.push(one);
                continue;
            };
            match known.get(&(one.kind, one.trust, shape.clone())).and_then(|i| merged.get_mut(*i)) {
                Some(first) => {
                    first.count = first.count.saturating_add(one.count);
                    first.goroutines.extend(one.goroutines);
                    first.objects.extend(one.objects);
                }
                None => {
                    known.insert((one.kind, one.trust, shape), merged.len());
                    merged.push(one);
                }
            }
        }
        for one in &mut merged {
            self.retell(one);
        }
        merged
    }

    /// Says of a merged situation that it is many, and shows one of them.
    fn retell(&self, one: &mut Situation) {
        let distinct = one.objects.len();
        one.objects.truncate(NAMED);
        let (Some(first), Some(text)) = (one.goroutines.first(), one.text.first_mut()) else { return };
        if one.root.is_some() || distinct < 2 || !text.starts_with("goroutine ") || one.goroutines.len() < 2 {
            return;
        }
        let (count, place) = (counted(one.goroutines.len(), "goroutine"), self.at(*first));
        *text = format!("{count} in {place}, each at an object of its own; one of them: {text}");
    }

    /// What is to be said of a goroutine that waits for nobody in particular.
    fn verdict(&self, index: u32, on: &BlockedOn) -> (SituationKind, Trust, String) {
        let does = self.does_what(on);
        match (on.kind, self.fate(index)) {
            (Kind::Forever, _) if on.operation == Operation::Select => {
                (SituationKind::Idle, Trust::Certain, "waits for ever, in `select {}`".to_owned())
            }
            (Kind::Forever, _) => {
                (SituationKind::DeadEnd, Trust::Certain, format!("{does}: it can never go on"))
            }
            (_, Fate::Stuck) => {
                let end = format!("{does}: nothing was found that could {}", remedy(on));
                (SituationKind::DeadEnd, Trust::Possible, end)
            }
            _ if on.timed => (SituationKind::Time, Trust::Certain, does),
            (Kind::Sleep | Kind::Timer, _) => (SituationKind::Time, Trust::Certain, does),
            (Kind::Io | Kind::Syscall, _) => (SituationKind::Io, Trust::Certain, does),
            _ => (
                SituationKind::Idle,
                Trust::Likely,
                self.hope(index).map_or(does.clone(), |h| format!("{does}; {h}")),
            ),
        }
    }

    /// Who could wake an idle goroutine.
    fn hope(&self, index: u32) -> Option<String> {
        let wakers = self.scene.answers.of_goroutine(index, self.scene.blocked);
        let waker = wakers.first()?;
        let who = match waker.agent {
            Agent::Goroutine(i) => format!("goroutine {}", self.id(i)),
            Agent::Time => "a timer".to_owned(),
            Agent::Outside => "somebody outside".to_owned(),
        };
        let others = match wakers.len().saturating_sub(1) {
            0 => String::new(),
            n => format!(" (and {} could wake it too)", counted(n, "other")),
        };
        Some(format!("{who} {}{others}", waker.because))
    }

    /// What somebody does for whom others wait.
    fn does(&self, index: u32) -> String {
        let place = self.at(index);
        match self.on(index) {
            Some(on) => format!("{} in {place}", self.does_what(on)),
            None => {
                let status = self.scene.gs.get(index as usize).map(|g| g.status);
                let verb = match status {
                    Some(Status::Running) => "runs",
                    Some(Status::Runnable) => "is ready to run",
                    _ => "is about to go on",
                };
                format!("{verb} in {place}")
            }
        }
    }

    fn does_what(&self, on: &BlockedOn) -> String {
        let nil = |verb: &str| format!("{verb} a nil channel");
        let mut text = match (on.kind, on.operation, on.wants.as_slice()) {
            (Kind::Forever, Operation::Send, _) => nil("sends on"),
            (Kind::Forever, Operation::Receive, _) => nil("receives from"),
            (Kind::Forever, Operation::SelectNil, _) => {
                "is in a select whose channels are all nil".to_owned()
            }
            (Kind::Sleep, ..) => "sleeps".to_owned(),
            (Kind::Io, operation, _) => io_text(operation, on),
            (Kind::Syscall, ..) => syscall_text(on),
            (Kind::Coroutine, ..) => "waits for the other side of an iterator".to_owned(),
            (Kind::Synctest, ..) => "waits for the other goroutines of its synctest bubble".to_owned(),
            (Kind::Gc, ..) => "waits for the garbage collector".to_owned(),
            (Kind::StopTheWorld, ..) => "waits for the world to stop".to_owned(),
            (Kind::Signal, ..) => "waits for signals".to_owned(),
            (Kind::Select, _, [_, _, ..]) => {
                format!("waits in a select for any of {}", counted(on.wants.len(), "channel"))
            }
            (_, _, [want]) => self.wish(*want),
            (kind, operation, _) => format!("waits ({kind}, {})", operation.as_str()),
        };
        if let Some(left) = on.deadline_in {
            text += &left_text(left);
        }
        text
    }
}

/// A text without the numbers of goroutines and the addresses of objects.
fn shape(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for word in text.split(' ') {
        let number = word.starts_with("0x") || word.bytes().all(|b| b.is_ascii_digit());
        shape.push_str(if number { "#" } else { word });
        shape.push(' ');
    }
    shape
}

/// How an object is named: its type, its address, its state.
pub fn object_text(object: &Object) -> String {
    let name = object.type_name.as_deref().unwrap_or(match object.kind {
        ObjectKind::Channel => "channel",
        _ => "semaphore",
    });
    let state = match &object.state {
        State::Channel { closed: true, .. } => " (closed)".to_owned(),
        State::Channel { capacity: 0, .. } => " (unbuffered)".to_owned(),
        State::Channel { len, capacity, .. } => format!(" (buffer {len} of {capacity})"),
        State::Mutex { locked: false, .. } if object.kind == ObjectKind::Mutex => {
            " (not locked now)".to_owned()
        }
        State::RwMutex { writer, readers, .. } => format!(
            " ({}, {})",
            if *writer { "a writer has it or is next" } else { "no writer" },
            counted(usize::try_from(*readers).unwrap_or(0), "reader")
        ),
        State::WaitGroup { counter, .. } => format!(" (counter {counter})"),
        State::Descriptor { number } => format!(" (descriptor {number})"),
        _ => String::new(),
    };
    format!("{name} {}{state}", object.address)
}

/// What somebody wants to do, before the name of the object.
pub fn wish_verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Lock => "wants to lock",
        Operation::LockAsNext => "wants to lock, behind another writer,",
        Operation::RLock => "wants to read-lock",
        Operation::Wait => "waits for",
        Operation::Do => "waits for the function of",
        Operation::Send => "wants to send on",
        Operation::Receive => "wants to receive from",
        Operation::SendOrReceive => "wants to send on or receive from",
        Operation::Read => "wants to read from",
        Operation::Write => "wants to write to",
        Operation::Close => "wants to close",
        _ => "waits for",
    }
}

/// What would wake it.
fn remedy(on: &BlockedOn) -> &'static str {
    match (on.kind, on.operation) {
        (Kind::Mutex, _) => "unlock it",
        (Kind::RwMutex, Operation::Lock) => "make its readers unlock it",
        (Kind::RwMutex, _) => "unlock it",
        (Kind::WaitGroup, _) => "call Done",
        (Kind::Cond, _) => "signal it",
        (Kind::Once, _) => "end its function",
        (Kind::Channel, Operation::Send) => "receive from it",
        (Kind::Channel, Operation::Receive) => "send on it or close it",
        _ => "wake it",
    }
}

fn io_text(operation: Operation, on: &BlockedOn) -> String {
    let verb = match operation {
        Operation::Read => "reads from",
        Operation::Write => "writes to",
        Operation::Accept => "waits for connections at",
        Operation::Connect => "connects",
        _ => "waits for",
    };
    let deadline = if on.timed { "" } else { ", no deadline is set" };
    format!("{verb} {}{deadline}", fd_text(on))
}

fn syscall_text(on: &BlockedOn) -> String {
    let call = on
        .call
        .as_deref()
        .map_or_else(|| "a system call or C code".to_owned(), |c| format!("system call {c}"));
    match &on.fd {
        Some(_) => format!("is in {call} on {}", fd_text(on)),
        None => format!("is in {call}"),
    }
}

/// `descriptor 9 (tcp 127.0.0.1:1 -> 10.0.0.5:5432, ESTABLISHED)`.
fn fd_text(on: &BlockedOn) -> String {
    let Some(fd) = &on.fd else { return "a descriptor that is not known".to_owned() };
    if fd.kind == "unknown" {
        return format!("descriptor {}", fd.number);
    }
    let mut text = fd.kind.clone();
    match (&fd.local, &fd.remote) {
        (Some(local), Some(remote)) => text += &format!(" {local} -> {remote}"),
        (Some(local), None) => text += &format!(" {local}"),
        _ => {}
    }
    if let Some(state) = fd.state {
        text += &format!(", {state}");
        if state == "CLOSE_WAIT" {
            text += ": the other end has closed";
        }
    }
    format!("descriptor {} ({text})", fd.number)
}

fn left_text(left: i64) -> String {
    match u64::try_from(left) {
        Ok(left) => format!(", until {} from now", short(Duration::from_nanos(left))),
        Err(_) => ", until now".to_owned(),
    }
}

/// `1.5s`, `20ms`, `2h0m`.
fn short(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds @ 1..60 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        seconds @ 60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn counted_verb(count: usize, noun: &str, one: &str, many: &str) -> String {
    format!("{} {}", counted(count, noun), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::World;
    use super::super::graph::tests::Hand;
    use super::*;

    /// The situations of a hand-made graph whose goroutines, numbered from 1, are all in `main.f`.
    fn tell(hand: &Hand) -> Vec<Situation> {
        let mut world = World::default();
        for id in 1..=hand.blocked.of.len() as u64 {
            world.add(id, Status::Waiting, 1, &["sync.(*Mutex).Lock", "main.f"]);
        }
        let answers = hand.answers();
        let graph = Graph::of(&hand.blocked, &answers, hand);
        situations(&Scene {
            gs: &world.gs,
            stacks: &world.stacks,
            main_module: None,
            blocked: &hand.blocked,
            answers: &answers,
            graph: &graph,
        })
    }

    fn kinds(all: &[Situation]) -> Vec<(SituationKind, usize)> {
        all.iter().map(|s| (s.kind, s.count)).collect()
    }

    #[test]
    fn a_hundred_thousand_behind_one_are_one_situation() {
        let mut hand = Hand::default();
        let lock = hand.object(ObjectKind::Mutex);
        let reads = hand.bare(Kind::Io, Operation::Read);
        hand.held(lock, reads);
        for _ in 0..100_000 {
            hand.wants(&[(lock, Operation::Lock)]);
        }
        let all = tell(&hand);
        assert_eq!(kinds(&all), [(SituationKind::WaitsBehind, 100_000)]);
        let one = all.first().unwrap();
        assert_eq!((one.root, one.trust), (Some(reads), Trust::Certain));
        assert_eq!(
            one.text,
            [
                "100000 goroutines wait behind goroutine 1, which reads from a descriptor that is not known, \
                 no deadline is set in main.f (main.go:20)",
                "goroutine 2 in main.f (main.go:20) and 99999 others wants to lock sync.Mutex 0xc000; \
                 goroutine 1 holds it",
            ]
        );
    }

    #[test]
    fn a_ring_is_told_link_by_link() {
        let mut hand = Hand::default();
        let (a, b) = (hand.object(ObjectKind::Mutex), hand.object(ObjectKind::Mutex));
        let first = hand.wants(&[(a, Operation::Lock)]);
        let second = hand.wants(&[(b, Operation::Lock)]);
        hand.wants(&[(b, Operation::Lock)]);
        hand.held(a, second);
        hand.held(b, first);
        let all = tell(&hand);
        assert_eq!(kinds(&all), [(SituationKind::Deadlock, 3)]);
        assert_eq!(
            all.first().unwrap().text,
            [
                "2 goroutines wait for one another",
                "goroutine 1 in main.f (main.go:20) wants to lock sync.Mutex 0xc000; goroutine 2 holds it",
                "goroutine 2 in main.f (main.go:20) wants to lock sync.Mutex 0xc010; goroutine 1 holds it",
                "1 more goroutine waits behind them",
            ]
        );
    }

    #[test]
    fn what_nobody_ends_is_a_dead_end_and_not_a_deadlock() {
        let mut hand = Hand::default();
        let channel = hand.object(ObjectKind::Channel);
        hand.wants(&[(channel, Operation::Receive)]);
        hand.wants(&[(channel, Operation::Receive)]);
        hand.bare(Kind::Forever, Operation::Send);
        hand.bare(Kind::Forever, Operation::Select);
        hand.bare(Kind::Sleep, Operation::Sleep);
        let all = tell(&hand);
        let dead = SituationKind::DeadEnd;
        assert_eq!(kinds(&all), [(dead, 1), (dead, 2), (SituationKind::Time, 1), (SituationKind::Idle, 1)]);
        assert_eq!(all.first().map(|s| s.trust), Some(Trust::Certain));
        let said = all.get(1).and_then(|s| s.text.first()).unwrap();
        assert!(said.ends_with("nothing was found that could send on it or close it"), "{said}");
    }
}
