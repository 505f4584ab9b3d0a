//! Runtime, capture: the sequence on a live target. Everything that can be prepared is prepared before
//! the stop; in it nothing is parsed, compared or faulted in that can be avoided; after it the early
//! copies are proved, and what can't be proved is read in another stop.

use super::handed::handed;
use super::key::{Key, Settled};
use super::list::List;
use super::looks::{Keys, Look, Roster, make_ready};
use super::pace::{Extent, Forecast};
use super::rules::{Rule, Rules};
use super::scheduler::Scheduler;
use super::stacks::{self, Captured, Copies, Prepared, Read, Wanted};
use super::system::{self, SystemStacks};
use super::verify::{Answer, Truth, Verdict};
use super::{Capture, CaptureOptions, Instant, Stopping};
use crate::addr::{Addr, Nanotime, Span, Tid};
use crate::diag::Diagnostics;
use crate::error::{ErrorKind, Result};
use crate::image::Image;
use crate::memory::Memory;
use crate::memory::share::{AllCores, ThisThread};
use crate::runtime::{Consistency, G, M, Status, decode};
use crate::source::live::Readers;
use crate::source::{Activity, Source, Stopped, Thread, Tracer};
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::{Duration, Instant as Clock, SystemTime};

/// Up to that many goroutines all is read in one stop: that takes no longer than the stop itself.
const FEW: usize = 250;

/// Stops that are made at most to prove everything, but for those that are void.
const ROUNDS: usize = 3;

/// How long threads that do not stop (state D, parents in vfork) are waited for.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// From that many threads on, those that sleep are left alone in a stop.
const SLEEPERS: usize = 50;

/// Stops that may turn out void before no thread is left alone any more.
const VOIDS: usize = 2;

/// Stacks up to this size are copied whole when where they are used from isn't known, in bytes.
const WHOLE: u64 = 256 << 10;

/// Bytes below the stack pointer that code may use on amd64 (the red zone of C).
const RED_ZONE: u64 = 128;

/// How much a stack may grow until the stop beyond what was used of it, in bytes: room is made for it.
const GROWTH: u64 = 4096;

/// Most room that is made before a stop, in bytes.
const MOST_ROOM: u64 = 64 << 20;

/// Captures a live target.
pub(super) fn run<'a>(
    source: &'a dyn Source,
    image: &Image,
    options: &CaptureOptions,
    rules: Rules,
) -> Result<Capture<'a>> {
    let mut session = Box::new(Session::open(source, image, options, rules)?);
    if options.stopping == Stopping::Never {
        return Ok(session.without_stop());
    }
    if !options.verify && session.all_asleep() {
        match session.asleep() {
            Ok(capture) => return Ok(capture),
            Err(awake) => session = awake,
        }
    }
    if session.roster.len() > FEW {
        session.copy_early();
    }
    let refused = match source.trace() {
        Ok(tracer) => match session.with_stops(tracer) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => e,
            done => return done,
        },
        Err(e) if e.kind() == ErrorKind::PermissionDenied => e,
        Err(e) => return Err(e),
    };
    // Somebody else traces it, or a filter forbids ptrace; its memory may be readable all the same.
    let mut session = Box::new(Session::open(source, image, options, rules)?);
    session.diagnostics.warn(refused, "read without stopping: each goroutine is of an instant of its own");
    Ok(session.without_stop())
}

