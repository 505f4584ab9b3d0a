//! Analysis: who could wake a goroutine. A [`Waking`] answers for one operation on one object; several
//! are asked and what they say is put together. [`Provable`] knows what follows from the runtime's own
//! structures: timers, writers in line, who runs a Once. What the code of other goroutines will still do
//! is another's business.

mod contexts;

use super::blocked::coroutines::is_iterator;
use super::blocked::{Act, Blocked, Inputs, Kind, Object, ObjectKind, Operation, State, Want, act};
use super::frames;
use crate::addr::Addr;
use crate::memory::Memory;
use crate::runtime::signals;
use crate::unwind::Frame;
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

/// How far an answer can be relied on; ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Trust {
    /// A hint.
    Possible,
    /// Follows from how the thing is meant to be used.
    Likely,
    /// Proved from memory; nothing outside can interfere.
    Certain,
}

impl Trust {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trust::Possible => "possible",
            Trust::Likely => "likely",
            Trust::Certain => "certain",
        }
    }
}

/// Who wakes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Agent {
    /// A goroutine, by its index in the snapshot's list.
    Goroutine(u32),
    /// A timer.
    Time,
    /// The kernel, another process, a signal.
    Outside,
}

/// Somebody who could end a wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waker {
    /// Who.
    pub agent: Agent,
    /// How sure that is.
    pub trust: Trust,
    /// Why, in words that follow on the name: `locked it in main.f (f.go:3)`.
    pub because: String,
}

/// Answers who could end waits.
pub trait Waking: Sync {
    /// Who could make the operation `want` possible for those who wait for it. The list may hold the
    /// goroutine that waits: then it waits for itself.
    fn wakers(&self, want: Want, object: &Object, blocked: &Blocked) -> Vec<Waker>;

    /// Who could wake a goroutine that waits for something other than an object.
    fn wakers_without_object(&self, _index: usize, _blocked: &Blocked) -> Vec<Waker> {
        Vec::new()
    }
}

/// All answers.
#[derive(Default, Debug)]
pub struct Answers {
    of: FxHashMap<Want, Vec<Waker>>,
    without_object: FxHashMap<u32, Vec<Waker>>,
}

impl Answers {
    /// Asks all of `sources` for each distinct operation on each object.
    pub fn ask(blocked: &Blocked, sources: &[&dyn Waking]) -> Answers {
        let mut wants: Vec<Want> =
            blocked.of.iter().flatten().flat_map(|on| on.wants.iter().copied()).collect();
        wants.par_sort_unstable();
        wants.dedup();
        let answer = |want: &Want| {
            let object = blocked.object(want.object)?;
            let all = sources.iter().flat_map(|source| source.wakers(*want, object, blocked)).collect();
            Some((*want, merged(all)))
        };
        let of = wants.par_iter().filter_map(answer).collect();
        let bare = |on: &super::blocked::BlockedOn| {
            on.wants.is_empty() && matches!(on.kind, Kind::Coroutine | Kind::StopTheWorld)
        };
        let without: Vec<usize> =
            (0..blocked.of.len()).filter(|i| blocked.on(*i).is_some_and(bare)).collect();
        let without_object = without
            .into_par_iter()
            .filter_map(|i| {
                let all =
                    sources.iter().flat_map(|source| source.wakers_without_object(i, blocked)).collect();
                Some((u32::try_from(i).ok()?, merged(all)))
            })
            .collect();
        Answers { of, without_object }
    }

    /// All operations that somebody wants, with who could make them possible.
    pub fn wants(&self) -> impl Iterator<Item = (Want, &[Waker])> {
        let mut all: Vec<_> = self.of.iter().map(|(want, wakers)| (*want, wakers.as_slice())).collect();
        all.sort_unstable_by_key(|(want, _)| *want);
        all.into_iter()
    }

    /// Who could make an operation possible.
    pub fn of(&self, want: Want) -> &[Waker] {
        self.of.get(&want).map_or(&[], Vec::as_slice)
    }

