//! Analysis, blocked: from addresses to objects. Each object is decoded once, however many wait for it.

use super::raw::{By, Raw, Raws, left};
use super::{Blocked, BlockedOn, Inputs, Kind, Object, ObjectId, ObjectKind, Operation, State, Want};
use crate::addr::Addr;
use crate::diag::Diagnostics;
use crate::memory::Memory;
use crate::runtime::chan::{Channel, channel};
use crate::runtime::gotype::type_name;
use crate::runtime::netpoll::{Deadline, PollDesc};
use crate::runtime::sudog::Sudog;
use crate::runtime::timer::{Pending, Timer, pending, timer};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

/// What was assembled, and what the kernel is still to be asked.
pub(super) struct Found {
    pub blocked: Blocked,
    /// The pollDesc that leads to the descriptor, by goroutine.
    pub polls: Vec<(usize, PollDesc)>,
}

/// Makes objects of what all goroutines wait with.
pub(super) fn assemble(inputs: &Inputs<'_>, heap: &dyn Memory, raws: Raws) -> Found {
    let layouts = &inputs.image.layouts;
    let ps: Vec<Addr> = inputs.snapshot.ps.iter().map(|p| p.at).collect();
    let heaps = pending(heap, &ps, &layouts.p, &layouts.timer);
    let channels = Channels::read(inputs, heap, &raws, &heaps);
    let mut all = Assembly {
        inputs,
        heap,
        channels,
        ids: FxHashMap::default(),
        blocked: Blocked::default(),
        polls: Vec::new(),
    };
    all.losses(&raws, &heaps);
    for (index, raw) in raws.of.into_iter().enumerate() {
        let on = raw.map(|raw| all.blocked_on(index, raw));
        all.blocked.of.push(on);
    }
    all.blocked.timers = heaps.timers;
    Found { blocked: all.blocked, polls: all.polls }
}

/// Takes back what was said of goroutines that went on meanwhile, but for the kind. `moved` is ascending.
pub(super) fn forget(blocked: &mut Blocked, moved: &[usize]) {
    for index in moved {
        if let Some(on) = blocked.of.get_mut(*index).and_then(Option::as_mut) {
            // Who went on did not wait for ever.
            let kind = if on.kind == Kind::Forever { Kind::Unknown } else { on.kind };
            *on = BlockedOn::bare(kind, on.operation);
        }
    }
    blocked.moved = moved.iter().filter_map(|i| u32::try_from(*i).ok()).collect();
    blocked.coroutines.forget(&blocked.moved);
    if !blocked.moved.is_empty() {
        for object in &mut blocked.objects {
            object.waiters.retain(|waiter| blocked.moved.binary_search(waiter).is_err());
        }
    }
}

struct Assembly<'a> {
    inputs: &'a Inputs<'a>,
    heap: &'a dyn Memory,
    channels: Channels,
    ids: FxHashMap<(Addr, ObjectKind), ObjectId>,
    blocked: Blocked,
    polls: Vec<(usize, PollDesc)>,
}

