use super::*;
use crate::addr::Addr;
use crate::analysis::blocked::{Object, ObjectId, State};
use crate::analysis::wakers::Waking;

/// Who waits for what, by hand.
#[derive(Default)]
pub(crate) struct Hand {
    pub blocked: Blocked,
    wakers: FxHashMap<Want, Vec<Waker>>,
    /// Whether nobody outside of a ring can get at what it waits for.
    secluded: bool,
}

impl Hand {
    /// Adds a goroutine that runs.
    pub fn runs(&mut self) -> u32 {
        self.blocked.of.push(None);
        self.blocked.of.len() as u32 - 1
    }

    /// Adds a goroutine that waits for a kind of thing without object.
    pub fn bare(&mut self, kind: Kind, operation: Operation) -> u32 {
        self.blocked.of.push(Some(BlockedOn::bare(kind, operation)));
        self.blocked.of.len() as u32 - 1
    }

    pub fn object(&mut self, kind: ObjectKind) -> ObjectId {
        let id = self.blocked.objects.len() as u32;
        self.blocked.objects.push(Object {
            address: Addr::new(0xc000 + u64::from(id) * 16),
            kind,
            type_name: kind.type_name().map(str::to_owned),
            state: State::None,
            waiters: Vec::new(),
        });
        ObjectId(id)
    }

    /// Adds a goroutine that wants these.
    pub fn wants(&mut self, wants: &[(ObjectId, Operation)]) -> u32 {
        let index = self.runs();
        let kind = match (wants, wants.first().map(|w| self.blocked.objects[w.0.0 as usize].kind)) {
            ([_, _, ..], _) => Kind::Select,
            (_, Some(ObjectKind::Channel)) => Kind::Channel,
            (_, Some(ObjectKind::RwMutex)) => Kind::RwMutex,
            (_, Some(ObjectKind::WaitGroup)) => Kind::WaitGroup,
            _ => Kind::Mutex,
        };
        let mut on = BlockedOn::bare(kind, wants.first().map_or(Operation::Park, |w| w.1));
        for (object, operation) in wants {
            on.wants.push(Want { object: *object, operation: *operation });
            self.blocked.objects[object.0 as usize].waiters.push(index);
        }
        self.blocked.of[index as usize] = Some(on);
        index
    }

    /// Says who could do what the want needs.
    pub fn waker(&mut self, object: ObjectId, operation: Operation, agent: Agent, trust: Trust) {
        let because = "holds it".to_owned();
        self.wakers.entry(Want { object, operation }).or_default().push(Waker { agent, trust, because });
    }

    pub fn held(&mut self, object: ObjectId, by: u32) {
        self.waker(object, Operation::Lock, Agent::Goroutine(by), Trust::Certain);
    }

    pub fn answers(&self) -> Answers {
        Answers::ask(&self.blocked, &[self])
    }

    pub fn graph(&self) -> Graph {
        Graph::of(&self.blocked, &self.answers(), self)
    }
}

impl Seclusion for Hand {
    fn is_secluded(&self, ring: &[u32], fates: &[Fate]) -> bool {
        assert!(ring.iter().all(|i| fates[*i as usize] == Fate::Stuck), "{ring:?} of {fates:?}");
        self.secluded
    }
}

impl Waking for Hand {
    fn wakers(&self, want: Want, _: &Object, _: &Blocked) -> Vec<Waker> {
        self.wakers.get(&want).cloned().unwrap_or_default()
    }
}

