//! Runtime, capture: the scheduler's own structures. Where they lie is settled before the stop; in it
//! they are read in one batch. What can be followed only then (new ms, run queues) is bounded.

use crate::addr::Addr;
use crate::image::Globals;
use crate::image::layout::Layouts;
use crate::image::layout::field::StructView;
use crate::memory::{Memory, Piece, read_slice};
use rustc_hash::FxHashSet;

/// Most ms that are followed: a chain that is longer is damage.
const MOST_MS: usize = 100_000;

/// Most ps, `_MaxGomaxprocs` of the oldest releases times four.
const MOST_PS: u64 = 4096;

/// Most gs that are followed along `sched.runq`.
const MOST_QUEUED: usize = 2_000_000;

/// Slots of `p.runq` (runtime/runtime2.go).
const RUNQ_SLOTS: u64 = 256;

/// One structure and its bytes.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Where it lies.
    pub at: Addr,
    /// Its bytes, as far as members are decoded.
    pub bytes: Vec<u8>,
    /// Whether they were read.
    pub ok: bool,
}

impl Copied {
    fn blank(at: Addr, size: u32) -> Copied {
        Copied { at, bytes: vec![1; size as usize], ok: false }
    }

    /// Its bytes as a structure; `None` when they could not be read.
    pub fn view(&self) -> Option<StructView<'_>> {
        self.ok.then(|| StructView::new(&self.bytes, self.at))
    }
}

/// The ms, the ps and the schedt of one instant.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    /// All ms of `allm`, newest first.
    pub ms: Vec<Copied>,
    /// All ps of `allp`.
    pub ps: Vec<Copied>,
    /// `runtime.sched`.
    pub sched: Option<Copied>,
}

impl Scheduler {
    /// Finds the ms and ps as they are now and makes room for them.
    pub fn find(memory: &dyn Memory, globals: &Globals, layouts: &Layouts) -> Scheduler {
        let sched = globals.sched.map(|found| Copied::blank(found.value, layouts.sched.size));
        let mut scheduler = Scheduler { sched, ..Scheduler::default() };
        scheduler.find_ps(memory, globals, layouts);
        scheduler.find_ms(memory, globals, layouts);
        scheduler
    }

    fn find_ps(&mut self, memory: &dyn Memory, globals: &Globals, layouts: &Layouts) {
        let Some(allp) = globals.allp.and_then(|found| read_slice(memory, found.value).ok()) else { return };
        let runq_end = layouts.p.runq.offset.saturating_add(8 * RUNQ_SLOTS as u32);
        let size = runq_end.max(layouts.p.runnext.offset.saturating_add(8));
        let pointers =
            (0..allp.len.min(MOST_PS)).map_while(|i| memory.read_addr(allp.array.offset(8 * i)).ok());
        self.ps = pointers.filter(|p| !p.is_null()).map(|p| Copied::blank(p, size)).collect();
    }

    /// Follows `allm` from its head to the first m that is known already.
    fn find_ms(&mut self, memory: &dyn Memory, globals: &Globals, layouts: &Layouts) {
        let Some(found) = globals.allm else { return };
        let known = self.ms.first().map(|m| m.at);
        let mut next = memory.read_addr(found.value).unwrap_or(Addr::NULL);
        let mut new = Vec::new();
        let mut seen = FxHashSet::default();
        while !next.is_null() && Some(next) != known && new.len() < MOST_MS && seen.insert(next) {
            new.push(Copied::blank(next, layouts.m.size));
            next = layouts.m.alllink.read(memory, next).unwrap_or(Addr::NULL);
        }
        if !new.is_empty() {
            new.append(&mut self.ms);
            self.ms = new;
        }
    }

    /// Reads everything in one batch, then what was added to `allm` meanwhile.
    pub fn read(&mut self, memory: &dyn Memory, globals: &Globals, layouts: &Layouts) {
        self.find_ms(memory, globals, layouts);
        let all = self.ms.iter_mut().chain(&mut self.ps).chain(&mut self.sched);
        let mut pieces: Vec<Piece<'_>> =
            all.map(|c| Piece { at: c.at, into: &mut c.bytes, ok: false }).collect();
        memory.read_pieces(&mut pieces);
        let ok: Vec<bool> = pieces.iter().map(|p| p.ok).collect();
        let all = self.ms.iter_mut().chain(&mut self.ps).chain(&mut self.sched);
        for (copied, ok) in all.zip(ok) {
            copied.ok = ok;
        }
    }

    /// `m.curg` of every m, whatever its status.
    pub fn worked_for(&self, layouts: &Layouts) -> Vec<Addr> {
        let mut all: Vec<Addr> = self.ms.iter().filter_map(|m| m.view()?.get(layouts.m.curg).ok()).collect();
        all.retain(|g| !g.is_null());
        all
    }

    /// The gs that are about to run: `p.runnext`, `p.runq` and `sched.runq`.
    pub fn queued(&self, memory: &dyn Memory, layouts: &Layouts) -> Vec<Addr> {
        let mut all = Vec::new();
        for p in self.ps.iter().filter_map(Copied::view) {
            queued(p, layouts, &mut all);
        }
        let first = self.sched.as_ref().and_then(|s| s.view()?.get(layouts.sched.runq_head).ok());
        let mut next = first.unwrap_or(Addr::NULL);
        for _ in 0..MOST_QUEUED {
            if next.is_null() {
                break;
            }
            all.push(next);
            next = layouts.g.schedlink.read(memory, next).unwrap_or(Addr::NULL);
        }
        all.retain(|g| !g.is_null());
        all
    }
}

/// `p.runnext` and the ring `p.runq[runqhead % 256 .. runqtail % 256]` (runtime/proc.go).
fn queued(p: StructView<'_>, layouts: &Layouts, live: &mut Vec<Addr>) {
    let l = &layouts.p;
    live.extend(p.get(l.runnext).ok());
    let (Ok(head), Ok(tail)) = (p.get(l.runqhead), p.get(l.runqtail)) else { return };
    let count = u64::from(tail.wrapping_sub(head)).min(RUNQ_SLOTS);
    for i in 0..count {
        let slot = (u64::from(head) + i) % RUNQ_SLOTS;
        let field = crate::image::layout::field::Field::at(l.runq.offset.saturating_add(8 * slot as u32));
        live.extend(p.get::<Addr>(field).ok());
    }
}