struct Session<'a, 'i> {
    source: &'a dyn Source,
    image: &'i Image,
    memory: &'a dyn Memory,
    max_pause: Option<Duration>,
    verify: bool,
    /// Whether the system stacks of all threads are wanted.
    all_threads: bool,
    rules: Rules,
    settled: Settled<'i>,
    readers: Readers,
    truth: Option<Truth>,
    /// What the kernel counted of each thread before anything was read.
    first: Vec<Activity>,
    voids: usize,
    list: List<'a>,
    roster: Roster,
    look: Look,
    /// The last look before the stop: what is equal after it did not run.
    base: Keys,
    /// When the look before that began.
    based: Clock,
    /// The shortest that a look at all took.
    looking: Duration,
    /// Goroutines that moved, per second.
    moving: f64,
    copies: Copies,
    system: SystemStacks,
    /// What the threads did before the stop, in the kernel's letters.
    states: FxHashMap<Tid, char>,
    scheduler: Scheduler,
    /// Goroutines that are read in the stop.
    hot: FxHashSet<usize>,
    /// Goroutines whose keys prove nothing: read too, unless their threads are proved to have slept.
    open: FxHashSet<usize>,
    diagnostics: Diagnostics,
    pauses: Vec<Duration>,
    bytes_read: u64,
}

/// What a stop brought.
struct Round {
    threads: Vec<Thread>,
    at: SystemTime,
    now: Option<Nanotime>,
    /// Goroutines whose g and stack were read in it.
    read: FxHashSet<usize>,
    /// Goroutines that should have been, and there was no time.
    missed: Vec<usize>,
    copy: Read,
    extent: Extent,
}

impl<'a, 'i> Session<'a, 'i> {
    fn open(
        source: &'a dyn Source,
        image: &'i Image,
        options: &CaptureOptions,
        rules: Rules,
    ) -> Result<Session<'a, 'i>> {
        let memory = source.memory();
        let mut diagnostics = Diagnostics::default();
        let list = List::of(source, image);
        let order = list.read(&mut diagnostics)?;
        let roster = Roster::new(order, image.layouts.g.size);
        Ok(Session {
            source,
            image,
            memory,
            max_pause: options.max_pause,
            verify: options.verify,
            all_threads: options.threads,
            rules,
            settled: Settled::new(image, rules),
            readers: Readers::new(),
            truth: None,
            first: source.activity().unwrap_or_default(),
            voids: 0,
            copies: Copies::new(roster.len()),
            system: SystemStacks::default(),
            states: FxHashMap::default(),
            scheduler: Scheduler::find(memory, &image.globals, &image.layouts),
            look: roster.blank(),
            list,
            roster,
            base: Keys::default(),
            based: Clock::now(),
            looking: Duration::MAX,
            moving: 0.0,
            hot: FxHashSet::default(),
            open: FxHashSet::default(),
            diagnostics,
            pauses: Vec::new(),
            bytes_read: 0,
        })
    }

    /// Looks at all gs while the target runs; keeps their keys.
    fn keys(&mut self) -> Keys {
        let begin = Clock::now();
        let keys = self.roster.keys(self.memory, &self.image.layouts.g, &self.readers);
        self.looked(begin);
        keys
    }

    /// The same, and keeps their bytes.
    fn fill(&mut self) -> Keys {
        let begin = Clock::now();
        let keys = self.roster.fill(self.memory, &self.image.layouts.g, &mut self.look, &self.readers);
        self.looked(begin);
        keys
    }

    fn looked(&mut self, begin: Clock) {
        self.looking = self.looking.min(begin.elapsed());
        self.bytes_read += self.roster.bytes() as u64;
    }

    /// Goroutines whose keys prove nothing.
    fn unsettled(&self, keys: &Keys) -> Vec<usize> {
        let unsettled = self.roster.keyed(keys).filter(|(_, key)| !self.settled.holds(key));
        unsettled.map(|(index, _)| index).collect()
    }

    /// The used stacks of all goroutines, as if none ran on a thread.
    fn parked(&self, keys: &Keys) -> Vec<Wanted> {
        self.roster.keyed(keys).filter_map(|(index, key)| Wanted::parked(index, key)).collect()
    }