#[test]
fn a_ring_of_300_locks_is_one_deadlock_and_those_behind_are_not_in_it() {
    let mut hand = Hand::default();
    let locks: Vec<ObjectId> = (0..300).map(|_| hand.object(ObjectKind::Mutex)).collect();
    for i in 0..300 {
        let me = hand.wants(&[(locks[(i + 1) % 300], Operation::Lock)]);
        hand.held(locks[i], me);
    }
    for _ in 0..1000 {
        hand.wants(&[(locks[0], Operation::Lock)]);
    }
    hand.runs();
    let graph = hand.graph();
    let [ring] = graph.rings.as_slice() else { panic!("{} rings", graph.rings.len()) };
    assert_eq!((ring.members.len(), ring.cycle.len()), (300, 300));
    assert_eq!(ring.deadlock, Some(Trust::Certain));
    assert_eq!(graph.behind().get(&Root::Ring(0)).map(Vec::len), Some(1000));
}

#[test]
fn whoever_waits_behind_somebody_who_goes_on_is_not_stuck() {
    let mut hand = Hand::default();
    let (a, b) = (hand.object(ObjectKind::Mutex), hand.object(ObjectKind::Mutex));
    let runs = hand.runs();
    let middle = hand.wants(&[(b, Operation::Lock)]);
    hand.held(b, runs);
    hand.held(a, middle);
    for _ in 0..100_000 {
        hand.wants(&[(a, Operation::Lock)]);
    }
    let graph = hand.graph();
    assert!(graph.rings.is_empty());
    assert!(graph.fates.iter().all(|f| *f != Fate::Stuck));
    assert_eq!(graph.behind().get(&Root::Goroutine(runs)).map(Vec::len), Some(100_001));
}

#[test]
fn a_ring_over_channels_is_a_deadlock_only_when_nobody_else_is_left_or_has_them() {
    let ring = |with_outside: bool, secluded: bool| {
        let mut hand = Hand { secluded, ..Hand::default() };
        let (c, d) = (hand.object(ObjectKind::Channel), hand.object(ObjectKind::Channel));
        let first = hand.wants(&[(c, Operation::Receive)]);
        let second = hand.wants(&[(d, Operation::Receive)]);
        hand.waker(c, Operation::Receive, Agent::Goroutine(second), Trust::Certain);
        hand.waker(d, Operation::Receive, Agent::Goroutine(first), Trust::Certain);
        if with_outside {
            hand.bare(Kind::Io, Operation::Read);
        }
        let graph = hand.graph();
        assert_eq!(graph.rings.len(), 1);
        graph.rings[0].deadlock
    };
    assert_eq!(ring(true, false), None);
    assert_eq!(ring(true, true), Some(Trust::Likely));
    assert_eq!(ring(false, false), Some(Trust::Likely));
}

#[test]
fn a_timer_or_a_second_holder_that_goes_on_breaks_a_ring() {
    let mut hand = Hand::default();
    let (a, b) = (hand.object(ObjectKind::Mutex), hand.object(ObjectKind::Mutex));
    let first = hand.wants(&[(a, Operation::Lock)]);
    let second = hand.wants(&[(b, Operation::Lock)]);
    hand.held(a, second);
    hand.held(b, first);
    assert_eq!(hand.graph().rings.len(), 1);
    let runs = hand.runs();
    hand.waker(a, Operation::Lock, Agent::Goroutine(runs), Trust::Likely);
    assert!(hand.graph().rings.is_empty());
    let mut timed = Hand::default();
    let lock = timed.object(ObjectKind::Mutex);
    let me = timed.wants(&[(lock, Operation::Lock)]);
    timed.held(lock, me);
    assert_eq!(timed.graph().rings[0].cycle.len(), 1);
    timed.waker(lock, Operation::Lock, Agent::Time, Trust::Likely);
    assert!(timed.graph().rings.is_empty());
}

