use super::*;
use crate::image::blob::FromMemory;
use crate::image::testing::{Built, FuncSpec, GOFUNC, MODULEDATA, Spec, TABLE, TEXT, layout};
use crate::memory::sparse::SparseMemory;

/// Two functions, 0x40 and 0x20 bytes long; the first has everything.
fn spec(magic: u32) -> Spec {
    let first = FuncSpec {
        name: "main.work",
        entry: 0,
        args: 24,
        deferreturn: 0x30,
        start_line: 11,
        id: 9,
        flags: 5,
        pcsp: &[(0, 4), (24, 0x38), (0, 4)],
        pcfile: &[(1, 0x20), (0, 0x20)],
        pcln: &[(12, 0x10), (300, 0x10), (13, 0x20)],
        pcdata: vec![&[], &[], &[(-1, 0x10), (3, 0x30)]],
        funcdata: vec![u32::MAX, 0, u32::MAX, 0x80],
    };
    let second = FuncSpec { name: "main.end", entry: 0x40, args: -1, flags: 2, ..FuncSpec::default() };
    Spec {
        magic,
        quantum: 1,
        funcs: vec![first, second],
        end: 0x60,
        files: vec!["/a.go", "/b.go"],
        names: vec![],
    }
}

fn load(memory: &SparseMemory) -> Result<Modules> {
    Modules::load(memory, &FromMemory(memory), Addr::new(MODULEDATA), &layout(), Arch::Amd64)
}

fn at(offset: u64) -> Addr {
    Addr::new(TEXT + offset)
}

#[test]
fn both_formats_say_the_same() {
    for (magic, start_line) in [(0xffff_fff0, 0), (0xffff_fff1, 11)] {
        let modules = load(&spec(magic).build().memory).unwrap();
        let f = modules.find(at(0x3f)).unwrap();
        assert_eq!((f.name(), f.entry(), f.end()), ("main.work", at(0), at(0x40)));
        assert_eq!((f.args(), f.deferreturn(), f.start_line(), f.id()), (24, 0x30, start_line, 9));
        assert_eq!((f.top_frame(), f.sp_write(), f.asm()), (true, false, true));
        let depths = [0, 3, 4, 0x3b, 0x3c, 0x3f].map(|n| f.pcsp(at(n)));
        assert_eq!(depths, [Some(0), Some(0), Some(24), Some(24), Some(0), Some(0)]);
        assert_eq!(f.file_line(at(0)), (Some("/b.go"), 12));
        assert_eq!(f.file_line(at(0x1f)), (Some("/b.go"), 300));
        assert_eq!(f.file_line(at(0x20)), (Some("/a.go"), 13));
        let index = |n| f.pcdata(pcdata::INL_TREE_INDEX, at(n));
        assert_eq!([index(0), index(0xf), index(0x10)], [-1, -1, 3]);
        assert_eq!(f.pcdata(pcdata::ARG_LIVE_INDEX, at(0)), -1);
        let data = [0, 1, 2, 3, 4].map(|n| f.funcdata(n));
        assert_eq!(data, [None, Some(Addr::new(GOFUNC)), None, Some(Addr::new(GOFUNC + 0x80)), None]);

        let f = modules.find(at(0x40)).unwrap();
        assert_eq!((f.name(), f.sp_write(), f.args()), ("main.end", true, -1));
        assert_eq!((f.pcsp(at(0x40)), f.file_line(at(0x40))), (None, (None, 0)));
    }
}

#[test]
fn addresses_outside_belong_to_no_function() {
    let modules = load(&spec(0xffff_fff1).build().memory).unwrap();
    for pc in [0, TEXT - 1, TEXT + 0x60, u64::MAX] {
        assert!(modules.find(Addr::new(pc)).is_none(), "{pc:#x}");
    }
    let f = modules.find(at(0)).unwrap();
    assert_eq!(f.pcsp(at(0x40)), None);
    assert_eq!(f.pcsp(Addr::new(TEXT - 1)), None);
}

#[test]
fn instructions_count_in_quanta() {
    let built = Spec { quantum: 4, ..spec(0xffff_fff1) }.build();
    let memory = &built.memory;
    let modules =
        Modules::load(memory, &FromMemory(memory), Addr::new(MODULEDATA), &layout(), Arch::Arm64).unwrap();
    let f = modules.find(at(0)).unwrap();
    assert_eq!([f.pcsp(at(15)), f.pcsp(at(16))], [Some(0), Some(24)]);
    // A table for another processor is refused.
    assert_eq!(load(memory).err().unwrap().kind(), ErrorKind::BadExecutable);
}

#[test]
fn names_are_found_wherever_they_occur() {
    let mut spec = spec(0xffff_fff1);
    spec.funcs[1].name = "main.work";
    let modules = load(&spec.build().memory).unwrap();
    let places: Vec<Addr> = modules.functions_of(&["main.work"]).concat().iter().map(|f| f.entry()).collect();
    assert_eq!(places, [at(0), at(0x40)]);
    assert!(modules.functions_of(&["main.wor"]).concat().is_empty());
}