    /// Copies all stacks, and once more those of goroutines that moved meanwhile: each copy lies between
    /// two equal looks, this one's last and the base, or its goroutine is hot.
    fn copy_early(&mut self) {
        let before = self.keys();
        self.bytes_read += self.copies.copy(&self.parked(&before), self.memory, &self.readers);
        self.based = Clock::now();
        self.base = self.keys();
        if self.rules.hold(Rule::Often) {
            self.hot.extend(self.roster.often(&before, &self.base));
        }
        if self.rules.hold(Rule::Between) {
            let moved: FxHashSet<usize> = self.roster.differing(&before, &self.base).into_iter().collect();
            let mut again = self.parked(&self.base);
            again.retain(|want| moved.contains(&want.index));
            self.copies.forget(moved);
            self.bytes_read += self.copies.copy(&again, self.memory, &self.readers);
        }
    }

    /// Takes the base: the last look before the stop. What moved since the one before is hot.
    fn take_base(&mut self) {
        let (before, begin) = (std::mem::take(&mut self.base), Clock::now());
        self.base = self.fill();
        let moved = self.roster.differing(&before, &self.base);
        let between = begin.duration_since(self.based).as_secs_f64();
        self.moving = moved.len() as f64 / between.max(1e-3);
        self.hot.extend(moved);
        self.open.extend(self.unsettled(&self.base));
    }