#[test]
fn a_writer_needs_all_readers_and_a_group_all_its_members() {
    let mut hand = Hand::default();
    let (rw, group) = (hand.object(ObjectKind::RwMutex), hand.object(ObjectKind::WaitGroup));
    let runs = hand.runs();
    let reader = hand.wants(&[(rw, Operation::RLock)]);
    let writer = hand.wants(&[(rw, Operation::Lock)]);
    let waits = hand.wants(&[(group, Operation::Wait)]);
    hand.waker(rw, Operation::RLock, Agent::Goroutine(writer), Trust::Certain);
    for holder in [reader, runs] {
        hand.waker(rw, Operation::Lock, Agent::Goroutine(holder), Trust::Likely);
        hand.waker(group, Operation::Wait, Agent::Goroutine(holder), Trust::Likely);
    }
    let graph = hand.graph();
    let [ring] = graph.rings.as_slice() else { panic!("{:?}", graph.rings) };
    assert_eq!(ring.members, [reader, writer]);
    assert_eq!(ring.deadlock, Some(Trust::Likely));
    assert_eq!(graph.fates[waits as usize], Fate::Stuck);
    assert_eq!(graph.roots[waits as usize], Root::Ring(0));
}

#[test]
fn a_select_waits_for_any_and_is_no_part_of_a_ring_of_locks() {
    let mut hand = Hand::default();
    let (lock, c, d) =
        (hand.object(ObjectKind::Mutex), hand.object(ObjectKind::Channel), hand.object(ObjectKind::Channel));
    let selects = hand.wants(&[(c, Operation::Receive), (d, Operation::Receive)]);
    let locks = hand.wants(&[(lock, Operation::Lock)]);
    hand.held(lock, selects);
    hand.waker(c, Operation::Receive, Agent::Goroutine(locks), Trust::Likely);
    hand.runs();
    assert_eq!(hand.graph().rings.first().map(|r| r.deadlock), Some(None));
    let other = hand.runs();
    hand.waker(d, Operation::Receive, Agent::Goroutine(other), Trust::Possible);
    let graph = hand.graph();
    assert!(graph.rings.is_empty());
    assert_eq!(graph.roots[locks as usize], Root::Goroutine(selects));
}

#[test]
fn a_sender_waits_behind_its_receiver_but_an_idle_worker_behind_nobody() {
    let mut hand = Hand::default();
    let (full, jobs) = (hand.object(ObjectKind::Channel), hand.object(ObjectKind::Channel));
    let reads = hand.bare(Kind::Io, Operation::Read);
    let sender = hand.wants(&[(full, Operation::Send)]);
    let worker = hand.wants(&[(jobs, Operation::Receive)]);
    hand.waker(full, Operation::Send, Agent::Goroutine(reads), Trust::Likely);
    hand.waker(jobs, Operation::Receive, Agent::Goroutine(reads), Trust::Likely);
    let graph = hand.graph();
    assert_eq!(graph.roots[sender as usize], Root::Goroutine(reads));
    assert_eq!(graph.roots[worker as usize], Root::Goroutine(worker));
    assert_eq!(graph.fates[worker as usize], Fate::Awaited);
}

#[test]
fn hints_make_no_deadlock_and_undo_none() {
    let mut hand = Hand::default();
    let tries = hand.runs();
    let (a, b) = (hand.object(ObjectKind::Mutex), hand.object(ObjectKind::Mutex));
    let left = hand.wants(&[(b, Operation::Lock)]);
    let right = hand.wants(&[(a, Operation::Lock)]);
    hand.held(a, left);
    hand.waker(b, Operation::Lock, Agent::Goroutine(right), Trust::Possible);
    let deadlocks =
        |hand: &Hand| hand.graph().rings.iter().filter_map(|ring| ring.deadlock).collect::<Vec<_>>();
    assert_eq!(deadlocks(&hand), []);
    // Who tries to take it is only a hint beside who has it.
    hand.held(b, right);
    hand.waker(a, Operation::Lock, Agent::Goroutine(tries), Trust::Possible);
    assert_eq!(deadlocks(&hand), [Trust::Certain]);
    // A timer is another matter: it may release what somebody else holds.
    hand.waker(a, Operation::Lock, Agent::Time, Trust::Possible);
    assert_eq!(deadlocks(&hand), []);
}
