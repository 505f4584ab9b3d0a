//! Analysis: who holds a lock. What a goroutine will release it may hold; what it also took on its way
//! and did not release it does hold. And where nobody will release a lock, who took it is found by that
//! alone.

use super::{Found, Key, Subject, place, watched_as};
use crate::addr::Addr;
use crate::analysis::ahead::Operation;
use crate::analysis::ahead::before::{Before, Held, lock_word};
use crate::analysis::blocked::{Blocked, Inputs, ObjectKind, State};
use crate::analysis::wakers::{Agent, Trust};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Instructions that are run for all goroutines together. What is found once serves all that are parked at
/// the same place.
const FOR_ALL: u64 = 5_000_000;

/// One way in which a lock that somebody waits for can be held.
struct Lock {
    key: Key,
    /// How that ends.
    operation: Operation,
    /// How many hold it so, by its own words.
    holders: usize,
}

/// Locks by the word that they count in.
type Locks = FxHashMap<Addr, Lock>;

/// What goroutines hold, by their index.
type Holdings = Vec<(u32, Vec<Held>)>;

/// Adds to `found` where the holders of locks took them, and those who took what nobody releases.
/// `followed` are the goroutines whose code is followed, `all` says whether those are all that matter.
pub(super) fn tell(
    inputs: &Inputs<'_>,
    blocked: &Blocked,
    followed: &[u32],
    all: bool,
    found: &mut FxHashMap<Key, Vec<Found>>,
) {
    let locks = locks(blocked);
    let by_nobody = |lock: &&Lock| lock.holders > 0 && releases(found, lock).next().is_none();
    let forgotten: Vec<&Lock> = locks.values().filter(by_nobody).collect();
    let named: FxHashSet<u32> = locks
        .values()
        .flat_map(|lock| releases(found, lock))
        .filter_map(|found| index(found.agent))
        .collect();
    let looked_at: Vec<u32> =
        followed.iter().copied().filter(|i| !forgotten.is_empty() || named.contains(i)).collect();
    let holdings = holdings(inputs, blocked, &looked_at, &locks);
    let leaked: Vec<(Key, Found)> =
        forgotten.iter().flat_map(|lock| leaked(inputs, lock, &holdings, all)).collect();
    for (holder, held) in &holdings {
        for held in held {
            if let Some(lock) = locks.get(&held.word) {
                confirm(inputs, lock, *holder, held, found);
            }
        }
    }
    for (key, one) in leaked {
        found.entry(key).or_default().push(one);
    }
}

/// The locks that goroutines wait for. Who is in a Once is known from elsewhere.
fn locks(blocked: &Blocked) -> Locks {
    let mut locks = Locks::default();
    for object in blocked.objects.iter().filter(|object| object.kind != ObjectKind::Once) {
        let Some(key) = watched_as(object) else { continue };
        let mut add = |operation, holders| {
            locks.insert(lock_word(key.0, operation), Lock { key, operation, holders });
        };
        match &object.state {
            State::Mutex { locked, .. } => add(Operation::Unlock, usize::from(*locked)),
            State::RwMutex { writer, writer_waits_for, .. } => {
                let readers = usize::try_from(*writer_waits_for).unwrap_or(0);
                add(Operation::Unlock, usize::from(*writer && readers == 0));
                add(Operation::RUnlock, readers);
            }
            _ => {}
        }
    }
    locks
}

/// All that was found to end it that a lock is held.
fn releases<'f>(
    found: &'f FxHashMap<Key, Vec<Found>>,
    lock: &Lock,
) -> impl Iterator<Item = &'f Found> + use<'f> {
    let operation = lock.operation;
    found.get(&lock.key).into_iter().flatten().filter(move |found| found.operation == operation)
}

fn index(agent: Agent) -> Option<u32> {
    match agent {
        Agent::Goroutine(index) => Some(index),
        _ => None,
    }
}

/// Which of the locks each goroutine holds by what it did.
fn holdings(inputs: &Inputs<'_>, blocked: &Blocked, looked_at: &[u32], locks: &Locks) -> Holdings {
    let memory = inputs.memory();
    let spent = AtomicU64::new(0);
    let one = |before: &mut Before<'_>, index: &u32| {
        let subject = Subject::of(inputs, blocked, *index).filter(|subject| subject.sure)?;
        if spent.load(Ordering::Relaxed) > FOR_ALL {
            return None;
        }
        let start = before.spent();
        let mut held = before.held(&memory, &subject.walk, subject.taking);
        spent.fetch_add(before.spent().saturating_sub(start), Ordering::Relaxed);
        held.retain(|held| locks.contains_key(&held.word));
        (!held.is_empty()).then_some((*index, held))
    };
    let before = || Before::new(inputs.image, &memory);
    looked_at.par_iter().map_init(before, one).flatten_iter().collect()
}

/// Tells of a goroutine that will release a lock that it took it, too.
fn confirm(
    inputs: &Inputs<'_>,
    lock: &Lock,
    holder: u32,
    held: &Held,
    found: &mut FxHashMap<Key, Vec<Found>>,
) {
    let agents: FxHashSet<Agent> = releases(found, lock).map(|found| found.agent).collect();
    // A lock is not held by more than its own words say, and a timer may release it before.
    let undisputed = agents.len() <= lock.holders && !agents.contains(&Agent::Time);
    let own = |one: &&mut Found| one.agent == Agent::Goroutine(holder) && one.operation == lock.operation;
    let Some(one) = found.get_mut(&lock.key).and_then(|all| all.iter_mut().find(own)) else { return };
    if !held.always {
        return;
    }
    if let Some(taken) = taken(inputs, lock, held) {
        one.because = format!("{taken}, {}", one.because);
    }
    if one.trust == Trust::Likely && one.always && held.followed && undisputed {
        one.trust = Trust::Certain;
    }
}

/// Who took a lock that nobody will release. `all` says whether the code of all was followed.
fn leaked(inputs: &Inputs<'_>, lock: &Lock, holdings: &Holdings, all: bool) -> Vec<(Key, Found)> {
    let word = lock_word(lock.key.0, lock.operation);
    let of = |(index, held): &(u32, Vec<Held>)| {
        held.iter().find(|held| held.word == word).map(|held| (*index, *held))
    };
    let holders: Vec<(u32, Held)> = holdings.iter().filter_map(of).collect();
    let proved = |held: &Held| held.always && held.followed;
    let undisputed = holders.iter().filter(|(_, held)| proved(held)).count() <= lock.holders;
    let one = |(index, held): &(u32, Held)| {
        let likely = all && undisputed && proved(held);
        let taken = taken(inputs, lock, held)?;
        let doubt = if likely { "" } else { "may have " };
        let found = Found {
            agent: Agent::Goroutine(*index),
            operation: lock.operation,
            trust: if likely { Trust::Likely } else { Trust::Possible },
            always: false,
            because: format!("{doubt}{taken}, and no code ahead unlocks it"),
        };
        Some((lock.key, found))
    };
    holders.iter().filter_map(one).collect()
}

/// Where a lock was taken: `locked it in main.f (f.go:41)`.
fn taken(inputs: &Inputs<'_>, lock: &Lock, held: &Held) -> Option<String> {
    let mut places = held.at.all().map(|at| place(inputs.image, &inputs.snapshot.memory, at));
    let first = places.next()??;
    let place = places.all(|other| other.as_ref() == Some(&first)).then_some(first)?;
    let how = if lock.operation == Operation::RUnlock { " for reading" } else { "" };
    Some(format!("locked it{how} in {place}"))
}
