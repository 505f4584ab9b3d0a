//! Runtime: all goroutines, threads and processors of one capture, decoded.

use super::capture::looks::Look;
use super::capture::{Capture, CaptureOptions, Captured, Copied, Instant, Verdict, capture};
use super::{Consistency, G, M, P, Status, decode};
use crate::addr::{Addr, Nanotime, Tid};
use crate::diag::Diagnostics;
use crate::error;
use crate::image::Image;
use crate::memory::ReadResult;
use crate::source::{Crash, Source, Thread};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::{Duration, SystemTime};

/// What a target was at one instant. Plain data but for the memory, which answers what was not
/// decoded yet.
pub struct Snapshot<'a> {
    /// The goroutines in the order of `runtime.allgs`, without dead ones.
    pub gs: Vec<G>,
    /// How many dead ones there are.
    pub dead: u64,
    /// The runtime's threads, newest first.
    pub ms: Vec<M>,
    /// The processors.
    pub ps: Vec<P>,
    /// The kernel's threads.
    pub threads: Vec<Thread>,
    /// Memory of the instant.
    pub memory: Captured<'a>,
    /// What the whole is.
    pub instant: Instant,
    /// When.
    pub at: SystemTime,
    /// When, by the target's monotonic clock; unknown for a core.
    pub now: Option<Nanotime>,
    /// Each stop of the target.
    pub pauses: Vec<Duration>,
    /// Goroutines read while the target was stopped.
    pub read_in_stop: u64,
    /// Goroutines whose early copy was proved to be of the instant.
    pub proved: u64,
    /// Goroutines that are of another instant.
    pub unproved: u64,
    /// Bytes copied.
    pub bytes_read: u64,
    /// What the check of the proof found, if it was asked for.
    pub verdict: Option<Verdict>,
    /// What ended the process, if it ended.
    pub crash: Option<Crash>,
    /// What went missing.
    pub diagnostics: Diagnostics,
    by_m: FxHashMap<Addr, usize>,
    by_curg: FxHashMap<Addr, usize>,
    by_tid: FxHashMap<Tid, usize>,
}

impl<'a> Snapshot<'a> {
    /// Captures and decodes a target.
    pub fn take(
        source: &'a dyn Source,
        image: &Image,
        options: &CaptureOptions,
    ) -> error::Result<Snapshot<'a>> {
        let captured = capture(source, image, options)?;
        Ok(Snapshot::decode(captured, image, source.crash()))
    }

    fn decode(mut capture: Capture<'a>, image: &Image, crash: Option<Crash>) -> Snapshot<'a> {
        let mut diagnostics = std::mem::take(&mut capture.diagnostics);
        let (gs, dead) = decode_gs(&capture, image, &mut diagnostics);
        // The bytes of the gs are not needed any more.
        capture.look = Look::default();
        let l = &image.layouts;
        let ms = decode_all(&capture.scheduler.ms, |view| decode::m(view, &l.m), "thread", &mut diagnostics);
        let ps =
            decode_all(&capture.scheduler.ps, |view| decode::p(view, &l.p), "processor", &mut diagnostics);
        let index = |f: fn(&M) -> Addr| {
            let pairs = ms.iter().enumerate().map(|(i, m)| (f(m), i));
            pairs.filter(|(at, _)| !at.is_null()).collect::<FxHashMap<_, _>>()
        };
        Snapshot {
            by_m: index(|m| m.at),
            by_curg: index(|m| m.curg),
            by_tid: capture.threads.iter().enumerate().map(|(i, t)| (t.tid, i)).collect(),
            gs,
            dead,
            ms,
            ps,
            threads: capture.threads,
            memory: capture.memory,
            instant: capture.instant,
            at: capture.at,
            now: capture.now,
            pauses: capture.pauses,
            read_in_stop: capture.read_in_stop,
            proved: capture.proved,
            unproved: capture.unproved,
            bytes_read: capture.bytes_read,
            verdict: capture.verdict,
            crash,
            diagnostics,
        }
    }

    /// The thread that a goroutine is on: the m whose `curg` it is, else the one that `g.m` names.
    pub fn m_of(&self, g: &G) -> Option<&M> {
        let index = self.by_curg.get(&g.at).or_else(|| self.by_m.get(&g.m))?;
        self.ms.get(*index)
    }

    /// The m at an address.
    pub fn m_at(&self, at: Addr) -> Option<&M> {
        self.ms.get(*self.by_m.get(&at)?)
    }

    /// The kernel's thread of an m.
    pub fn thread_of(&self, m: &M) -> Option<&Thread> {
        self.threads.get(*self.by_tid.get(&m.procid?)?)
    }

    /// The goroutine that ran on the thread that died, if a core says so.
    pub fn crashed(&self) -> Option<&G> {
        let tid = self.crash?.tid;
        let m = self.ms.iter().find(|m| m.procid == Some(tid))?;
        self.gs.iter().find(|g| g.at == m.curg)
    }

    /// The sum of all stops.
    pub fn pause(&self) -> Duration {
        self.pauses.iter().sum()
    }
}

