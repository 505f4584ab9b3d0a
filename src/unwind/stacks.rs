//! Unwind: the stacks of many goroutines. Most of them are equal, so each distinct sequence of
//! addresses is kept and symbolized once.

use super::symbolize::{Bare, Names, frames_at};
use super::walk::Walk;
use super::{Frame, StackEnd, Unwinder};
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
}

/// The stacks of a list of goroutines.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// For each goroutine of the list, its stack: an index in `distinct`.
    pub of: Vec<u32>,
    /// Each stack once, in the order in which the list meets them.
    pub distinct: Vec<Stack>,
}

/// What makes two stacks equal: the addresses, whether each is exact, and the end.
type Key = (Box<[(Addr, bool)]>, StackEnd);

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
    (walk.frames.iter().map(|f| (f.pc, f.trap)).collect(), walk.end)
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
                        numbered.add(key_of(unwinder.walk_with(walker, g)));
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

    /// The stack of the goroutine at `index` of the list.
    pub fn get(&self, index: usize) -> Option<&Stack> {
        self.distinct.get(usize::try_from(*self.of.get(index)?).ok()?)
    }
}

/// Symbolizes each address once, then puts the stacks together.
fn symbolize(unwinder: &Unwinder<'_>, keys: Vec<Key>) -> Vec<Stack> {
    let mut places: Vec<(Addr, bool)> = keys.iter().flat_map(|(frames, _)| frames.iter().copied()).collect();
    places.par_sort_unstable();
    places.dedup();
    let code = unwinder.code();
    let bare: Vec<Vec<Bare<'_>>> =
        places.par_iter().map(|(pc, exact)| frames_at(code, *pc, *exact)).collect();
    let mut names = Names::default();
    let named: Vec<Vec<Frame>> =
        bare.iter().map(|frames| frames.iter().map(|f| f.named(&mut names)).collect()).collect();
    let known: FxHashMap<(Addr, bool), Vec<Frame>> = places.into_iter().zip(named).collect();
    keys.into_par_iter()
        .map(|(frames, end)| Stack {
            frames: frames.iter().filter_map(|place| known.get(place)).flatten().cloned().collect(),
            end,
        })
        .collect()
}
