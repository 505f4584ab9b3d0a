//! Analysis: everything that is known of each goroutine, joined: its g, its thread, its stack, the names
//! behind its addresses. Names are looked up once per distinct address, not per goroutine, so a survey
//! of a million goroutines holds a few hundred names and each [`Row`] is made when it is asked for.

use super::frames;
use crate::addr::{Addr, Tid};
use crate::runtime::{G, M, Raised, Status};
use crate::unwind::stacks::{Stack, Stacks};
use crate::unwind::{Frame, FrameKind, Missing};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

/// A place in the source.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    /// The function's name.
    pub function: Arc<str>,
    /// Source file; absent when unknown.
    pub file: Option<Arc<str>>,
    /// Source line; 0 when unknown.
    pub line: u32,
}

/// A goroutine's labels, as `runtime/pprof` set them, sorted by key.
pub type Labels = Vec<(String, String)>;

/// Finds the names behind the addresses in a g.
pub trait Lookup {
    /// The target's own text for a wait reason; `None` for the empty one.
    fn wait_reason(&self, number: u8) -> Option<String>;
    /// Where the go statement is that made it.
    fn created_by(&self, g: &G) -> Option<Site>;
    /// The function that the go statement names.
    fn start(&self, g: &G, stack: &Stack) -> Option<Arc<str>>;
    /// Whether a frame is of a function that the compiler wrote around another.
    fn is_wrapper(&self, frame: &Frame) -> bool;
    /// Its labels.
    fn labels(&self, g: &G) -> Labels;
    /// The path of the main module.
    fn main_module(&self) -> Option<&str>;
}

/// Which frames of a stack are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    /// The user's: without the runtime's own and the compiler's wrappers. A stack that has no others
    /// is shown whole.
    Users,
    /// All.
    All,
}

/// What is known of one distinct stack.
#[derive(Debug)]
struct StackFacts {
    /// Indices of the frames that are shown.
    shown: Vec<u32>,
    /// Index of the deciding frame.
    top: Option<u32>,
    /// The same number for stacks that look the same: equal shown frames but for addresses.
    looks: u32,
}

/// All goroutines of a target and the names they need.
pub struct Survey<'a> {
    gs: &'a [G],
    stacks: &'a Stacks,
    facts: Vec<StackFacts>,
    threads: FxHashMap<Addr, Option<Tid>>,
    reasons: Vec<Option<String>>,
    sites: FxHashMap<Addr, Option<Site>>,
    starts: FxHashMap<(Addr, u32), Option<Arc<str>>>,
    labels: FxHashMap<Addr, Labels>,
    crashed: Option<usize>,
}

/// A signal that ended the process by way of a panic.
#[derive(Clone, Copy)]
pub struct Fault<'a> {
    /// The signal.
    pub raised: &'a Raised,
    /// Where it was raised.
    pub at: &'a Frame,
}

/// One goroutine with all that is known of it.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The decoded g.
    pub g: &'a G,
    /// Why it waits, if it does.
    pub wait_reason: Option<&'a str>,
    /// The thread that it is on, in the target's own PID namespace.
    pub thread: Option<Tid>,
    /// The thread that it is wired to, in the target's own PID namespace.
    pub locked_to: Option<Tid>,
    /// Its labels.
    pub labels: &'a [(String, String)],
    /// The go statement that made it.
    pub created_by: Option<&'a Site>,
    /// The function that the go statement names.
    pub start: Option<&'a str>,
    /// Its stack, whole.
    pub stack: &'a Stack,
    /// Whether it was running on the thread that died.
    pub crashed: bool,
    stack_number: u32,
    facts: &'a StackFacts,
}