    /// Stops the target, up to [`ROUNDS`] times, until all early copies are proved.
    fn with_stops(mut self: Box<Self>, mut tracer: Box<dyn Tracer + 'a>) -> Result<Capture<'a>> {
        if self.roster.len() > FEW {
            self.take_base();
        }
        let mut rounds = 0;
        loop {
            let sleepers = self.sleepers();
            let round = self.stop(tracer.as_mut(), &sleepers, ROUNDS - rounds)?;
            let void = !sleepers.is_empty() && !self.slept(&sleepers);
            if void {
                // A thread that was left alone ran: nothing of the round counts, nor does it count as
                // one. The next does not leave that one alone.
                self.voids += 1;
                if self.time_left() == Some(Duration::ZERO) {
                    let all = (0..self.roster.len()).collect();
                    return Ok(self.finish(round, all));
                }
                self.hot.extend(&round.read);
                continue;
            }
            rounds += 1;
            let residue = self.check(&round);
            // Where all was looked at, one stop more would meet others that are off and on all the time.
            let last = rounds == ROUNDS || round.extent == Extent::AllGs;
            if residue.is_empty() || last || self.time_left() == Some(Duration::ZERO) {
                drop(tracer);
                return Ok(self.finish(round, residue));
            }
            if self.rules.hold(Rule::Again) {
                self.hot.extend(&round.read);
            }
            self.hot.extend(residue);
            self.copies.forget(round.read);
            self.copies.keep(round.copy);
        }
    }

    /// How much of the longest pause is left.
    fn time_left(&self) -> Option<Duration> {
        let spent: Duration = self.pauses.iter().sum();
        self.max_pause.map(|limit| limit.saturating_sub(spent))
    }

    fn extent(&self, rounds: usize) -> Extent {
        if self.roster.len() <= FEW {
            return Extent::Everything;
        }
        let forecast = Forecast {
            gs: self.roster.len(),
            hot: self.hot.len() + self.open.len(),
            look: self.looking,
            moving: self.moving,
            rounds,
            limit: self.time_left(),
        };
        forecast.extent()
    }

    /// One stop. Memory that it will fill is allocated and touched before.
    fn stop(&mut self, tracer: &mut dyn Tracer, sleepers: &[Activity], rounds: usize) -> Result<Round> {
        let extent = self.extent(rounds);
        let room = self.room(extent);
        make_ready();
        let left = self.time_left();
        let leave: Vec<Tid> = sleepers.iter().map(|a| a.tid).collect();
        self.look_up_states();
        let begin = Clock::now();
        let stopped = match tracer.stop_except(left.map_or(STOP_LIMIT, |p| p.min(STOP_LIMIT)), &leave) {
            Ok(stopped) => stopped,
            Err(e) => {
                tracer.resume()?;
                return Err(e);
            }
        };
        let deadline = left.and_then(|left| begin.checked_add(left));
        let mut round = self.read_in_stop(&stopped, extent, room, deadline);
        tracer.resume()?;
        self.pauses.push(begin.elapsed());
        if !sleepers.is_empty() {
            let with: FxHashSet<Tid> =
                stopped.threads.iter().filter(|t| t.registers.is_some()).map(|t| t.tid).collect();
            self.look_up_sleepers(stopped.threads.iter().map(|t| t.tid), |tid| with.contains(&tid));
        }
        round.threads = stopped.threads;
        for (tid, why) in stopped.running {
            self.diagnostics.warn(
                format!("thread {tid} did not stop: {why}"),
                "what it did meanwhile may be missing; goroutines on it have no registers",
            );
        }
        Ok(round)
    }

    /// The threads that are left alone in the next stop: from [`SLEEPERS`] threads on, those that slept
    /// from the beginning until now. One that wakes every millisecond sleeps at most looks, too.
    fn sleepers(&self) -> Vec<Activity> {
        if self.voids >= VOIDS || self.first.len() < SLEEPERS {
            return Vec::new();
        }
        let mut all = self.source.activity().unwrap_or_default();
        all.retain(|thread| {
            let place = self.first.binary_search_by_key(&thread.tid, |a| a.tid);
            place.ok().and_then(|i| self.first.get(i)).is_some_and(|first| thread.slept_since(first))
        });
        all
    }

    /// Whether none of these threads ran since they were looked at.
    fn slept(&self, before: &[Activity]) -> bool {
        let now = self.source.activity().unwrap_or_default();
        before.iter().all(|thread| {
            let place = now.binary_search_by_key(&thread.tid, |a| a.tid);
            place.ok().and_then(|i| now.get(i)).is_some_and(|later| later.slept_since(thread))
        })
    }

    /// Whether all threads slept at the beginning.
    fn all_asleep(&self) -> bool {
        !self.first.is_empty() && self.first.iter().all(|thread| thread.asleep)
    }

    /// Reads everything without a stop while no thread runs; gives up as soon as one did.
    fn asleep(mut self: Box<Self>) -> Result<Capture<'a>, Box<Self>> {
        let (at, now) = (SystemTime::now(), self.source.now());
        self.scheduler.read(self.memory, &self.image.globals, &self.image.layouts);
        self.take_new();
        let keys = self.fill();
        let running = |key: &Key| decode::status(key.status(), &self.image.rules) == Status::Running;
        if self.roster.keyed(&keys).any(|(_, key)| running(key)) {
            return Err(self);
        }
        self.bytes_read += self.copies.copy(&self.parked(&keys), self.memory, &self.readers);
        let ms = self.ms();
        self.system = SystemStacks::default();
        self.copy_system_stacks(&ms, Vec::new());
        let threads = self.source.threads();
        self.look_up_sleepers(threads.iter().map(|t| t.tid), |_| false);
        let after = self.source.activity().unwrap_or_default();
        if after.len() != self.first.len() || !self.slept(&self.first) {
            return Err(self);
        }
        self.look_up_states();
        let consistency = vec![Consistency::Exact; self.roster.len()];
        Ok(self.capture(threads, at, now, consistency, Instant::Asleep, &FxHashSet::default(), 0))
    }

    /// Room for the stacks that a stop will read, touched.
    fn room(&self, extent: Extent) -> Vec<u8> {
        let likely = |key: &Key| {
            let used = key.used().map_or(0, |span| span.len);
            key.stack().len.min(used.saturating_mul(2).saturating_add(GROWTH)) + stacks::GAP as u64
        };
        let read = |index: &usize| self.hot.contains(index) || self.open.contains(index);
        let hot = self.roster.keyed(&self.base).filter(|(index, _)| read(index));
        let known: u64 = hot.fold(0, |sum, (_, key)| sum.saturating_add(likely(key)));
        let unknown = match extent {
            Extent::Everything => self.roster.len() as u64,
            // As many may have moved since the base as one look misses.
            Extent::AllGs => (self.moving * self.looking.as_secs_f64()) as u64 * 2,
            Extent::Hot => 0,
        };
        let more = unknown.saturating_mul(4 * GROWTH);
        vec![1; known.saturating_add(more).min(MOST_ROOM) as usize]
    }