#[test]
fn code_in_several_sections_is_found() {
    let mut memory = spec(0xffff_fff1).build().memory;
    // The second function was moved 0x1000 up.
    let sections = [0, 0x40, TEXT, 0x40, 0x60, TEXT + 0x1040];
    let bytes: Vec<u8> = sections.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    memory.put(Addr::new(0x80_0000), bytes);
    let mut data = memory.read_span(Span { start: Addr::new(MODULEDATA), len: 592 }, 592).unwrap();
    for (at, value) in [(168, TEXT + 0x1060), (184, TEXT + 0x1060), (328, 0x80_0000), (336, 2)] {
        data[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    memory.put(Addr::new(MODULEDATA), data);
    let modules = load(&memory).unwrap();
    let find = |n| modules.find(at(n)).map(|f| (f.name(), f.entry()));
    assert_eq!(find(0x3f), Some(("main.work", at(0))));
    assert_eq!([find(0x40), find(0x103f), find(0x1060)], [None, None, None]);
    assert_eq!(find(0x1040), Some(("main.end", at(0x1040))));
    assert_eq!(find(0x105f), Some(("main.end", at(0x1040))));
}

#[test]
fn later_modules_are_found_and_bad_ones_are_named() {
    let mut built = spec(0xffff_fff1).build();
    let mut data = built.memory.read_span(Span { start: Addr::new(MODULEDATA), len: 592 }, 592).unwrap();
    let put = |data: &mut Vec<u8>, at: usize, value: u64| {
        data[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    let second = MODULEDATA + 0x1000;
    put(&mut data, 584, second);
    built.memory.put(Addr::new(MODULEDATA), data.clone());
    // The second lies above and leads back to the first: a cycle.
    put(&mut data, 584, MODULEDATA);
    for field in [160, 168, 176, 184] {
        let moved = u64::from_le_bytes(data[field..field + 8].try_into().unwrap()) + 0x10_0000;
        put(&mut data, field, moved);
    }
    built.memory.put(Addr::new(second), data.clone());
    let modules = load(&built.memory).unwrap();
    assert_eq!(modules.modules().len(), 2);
    assert_eq!(modules.find(at(0x10_0000)).unwrap().entry(), at(0x10_0000));
    assert_eq!(modules.find(at(0)).unwrap().entry(), at(0));
    assert_eq!(modules.losses().entries().len(), 1);

    // Its count of functions is beyond its table.
    put(&mut data, 136, 1 << 40);
    put(&mut data, 584, 0);
    built.memory.put(Addr::new(second), data);
    let modules = load(&built.memory).unwrap();
    assert_eq!(modules.modules().len(), 1);
    assert_eq!(modules.losses().entries().len(), 1);
}

/// Asks everything of every function, near all its edges.
fn ask_everything(modules: &Modules, memory: &SparseMemory) {
    for f in modules.modules().iter().flat_map(Module::functions) {
        for pc in [f.entry(), f.entry().offset(0x21), f.end().back(1), f.end()] {
            let _ = (f.pcsp(pc), f.file_line(pc), f.name(), f.start_line(), f.args(), f.id());
            for n in [0, 2, 3, 1 << 20, u32::MAX] {
                let _ = (f.pcdata(n, pc), f.funcdata(n));
            }
            assert!(f.inline_at(memory, pc).count() <= 1001);
        }
    }
    for n in 0..0x70 {
        let _ = modules.find(at(n)).map(|f| f.name());
    }
}

#[test]
fn damaged_tables_neither_panic_nor_hang() {
    let Built { memory, table, pctab, .. } = spec(0xffff_fff1).build();
    for position in 0..table.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = table.clone();
            damaged[position] = value;
            let mut memory = memory.clone();
            memory.put(Addr::new(TABLE), damaged);
            if let Ok(modules) = load(&memory) {
                ask_everything(&modules, &memory);
            }
        }
    }
    // Varints that never end, up to the end of the table.
    let mut endless = table;
    endless[pctab..].fill(0xff);
    let mut memory = memory.clone();
    memory.put(Addr::new(TABLE), endless);
    if let Ok(modules) = load(&memory) {
        ask_everything(&modules, &memory);
    }
}

#[test]
fn damaged_moduledata_neither_panics_nor_hangs() {
    let built = spec(0xffff_fff1).build();
    let data = built.memory.read_span(Span { start: Addr::new(MODULEDATA), len: 592 }, 592).unwrap();
    for word in 0..data.len() / 8 {
        for value in [0, 1, 8, TABLE, MODULEDATA, TEXT, 1 << 40, u64::MAX, u64::MAX - 7] {
            let mut damaged = data.clone();
            damaged[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
            let mut memory = built.memory.clone();
            memory.put(Addr::new(MODULEDATA), damaged);
            if let Ok(modules) = load(&memory) {
                ask_everything(&modules, &memory);
            }
        }
    }
}

#[test]
fn a_distance_of_zero_is_passed_and_a_change_of_zero_ends() {
    // +1 for 0 bytes, +4 for 2 bytes, end.
    let table = [2, 0, 8, 2, 0, 9];
    assert_eq!(pc_value(&table, 0, 1), Some(4));
    assert_eq!(pc_value(&table, 1, 1), Some(4));
    assert_eq!(pc_value(&table, 2, 1), None);
    // The first change may be zero: the value stays -1.
    assert_eq!(pc_value(&[0, 4, 0], 3, 1), Some(-1));
}

#[test]
fn varints_have_at_most_five_bytes() {
    assert_eq!(varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(u32::MAX));
    assert_eq!(varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None);
    assert_eq!(varint(&mut &[0x80][..]), None);
}
