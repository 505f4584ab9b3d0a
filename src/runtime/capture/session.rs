//! Runtime, capture: the sequence on a live target. Everything that can be prepared is prepared before
//! the stop; in it nothing is parsed, compared or faulted in that can be avoided; after it the early
//! copies are proved, and what can't be proved is read in another stop.

use super::looks::{Key, Look, Roster, changed};
use super::scheduler::Scheduler;
use super::stacks::{Captured, Copies, Prepared, Wanted};
use super::verify::{Truth, Verdict};
use super::{Capture, CaptureOptions, Instant, Stopping, read_order};
use crate::addr::{Addr, Nanotime, Span, Tid};
use crate::diag::Diagnostics;
use crate::error::{ErrorKind, Result};
use crate::image::Image;
use crate::memory::Memory;
use crate::runtime::{Consistency, G, M, Status, decode};
use crate::source::{Activity, Source, Stopped, Thread, Tracer};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::{Duration, Instant as Clock, SystemTime};

/// Up to that many goroutines all is read in one stop: that takes no longer than the stop itself.
const FEW: usize = 250;

/// Stops that are made at most to prove everything.
const ROUNDS: usize = 3;

/// When more than one in so many moves, one stop re-reads all gs.
const MANY: usize = 8;

/// How long threads that do not stop (state D, parents in vfork) are waited for.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// From that many threads on, those that sleep are left alone in a stop.
const SLEEPERS: usize = 50;

/// Stacks up to this size are copied whole when where they are used from isn't known, in bytes.
const WHOLE: u64 = 256 << 10;

/// What is copied above the stack pointer of a thread that is on no goroutine's stack, in bytes.
const SYSTEM_STACK: u64 = 64 << 10;

/// Bytes below the stack pointer that code may use on amd64 (the red zone of C).
const RED_ZONE: u64 = 128;