impl Assembly<'_> {
    fn losses(&mut self, raws: &Raws, heaps: &Pending) {
        let losses = &mut self.blocked.diagnostics;
        if !raws.semaphores_whole {
            losses.warn(
                "the runtime's table of semaphores could not be read whole",
                "of some goroutines it is not known which lock they wait for",
            );
        }
        if !heaps.whole {
            losses.warn("not all timers could be read", "some waits may end by time though it is not said");
        }
        self.channels.losses(losses);
    }

    fn blocked_on(&mut self, index: usize, raw: Raw) -> BlockedOn {
        let now = self.inputs.snapshot.now;
        // Inside a synctest bubble time is not the clock's.
        let fake = self.inputs.g(index).is_some_and(|g| !g.bubble.is_null());
        let mut on = BlockedOn::bare(raw.kind, raw.operation);
        let mut until = raw.until;
        match raw.by {
            By::Nothing => {}
            By::Object(kind, at) => {
                let object = self.object(kind, at, |a| state(a.heap, kind, at), |_| None);
                on.wants.push(Want { object, operation: raw.operation });
            }
            By::Tickets(tickets) => until = self.queue(&mut on, &tickets),
            By::Poll(poll) => self.polls.push((index, *poll)),
        }
        on.timed = raw.kind == Kind::Sleep || until.is_some();
        on.deadline_in = until.filter(|_| !fake).and_then(|until| left(until, now));
        for want in &on.wants {
            if let (Some(object), Ok(me)) =
                (self.blocked.objects.get_mut(want.object.0 as usize), u32::try_from(index))
                && object.waiters.last() != Some(&me)
            {
                object.waiters.push(me);
            }
        }
        on
    }

    /// The wants of a goroutine that queues at channels; also when time ends its wait.
    fn queue(&mut self, on: &mut BlockedOn, tickets: &[Sudog]) -> Option<Deadline> {
        let mut soonest: Option<Timer> = None;
        for ticket in tickets {
            let Some(found) = self.channels.of.get(&ticket.c).cloned() else { continue };
            let operation = match on.kind {
                Kind::Channel => on.operation,
                _ => found.direction(ticket.at),
            };
            if operation != Operation::Send {
                let timers = [soonest, found.timer].into_iter().flatten();
                soonest = timers.min_by_key(|t| t.when);
            }
            let object = self.object(
                ObjectKind::Channel,
                ticket.c,
                |_| found.state(),
                |a| a.channel_type(found.channel.element),
            );
            on.wants.push(Want { object, operation });
        }
        if on.kind == Kind::Channel && soonest.is_some() {
            on.kind = Kind::Timer;
        }
        on.wants.sort_unstable();
        on.wants.dedup();
        soonest.map(|timer| Deadline::At(timer.when))
    }

    fn channel_type(&self, element: Addr) -> Option<String> {
        let memory = self.inputs.image.memory(self.heap);
        let name = type_name(&self.inputs.image.modules, &memory, element)?;
        // `chan <-chan int` means something else than what is meant.
        Some(if name.starts_with("<-") { format!("chan ({name})") } else { format!("chan {name}") })
    }

    fn object(
        &mut self,
        kind: ObjectKind,
        address: Addr,
        state: impl FnOnce(&Self) -> State,
        name: impl FnOnce(&Self) -> Option<String>,
    ) -> ObjectId {
        if let Some(id) = self.ids.get(&(address, kind)) {
            return *id;
        }
        let type_name = kind.type_name().map(str::to_owned).or_else(|| name(self));
        let object = Object { address, kind, type_name, state: state(self), waiters: Vec::new() };
        // There are fewer objects than 2^32: each takes more than one byte of the target.
        let id = ObjectId(u32::try_from(self.blocked.objects.len()).unwrap_or(u32::MAX));
        self.blocked.objects.push(object);
        self.ids.insert((address, kind), id);
        id
    }
}

/// `1 << 30`, which a writer takes from the count of readers (`sync/rwmutex.go`, rwmutexMaxReaders).
const MAX_READERS: i32 = 1 << 30;

/// What the object at `at` says of itself.
fn state(heap: &dyn Memory, kind: ObjectKind, at: Addr) -> State {
    let word = |offset: u64| heap.read_u32(at.offset(offset)).ok();
    let signed = |offset: u64| word(offset).map(u32::cast_signed);
    let read = || match kind {
        ObjectKind::Mutex => word(0).map(mutex),
        ObjectKind::Once => word(4).map(mutex),
        ObjectKind::RwMutex => {
            let (readers, leave) = (signed(16)?, signed(20)?);
            let writer = readers < 0;
            let readers = if writer { readers.wrapping_add(MAX_READERS) } else { readers };
            Some(State::RwMutex { writer, readers, writer_waits_for: leave })
        }
        // The top bit of the waiters marks a group of a synctest bubble (since 1.25).
        ObjectKind::WaitGroup => {
            Some(State::WaitGroup { counter: signed(4)?, waiters: word(0)? & i32::MAX as u32 })
        }
        // `Sysfd` (internal/poll/fd_unix.go).
        ObjectKind::Descriptor => Some(State::Descriptor { number: signed(16)? }),
        _ => None,
    };
    read().unwrap_or(State::None)
}

/// `sync.Mutex.state` (`internal/sync/mutex.go`).
fn mutex(word: u32) -> State {
    State::Mutex { locked: word & 1 != 0, starving: word & 4 != 0, waiters: word >> 3 }
}

/// One channel and where its sudogs queue.
#[derive(Clone)]
struct ChannelFound {
    channel: std::sync::Arc<Channel>,
    senders: std::sync::Arc<FxHashSet<Addr>>,
    receivers: std::sync::Arc<FxHashSet<Addr>>,
    timer: Option<Timer>,
}

impl ChannelFound {
    fn direction(&self, sudog: Addr) -> Operation {
        match (self.senders.contains(&sudog), self.receivers.contains(&sudog)) {
            (true, false) => Operation::Send,
            (false, true) => Operation::Receive,
            _ => Operation::SendOrReceive,
        }
    }

    fn state(&self) -> State {
        let c = &self.channel;
        State::Channel { len: c.len, capacity: c.capacity, closed: c.closed, timer: self.timer }
    }
}

/// All channels that goroutines queue at.
struct Channels {
    of: FxHashMap<Addr, ChannelFound>,
    unreadable: usize,
    cut: usize,
}

