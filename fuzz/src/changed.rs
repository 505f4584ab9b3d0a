//! The base with some words of its memory changed: a [`Source`] over another.

use crate::base::Base;
use crate::change::Change;
use crate::words::{Word, Words};
use allgs::addr::{Addr, Nanotime, Pid, Span};
use allgs::arch::Arch;
use allgs::diag::Diagnostics;
use allgs::error::Result;
use allgs::memory::Memory;
use allgs::runtime::capture::CaptureOptions;
use allgs::runtime::snapshot::Snapshot;
use allgs::source::{Auxv, Crash, Mapping, Origin, Source, Thread, Tracer};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

/// A thing of the target: where it begins, and how many words it has.
type Thing = (u64, u64);

/// Words of a thing of the heap whose size is not known.
const SOME_WORDS: u64 = 16;

/// Things of the heap that are known at most.
const MOST_THINGS: usize = 20_000;

/// The base and its things, by kind.
pub struct Ground {
    base: Base,
    kinds: Vec<Vec<Thing>>,
}

impl Ground {
    pub fn open() -> Ground {
        let base = Base::open();
        let kinds = kinds(&base);
        for things in &kinds {
            assert!(!things.is_empty());
        }
        Ground { base, kinds }
    }

    fn thing(&self, kind: u64, number: u64) -> Thing {
        let things = &self.kinds[(kind % self.kinds.len() as u64) as usize];
        things[(number % things.len() as u64) as usize]
    }

    /// The base with the changes of an input.
    pub fn changed(&self, input: &[u8]) -> Changed<'_> {
        let mut words = BTreeMap::new();
        let mut live = false;
        for change in Change::all(input) {
            let (start, len) = self.thing(u64::from(change.class & 0x7f), change.object.into());
            let at = start + 8 * (u64::from(change.word) % len);
            let old = self.base.core.memory().read_u64(Addr::new(at)).unwrap_or(0);
            let new = change.apply(old, start, |n| self.thing(n, n >> 8).0);
            let flickers = change.class & 0x80 != 0;
            live |= flickers;
            words.insert(at, Word { new, flickers });
        }
        let origin = match live {
            true => Origin::Live { pid: Pid(1) },
            false => self.base.core.origin().clone(),
        };
        Changed { ground: self, memory: Words::over(self.base.core.memory(), words), origin }
    }
}

/// Globals, gs, ms, ps, stacks, and what these lead to.
fn kinds(base: &Base) -> Vec<Vec<Thing>> {
    let snapshot =
        Snapshot::take(&base.core, &base.image, &CaptureOptions::UNSTOPPED).expect("the base can be decoded");
    let (globals, layouts) = (&base.image.globals, &base.image.layouts);
    let words = |size: u32| u64::from(size / 8);
    let mut variables = vec![(globals.allgs.value.get(), 3)];
    for (found, len) in [
        (globals.allglen, 1),
        (globals.allgptr, 1),
        (globals.allm, 1),
        (globals.allp, 3),
        (globals.sched, words(layouts.sched.size)),
        (globals.semtable, 251 * 8),
    ] {
        variables.extend(found.map(|found| (found.value.get(), len)));
    }
    let gs: Vec<Thing> = snapshot.gs.iter().map(|g| (g.at.get(), words(layouts.g.size))).collect();
    let ms: Vec<Thing> = snapshot.ms.iter().map(|m| (m.at.get(), words(layouts.m.size))).collect();
    let ps: Vec<Thing> = snapshot.ps.iter().map(|p| (p.at.get(), 512)).collect();
    let stack = |g: &allgs::runtime::G| {
        let start = g.sched.sp.get() & !7;
        let used = g.stack_hi.get().checked_sub(start)? / 8;
        (used > 0 && used < 1 << 16).then_some((start, used))
    };
    let stacks: Vec<Thing> = snapshot.gs.iter().filter_map(stack).collect();
    let mut kinds = vec![variables, gs, ms, ps, stacks];
    let heap = heap(base, &kinds);
    kinds.push(heap);
    kinds
}

/// What words of the known things point to, and what words of those do.
fn heap(base: &Base, known: &[Vec<Thing>]) -> Vec<Thing> {
    let mut found: BTreeSet<u64> = BTreeSet::new();
    let mut open: Vec<Thing> = known.iter().flatten().copied().collect();
    for _ in 0..2 {
        let words = open.iter().flat_map(|(start, len)| (0..*len).map(move |i| Addr::new(start + 8 * i)));
        let pointers = words.filter_map(|at| base.core.memory().read_u64(at).ok());
        let new: Vec<u64> =
            pointers.filter(|value| is_heap(base, *value) && !found.contains(value)).collect();
        found.extend(new.iter().take(MOST_THINGS.saturating_sub(found.len())));
        open = new.into_iter().map(|at| (at, SOME_WORDS)).collect();
    }
    found.into_iter().map(|at| (at, SOME_WORDS)).collect()
}

fn is_heap(base: &Base, value: u64) -> bool {
    let span = Span { start: Addr::new(value), len: 8 * SOME_WORDS };
    let inside = |m: &Mapping| m.writable && m.span.contains_range(span.start, span.len);
    value % 8 == 0
        && base.core.mappings().iter().any(inside)
        && base.core.memory().read_u64(span.start).is_ok()
}

/// The base, changed.
pub struct Changed<'a> {
    ground: &'a Ground,
    memory: Words<'a>,
    origin: Origin,
}

impl Changed<'_> {
    /// Asks everything of it.
    pub fn ask(&self) {
        crate::answer::everything(self, &self.ground.base.image, crate::answer::by_objects);
    }
}

impl Source for Changed<'_> {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn arch(&self) -> Arch {
        self.ground.base.core.arch()
    }

    fn memory(&self) -> &dyn Memory {
        &self.memory
    }

    fn mappings(&self) -> &[Mapping] {
        self.ground.base.core.mappings()
    }

    fn auxv(&self) -> &Auxv {
        self.ground.base.core.auxv()
    }

    fn executable_path(&self) -> Option<&Path> {
        self.ground.base.core.executable_path()
    }

    fn open_executable(&self) -> Result<File> {
        self.ground.base.core.open_executable()
    }

    fn open_mapped(&self, mapping: &Mapping) -> Result<File> {
        self.ground.base.core.open_mapped(mapping)
    }

    fn now(&self) -> Option<Nanotime> {
        Some(Nanotime(1 << 50))
    }

    fn crash(&self) -> Option<Crash> {
        self.ground.base.core.crash()
    }

    fn diagnostics(&self) -> Diagnostics {
        Diagnostics::default()
    }

    fn threads(&self) -> Vec<Thread> {
        self.ground.base.core.threads()
    }

    fn trace(&self) -> Result<Box<dyn Tracer + '_>> {
        self.ground.base.core.trace()
    }
}