    /// Who could wake a goroutine that waits for no object.
    pub fn without_object(&self, index: u32) -> &[Waker] {
        self.without_object.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Everybody who could wake a goroutine, each once, the surest first.
    pub fn of_goroutine(&self, index: u32, blocked: &Blocked) -> Vec<&Waker> {
        let wants = blocked.on(index as usize).map_or(&[][..], |on| on.wants.as_slice());
        let mut all: Vec<&Waker> = wants.iter().flat_map(|want| self.of(*want)).collect();
        all.extend(self.without_object(index));
        all.sort_by_key(|waker| (std::cmp::Reverse(waker.trust), waker.agent));
        let mut seen = FxHashSet::default();
        all.retain(|waker| waker.agent == Agent::Outside || seen.insert(waker.agent));
        all
    }
}

/// Each agent once, by its best reason, the surest first.
fn merged(mut all: Vec<Waker>) -> Vec<Waker> {
    all.sort_by_key(|waker| (waker.agent, std::cmp::Reverse(waker.trust)));
    all.dedup_by_key(|waker| waker.agent);
    all.sort_by_key(|waker| (std::cmp::Reverse(waker.trust), waker.agent));
    all
}

/// Where in the program a stack is: `main.update (app.go:41)`.
pub fn place(stack: &[Frame], main_module: Option<&str>) -> String {
    match frames::deciding(stack, main_module).and_then(|i| stack.get(i)) {
        Some(frame) => place_of(frame),
        None => "code that is not known".to_owned(),
    }
}

/// A frame as text: function, file without folders, line.
pub fn place_of(frame: &Frame) -> String {
    let name = frames::short_name(&frame.function);
    match &frame.file {
        Some(file) => format!("{name} ({}:{})", file.rsplit('/').next().unwrap_or(file), frame.line),
        None => name.to_owned(),
    }
}

/// What the runtime's own structures prove.
pub struct Provable<'a> {
    inputs: &'a Inputs<'a>,
    /// Channels that a timer of package context closes, and how.
    contexts: FxHashMap<Addr, &'static str>,
    /// Who runs the function of which Once.
    once: FxHashMap<Addr, Vec<u32>>,
    /// The goroutine of package os/signal, if it is there and waits for a signal.
    signals: Option<u32>,
    /// Channels that it passes signals on to.
    notified: FxHashSet<Addr>,
}

impl<'a> Provable<'a> {
    /// Gets ready for the objects in `blocked`.
    pub fn new(inputs: &'a Inputs<'a>, blocked: &Blocked) -> Provable<'a> {
        let signals = (0u32..)
            .zip(&blocked.of)
            .find(|(_, on)| on.as_ref().is_some_and(|on| on.kind == Kind::Signal))
            .map(|(i, _)| i);
        let notified = match signals {
            Some(_) if blocked.objects.iter().any(is_of_signals) => {
                signals::registered(inputs.image, inputs.source.memory())
            }
            _ => FxHashSet::default(),
        };
        let (contexts, once) = (contexts::ended(inputs, blocked), once(inputs, blocked));
        Provable { inputs, contexts, once, signals, notified }
    }

    fn at(&self, index: u32) -> String {
        place(self.inputs.frames(index as usize), self.inputs.image.build.main_module.as_deref())
    }

    fn of_channel(&self, object: &Object) -> Vec<Waker> {
        let mut found = Vec::new();
        let waker = |agent, trust, because: &str| Waker { agent, trust, because: because.to_owned() };
        if let State::Channel { timer: Some(timer), .. } = &object.state {
            let because = if timer.period > 0 {
                "is set to send on it again and again"
            } else {
                "is set to send on it"
            };
            found.push(waker(Agent::Time, Trust::Certain, because));
        } else if let Some(because) = self.contexts.get(&object.address) {
            found.push(waker(Agent::Time, Trust::Certain, because));
        }
        if let Some(passes) = self.signals.filter(|_| is_of_signals(object)) {
            found.push(waker(Agent::Outside, Trust::Possible, "can send a signal that is passed on to it"));
            if self.notified.contains(&object.address) {
                let because = "passes signals on to it, since it was given to signal.Notify; it is in";
                found.extend(self.goroutines(vec![passes], Trust::Likely, because));
            }
        }
        found
    }

    /// Goroutines that wait for `operation` on the same object.
    fn others(&self, object: &Object, blocked: &Blocked, operation: Operation) -> Vec<u32> {
        let waits = |index: &&u32| {
            let wants = blocked.on(**index as usize).map(|on| on.wants.as_slice());
            matches!(wants, Some([want]) if want.operation == operation)
        };
        object.waiters.iter().filter(waits).copied().collect()
    }

    /// Those who use a descriptor now: one that waits for the poller keeps the lock of its direction.
    fn of_descriptor(&self, want: Want, object: &Object, blocked: &Blocked) -> Vec<Waker> {
        let State::Descriptor { number } = object.state else { return Vec::new() };
        let uses = |on: &super::blocked::BlockedOn| {
            let write = matches!(on.operation, Operation::Write | Operation::Connect);
            let same = match want.operation {
                Operation::Close => true,
                Operation::Write => write,
                _ => !write,
            };
            on.kind == Kind::Io && same && on.fd.as_ref().is_some_and(|fd| fd.number == number)
        };
        let users = (0u32..).zip(&blocked.of).filter(|(_, on)| on.as_ref().is_some_and(uses));
        let because = |i| format!("uses the descriptor in {}", self.at(i));
        users
            .map(|(i, _)| Waker { agent: Agent::Goroutine(i), trust: Trust::Likely, because: because(i) })
            .collect()
    }

    fn goroutines(&self, who: Vec<u32>, trust: Trust, why: &str) -> Vec<Waker> {
        let because = |i| format!("{why} {}", self.at(i));
        who.into_iter().map(|i| Waker { agent: Agent::Goroutine(i), trust, because: because(i) }).collect()
    }
}