    fn read_in_stop(
        &mut self,
        stopped: &Stopped,
        extent: Extent,
        room: Vec<u8>,
        deadline: Option<Clock>,
    ) -> Round {
        let (at, now) = (SystemTime::now(), self.source.now());
        self.scheduler.read(self.memory, &self.image.globals, &self.image.layouts);
        if self.rules.hold(Rule::New) {
            self.take_new();
        }
        let mut read = self.live();
        read.extend(&self.open);
        let ms = self.ms();
        for index in self.spared(&ms, &stopped.left) {
            read.remove(&index);
        }
        if extent != Extent::Everything && self.rules.hold(Rule::Handed) {
            read.extend(handed(self.memory, &self.roster, self.image, &ms, &stopped.threads));
        }
        match extent {
            Extent::Everything => read.extend(0..self.roster.len()),
            Extent::Hot => read.extend(&self.hot),
            // What an earlier stop brought is not as in the base.
            Extent::AllGs if !self.pauses.is_empty() => read.extend(&self.hot),
            Extent::AllGs => {}
        }
        let which: Vec<usize> = read.iter().copied().collect();
        self.roster.look_again(self.memory, &which, &mut self.look, &AllCores);
        if extent == Extent::AllGs {
            read.extend(self.update());
            read.extend(&self.hot);
        }
        let prepared = Prepared::new(&self.stacks_of(&read, &ms, &stopped.threads), room);
        let copy = prepared.read(self.memory, deadline, &AllCores);
        self.bytes_read += copy.len();
        let missed = copy.missed();
        for index in &missed {
            read.remove(index);
        }
        if self.verify {
            self.truth = Some(Truth::read(&self.roster, self.memory, &self.image.layouts.g));
        }
        Round { threads: Vec::new(), at, now, read, missed, copy, extent }
    }

    /// Numbers of the goroutines that run, are about to run, or may be worked for by a system stack.
    fn live(&self) -> FxHashSet<usize> {
        let layouts = &self.image.layouts;
        let mut live = self.scheduler.queued(self.memory, layouts);
        if self.rules.hold(Rule::WorkedFor) {
            live.extend(self.scheduler.worked_for(layouts));
        }
        live.into_iter().filter_map(|g| self.roster.number_of(g)).collect()
    }

    /// Numbers of the goroutines in system calls of threads that were left alone. Such a thread slept since
    /// before the early copies, or the stop is void; nobody else runs its goroutine, nor moves the stack
    /// of one in a system call (`isShrinkStackSafe`, runtime/stack.go).
    fn spared(&self, ms: &[M], left: &[Tid]) -> Vec<usize> {
        let asleep = ms.iter().filter(|m| m.procid.is_some_and(|tid| left.binary_search(&tid).is_ok()));
        let gs = asleep.filter_map(|m| self.roster.number_of(m.curg));
        gs.filter(|index| self.open.contains(index) && self.in_system_call(*index)).collect()
    }

    /// The key of a goroutine as it was read last.
    fn key(&self, index: usize) -> Option<Key> {
        self.roster.key(&self.look, index, &self.image.layouts.g)
    }

    /// Whether a goroutine was in a system call at the base.
    fn in_system_call(&self, index: usize) -> bool {
        self.key(index).is_some_and(|key| decode::status(key.status(), &self.image.rules) == Status::Syscall)
    }