/// The g could not be read.
struct Unreadable;

/// How many are decoded at a time: what is not kept of them is small.
const AT_ONCE: usize = 16 << 10;

fn decode_gs(capture: &Capture<'_>, image: &Image, diagnostics: &mut Diagnostics) -> (Vec<G>, u64) {
    let count = capture.roster.len();
    let (mut gs, mut dead, mut unreadable) = (Vec::with_capacity(count), 0, 0u64);
    for from in (0..count).step_by(AT_ONCE) {
        let part = from..count.min(from.saturating_add(AT_ONCE));
        let decoded: Vec<Result<Option<G>, Unreadable>> =
            part.into_par_iter().with_min_len(512).map(|i| decode_one(capture, image, i)).collect();
        for one in decoded {
            match one {
                Ok(Some(g)) => gs.push(g),
                Ok(None) => dead += 1,
                Err(Unreadable) => unreadable += 1,
            }
        }
    }
    if unreadable > 0 {
        diagnostics
            .warn(format!("{unreadable} g structs could not be read"), "those goroutines are not shown");
    }
    warn_of_doubles(&gs, diagnostics);
    (gs, dead)
}

/// `None` for one that is dead.
fn decode_one(capture: &Capture<'_>, image: &Image, index: usize) -> Result<Option<G>, Unreadable> {
    let view = capture.roster.view(&capture.look, index).ok_or(Unreadable)?;
    let mut g = decode::g(view, &image.layouts.g, &image.rules).map_err(|_| Unreadable)?;
    if matches!(g.status, Status::Dead | Status::Idle | Status::DeadExtra) {
        return Ok(None);
    }
    g.consistency = capture.consistency.get(index).copied().unwrap_or(Consistency::Torn);
    decode::finish(&mut g, image, capture.now);
    Ok(Some(g))
}

/// Two goroutines with one number are a sign that something is read wrong: it is said.
fn warn_of_doubles(gs: &[G], diagnostics: &mut Diagnostics) {
    let mut seen = FxHashSet::default();
    let doubles = gs.iter().filter(|g| !seen.insert(g.id)).count();
    if doubles > 0 {
        diagnostics.warn(
            format!("{doubles} goroutines have the number of another one"),
            "memory is damaged or the target is not what it seems: do not rely on the list",
        );
    }
}

fn decode_all<T>(
    copied: &[Copied],
    decode: impl Fn(crate::image::layout::field::StructView<'_>) -> ReadResult<T>,
    what: &str,
    diagnostics: &mut Diagnostics,
) -> Vec<T> {
    let mut all = Vec::with_capacity(copied.len());
    for one in copied {
        match one.view().map(&decode) {
            Some(Ok(value)) => all.push(value),
            _ => diagnostics.warn(
                format!("the runtime's {what} at {} could not be read", one.at),
                format!("what runs on this {what} may be missing"),
            ),
        }
    }
    all
}