impl Waking for Provable<'_> {
    fn wakers(&self, want: Want, object: &Object, blocked: &Blocked) -> Vec<Waker> {
        match (object.kind, want.operation) {
            (ObjectKind::Channel, Operation::Receive | Operation::SendOrReceive) => self.of_channel(object),
            (ObjectKind::RwMutex, Operation::RLock) => {
                let writers = self.others(object, blocked, Operation::Lock);
                self.goroutines(writers, Trust::Certain, "called Lock before and is to have it first, in")
            }
            (ObjectKind::RwMutex, Operation::LockAsNext) => {
                let writers = self.others(object, blocked, Operation::Lock);
                self.goroutines(writers, Trust::Certain, "is the writer in front of it, in")
            }
            (ObjectKind::Once, _) => {
                let runs = self.once.get(&object.address).cloned().unwrap_or_default();
                self.goroutines(runs, Trust::Likely, "runs the function of the Once, in")
            }
            (ObjectKind::Descriptor, _) => self.of_descriptor(want, object, blocked),
            _ => Vec::new(),
        }
    }

    fn wakers_without_object(&self, index: usize, blocked: &Blocked) -> Vec<Waker> {
        match blocked.on(index).map(|on| on.kind) {
            Some(Kind::StopTheWorld) => self.still_running(),
            _ => self.other_side(index, blocked),
        }
    }
}

/// Whether an object is a channel that signals are passed on to, by its type.
fn is_of_signals(object: &Object) -> bool {
    object.type_name.as_deref() == Some("chan os.Signal")
}

/// `_Prunning` and `_Pgcstop` (runtime/runtime2.go).
const P_RUNNING: u32 = 1;
const P_STOPPED: u32 = 3;

impl Provable<'_> {
    /// Who runs on a processor that has not stopped yet, while others have.
    fn still_running(&self) -> Vec<Waker> {
        let snapshot = self.inputs.snapshot;
        if !snapshot.ps.iter().any(|p| p.status == P_STOPPED) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for p in snapshot.ps.iter().filter(|p| p.status == P_RUNNING) {
            let curg = snapshot.ms.iter().find(|m| m.at == p.m).map(|m| m.curg);
            let who = (0u32..).zip(&snapshot.gs).find(|(_, g)| Some(g.at) == curg);
            if let Some((i, _)) = who.filter(|(_, g)| g.status == crate::runtime::Status::Running) {
                let because = format!("has not stopped yet: it runs on P {}, in {}", p.id, self.at(i));
                found.push(Waker { agent: Agent::Goroutine(i), trust: Trust::Likely, because });
            }
        }
        found
    }

    /// The other side of an `iter.Pull`: for the caller of `next` the goroutine of the iterator; who goes
    /// on with an iterator that is half way is a matter of code, its maker only a hint.
    fn other_side(&self, index: usize, blocked: &Blocked) -> Vec<Waker> {
        let Some((g, number)) = self.inputs.g(index).zip(u32::try_from(index).ok()) else {
            return Vec::new();
        };
        let gs = || (0u32..).zip(&self.inputs.snapshot.gs);
        let why = "runs the iterator that it pulls from, in";
        let coroutines = &blocked.coroutines;
        if let Some([one]) = coroutines.coro(number).map(|coro| coroutines.iterators(coro))
            && *one != number
        {
            return self.goroutines(vec![*one], Trust::Certain, why);
        }
        if is_iterator(self.inputs, g) {
            let maker = gs().find(|(_, other)| Some(other.id) == g.parent).map(|(i, _)| i);
            return self.goroutines(
                maker.into_iter().collect(),
                Trust::Possible,
                "made the iterator, which goes on when next or stop is called; it is in",
            );
        }
        let active = |i: u32| blocked.on(i as usize).is_none_or(|on| on.kind != Kind::Coroutine);
        let made = gs()
            .filter(|(i, other)| other.parent == Some(g.id) && active(*i) && is_iterator(self.inputs, other));
        match made.map(|(i, _)| i).collect::<Vec<_>>() {
            iterators if iterators.len() == 1 => self.goroutines(iterators, Trust::Likely, why),
            _ => Vec::new(),
        }
    }
}