impl<'a> Row<'a> {
    /// The frames to show, innermost first.
    pub fn frames(self) -> impl Iterator<Item = &'a Frame> + Clone {
        frames_at(&self.stack.frames, &self.facts.shown)
    }

    /// Where frames of C code are missing: after how many of the frames to show, and why.
    pub fn gaps(self) -> impl Iterator<Item = (usize, &'a Missing)> + Clone {
        let Row { stack, facts, .. } = self;
        let before = |after: usize| facts.shown.iter().filter(|i| (**i as usize) < after).count();
        stack.gaps.iter().map(move |gap| (before(gap.after), &gap.why))
    }

    /// The frame that says where in the program it is.
    pub fn top(self) -> Option<&'a Frame> {
        self.facts.top.and_then(|i| self.stack.frames.get(i as usize))
    }

    /// The index of its stack in [`Survey::distinct_stacks`].
    pub fn stack_number(self) -> usize {
        self.stack_number as usize
    }

    /// A number that is the same for goroutines whose shown stacks look the same.
    pub fn looks(self) -> u32 {
        self.facts.looks
    }
}

impl<'a> Survey<'a> {
    /// Joins the goroutines `gs`, the threads `ms` and the stacks of these goroutines. `died` is the
    /// thread that ended the process, if one did.
    pub fn new(
        gs: &'a [G],
        ms: &[M],
        stacks: &'a Stacks,
        died: Option<Tid>,
        show: Show,
        lookup: &dyn Lookup,
    ) -> Survey<'a> {
        let mut survey = Survey {
            gs,
            stacks,
            facts: stack_facts(&stacks.distinct, show, lookup),
            threads: ms.iter().map(|m| (m.at, m.procid)).collect(),
            reasons: (0..=u8::MAX).map(|n| lookup.wait_reason(n)).collect(),
            sites: FxHashMap::default(),
            starts: FxHashMap::default(),
            labels: FxHashMap::default(),
            crashed: crashed(gs, ms, died),
        };
        for (g, index) in gs.iter().zip(&stacks.of) {
            let Some(stack) = stacks.distinct.get(*index as usize) else { continue };
            survey.sites.entry(g.gopc).or_insert_with(|| lookup.created_by(g));
            survey.starts.entry((g.startpc, *index)).or_insert_with(|| lookup.start(g, stack));
            if !g.labels.is_null() {
                survey.labels.entry(g.labels).or_insert_with(|| lookup.labels(g));
            }
        }
        survey
    }

    /// How many goroutines there are.
    pub fn len(&self) -> usize {
        self.gs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.gs.is_empty()
    }

    /// All goroutines, as decoded.
    pub fn goroutines(&self) -> &'a [G] {
        self.gs
    }

    /// The distinct stacks.
    pub fn distinct_stacks(&self) -> &'a [Stack] {
        &self.stacks.distinct
    }

    /// The signal that became the panic of which the process died: the last one of the goroutine that
    /// crashed, if its stack has the call of `sigpanic` (runtime/signal_unix.go) where that was raised.
    pub fn fault(&self) -> Option<Fault<'_>> {
        let row = self.row(self.crashed?)?;
        let raised = row.g.raised.as_deref()?;
        let panicking = row.stack.frames.iter().skip_while(|f| &*f.function != "runtime.sigpanic");
        let at = panicking.skip(1).find(|frame| frame.kind == FrameKind::Go)?;
        (at.pc == raised.pc).then_some(Fault { raised, at })
    }

    /// Index of the goroutine that ran on the thread that died.
    pub fn crashed(&self) -> Option<usize> {
        self.crashed
    }

    /// What is known of the goroutine at `index`; `None` past the end.
    pub fn row(&self, index: usize) -> Option<Row<'_>> {
        let g = self.gs.get(index)?;
        let stack_number = *self.stacks.of.get(index)?;
        let thread = |m: Addr| self.threads.get(&m).copied().flatten();
        Some(Row {
            g,
            wait_reason: self.wait_reason(g),
            thread: thread(g.m),
            locked_to: thread(g.lockedm),
            labels: self.labels.get(&g.labels).map_or(&[], Vec::as_slice),
            created_by: self.sites.get(&g.gopc).and_then(Option::as_ref),
            start: self.starts.get(&(g.startpc, stack_number)).and_then(Option::as_deref),
            stack: self.stacks.distinct.get(stack_number as usize)?,
            crashed: self.crashed == Some(index),
            facts: self.facts.get(stack_number as usize)?,
            stack_number,
        })
    }

    /// Rows at the given indices.
    pub fn rows<'s>(&'s self, indices: &'s [u32]) -> impl Iterator<Item = Row<'s>> + Clone {
        indices.iter().filter_map(|i| self.row(*i as usize))
    }

    /// Why a goroutine waits; only waiting and leaked ones do.
    pub fn wait_reason(&self, g: &G) -> Option<&str> {
        let waits = matches!(g.status, Status::Waiting | Status::Leaked);
        self.reasons.get(usize::from(g.waitreason)).filter(|_| waits)?.as_deref()
    }
}

