//! Unwind: the stacks of many goroutines. Most of them are equal, so each distinct sequence of
//! addresses is kept and symbolized once.

use super::symbolize::{Bare, Names, frames_at};
use super::walk::Walk;
use super::{Frame, Gap, StackEnd, Trust, Unwinder};
use crate::addr::Addr;
use crate::runtime::G;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

/// One symbolized stack.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Stack {
    /// Its frames, innermost first.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: StackEnd,
    /// Where frames of C code are missing, innermost first.
    pub gaps: Vec<Gap>,
}

/// The stacks of a list of goroutines.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// For each goroutine of the list, its stack: an index in `distinct`.
    pub of: Vec<u32>,
    /// Each stack once, in the order in which the list meets them.
    pub distinct: Vec<Stack>,
}

/// An address in code, whether it is exact, and how its frame was found.
type Spot = (Addr, bool, Trust);

/// What makes two stacks equal: the addresses, the end, and what is missing.
type Key = (Box<[Spot]>, StackEnd, Box<[Gap]>);

/// Keys in the order in which they were met, and which is whose.
#[derive(Default)]
struct Numbered {
    numbers: FxHashMap<Key, u32>,
    keys: Vec<Key>,
    of: Vec<u32>,
}

impl Numbered {
    fn add(&mut self, key: Key) {
        let number = self.number(key);
        self.of.push(number);
    }

    fn number(&mut self, key: Key) -> u32 {
        // There are fewer goroutines than 2^32: each takes more than one byte.
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            next
        })
    }
}

fn key_of(walk: Walk) -> Key {
    (walk.frames.iter().map(|f| (f.pc, f.trap, f.trust)).collect(), walk.end, walk.gaps.into())
}

/// Goroutines that one thread takes at a time.
const CHUNK: usize = 1024;

impl Stacks {
    /// Walks and symbolizes the stacks of `gs`, on all cores.
    pub fn of(unwinder: &Unwinder<'_>, gs: &[G]) -> Stacks {
        let parts: Vec<Numbered> = gs
            .par_chunks(CHUNK)
            .map_init(
                || unwinder.walker(),
                |walker, part| {
                    let mut numbered = Numbered::default();
                    for g in part {
                        numbered.add(key_of(unwinder.walk_mixed(walker, g)));
                    }
                    numbered
                },
            )
            .collect();
        let mut all = Numbered::default();
        for part in parts {
            let numbers: Vec<u32> = part.keys.into_iter().map(|key| all.number(key)).collect();
            all.of.extend(part.of.iter().filter_map(|local| numbers.get(*local as usize)));
        }
        Stacks { distinct: symbolize(unwinder, all.keys), of: all.of }
    }

    /// Symbolizes walks that were made already.
    pub fn of_walks(unwinder: &Unwinder<'_>, walks: impl Iterator<Item = Walk>) -> Stacks {
        let mut all = Numbered::default();
        walks.for_each(|walk| all.add(key_of(walk)));
        Stacks { distinct: symbolize(unwinder, all.keys), of: all.of }
    }

    /// The stack of the goroutine at `index` of the list.
    pub fn get(&self, index: usize) -> Option<&Stack> {
        self.distinct.get(usize::try_from(*self.of.get(index)?).ok()?)
    }
}

/// Symbolizes each address once, then puts the stacks together.
fn symbolize(unwinder: &Unwinder<'_>, keys: Vec<Key>) -> Vec<Stack> {
    let mut spots: Vec<Spot> = keys.iter().flat_map(|(frames, ..)| frames.iter().copied()).collect();
    spots.par_sort_unstable();
    spots.dedup();
    let code = unwinder.code();
    let bare: Vec<Vec<Bare<'_>>> =
        spots.par_iter().map(|(pc, exact, _)| frames_at(code, *pc, *exact)).collect();
    let mut names = Names::default();
    let named: Vec<Vec<Frame>> =
        bare.iter().map(|frames| frames.iter().map(|f| f.named(&mut names)).collect()).collect();
    let mut known: FxHashMap<Spot, Vec<Frame>> = spots.into_iter().zip(named).collect();
    for ((pc, exact, trust), frames) in &mut known {
        if frames.is_empty() {
            *frames = unwinder.native_frames(*pc, *exact, *trust);
        }
    }
    keys.into_par_iter().map(|key| assemble(&known, key)).collect()
}

/// A stack of the frames at its addresses.
fn assemble(known: &FxHashMap<Spot, Vec<Frame>>, (spots, end, missing): Key) -> Stack {
    let mut frames = Vec::new();
    let mut gaps = Vec::new();
    let mut missing = missing.into_iter().peekable();
    for count in 0..=spots.len() {
        while let Some(gap) = missing.next_if(|gap| gap.after <= count) {
            gaps.push(Gap { after: frames.len(), ..gap });
        }
        frames.extend(spots.get(count).and_then(|spot| known.get(spot)).into_iter().flatten().cloned());
    }
    Stack { frames, end, gaps }
}