/// Who runs the function of which Once: their frame of `Once.doSlow` holds its address, for the deferred
/// calls that end it.
fn once(inputs: &Inputs<'_>, blocked: &Blocked) -> FxHashMap<Addr, Vec<u32>> {
    let watched: FxHashSet<Addr> =
        blocked.objects.iter().filter(|o| o.kind == ObjectKind::Once).map(|o| o.address).collect();
    let mut found: FxHashMap<Addr, Vec<u32>> = FxHashMap::default();
    if watched.is_empty() {
        return found;
    }
    let slow = |frame: &Frame| &*frame.function == "sync.(*Once).doSlow";
    let runs: Vec<bool> = inputs
        .stacks
        .distinct
        .iter()
        .map(|stack| {
            let waits = usize::from(act(&stack.frames) == Act::Once);
            stack.frames.iter().filter(|f| slow(f)).count() > waits
        })
        .collect();
    for (index, stack) in (0u32..).zip(&inputs.stacks.of) {
        if runs.get(*stack as usize) == Some(&true) {
            for once in once_in(inputs, index, &watched) {
                found.entry(once).or_default().push(index);
            }
        }
    }
    found
}

/// The Onces of `watched` whose `doSlow` a goroutine is in, without the one it waits for.
fn once_in(inputs: &Inputs<'_>, index: u32, watched: &FxHashSet<Addr>) -> Vec<Addr> {
    let Some(g) = inputs.g(index as usize) else { return Vec::new() };
    let waits = act(inputs.frames(index as usize)) == Act::Once;
    let walk = inputs.unwinder.walk(g);
    let named = |pc| inputs.image.modules.find(pc).is_some_and(|f| f.name() == "sync.(*Once).doSlow");
    let mut found = Vec::new();
    for frame in walk.frames.iter().filter(|f| named(f.pc)).skip(usize::from(waits)) {
        let len = frame.fp.above(frame.sp).unwrap_or(0).min(4096);
        let words =
            (0..len).step_by(8).filter_map(|o| inputs.snapshot.memory.read_addr(frame.sp.offset(o)).ok());
        // The Once itself or its mutex at 4.
        let mut here: Vec<Addr> =
            words.flat_map(|w| [w, w.back(4)]).filter(|w| watched.contains(w)).collect();
        here.dedup();
        found.extend(here);
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::super::blocked::{BlockedOn, ObjectId};
    use super::*;

    struct Says(u32, Trust);

    impl Waking for Says {
        fn wakers(&self, _: Want, _: &Object, _: &Blocked) -> Vec<Waker> {
            vec![Waker {
                agent: Agent::Goroutine(self.0),
                trust: self.1,
                because: self.1.as_str().to_owned(),
            }]
        }
    }

    #[test]
    fn answers_are_put_together_and_the_best_reason_stays() {
        let want = Want { object: ObjectId(0), operation: Operation::Lock };
        let on = BlockedOn { wants: vec![want], ..BlockedOn::bare(Kind::Mutex, Operation::Lock) };
        let object = Object {
            address: Addr::new(8),
            kind: ObjectKind::Mutex,
            type_name: None,
            state: State::None,
            waiters: vec![0],
        };
        let blocked = Blocked { of: vec![Some(on)], objects: vec![object], ..Blocked::default() };
        let sources = [Says(3, Trust::Possible), Says(4, Trust::Likely), Says(3, Trust::Certain)];
        let sources: Vec<&dyn Waking> = sources.iter().map(|s| s as &dyn Waking).collect();
        let answers = Answers::ask(&blocked, &sources);
        let got: Vec<_> = answers.of(want).iter().map(|w| (w.agent, w.trust)).collect();
        assert_eq!(got, [(Agent::Goroutine(3), Trust::Certain), (Agent::Goroutine(4), Trust::Likely)]);
        assert_eq!(answers.of_goroutine(0, &blocked).len(), 2);
    }
}