impl Channels {
    fn read(inputs: &Inputs<'_>, heap: &dyn Memory, raws: &Raws, heaps: &Pending) -> Channels {
        let mut wanted: Vec<Addr> = raws.of.iter().flatten().flat_map(channels_of).collect();
        wanted.par_sort_unstable();
        wanted.dedup();
        let by_channel = channel_timers(inputs, heaps);
        let read: Vec<Option<(Addr, ChannelFound)>> = wanted
            .par_iter()
            .map(|at| Some((*at, one(inputs, heap, *at, by_channel.get(at).copied())?)))
            .collect();
        let unreadable = read.iter().filter(|found| found.is_none()).count();
        let of: FxHashMap<Addr, ChannelFound> = read.into_iter().flatten().collect();
        let cut = of.values().filter(|f| !f.channel.senders.whole || !f.channel.receivers.whole).count();
        Channels { of, unreadable, cut }
    }

    fn losses(&self, diagnostics: &mut Diagnostics) {
        if self.unreadable > 0 {
            diagnostics.warn(
                format!("{} channels could not be read", self.unreadable),
                "who waits for them is shown without them",
            );
        }
        if self.cut > 0 {
            diagnostics.warn(
                format!("the queues of {} channels changed or are damaged", self.cut),
                "the direction of some cases of a select is not known",
            );
        }
    }
}

fn channels_of(raw: &Raw) -> impl Iterator<Item = Addr> + '_ {
    let tickets = match &raw.by {
        By::Tickets(tickets) => tickets.as_slice(),
        _ => &[],
    };
    tickets.iter().map(|ticket| ticket.c)
}

fn one(inputs: &Inputs<'_>, heap: &dyn Memory, at: Addr, pending: Option<Timer>) -> Option<ChannelFound> {
    let layouts = &inputs.image.layouts;
    let found = channel(heap, &layouts.hchan, &layouts.sudog, at).ok()??;
    let own = (!found.timer.is_null()).then(|| timer(heap, &layouts.timer, found.timer).ok().flatten());
    let set = |queue: &crate::runtime::sudog::Queue| {
        std::sync::Arc::new(queue.tickets.iter().map(|t| t.sudog).collect::<FxHashSet<_>>())
    };
    Some(ChannelFound {
        senders: set(&found.senders),
        receivers: set(&found.receivers),
        channel: found.into(),
        timer: own.flatten().or(pending),
    })
}

/// Until 1.22 a channel does not lead to the timer that sends on it, but the timer to the channel.
fn channel_timers(inputs: &Inputs<'_>, heaps: &Pending) -> FxHashMap<Addr, Timer> {
    let sends = |timer: &&Timer| inputs.image.modules.begins(timer.function, "time.sendTime");
    let of_channels = heaps.timers.iter().filter(sends);
    of_channels.map(|timer| (timer.argument, *timer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn states_are_read_from_the_objects_own_words() {
        let mut memory = SparseMemory::new();
        let words = |w: [i32; 6]| w.map(i32::to_le_bytes).concat();
        memory.put(Addr::new(0x1000), words([(3 << 3) | 5, 0, 0, 0, 2 - MAX_READERS, 2]));
        let of = |kind| state(&memory, kind, Addr::new(0x1000));
        assert_eq!(of(ObjectKind::Mutex), State::Mutex { locked: true, starving: true, waiters: 3 });
        assert_eq!(of(ObjectKind::RwMutex), State::RwMutex { writer: true, readers: 2, writer_waits_for: 2 });
        memory.put(Addr::new(0x2000), words([i32::MIN | 2, 7, 0, 0, 0, 0]));
        let group = state(&memory, ObjectKind::WaitGroup, Addr::new(0x2000));
        assert_eq!(group, State::WaitGroup { counter: 7, waiters: 2 });
        assert_eq!(state(&memory, ObjectKind::Mutex, Addr::new(0x9000)), State::None);
        assert_eq!(state(&memory, ObjectKind::Cond, Addr::new(0x1000)), State::None);
    }

    #[test]
    fn what_went_on_is_forgotten_but_for_its_kind() {
        let want = Want { object: ObjectId(0), operation: Operation::Lock };
        let on = || Some(BlockedOn { wants: vec![want], ..BlockedOn::bare(Kind::Mutex, Operation::Lock) });
        let object = Object {
            address: Addr::new(8),
            kind: ObjectKind::Mutex,
            type_name: None,
            state: State::None,
            waiters: vec![0, 2],
        };
        let mut blocked = Blocked { of: vec![on(), None, on()], objects: vec![object], ..Blocked::default() };
        forget(&mut blocked, &[1, 2]);
        assert_eq!(blocked.on(0), on().as_ref());
        assert_eq!(blocked.on(2), Some(&BlockedOn::bare(Kind::Mutex, Operation::Lock)));
        assert_eq!(blocked.objects.first().map(|o| o.waiters.clone()), Some(vec![0]));
        assert_eq!(blocked.moved, [1, 2]);
    }
}