/// Captures a live target.
pub(super) fn run<'a>(
    source: &'a dyn Source,
    image: &Image,
    options: &CaptureOptions,
) -> Result<Capture<'a>> {
    let mut session = Box::new(Session::open(source, image, options)?);
    if options.stopping == Stopping::Never {
        return Ok(session.without_stop());
    }
    if !options.verify
        && let Some(before) = session.all_asleep()
    {
        match session.asleep(&before) {
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
    let mut session = Box::new(Session::open(source, image, options)?);
    session.diagnostics.warn(refused, "read without stopping: each goroutine is of an instant of its own");
    Ok(session.without_stop())
}

struct Session<'a, 'i> {
    source: &'a dyn Source,
    image: &'i Image,
    memory: &'a dyn Memory,
    max_pause: Option<Duration>,
    verify: bool,
    truth: Option<Truth>,
    leave_sleepers: bool,
    roster: Roster,
    look: Look,
    spare: Look,
    copies: Copies,
    scheduler: Scheduler,
    hot: FxHashSet<usize>,
    by_address: FxHashMap<Addr, usize>,
    coroutine: Vec<u8>,
    diagnostics: Diagnostics,
    pauses: Vec<Duration>,
    bytes_read: u64,
    buffer: Vec<u8>,
}

/// What a stop brought.
struct Round {
    threads: Vec<Thread>,
    at: SystemTime,
    now: Option<Nanotime>,
    read: FxHashSet<usize>,
    /// A thread that was left alone ran: nothing of the round counts.
    void: bool,
    /// All gs were looked at in the stop itself: nothing is left to be proved.
    whole: bool,
    cut: bool,
}

impl<'a, 'i> Session<'a, 'i> {
    fn open(source: &'a dyn Source, image: &'i Image, options: &CaptureOptions) -> Result<Session<'a, 'i>> {
        let memory = source.memory();
        let mut diagnostics = Diagnostics::default();
        let order = read_order(memory, &image.globals, &mut diagnostics)?;
        let by_address = order.iter().enumerate().map(|(i, at)| (*at, i)).collect();
        let roster = Roster::new(order, image.layouts.g.size);
        let (look, spare) = (roster.blank(), roster.blank());
        let numbers = image.wait_reasons.iter().enumerate().filter(|(_, text)| *text == "coroutine");
        Ok(Session {
            source,
            image,
            memory,
            max_pause: options.max_pause,
            verify: options.verify,
            truth: None,
            leave_sleepers: true,
            copies: Copies::new(roster.len()),
            scheduler: Scheduler::find(memory, &image.globals, &image.layouts),
            roster,
            look,
            spare,
            hot: FxHashSet::default(),
            by_address,
            coroutine: numbers.filter_map(|(n, _)| u8::try_from(n).ok()).collect(),
            diagnostics,
            pauses: Vec::new(),
            bytes_read: 0,
            buffer: Vec::new(),
        })
    }

    fn look_at_all(&mut self) {
        std::mem::swap(&mut self.look, &mut self.spare);
        self.roster.look(self.memory, &mut self.look);
        self.bytes_read += self.roster.bytes() as u64;
    }

    /// Numbers of the gs that changed between the last two looks.
    fn changed(&self) -> Vec<usize> {
        changed(&self.roster, &self.spare, &self.look, &self.image.layouts.g)
    }

    /// Copies all stacks between two looks; what changed meanwhile is hot.
    fn copy_early(&mut self) {
        self.look_at_all();
        let all: Vec<usize> = (0..self.roster.len()).collect();
        let wanted = self.wanted_parked(&self.look, &all);
        let read = Prepared::new(&wanted, Vec::new()).read_parallel(self.memory);
        self.bytes_read += read.len();
        self.copies.keep(read, self.memory);
        self.look_at_all();
        let moved = self.changed();
        self.hot.extend(moved);
        self.hot.extend(self.always_hot());
    }

    /// Goroutines whose status changes without a trace in the key.
    fn always_hot(&self) -> Vec<usize> {
        let l = &self.image.layouts.g;
        (0..self.roster.len())
            .into_par_iter()
            .with_min_len(1024)
            .filter(|i| {
                let key = self.roster.view(&self.look, *i).and_then(|view| Key::of(view, l));
                key.is_none_or(|key| {
                    use Status::{Copystack, Preempted, Runnable, Running, Syscall};
                    let status = decode::status(key.status(), &self.image.rules);
                    matches!(status, Running | Runnable | Syscall | Preempted | Copystack)
                        || (status == Status::Waiting && self.coroutine.contains(&key.waitreason()))
                })
            })
            .collect()
    }

    fn g(&self, look: &Look, index: usize) -> Option<G> {
        let view = self.roster.view(look, index)?;
        decode::g(view, &self.image.layouts.g, &self.image.rules).ok()
    }

    /// The used stacks of goroutines that run on no thread.
    fn wanted_parked(&self, look: &Look, which: &[usize]) -> Vec<Wanted> {
        let wanted = |index: &usize| {
            let g = self.g(look, *index)?;
            let start = decode::stack_start(&g);
            let inside = start >= g.stack_lo && start < g.stack_hi;
            inside.then(|| Wanted { index: *index, span: Span::between(start, g.stack_hi) })
        };
        which.par_iter().with_min_len(512).filter_map(wanted).collect()
    }

    /// Stops the target, up to [`ROUNDS`] times, until all early copies are proved.
    fn with_stops(mut self: Box<Self>, mut tracer: Box<dyn Tracer + 'a>) -> Result<Capture<'a>> {
        if self.roster.len() > FEW {
            self.look_at_all();
            let moved = self.changed();
            self.hot.extend(moved);
        }
        let mut rounds = 0;
        loop {
            rounds += 1;
            let round = self.stop(tracer.as_mut())?;
            if round.void {
                self.leave_sleepers = false;
                if rounds < ROUNDS {
                    continue;
                }
            }
            let residue = self.check(&round);
            if residue.is_empty() || rounds == ROUNDS || round.cut {
                drop(tracer);
                return Ok(self.finish(round, residue));
            }
            self.hot.extend(residue);
        }
    }

    /// One stop. Memory that it will fill is allocated and touched before.
    fn stop(&mut self, tracer: &mut dyn Tracer) -> Result<Round> {
        let all = self.roster.len() <= FEW || self.hot.len() > self.roster.len() / MANY;
        self.make_room(all);
        let sleepers = self.sleepers();
        let leave: Vec<Tid> = sleepers.iter().map(|a| a.tid).collect();
        let begin = Clock::now();
        let stopped = tracer.stop_except(self.max_pause.map_or(STOP_LIMIT, |p| p.min(STOP_LIMIT)), &leave);
        let stopped = match stopped {
            Ok(stopped) => stopped,
            Err(e) => {
                tracer.resume()?;
                return Err(e);
            }
        };
        let mut round = self.read_in_stop(&stopped, all, begin);
        tracer.resume()?;
        self.pauses.push(begin.elapsed());
        round.void = !sleepers.is_empty() && !self.slept(&sleepers);
        for (tid, why) in stopped.running {
            self.diagnostics.warn(
                format!("thread {tid} did not stop: {why}"),
                "what it did meanwhile may be missing; goroutines on it have no registers",
            );
        }
        Ok(round)
    }

    /// The threads that are left alone in the next stop: those that sleep, from [`SLEEPERS`] threads on.
    fn sleepers(&self) -> Vec<Activity> {
        if !self.leave_sleepers {
            return Vec::new();
        }
        let mut all = self.source.activity().unwrap_or_default();
        if all.len() < SLEEPERS {
            return Vec::new();
        }
        all.retain(|thread| thread.asleep);
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

    /// All threads, if all of them sleep.
    fn all_asleep(&self) -> Option<Vec<Activity>> {
        let all = self.source.activity()?;
        (!all.is_empty() && all.iter().all(|thread| thread.asleep)).then_some(all)
    }

    /// Reads everything without a stop while no thread runs; gives up as soon as one did.
    fn asleep(mut self: Box<Self>, before: &[Activity]) -> Result<Capture<'a>, Box<Self>> {
        let (at, now) = (SystemTime::now(), self.source.now());
        self.scheduler.read(self.memory, &self.image.globals, &self.image.layouts);
        self.take_new();
        self.look_at_all();
        let all: Vec<usize> = (0..self.roster.len()).collect();
        let runs = |i: &usize| self.g(&self.look, *i).is_some_and(|g| g.status == Status::Running);
        if all.par_iter().with_min_len(1024).any(runs) {
            return Err(self);
        }
        let wanted = self.wanted_parked(&self.look, &all);
        let read = Prepared::new(&wanted, Vec::new()).read_parallel(self.memory);
        self.bytes_read += read.len();
        self.copies.keep(read, self.memory);
        let after = self.source.activity().unwrap_or_default();
        if after.len() != before.len() || !self.slept(before) {
            return Err(self);
        }
        let threads = self.source.threads();
        let consistency = vec![Consistency::Exact; self.roster.len()];
        Ok(self.capture(threads, at, now, consistency, Instant::Asleep, 0, 0))
    }

    fn make_room(&mut self, all: bool) {
        let hot = if all { self.roster.len() } else { self.hot.len() };
        let bytes = hot.saturating_mul(16 << 10).min(256 << 20);
        if self.buffer.len() < bytes {
            self.buffer = vec![1; bytes];
        }
    }

    fn read_in_stop(&mut self, stopped: &Stopped, all: bool, begin: Clock) -> Round {
        let (at, now) = (SystemTime::now(), self.source.now());
        let (globals, layouts) = (&self.image.globals, &self.image.layouts);
        self.scheduler.read(self.memory, globals, layouts);
        self.take_new();
        let live = self.scheduler.live(self.memory, layouts);
        let mut read: FxHashSet<usize> =
            live.iter().filter_map(|g| self.by_address.get(g).copied()).collect();
        if all {
            self.look_at_all();
            if self.roster.len() <= FEW {
                read.extend(0..self.roster.len());
            } else {
                read.extend(self.changed());
                read.extend(&self.hot);
            }
        } else {
            read.extend(&self.hot);
            let which: Vec<usize> = read.iter().copied().collect();
            self.roster.look_again(self.memory, &which, &mut self.look);
        }
        let cut = self.max_pause.is_some_and(|limit| begin.elapsed() >= limit);
        if !cut {
            self.copy_stacks(&read, &stopped.threads);
        } else {
            read.clear();
        }
        if self.verify {
            self.truth = Some(Truth::read(&self.roster, self.memory, |look| {
                let all: Vec<usize> = (0..self.roster.len()).collect();
                self.wanted_parked(look, &all)
            }));
        }
        Round { threads: stopped.threads.clone(), at, now, read, void: false, whole: all, cut }
    }

    /// Takes over gs that were added to `allgs` since the roster was made.
    fn take_new(&mut self) {
        let Ok(order) = super::read_order_from(self.memory, &self.image.globals, self.by_address.len())
        else {
            return;
        };
        for at in order {
            if !self.by_address.contains_key(&at) {
                self.by_address.insert(at, self.roster.len());
                self.hot.insert(self.roster.len());
                self.roster.append(at);
            }
        }
        self.look.grow(&self.roster);
        self.spare.grow(&self.roster);
        self.copies.grow(self.roster.len());
    }

    /// Copies the stacks of the goroutines `read` and of the threads that are on none.
    fn copy_stacks(&mut self, read: &FxHashSet<usize>, threads: &[Thread]) {
        let by_tid: FxHashMap<_, _> = threads.iter().map(|t| (t.tid, t)).collect();
        let l = &self.image.layouts.m;
        let ms = self.scheduler.ms.iter().filter_map(|m| decode::m(m.view()?, l).ok());
        let on: FxHashMap<Addr, (M, Option<&Thread>)> = ms
            .filter(|m| !m.curg.is_null())
            .map(|m| {
                let thread = m.procid.and_then(|tid| by_tid.get(&tid).copied());
                (m.curg, (m, thread))
            })
            .collect();
        let mut wanted = Vec::with_capacity(read.len());
        let mut next = self.roster.len();
        for index in read {
            let Some(g) = self.g(&self.look, *index) else { continue };
            let sp = on.get(&g.at).and_then(|(_, thread)| thread.and_then(|t| t.registers)).map(|r| r.sp);
            let (used, system) = used(&g, sp, on.contains_key(&g.at));
            wanted.extend(used.map(|span| Wanted { index: *index, span }));
            if let Some(span) = system {
                wanted.push(Wanted { index: next, span });
                next += 1;
            }
        }
        self.copies.grow(next);
        let plan = Prepared::new(&wanted, std::mem::take(&mut self.buffer));
        let done = plan.read(self.memory);
        self.bytes_read += done.len();
        self.copies.keep(done, self.memory);
    }

    /// Looks again after the stop: what changed since the base look and was not read in the stop.
    fn check(&mut self, round: &Round) -> Vec<usize> {
        if round.whole || round.read.len() == self.roster.len() {
            return Vec::new();
        }
        self.look_at_all();
        let residue: Vec<usize> = self.changed().into_iter().filter(|i| !round.read.contains(i)).collect();
        // What was read in the stop is kept as it was then; the rest is equal in both looks.
        self.roster.carry(&round.read, &self.spare, &mut self.look);
        residue
    }

    fn finish(mut self: Box<Self>, round: Round, residue: Vec<usize>) -> Capture<'a> {
        let mut consistency = vec![Consistency::Exact; self.roster.len()];
        let unproved = residue.len() as u64 + if round.cut { self.hot.len() as u64 } else { 0 };
        let open: Vec<usize> =
            if round.cut { residue.iter().chain(&self.hot).copied().collect() } else { residue };
        if !open.is_empty() {
            self.read_of_other_instant(&open, &mut consistency);
        }
        let instant = if unproved == 0 { Instant::Stopped } else { Instant::Partial };
        let read_in_stop = round.read.len() as u64;
        self.capture(round.threads, round.at, round.now, consistency, instant, read_in_stop, unproved)
    }

    /// Reads goroutines without a stop: each is accepted if it is parked and equal in two looks with
    /// the copy of its stack in between.
    fn read_of_other_instant(&mut self, which: &[usize], consistency: &mut [Consistency]) {
        let mut open: Vec<usize> = which.to_vec();
        for _ in 0..ROUNDS {
            if open.is_empty() {
                break;
            }
            self.roster.look_again(self.memory, &open, &mut self.look);
            let wanted = self.wanted_parked(&self.look, &open);
            let read = Prepared::new(&wanted, Vec::new()).read_parallel(self.memory);
            self.bytes_read += read.len();
            self.copies.keep(read, self.memory);
            self.roster.look_again(self.memory, &open, &mut self.spare);
            let l = &self.image.layouts.g;
            open.retain(|i| {
                let key = |look| self.roster.view(look, *i).and_then(|view| Key::of(view, l));
                let (a, b) = (key(&self.look), key(&self.spare));
                let equal = a.is_some() && a == b;
                if let Some(c) = consistency.get_mut(*i) {
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
        self.look_at_all();
        let all: Vec<usize> = (0..self.roster.len()).collect();
        let mut consistency = vec![Consistency::Exact; self.roster.len()];
        self.read_of_other_instant(&all, &mut consistency);
        let unproved = self.roster.len() as u64;
        self.capture(Vec::new(), at, now, consistency, Instant::Unstopped, 0, unproved)
    }

    #[allow(clippy::too_many_arguments)]
    fn capture(
        self: Box<Self>,
        threads: Vec<Thread>,
        at: SystemTime,
        now: Option<Nanotime>,
        consistency: Vec<Consistency>,
        instant: Instant,
        read_in_stop: u64,
        unproved: u64,
    ) -> Capture<'a> {
        let l = &self.image.layouts.g;
        let judge = |truth: &Truth| truth.judge(&self.roster, &self.look, &self.copies, &consistency, l);
        let verdict: Option<Verdict> = self.truth.as_ref().map(judge);
        Capture {
            verdict,
            proved: (self.roster.len() as u64).saturating_sub(read_in_stop).saturating_sub(unproved),
            roster: self.roster,
            look: self.look,
            consistency,
            scheduler: self.scheduler,
            threads,
            memory: Captured::new(self.copies, self.memory),
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

/// The part of a goroutine's stack that is in use, and that of the system stack its thread is on.
fn used(g: &G, thread_sp: Option<Addr>, on_thread: bool) -> (Option<Span>, Option<Span>) {
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
            (whole, Some(Span { start: sp.back(RED_ZONE), len: SYSTEM_STACK }))
        }
        None if on_thread && stack.len <= WHOLE => (Some(stack), None),
        None => (inside(parked), None),
    }
}
