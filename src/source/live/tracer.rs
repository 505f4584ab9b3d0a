//! Source, live: stopping a process by ptrace. The threads are seized, not attached: should we die, the
//! kernel lets them go on.
//!
//! A seized thread stops for every signal that it receives, until its tracer passes the signal on. So
//! threads are seized at the beginning of a stop and let go altogether at its end: nobody waits
//! for us in between.

use super::LiveProcess;
use super::guard::{self, Hold};
use super::refusal;
use super::sys::{self, Change};
use super::threads::{self, TaskDir};
use crate::addr::Tid;
use crate::error::{Error, Result};
use crate::source::{Registers, Stopped, Thread, Tracer, regs};
use nix::errno::Errno;
use std::marker::PhantomData;
use std::thread;
use std::time::{Duration, Instant};

/// How a thread stands to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not traced by us.
    Free,
    /// Traced, not asked to stop.
    Seized,
    /// Asked to stop.
    Stopping,
    /// Stopped; a signal that it must be given when it goes on, or 0.
    Stopped(i32),
    /// Over.
    Ended,
}

#[derive(Debug)]
struct Traced {
    /// Its number for us.
    host: i32,
    /// Its number for itself.
    own: Tid,
    name: Option<String>,
    state: State,
    registers: Option<Registers>,
}

/// How long letting go waits for threads that were asked to stop and did not yet.
const GRACE: Duration = Duration::from_millis(100);

/// Waiting: this long by offering the processor to others, then by sleeping.
const EAGER: Duration = Duration::from_millis(2);

/// How long each sleep of the waiting is.
const NAP: Duration = Duration::from_micros(100);

/// The tracer of a live process. The kernel accepts its calls from the one thread that made it.
pub struct LiveTracer<'p> {
    process: &'p LiveProcess,
    tasks: TaskDir,
    listed: Vec<i32>,
    /// Ascending by `host`.
    threads: Vec<Traced>,
    hold: Option<Hold>,
    /// When the first thread was asked to stop, while the target is stopped.
    began: Option<Instant>,
    /// Whether threads have the same numbers for the target as for us.
    same_numbers: bool,
    not_send: PhantomData<*const ()>,
}

