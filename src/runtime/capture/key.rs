//! Runtime, capture: what of a g says whether its goroutine ran (docs/ARCHITECTURE.md, "The proof").

use super::rules::{Rule, Rules};
use crate::addr::{Addr, Span};
use crate::image::Image;
use crate::image::layout::field::StructView;
use crate::image::layout::schema;
use crate::runtime::{Status, decode};

/// The scan bit of `g.atomicstatus`, `_Gscan` (runtime/runtime2.go).
pub const SCAN_BIT: u32 = 0x1000;

/// How often a goroutine leaves the processor that does its work now and then while stacks are copied.
const FEW_TIMES: u8 = 4;

/// What stays equal exactly as long as a goroutine does not run, but for those that [`Settled`] tells
/// apart. The garbage collector writes other members of parked gs, so whole bytes prove nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    goid: u64,
    stack: (Addr, Addr),
    sched: (Addr, Addr),
    syscallsp: Addr,
    status: u32,
    waitreason: u8,
    tracking_seq: u8,
    sleep_when: i64,
}

impl Key {
    /// The key of one g.
    pub fn of(view: StructView<'_>, layout: &schema::G) -> Option<Key> {
        Some(Key {
            goid: view.get(layout.goid).ok()?,
            stack: (view.get(layout.stack_lo).ok()?, view.get(layout.stack_hi).ok()?),
            sched: (view.get(layout.sched_sp).ok()?, view.get(layout.sched_pc).ok()?),
            syscallsp: view.get(layout.syscallsp).ok()?,
            status: view.get(layout.atomicstatus).ok()? & !SCAN_BIT,
            waitreason: view.get(layout.waitreason).ok()?,
            tracking_seq: view.get(layout.tracking_seq).ok()?,
            sleep_when: view.get_opt(layout.sleep_when).ok()?.map_or(0, |t| t.0),
        })
    }

    /// Whether its goroutine left the processor more than a few times since it had the key `before`: such a one
    /// may do so a multiple of 256 times between two looks, and be at the same place.
    pub fn often_since(&self, before: &Key) -> bool {
        self.tracking_seq.wrapping_sub(before.tracking_seq) > FEW_TIMES
    }

    /// Whether its goroutine has left the processor more than a few times, as far as the count tells.
    pub fn is_often_off(&self) -> bool {
        self.tracking_seq > FEW_TIMES
    }

    /// The raw status without the scan bit.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// The stack, whole.
    pub fn stack(&self) -> Span {
        let (lo, hi) = self.stack;
        Span::between(lo, hi)
    }

    /// The part of its stack that a goroutine uses which runs on no thread.
    pub fn used(&self) -> Option<Span> {
        let ((lo, hi), (sp, _)) = (self.stack, self.sched);
        let start = decode::used_from(self.syscallsp, sp);
        (start >= lo && start < hi).then(|| Span::between(start, hi))
    }
}

/// Tells which keys prove something.
pub struct Settled<'i> {
    image: &'i Image,
    rules: Rules,
    /// The numbers of the wait reason of coroutines, since 1.22.
    coroutine: Vec<u8>,
}

impl<'i> Settled<'i> {
    /// For the goroutines of a program.
    pub fn new(image: &'i Image, rules: Rules) -> Settled<'i> {
        let numbers = image.wait_reasons.iter().enumerate().filter(|(_, text)| *text == "coroutine");
        Settled { image, rules, coroutine: numbers.filter_map(|(n, _)| u8::try_from(n).ok()).collect() }
    }

    /// Whether a goroutine with this key can't run without changing it.
    pub fn holds(&self, key: &Key) -> bool {
        use Status::{Copystack, Preempted, Runnable, Running, Syscall};
        match decode::status(key.status, &self.image.rules) {
            Running | Runnable | Syscall | Preempted | Copystack => !self.rules.hold(Rule::Uncounted),
            Status::Waiting => !self.is_coroutine(key),
            _ => true,
        }
    }

    /// Whether it waits as a coroutine.
    pub fn is_coroutine(&self, key: &Key) -> bool {
        let waits = decode::status(key.status, &self.image.rules) == Status::Waiting;
        waits && self.rules.hold(Rule::Coroutines) && self.coroutine.contains(&key.waitreason)
    }
}