    /// Looks at all gs in the stop; takes over those that changed since the base, or whose keys prove
    /// nothing.
    fn update(&mut self) -> Vec<usize> {
        let (memory, layout) = (self.memory, &self.image.layouts.g);
        let settled = |key: &Key| self.settled.holds(key);
        self.bytes_read += self.roster.bytes() as u64;
        self.roster.update(memory, layout, (&self.base, &mut self.look), settled, &AllCores)
    }

    /// Takes over gs that were added to `allgs` since the roster was made.
    fn take_new(&mut self) {
        let Ok(order) = self.list.read_from(self.roster.len()) else { return };
        let known = self.roster.len();
        for at in order {
            if self.roster.number_of(at).is_none() {
                self.hot.insert(self.roster.len());
                self.roster.append(at);
            }
        }
        if self.roster.len() > known {
            self.look.grow(&self.roster);
            self.base.grow(&self.roster);
            self.copies.resize(self.roster.len());
        }
    }

    /// The stacks of the goroutines `read` and of the threads that are on none.
    fn stacks_of(&mut self, read: &FxHashSet<usize>, ms: &[M], threads: &[Thread]) -> Vec<Wanted> {
        let by_tid: FxHashMap<_, _> = threads.iter().map(|t| (t.tid, t)).collect();
        let on: FxHashMap<Addr, Option<&Thread>> = ms
            .iter()
            .filter(|m| !m.curg.is_null())
            .map(|m| (m.curg, m.procid.and_then(|tid| by_tid.get(&tid).copied())))
            .collect();
        let mut wanted = Vec::with_capacity(read.len());
        let mut on_system = Vec::new();
        for index in read {
            let Some(g) = self.g(*index) else { continue };
            let sp = on.get(&g.at).and_then(|thread| thread.and_then(|t| t.registers)).map(|r| r.sp);
            let (used, system) = used(&g, sp, on.contains_key(&g.at));
            wanted.extend(used.map(|span| Wanted { index: *index, span }));
            on_system.extend(system);
        }
        // Stacks of threads of an earlier stop go.
        self.system = SystemStacks::default();
        if self.all_threads {
            on_system.extend(threads.iter().filter_map(|t| t.registers).map(|r| r.sp));
        }
        self.copy_system_stacks(ms, on_system);
        wanted
    }

    fn ms(&self) -> Vec<M> {
        let l = &self.image.layouts.m;
        self.scheduler.ms.iter().filter_map(|m| decode::m(m.view()?, l).ok()).collect()
    }

    /// Copies the system stacks from these stack pointers on, and those that hold frames of C between
    /// frames of Go.
    fn copy_system_stacks(&mut self, ms: &[M], mut sps: Vec<Addr>) {
        for (at, sp) in system::callback_frames(self.memory, ms, &self.image.layouts) {
            self.system.keep_word(at, sp);
            sps.push(sp);
        }
        if !sps.is_empty() {
            self.bytes_read += self.system.copy(self.memory, &sps);
        }
    }

    /// Looks up where threads sleep, of those that have no registers: all of them if that was asked for,
    /// else those that run C code for a goroutine; copies their stacks. Whoever calls this proves
    /// afterwards that they did not run.
    fn look_up_sleepers(&mut self, all: impl Iterator<Item = Tid>, has_registers: impl Fn(Tid) -> bool) {
        let ms = self.ms();
        let in_c = system::in_c(&ms).filter_map(|m| m.procid);
        let tids: FxHashSet<Tid> = if self.all_threads { all.collect() } else { in_c.collect() };
        let mut sps = Vec::new();
        for tid in tids.into_iter().filter(|tid| !has_registers(*tid)) {
            let Some(call) = self.source.system_call(tid) else { continue };
            self.system.keep_place(tid, call.place);
            sps.push(call.place.sp);
        }
        if !sps.is_empty() {
            self.bytes_read += self.system.copy(self.memory, &sps);
        }
    }