impl<'p> LiveTracer<'p> {
    /// Lists the threads; traces none yet.
    pub(super) fn new(process: &'p LiveProcess, same_numbers: bool) -> Result<LiveTracer<'p>> {
        let tasks = TaskDir::open(process.dir()).map_err(|e| process.failed("listing the threads", e))?;
        let mut tracer = LiveTracer {
            process,
            tasks,
            listed: Vec::new(),
            threads: Vec::new(),
            hold: None,
            began: None,
            same_numbers,
            not_send: PhantomData,
        };
        tracer.refresh()?;
        Ok(tracer)
    }

    /// Stops all threads but those in `leave` (numbers in our PID namespace), which come without
    /// registers: whoever leaves a thread alone proves afterwards that it did not run
    /// ([`Activity`](super::Activity)). On failure the target goes on.
    fn stop_leaving(&mut self, limit: Duration, leave: &[Tid]) -> Result<Stopped> {
        let stopped = self.try_stop(limit, leave);
        if stopped.is_err() {
            self.let_go();
        }
        stopped
    }

    fn try_stop(&mut self, limit: Duration, leave: &[Tid]) -> Result<Stopped> {
        if let Some(signal) = guard::pending() {
            return Err(guard::interrupted(signal));
        }
        let mut leave: Vec<i32> = leave.iter().map(|tid| tid.0).collect();
        leave.sort_unstable();
        self.hold.get_or_insert_with(Hold::new);
        self.refresh()?;
        let mut gone = Vec::new();
        self.seize(&leave, &mut gone)?;
        let began = Instant::now();
        let deadline = began.checked_add(limit);
        self.began.get_or_insert(began);
        loop {
            self.interrupt();
            self.wait(deadline)?;
            // All threads that we know stand still: if these are as many as there are, no other one
            // exists that could start more. Else they are listed again, and so on until stable.
            if self.knows_all(&leave) || passed(deadline) {
                break;
            }
            self.refresh()?;
            // One that ended before it could be seized may have started another.
            if self.seize(&leave, &mut gone)? == 0 {
                break;
            }
        }
        self.process.check()?;
        Ok(self.report(&leave))
    }

    /// Lists the threads again.
    fn refresh(&mut self) -> Result<()> {
        let process = self.process;
        self.tasks.list(&mut self.listed).map_err(|e| process.failed("listing the threads", e))?;
        let listed = &self.listed;
        self.threads.retain_mut(|t| {
            // The number of a thread that ended may be another process's: that one is let go.
            let ours = listed.binary_search(&t.host).is_ok();
            if !ours {
                release(t);
            }
            ours && t.state != State::Ended || t.state == State::Stopping
        });
        let known = self.threads.len();
        for &host in listed {
            let sorted = self.threads.get(..known).unwrap_or_default();
            if sorted.binary_search_by_key(&host, |t| t.host).is_err() {
                self.threads.push(describe(process, host, self.same_numbers));
            }
        }
        self.threads.sort_unstable_by_key(|t| t.host);
        Ok(())
    }

    /// Becomes the tracer of the threads that have none. Says how many these were, with those that ended first,
    /// which go into `gone`; one that is there already does not count again, as long as it may be listed.
    fn seize(&mut self, leave: &[i32], gone: &mut Vec<i32>) -> Result<usize> {
        let mut free = 0usize;
        for t in &mut self.threads {
            if t.state != State::Free || leave.binary_search(&t.host).is_ok() {
                continue;
            }
            t.state = match sys::seize(t.host) {
                Ok(()) => State::Seized,
                Err(Errno::ESRCH) => State::Ended,
                Err(_) if ended(self.process, t.host) => State::Ended,
                Err(e) => return Err(cannot_seize(self.process, t.host, e)),
            };
            if t.state == State::Ended {
                if gone.contains(&t.host) {
                    continue;
                }
                gone.push(t.host);
            }
            free = free.saturating_add(1);
        }
        Ok(free)
    }

    fn interrupt(&mut self) {
        for t in &mut self.threads {
            if t.state == State::Seized {
                t.state = State::Stopping;
                // On failure it is ending, which the wait will tell.
                let _ = sys::interrupt(t.host);
            }
        }
    }

    /// Waits until all threads that were asked to stop have done so, but not beyond the deadline.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<()> {
        let start = Instant::now();
        loop {
            let before = self.pending();
            self.collect();
            match self.pending() {
                0 => return Ok(()),
                now if now < before => continue,
                _ => {}
            }
            if let Some(signal) = guard::pending() {
                return Err(guard::interrupted(signal));
            }
            if passed(deadline) {
                return Ok(());
            }
            rest(start);
        }
    }

    /// How many threads were asked to stop and have not yet.
    fn pending(&self) -> usize {
        self.threads.iter().filter(|t| t.state == State::Stopping).count()
    }

    /// Takes note of the threads that stopped or ended meanwhile.
    fn collect(&mut self) {
        let arch = self.process.arch;
        for t in &mut self.threads {
            if t.state != State::Stopping {
                continue;
            }
            match sys::poll(t.host) {
                Ok(None) => {}
                Ok(Some(Change::Stopped { signal })) => {
                    t.state = State::Stopped(signal);
                    t.registers = registers(t.host, arch);
                }
                Ok(Some(Change::Ended)) | Err(_) => t.state = State::Ended,
            }
        }
    }

    /// Whether the threads that stopped or were left alone are all that there are.
    fn knows_all(&self, leave: &[i32]) -> bool {
        let known = self.threads.iter().filter(|t| match t.state {
            State::Stopped(_) => true,
            State::Free => leave.binary_search(&t.host).is_ok(),
            _ => false,
        });
        self.tasks.count() == Ok(known.count())
    }

