//! Runtime: timers (`runtime/time.go`). Those that are pending lie in the heaps of the Ps; since 1.23 a
//! timer that sends on a channel is in none unless a goroutine waits for the channel, but the channel
//! leads to it.

use super::G;
use crate::addr::{Addr, Nanotime};
use crate::image::layout::schema;
use crate::memory::{Memory, ReadResult, read_slice};

/// One timer that is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Where it lies.
    pub at: Addr,
    /// When it fires, by the target's monotonic clock.
    pub when: Nanotime,
    /// Time between two firings, in nanoseconds; 0 when it fires once.
    pub period: i64,
    /// Entry of the function that it calls.
    pub function: Addr,
    /// Second word of the interface that it hands to the function: a channel, a func value, a g.
    pub argument: Addr,
}

/// `timerZombie`, since 1.23: stopped, and only not yet taken out of its heap.
const ZOMBIE: u8 = 1 << 2;

/// Until 1.22: `timerModifiedEarlier` and `timerModifiedLater`, for which `nextwhen` counts.
const MODIFIED: [u32; 2] = [7, 8];

/// Until 1.22: `timerWaiting` and `timerRunning`.
const SET: [u32; 2] = [1, 2];

/// Decodes the timer at `at`; `None` when it is not set.
pub fn timer(memory: &dyn Memory, layout: &schema::Timer, at: Addr) -> ReadResult<Option<Timer>> {
    let state = layout.state.map(|f| f.read(memory, at)).transpose()?.unwrap_or(0);
    let status = layout.status.map(|f| f.read(memory, at)).transpose()?;
    let moved = status.is_some_and(|s| MODIFIED.contains(&s));
    let set = state & ZOMBIE == 0 && status.is_none_or(|s| moved || SET.contains(&s));
    let when = match layout.nextwhen.filter(|_| moved) {
        Some(later) => later.read(memory, at)?,
        None => layout.when.read(memory, at)?,
    };
    if !set || when.0 <= 0 {
        return Ok(None);
    }
    let function = layout.f.read(memory, at)?;
    Ok(Some(Timer {
        at,
        when,
        period: layout.period.read(memory, at)?,
        function: if function.is_null() { Addr::NULL } else { memory.read_addr(function)? },
        argument: memory.read_addr(at.offset(u64::from(layout.arg_type.offset)).offset(8))?,
    }))
}

/// Most timers that are read of one heap.
const MOST: u64 = 1 << 24;

/// Pending timers, and whether all could be read.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// The timers, heap by heap.
    pub timers: Vec<Timer>,
    /// Whether all could be read.
    pub whole: bool,
}

/// The timers in the heaps of the Ps at `ps`.
pub fn pending(memory: &dyn Memory, ps: &[Addr], p: &schema::P, layout: &schema::Timer) -> Pending {
    let mut found = Pending { timers: Vec::new(), whole: true };
    for at in ps {
        let heap = read_slice(memory, at.offset(p.timers.offset.into()));
        found.whole &= heap.is_ok_and(|heap| {
            let step = if layout.ts.is_some() { 16 } else { 8 };
            let plausible = heap.len <= heap.cap && heap.len <= MOST;
            plausible && one_heap(memory, heap.array, heap.len, step, layout, &mut found.timers)
        });
    }
    found
}

fn one_heap(
    memory: &dyn Memory,
    array: Addr,
    len: u64,
    step: u64,
    layout: &schema::Timer,
    timers: &mut Vec<Timer>,
) -> bool {
    let mut whole = true;
    for i in 0..len {
        let entry = memory.read_addr(array.offset(i.wrapping_mul(step)));
        match entry.and_then(|at| timer(memory, layout, at)) {
            Ok(found) => timers.extend(found),
            Err(_) => {
                whole = false;
                // Nothing of a heap that is not mapped is worth millions of failing reads.
                if entry.is_err() {
                    return false;
                }
            }
        }
    }
    whole
}

/// When a sleeping goroutine is to be woken. Since 1.23 the g says it; before, `time.Sleep` leaves it in
/// `nextwhen` of the goroutine's own timer.
pub fn sleeps_until(memory: &dyn Memory, layout: &schema::Timer, g: &G) -> Option<Nanotime> {
    let said = g.sleep_when.or_else(|| {
        let next = layout.nextwhen?;
        next.read(memory, g.timer).ok().filter(|_| !g.timer.is_null())
    });
    said.filter(|when| when.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::field::Field;
    use crate::memory::sparse::SparseMemory;

    /// The timer of 1.22.
    fn old() -> schema::Timer {
        schema::Timer {
            size: 72,
            when: Field::at(8),
            period: Field::at(16),
            f: Field::at(24),
            arg_type: Field::at(32),
            nextwhen: Some(Field::at(56)),
            status: Some(Field::at(64)),
            state: None,
            ts: None,
        }
    }

    fn put(memory: &mut SparseMemory, at: u64, words: [u64; 9]) {
        memory.put(Addr::new(at), words.map(u64::to_le_bytes).concat());
    }

    #[test]
    fn what_a_timer_says_depends_on_its_state() {
        let mut memory = SparseMemory::new();
        memory.put_u64(Addr::new(0xf0), 0x40_1000);
        let mut read = |status: u64| {
            put(&mut memory, 0x1000, [0, 500, 0, 0xf0, 1, 0xc0, 0, 900, status]);
            timer(&memory, &old(), Addr::new(0x1000)).expect("readable")
        };
        let waiting = read(1).expect("set");
        assert_eq!((waiting.when.0, waiting.function.get(), waiting.argument.get()), (500, 0x40_1000, 0xc0));
        assert_eq!(read(8).map(|t| t.when.0), Some(900));
        assert_eq!([read(3), read(5), read(0)], [None, None, None]);
    }

    #[test]
    fn the_heaps_of_both_shapes_are_read_and_holes_are_noticed() {
        let mut memory = SparseMemory::new();
        memory.put_u64(Addr::new(0xf0), 0x40_1000);
        put(&mut memory, 0x1000, [0, 500, 0, 0xf0, 1, 0xc0, 0, 0, 1]);
        memory.put(Addr::new(0x2000), [0x1000u64, 0x1000, 0x6660_0000].map(u64::to_le_bytes).concat());
        let p = schema::P {
            size: 64,
            id: Field::at(0),
            status: Field::at(4),
            m: Field::at(8),
            runqhead: Field::at(16),
            runqtail: Field::at(20),
            runq: Field::at(24),
            runnext: Field::at(32),
            timers: Field::at(40),
        };
        let mut with = |len: u64, layout: &schema::Timer| {
            memory.put(Addr::new(0x5000 + 40), [0x2000u64, len, 8].map(u64::to_le_bytes).concat());
            let found = pending(&memory, &[Addr::new(0x5000)], &p, layout);
            (found.timers.len(), found.whole)
        };
        assert_eq!(with(2, &old()), (2, true));
        assert_eq!(with(3, &old()), (2, false));
        assert_eq!(with(9, &old()), (0, false));
        let new = schema::Timer { nextwhen: None, status: None, ts: Some(Field::at(64)), ..old() };
        assert_eq!(with(1, &new), (1, true));
    }
}
