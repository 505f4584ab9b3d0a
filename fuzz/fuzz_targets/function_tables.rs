//! A real program's moduledata and function tables with changed words; half of the inputs are read as the
//! tables, whole, to which a moduledata leads.
#![no_main]

use allgs::addr::{Addr, Span};
use allgs::image::blob::FromMemory;
use allgs::image::moduledata::ModuleInfo;
use allgs::image::pclntab::Modules;
use allgs::memory::Memory;
use allgs::memory::overlay::Overlay;
use allgs::memory::sparse::SparseMemory;
use allgs::source::Source;
use allgs_fuzz::base::Base;
use allgs_fuzz::change::Change;
use allgs_fuzz::words::{Word, Words};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::LazyLock;

struct Ground {
    base: Base,
    info: ModuleInfo,
    /// The moduledata, the header and each of its tables, and the funcdata.
    parts: Vec<Span>,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let base = Base::open();
    let info = base.image.modules.modules()[0].info.clone();
    let memory = base.image.memory(base.core.memory());
    let size = u64::from(base.image.layouts.moduledata.size);
    let word = |n: u64| memory.read_u64(info.at.offset(8 * n)).expect("a moduledata");
    let mut parts = vec![Span { start: info.at, len: size }, Span { start: Addr::new(word(0)), len: 64 }];
    // The slices after `pcHeader` (runtime/symtab.go): funcnametab, cutab, filetab, pctab, pclntable, ftab.
    parts.extend((0..6).map(|i| Span { start: Addr::new(word(1 + 3 * i)), len: word(2 + 3 * i) }));
    parts.push(Span { start: info.gofunc, len: 1 << 15 });
    drop(memory);
    Ground { base, info, parts }
});

/// Where the tables lie that an input is.
const TABLES: u64 = 0x1_0000_0000;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    match first % 2 {
        0 => changed(rest),
        _ => whole(rest),
    }
});

fn changed(input: &[u8]) {
    let ground = &*GROUND;
    let memory = ground.base.image.memory(ground.base.core.memory());
    let mut words = BTreeMap::new();
    let mut places = Vec::new();
    for change in Change::all(input) {
        let part = ground.parts[usize::from(change.class) % ground.parts.len()];
        let at = part.start.offset(change.pick(part.len.saturating_sub(8)) & !7);
        let old = memory.read_u64(at).unwrap_or(0);
        let of = |n: u64| ground.parts[n as usize % ground.parts.len()].start.get();
        words.insert(at.get(), Word { new: change.apply(old, at.get(), of), flickers: false });
        places.push(at);
    }
    look(&Words::over(&memory, words), &places);
}

/// A moduledata of the real program whose table is the input.
fn whole(input: &[u8]) {
    let ground = &*GROUND;
    let memory = ground.base.image.memory(ground.base.core.memory());
    let mut upper = SparseMemory::new();
    let mark = memory.read_u64(ground.parts[1].start).expect("a header");
    let mut table = mark.to_le_bytes().to_vec();
    table.extend(input);
    let len = table.len() as u64;
    upper.put(Addr::new(TABLES), table);
    let mut words = BTreeMap::new();
    let mut set =
        |word: u64, new| words.insert(ground.info.at.get() + 8 * word, Word { new, flickers: false });
    set(0, TABLES);
    for (i, quarter) in (0..6).zip([0, 1, 1, 1, 2, 2]) {
        let start = len / 4 * quarter;
        set(1 + 3 * i, TABLES + start);
        set(2 + 3 * i, if i == 5 { (len - start) / 40 } else { len - start });
    }
    look(&Words::over(&Overlay { upper, lower: &memory as &dyn Memory }, words), &[]);
}

/// Looks functions up at all kinds of places and reads all that the tables say of them.
fn look(memory: &dyn Memory, places: &[Addr]) {
    let Base { image, .. } = &GROUND.base;
    let regions = FromMemory(memory);
    let Ok(modules) = Modules::load(memory, &regions, GROUND.info.at, &image.layouts.moduledata, image.arch)
    else {
        return;
    };
    let info = &GROUND.info;
    let len = info.maxpc.above(info.minpc).unwrap_or(0);
    let spread = (0..64).map(|i| info.minpc.offset(len / 64 * i));
    for pc in spread.chain(places.iter().copied()).chain([Addr::NULL, Addr::new(u64::MAX)]) {
        let Some(f) = modules.find(pc) else { continue };
        let _ = (f.name(), f.args(), f.deferreturn(), f.start_line(), f.pcsp(pc), f.file_line(pc), f.end());
        let _ = ((0..4).map(|i| f.pcdata(i, pc)).max(), (0..8).filter_map(|i| f.funcdata(i)).count());
        // A thousand inlined calls at most, and the function itself.
        assert!(f.inline_at(memory, pc).count() <= 1001);
    }
    let all = modules.modules().iter().flat_map(|m| m.functions().take(200));
    assert!(all.map(|f| f.name().len()).max().is_none_or(|len| len < 1 << 20));
    let _ = modules.functions_of(&["runtime.gopark"]);
}