    fn report(&self, leave: &[i32]) -> Stopped {
        let threads = Vec::with_capacity(self.threads.len());
        let mut stopped = Stopped { threads, left: Vec::new(), running: Vec::new() };
        for t in &self.threads {
            let left = leave.binary_search(&t.host).is_ok();
            if !left && !matches!(t.state, State::Stopped(_)) {
                match t.state {
                    State::Ended => continue,
                    _ => match why_running(self.process, t.host) {
                        Some(why) => stopped.running.push((t.own, why)),
                        None => continue,
                    },
                }
            }
            stopped.left.extend(left.then_some(t.own));
            stopped.threads.push(Thread {
                tid: t.own,
                name: t.name.clone(),
                registers: t.registers,
                asleep_at: None,
                state: None,
            });
        }
        stopped.left.sort_unstable();
        stopped
    }

    /// Lets all threads go that stand still, and those that were asked to and do so by now.
    fn let_go(&mut self) {
        self.interrupt();
        for t in &mut self.threads {
            release(t);
        }
        self.collect();
        for t in &mut self.threads {
            release(t);
        }
        self.began = None;
        self.hold = None;
    }
}

impl Tracer for LiveTracer<'_> {
    fn stop(&mut self, limit: Duration) -> Result<Stopped> {
        self.stop_leaving(limit, &[])
    }

    fn stop_except(&mut self, limit: Duration, leave: &[Tid]) -> Result<Stopped> {
        self.stop_leaving(limit, leave)
    }

    fn stopped_since(&self) -> Option<Instant> {
        self.began
    }

    fn resume(&mut self) -> Result<()> {
        // Before: what was read in a stop that the process did not survive is worthless.
        let survived = self.process.check();
        self.let_go();
        survived
    }
}

impl Drop for LiveTracer<'_> {
    /// Lets the target go. A thread that was asked to stop and still cannot (state D) is waited for
    /// briefly; if it stops only later, the end of our thread is what lets it go.
    fn drop(&mut self) {
        self.let_go();
        let start = Instant::now();
        while self.pending() > 0 && start.elapsed() < GRACE {
            rest(start);
            self.let_go();
        }
    }
}

fn passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Leaves the processor to those that we wait for.
fn rest(since: Instant) {
    if since.elapsed() < EAGER {
        thread::yield_now();
    } else {
        thread::sleep(NAP);
    }
}

/// A thread that was not known before.
fn describe(process: &LiveProcess, host: i32, same_numbers: bool) -> Traced {
    let own = if same_numbers { None } else { threads::own_tid(process.dir(), host) };
    Traced {
        host,
        own: own.unwrap_or(Tid(host)),
        name: threads::name(process.dir(), host),
        state: State::Free,
        registers: None,
    }
}

/// Lets a stopped thread go on with the signal that it was about to receive.
fn release(t: &mut Traced) {
    if let State::Stopped(signal) = t.state {
        t.registers = None;
        t.state = match sys::detach(t.host, signal) {
            Ok(()) => State::Free,
            // It was killed in its stop. The kernel keeps its remains for its tracer: they are collected
            // like those of a thread that ends instead of stopping.
            Err(_) => State::Stopping,
        };
    }
}

fn registers(tid: i32, arch: crate::arch::Arch) -> Option<Registers> {
    let mut words = [0; regs::MAX_WORDS];
    let n = sys::registers(tid, &mut words).ok()?;
    Registers::from_words(arch, words.get(..n)?)
}

/// Whether a thread that cannot be traced has ended: one whose remains nobody collected yet (a main
/// thread that ended before the others) is refused like a forbidden one.
fn ended(process: &LiveProcess, tid: i32) -> bool {
    process.dir().thread_stat(tid).map_or(true, |stat| stat.ended())
}

fn cannot_seize(process: &LiveProcess, tid: i32, errno: Errno) -> Error {
    match super::tracer_of(process.dir(), tid) {
        Some(tracer) => refusal::traced_by(process.pid, tracer),
        None => process.failed("tracing the threads", errno),
    }
}

/// Why a thread did not stop; `None` when it has ended.
fn why_running(process: &LiveProcess, tid: i32) -> Option<String> {
    let state = process.dir().thread_stat(tid).ok()?.state;
    let why = match state {
        b'Z' | b'X' | b'x' => return None,
        b'D' => "in an uninterruptible wait in the kernel (state D): a device, a file server, or a child \
                 made by vfork"
            .to_owned(),
        other => format!("did not stop in time (state {})", char::from(other).escape_default()),
    };
    Some(why)
}