    /// Remembers the states of all threads, if that was asked for: in a stop there is but one.
    fn look_up_states(&mut self) {
        if self.all_threads {
            let tids = self.source.threads().into_iter().map(|thread| thread.tid);
            self.states = tids.filter_map(|tid| Some((tid, self.source.thread_state(tid)?))).collect();
        }
    }

    fn g(&self, index: usize) -> Option<G> {
        let view = self.roster.view(&self.look, index)?;
        decode::g(view, &self.image.layouts.g, &self.image.rules).ok()
    }

    /// Looks again after the stop: what changed since the base and was not read in the stop. What is
    /// equal is as it was in the stop, and this look is the base of the next. Where the stop looked at all
    /// itself, only those count that are off and on all the time: they may have been before it, too.
    fn check(&mut self, round: &Round) -> Vec<usize> {
        let rule = if round.extent == Extent::Hot { Rule::Residue } else { Rule::Often };
        if round.extent == Extent::Everything || !self.rules.hold(rule) {
            return Vec::new();
        }
        let later = self.keys();
        let mut residue = match round.extent {
            Extent::Hot => self.roster.differing(&self.base, &later),
            _ => self.roster.often(&self.base, &later),
        };
        residue.retain(|index| !round.read.contains(index));
        self.base = later;
        residue
    }

    /// Which of the stacks that are accepted unread are not as they were copied, though the key says so: its
    /// count has wrapped. Only a goroutine that has not moved since the stop, as the last look has it, tells that.
    fn wrapped(&self, round: &Round, residue: &[usize]) -> Vec<usize> {
        if round.extent == Extent::Everything || !self.rules.hold(Rule::Afterwards) {
            return Vec::new();
        }
        let still = |index: &usize, key: &Key| self.key(*index) == Some(*key);
        let residue: FxHashSet<usize> = residue.iter().copied().collect();
        let unread = |index: &usize| !round.read.contains(index) && !residue.contains(index);
        let keyed = self.roster.keyed(&self.base).filter(|(_, key)| key.is_often_off());
        let wanted: Vec<Wanted> = keyed
            .filter(|(index, key)| unread(index) && still(index, key))
            .filter_map(|(index, key)| Wanted::parked(index, key))
            .collect();
        let mut unlike = self.copies.unlike(&wanted, self.memory, &self.readers);
        let keys = self.roster.keys_of(self.memory, &unlike, &self.image.layouts.g);
        let mut keys = keys.into_iter();
        unlike.retain(|index| keys.next().flatten().is_some_and(|key| still(index, &key)));
        unlike
    }

