//! Analysis, tests: goroutines made by hand, for the tests of analyses and reports.

use super::survey::{Labels, Lookup, Show, Site, Survey};
use crate::addr::{Addr, Tid};
use crate::runtime::{Consistency, G, GoBuf, GoId, M, Status};
use crate::unwind::stacks::{Stack, Stacks};
use crate::unwind::{Frame, FrameKind, StackEnd, Trust};
use std::sync::Arc;

/// Wait reasons by number.
pub const REASONS: [&str; 4] = ["", "chan receive", "select", "sync.Mutex.Lock"];

/// A target of hand-made goroutines. Addresses: a goroutine's g is at its number, the go statement of
/// each creator at its index in `creators` plus one, and so on for labels.
#[derive(Default)]
pub struct World {
    pub gs: Vec<G>,
    pub ms: Vec<M>,
    pub stacks: Stacks,
    pub creators: Vec<Site>,
    pub labels: Vec<Labels>,
    pub died: Option<Tid>,
}

impl World {
    /// Adds a goroutine with a stack of these functions, in file `/src/NAME.go`, lines 10, 20, ...
    pub fn add(&mut self, id: u64, status: Status, waitreason: u8, functions: &[&str]) -> &mut G {
        let frames = (1..).zip(functions).map(|(i, name)| frame(name, i * 10)).collect();
        let stack = Stack { frames, end: StackEnd::Complete, gaps: Vec::new() };
        let known = self.stacks.distinct.iter().position(|s| *s == stack);
        let index = known.unwrap_or_else(|| {
            self.stacks.distinct.push(stack);
            self.stacks.distinct.len() - 1
        });
        self.stacks.of.push(index as u32);
        self.gs.push(blank(id, status, waitreason));
        self.gs.last_mut().unwrap()
    }

    /// Adds a go statement; returns what `gopc` is to be.
    pub fn creator(&mut self, function: &str, line: u32) -> Addr {
        self.creators.push(Site { function: function.into(), file: Some("/src/main.go".into()), line });
        Addr::new(self.creators.len() as u64)
    }

    /// Adds a set of labels; returns what `labels` is to be.
    pub fn label(&mut self, key: &str, value: &str) -> Addr {
        self.labels.push(vec![(key.to_owned(), value.to_owned())]);
        Addr::new(self.labels.len() as u64)
    }

    /// Adds a thread on which the goroutine `id` runs; returns what `m` is to be.
    pub fn thread(&mut self, tid: i32, id: u64) -> Addr {
        let at = Addr::new(0xa000 + tid as u64);
        self.ms.push(M {
            at,
            id: tid.into(),
            procid: Some(Tid(tid)),
            g0: Addr::NULL,
            gsignal: Addr::NULL,
            curg: Addr::new(id),
            p: Addr::NULL,
            lockedg: Addr::NULL,
            mstartfn: Addr::NULL,
            incgo: false,
            blocked: false,
            spinning: false,
            isextra: false,
            throwing: 0,
            vdso_sp: Addr::NULL,
            vdso_pc: Addr::NULL,
        });
        at
    }

    /// All of it, joined.
    pub fn survey(&self, show: Show) -> Survey<'_> {
        Survey::new(&self.gs, &self.ms, &self.stacks, self.died, show, self)
    }
}

impl Lookup for World {
    fn wait_reason(&self, number: u8) -> Option<String> {
        REASONS.get(usize::from(number)).filter(|r| !r.is_empty()).map(|r| (*r).to_owned())
    }

    fn created_by(&self, g: &G) -> Option<Site> {
        self.creators.get((g.gopc.get() as usize).checked_sub(1)?).cloned()
    }

    fn start(&self, _: &G, stack: &Stack) -> Option<Arc<str>> {
        stack.frames.last().map(|frame| frame.function.clone())
    }

    fn is_wrapper(&self, frame: &Frame) -> bool {
        frame.function.contains("gowrap")
    }

    fn labels(&self, g: &G) -> Labels {
        self.labels.get(g.labels.get() as usize - 1).cloned().unwrap_or_default()
    }

    fn main_module(&self) -> Option<&str> {
        Some("example.com/app")
    }
}

pub fn frame(name: &str, line: u32) -> Frame {
    let file = name.split('.').next().unwrap_or_default();
    Frame {
        function: name.into(),
        file: Some(format!("/src/{file}.go").into()),
        line,
        pc: Addr::new(0x40_1000 + u64::from(line)),
        entry: Addr::new(0x40_1000),
        inlined: false,
        kind: FrameKind::Go,
        trust: Trust::Exact,
    }
}

fn blank(id: u64, status: Status, waitreason: u8) -> G {
    G {
        at: Addr::new(id),
        id: GoId(id),
        status,
        scan: false,
        waitreason,
        waitsince: None,
        waiting_at_least: None,
        stack_lo: Addr::NULL,
        stack_hi: Addr::NULL,
        sched: GoBuf::default(),
        syscallsp: Addr::NULL,
        syscallpc: Addr::NULL,
        syscallbp: Addr::NULL,
        m: Addr::NULL,
        lockedm: Addr::NULL,
        gopc: Addr::NULL,
        startpc: Addr::NULL,
        parent: None,
        ancestors: Addr::NULL,
        waiting: Addr::NULL,
        labels: Addr::NULL,
        deferred: Addr::NULL,
        panic: Addr::NULL,
        raised: None,
        bubble: Addr::NULL,
        timer: Addr::NULL,
        sleep_when: None,
        running_cleanups: false,
        system: false,
        consistency: Consistency::Exact,
    }
}
