//! Analysis: which channels the timers of package context close: the Done of a context with a deadline, and
//! of every context below it. Offsets are those of `cancelCtx` (context/context.go), alike in all releases
//! 1.18 to 1.27.

use crate::addr::Addr;
use crate::analysis::blocked::{Blocked, Inputs, ObjectKind};
use crate::memory::Memory;
use rustc_hash::{FxHashMap, FxHashSet};

/// The data word of `Context`, the context above: every context has it at its start.
const ABOVE: u64 = 8;

/// The data word of `done`, an atomic.Value: the channel, once somebody asked for it.
const DONE: u64 = 32;

/// `children`, a map whose keys are the contexts below.
const CHILDREN: u64 = 40;

/// Where a map has the address of its first or only group or bucket, or of its directory: `runtime.hmap` until
/// 1.23, `internal/runtime/maps.Map` since; and where a table of the latter has its groups.
const GROUPS: u64 = 16;

/// Keys in one group or bucket.
const KEYS: u64 = 8;

/// Words of a group or bucket: 8 bytes that tell which keys are there, and the keys, two words each.
const GROUP: u64 = 1 + 2 * KEYS;

/// Words of maps that are read for all timers together.
const WORDS: u64 = 1 << 20;

/// Contexts between one that can be ended and the next above, which only hold values.
const BETWEEN: usize = 32;

/// Contexts below one another that are followed.
const LEVELS: usize = 32;

/// Channels that pending timers close, and why. The timer calls a closure that captured the context; 1.20 has
/// one pointer more on the way. Only channels that are waited for count, so that a wrong path leads nowhere.
pub fn ended(inputs: &Inputs<'_>, blocked: &Blocked) -> FxHashMap<Addr, &'static str> {
    let heap = inputs.source.memory();
    let channels = blocked.objects.iter().filter(|o| o.kind == ObjectKind::Channel);
    let mut search = Search {
        heap,
        waited: channels.map(|o| o.address).collect(),
        left: WORDS,
        found: FxHashMap::default(),
    };
    if search.waited.is_empty() {
        return search.found;
    }
    for timer in inputs.func_timers(blocked) {
        let Ok(code) = heap.read_addr(timer.argument) else { continue };
        let name = inputs.image.modules.find(code).map(|f| f.name());
        if name.is_some_and(|name| name.starts_with("context.WithDeadline")) {
            search.closure(timer.argument);
        }
    }
    search.found
}

struct Search<'a> {
    heap: &'a dyn Memory,
    waited: FxHashSet<Addr>,
    left: u64,
    found: FxHashMap<Addr, &'static str>,
}