    fn finish(mut self: Box<Self>, round: Round, mut residue: Vec<usize>) -> Capture<'a> {
        residue.extend(self.wrapped(&round, &residue));
        self.copies.forget(round.read.iter().copied());
        self.copies.keep(round.copy);
        let mut consistency = vec![Consistency::Exact; self.roster.len()];
        let mut open = residue;
        open.extend(round.missed);
        open.sort_unstable();
        open.dedup();
        let unproved = open.len() as u64;
        self.read_of_other_instant(open, &mut consistency);
        let instant = if unproved == 0 { Instant::Stopped } else { Instant::Partial };
        self.capture(round.threads, round.at, round.now, consistency, instant, &round.read, unproved)
    }

    /// Reads goroutines without a stop: each is accepted if it is equal in two looks with the copy of
    /// its stack in between.
    fn read_of_other_instant(&mut self, mut open: Vec<usize>, consistency: &mut [Consistency]) {
        let l = &self.image.layouts.g;
        for _ in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            self.roster.look_again(self.memory, &open, &mut self.look, &ThisThread);
            let before: Vec<Option<Key>> = open.iter().map(|index| self.key(*index)).collect();
            let keyed = open.iter().zip(&before);
            let parked: Vec<Wanted> =
                keyed.filter_map(|(index, key)| Wanted::parked(*index, key.as_ref()?)).collect();
            self.copies.forget(open.iter().copied());
            self.bytes_read += self.copies.copy(&parked, self.memory, &self.readers);
            let after = self.roster.keys_of(self.memory, &open, l);
            let mut keys = before.into_iter().zip(after);
            open.retain(|index| {
                let (before, after) = keys.next().unwrap_or_default();
                let equal = before.is_some_and(|key| Some(key) == after && !self.settled.is_coroutine(&key));
                if let Some(c) = consistency.get_mut(*index) {
                    *c = if equal { Consistency::OtherInstant } else { Consistency::Torn };
                }
                !equal
            });
        }
    }

    /// Reads everything without a stop.
    fn without_stop(mut self: Box<Self>) -> Capture<'a> {
        let (at, now) = (SystemTime::now(), self.source.now());
        self.scheduler.read(self.memory, &self.image.globals, &self.image.layouts);
        let before = self.fill();
        self.bytes_read += self.copies.copy(&self.parked(&before), self.memory, &self.readers);
        let after = self.keys();
        let mut open = self.roster.differing(&before, &after);
        let keyed = self.roster.keyed(&after);
        open.extend(keyed.filter(|(_, key)| self.settled.is_coroutine(key)).map(|(index, _)| index));
        open.sort_unstable();
        open.dedup();
        let mut consistency = vec![Consistency::OtherInstant; self.roster.len()];
        self.read_of_other_instant(open, &mut consistency);
        let unproved = self.roster.len() as u64;
        let nothing = FxHashSet::default();
        self.capture(Vec::new(), at, now, consistency, Instant::Unstopped, &nothing, unproved)
    }

    #[allow(clippy::too_many_arguments)]
    fn capture(
        self: Box<Self>,
        mut threads: Vec<Thread>,
        at: SystemTime,
        now: Option<Nanotime>,
        consistency: Vec<Consistency>,
        instant: Instant,
        read: &FxHashSet<usize>,
        unproved: u64,
    ) -> Capture<'a> {
        let read_in_stop = read.len() as u64;
        self.system.tell(&mut threads);
        for thread in &mut threads {
            thread.state = self.states.get(&thread.tid).copied();
        }
        let answer = Answer {
            roster: &self.roster,
            look: &self.look,
            copies: &self.copies,
            consistency: &consistency,
            read,
        };
        let verdict: Option<Verdict> =
            self.truth.as_ref().map(|truth| truth.judge(&answer, &self.image.layouts.g));
        Capture {
            verdict,
            proved: (self.roster.len() as u64).saturating_sub(read_in_stop).saturating_sub(unproved),
            roster: self.roster,
            look: self.look,
            consistency,
            scheduler: self.scheduler,
            threads,
            memory: Captured::new(self.copies, self.system.into_runs(), self.memory),
            instant,
            at,
            now,
            pauses: self.pauses,
            read_in_stop,
            unproved,
            bytes_read: self.bytes_read,
            diagnostics: self.diagnostics,
        }
    }
}

/// The part of a goroutine's stack that is in use, and SP of the system stack its thread is on.
fn used(g: &G, thread_sp: Option<Addr>, on_thread: bool) -> (Option<Span>, Option<Addr>) {
    let stack = Span::between(g.stack_lo, g.stack_hi);
    let parked = decode::stack_start(g);
    let inside = |sp: Addr| (stack.contains(sp)).then(|| Span::between(sp, g.stack_hi));
    match thread_sp {
        Some(sp) if stack.contains(sp) => {
            let low = sp.back(RED_ZONE).max(g.stack_lo);
            let low = if stack.contains(g.syscallsp) { low.min(g.syscallsp) } else { low };
            (inside(low), None)
        }
        Some(sp) => {
            let whole = if stack.len <= WHOLE { Some(stack) } else { inside(parked) };
            (whole, Some(sp))
        }
        None if on_thread && stack.len <= WHOLE => (Some(stack), None),
        None => (inside(parked), None),
    }
}