/// The goroutine that ran on the thread that died: the kernel names the thread that the signal killed.
/// When the runtime itself gave up (`throw`), the thread that did is marked, and another may have sent
/// the last signal.
fn crashed(gs: &[G], ms: &[M], died: Option<Tid>) -> Option<usize> {
    let died = died?;
    let mut throwing = ms.iter().filter(|m| m.throwing != 0);
    let thrower = throwing.next().filter(|_| throwing.next().is_none());
    let m = thrower.or_else(|| ms.iter().find(|m| m.procid == Some(died)))?;
    gs.iter().position(|g| g.at == m.curg)
}

fn stack_facts(stacks: &[Stack], show: Show, lookup: &dyn Lookup) -> Vec<StackFacts> {
    let mut facts: Vec<StackFacts> = Vec::with_capacity(stacks.len());
    // Stacks with the same fingerprint; those that do look alike share the number of the first.
    let mut alike: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
    for (number, stack) in (0..).zip(stacks) {
        let shown = shown(stack, show, lookup);
        let candidates = alike.entry(fingerprint(stack, &shown)).or_default();
        let same = candidates.iter().copied().find(|other| {
            let (stacks, facts) = (stacks.get(*other as usize), facts.get(*other as usize));
            let other = stacks.zip(facts).map(|(stack, facts)| (stack, &*facts.shown));
            other.is_some_and(|other| look_alike(other, (stack, &shown)))
        });
        if same.is_none() {
            candidates.push(number);
        }
        facts.push(StackFacts {
            looks: same.unwrap_or(number),
            top: frames::deciding(&stack.frames, lookup.main_module()).and_then(|i| i.try_into().ok()),
            shown,
        });
    }
    facts
}

fn shown(stack: &Stack, show: Show, lookup: &dyn Lookup) -> Vec<u32> {
    let of_user = |frame: &Frame| !frames::is_runtimes_own(frame) && !lookup.is_wrapper(frame);
    let pick = |wanted: &dyn Fn(&Frame) -> bool| -> Vec<u32> {
        (0..).zip(&stack.frames).filter(|(_, frame)| wanted(frame)).map(|(i, _)| i).collect()
    };
    let users = match show {
        Show::Users => pick(&of_user),
        Show::All => Vec::new(),
    };
    if users.is_empty() { pick(&|_| true) } else { users }
}

/// Whether two stacks print the same: equal shown frames but for addresses, and the same kind of end.
fn look_alike((a, shown_a): (&Stack, &[u32]), (b, shown_b): (&Stack, &[u32])) -> bool {
    let gaps = |stack: &Stack| stack.gaps.iter().map(|gap| discriminant(&gap.why)).collect::<Vec<_>>();
    let ends = discriminant(&a.end) == discriminant(&b.end) && gaps(a) == gaps(b);
    ends && frames_at(&a.frames, shown_a).map(look).eq(frames_at(&b.frames, shown_b).map(look))
}

/// What of a frame is printed where addresses are not.
fn look(frame: &Frame) -> (&str, Option<&str>, u32, bool, FrameKind) {
    (&frame.function, frame.file.as_deref(), frame.line, frame.inlined, frame.kind)
}

fn fingerprint(stack: &Stack, shown: &[u32]) -> u64 {
    let mut hasher = FxHasher::default();
    frames_at(&stack.frames, shown).for_each(|frame| look(frame).hash(&mut hasher));
    discriminant(&stack.end).hash(&mut hasher);
    hasher.finish()
}

fn frames_at<'a>(frames: &'a [Frame], indices: &'a [u32]) -> impl Iterator<Item = &'a Frame> + Clone {
    indices.iter().filter_map(|i| frames.get(*i as usize))
}