impl Search<'_> {
    fn word(&self, at: Addr) -> Option<Addr> {
        self.heap.read_addr(at).ok().filter(|word| word.get() > 4096 && word.is_aligned(8))
    }

    fn closure(&mut self, closure: Addr) {
        for captured in [8, 16, 24] {
            let Some(context) = self.word(closure.offset(captured)) else { continue };
            for context in [Some(context), self.word(context)].into_iter().flatten() {
                self.done(context, "ends the context whose Done it is");
                self.below(context, LEVELS);
            }
        }
    }

    /// Takes the Done of a context if somebody waits for it.
    fn done(&mut self, context: Addr, because: &'static str) {
        if let Some(done) = self.word(context.offset(DONE)).filter(|done| self.waited.contains(done)) {
            self.found.entry(done).or_insert(because);
        }
    }

    /// Takes the contexts below one.
    fn below(&mut self, context: Addr, levels: usize) {
        let Some(map) = self.word(context.offset(CHILDREN)).filter(|_| levels > 0) else { return };
        let count = self.heap.read_u64(map).unwrap_or(0);
        let Some(groups) = self.word(map.offset(GROUPS)).filter(|_| count > 0) else { return };
        for child in self.children(context, groups, count) {
            self.done(child, "ends a context above the one whose Done it is");
            self.below(child, levels - 1);
        }
    }

    /// The contexts below `above` in a map of `count` keys. What is no key is told apart by not being below: a
    /// larger map has its keys in a row of buckets, or in the groups of the tables of a directory.
    fn children(&mut self, above: Addr, groups: Addr, count: u64) -> Vec<Addr> {
        if count <= KEYS {
            return self.keys(above, groups, GROUP);
        }
        // A bucket or group is half full at least, but for a map that has shrunk.
        let words = count.saturating_mul(4 * GROUP) / KEYS;
        let mut found = self.keys(above, groups, words);
        let mut tables: Vec<Addr> = (0..count).map_while(|i| self.word(groups.offset(8 * i))).collect();
        tables.dedup();
        for table in tables {
            if let Some(groups) = self.word(table.offset(GROUPS)) {
                found.extend(self.keys(above, groups, words));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn keys(&mut self, above: Addr, groups: Addr, words: u64) -> Vec<Addr> {
        // What says that it has more is no map, and must not use up what others need.
        let words = if words <= self.left { words } else { 0 };
        self.left -= words;
        let all = (0..words).filter_map(|i| self.word(groups.offset(8 * i)));
        let below = |word: Addr| {
            let mut forms = [Some(word), self.word(word)].into_iter().flatten();
            forms.find(|context| self.is_below(*context, above))
        };
        all.filter_map(below).collect()
    }

    /// Whether a context is below another, with no more than values in between. In 1.20 a context with a
    /// deadline only leads to what others are.
    fn is_below(&self, context: Addr, above: Addr) -> bool {
        let mut at = context;
        for _ in 0..BETWEEN {
            match self.word(at.offset(ABOVE)) {
                Some(next) if next == above || self.word(next) == Some(above) => return true,
                Some(next) if next != at => at = next,
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    const WAITED: Addr = Addr::new(0x9000);

    fn put(memory: &mut SparseMemory, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.put(Addr::new(at), bytes);
    }

    /// A context: what is above it, its channel, its map.
    fn context(memory: &mut SparseMemory, at: u64, above: u64, done: u64, children: u64) {
        put(memory, at, &[0x40_0000, above, 0, 0x40_0010, done, children]);
    }

    fn search(memory: &SparseMemory) -> FxHashMap<Addr, &'static str> {
        let waited = [WAITED].into_iter().collect();
        let mut search = Search { heap: memory, waited, left: WORDS, found: FxHashMap::default() };
        search.closure(Addr::new(0x1000));
        search.found
    }

    /// A closure of a context with one key in its map, behind a context that holds a value.
    fn world(key: u64) -> SparseMemory {
        let mut memory = SparseMemory::new();
        put(&mut memory, 0x1000, &[0x40_1000, 0x2000]);
        context(&mut memory, 0x2000, 0, 0, 0x3000);
        put(&mut memory, 0x3000, &[1, 0, 0x4000]);
        let mut group = [0; 17];
        group[5] = 0x40_0020;
        group[6] = key;
        put(&mut memory, 0x4000, &group);
        put(&mut memory, 0x5000, &[0x40_0030, 0x2000, 1, 2]);
        context(&mut memory, 0x6000, 0x5000, WAITED.get(), 0);
        context(&mut memory, 0x7000, 0x8000, WAITED.get(), 0);
        put(&mut memory, 0x8000, &[0, 0]);
        memory
    }

    #[test]
    fn a_context_below_is_found_behind_one_that_holds_a_value() {
        assert_eq!(search(&world(0x6000)).keys().collect::<Vec<_>>(), [&WAITED]);
    }

    #[test]
    fn contexts_with_a_deadline_of_1_20_lead_to_what_others_are() {
        let mut memory = SparseMemory::new();
        // The timer's context, and one with a deadline below it, whose own child is waited for.
        put(&mut memory, 0x1000, &[0x40_1000, 0x1800]);
        put(&mut memory, 0x1800, &[0x2000, 0x1900]);
        context(&mut memory, 0x2000, 0, 0, 0x3000);
        put(&mut memory, 0x3000, &[1, 0, 0x4000]);
        let group = |key: u64| [&[0, 0x40_0020, key][..], &[0; 14]].concat();
        put(&mut memory, 0x4000, &group(0x5000));
        put(&mut memory, 0x5000, &[0x6000, 0x1900]);
        context(&mut memory, 0x6000, 0x1800, 0, 0x7000);
        put(&mut memory, 0x7000, &[1, 0, 0x8000]);
        put(&mut memory, 0x8000, &group(0xa000));
        context(&mut memory, 0xa000, 0x5000, WAITED.get(), 0);
        assert_eq!(search(&memory).len(), 1);
        context(&mut memory, 0xa000, 0x6100, WAITED.get(), 0);
        assert!(search(&memory).is_empty());
    }

    #[test]
    fn what_is_below_another_context_is_not() {
        assert!(search(&world(0x7000)).is_empty());
    }

    #[test]
    fn what_is_no_context_uses_nothing_up() {
        let mut memory = world(0x6000);
        // Behind the closure lies something whose words look like a context with a very large map.
        put(&mut memory, 0x1000, &[0x40_1000, 0xa000, 0x2000]);
        context(&mut memory, 0xa000, 0, 0, 0xb000);
        put(&mut memory, 0xb000, &[0xc000_0000, 0, 0xb000]);
        assert_eq!(search(&memory).len(), 1);
    }

    #[test]
    fn contexts_that_are_below_themselves_end() {
        let mut memory = world(0x6000);
        context(&mut memory, 0x6000, 0x2000, WAITED.get(), 0x3000);
        context(&mut memory, 0x2000, 0x6000, 0, 0x3000);
        assert_eq!(search(&memory).len(), 1);
    }
}
