//! The function tables of real programs against the symbol table and the DWARF of the same file.

#[path = "support/elf_memory.rs"]
mod elf_memory;
#[path = "support/layouts.rs"]
#[allow(dead_code)]
mod layouts;

use addr2line::Context;
use allgs::addr::Addr;
use allgs::image::blob::FromMemory;
use allgs::image::pclntab::{Func, Modules};
use allgs::image::search::{SearchSpace, find_moduledata};
use elf_memory::{Loaded, build, minor, releases_of};
use gimli::{EndianSlice, LittleEndian, SectionId};
use object::{Object, ObjectSection};
use std::path::Path;

const KINDS: [&str; 4] = ["default", "pie", "arm64", "arm64-pie"];

/// Finds the modules from the content of the segments alone.
fn modules(program: &Loaded, release: &str) -> (Addr, Modules) {
    let layout = layouts::moduledata(minor(release));
    let space = SearchSpace { tables: &program.segments, data: &program.segments };
    let regions = FromMemory(&program.memory);
    let found = find_moduledata(&program.memory, &regions, &space, &layout, program.arch);
    let [first] = found[..] else { panic!("{release}: {} moduledatas", found.len()) };
    (first, Modules::load(&program.memory, &regions, first, &layout, program.arch).unwrap())
}

/// A name as both tables can say it: the symbol table may lack the type arguments, has suffixes for
/// the calling convention and writes a middle dot as a dot.
fn plain(name: &str) -> String {
    let name = name.trim_end_matches(".abi0").trim_end_matches(".abiinternal").replace('·', ".");
    match (name.find('['), name.rfind(']')) {
        (Some(a), Some(b)) if a < b => format!("{}[...]{}", &name[..a], &name[b + 1..]),
        _ => name,
    }
}

/// Compares the functions of the symbol table that lie in Go code; gives their count.
fn compare_functions(program: &Loaded, modules: &Modules, what: &str) -> usize {
    let text = modules.modules()[0].info.clone();
    let in_go = |at: Addr| text.minpc <= at && at < text.maxpc;
    let mut compared = 0;
    for (name, entry, size) in program.functions.iter().filter(|(_, at, size)| in_go(*at) && *size > 0) {
        let f = modules.find(*entry).unwrap_or_else(|| panic!("{what}: {name} at {entry} is in no function"));
        assert_eq!((f.entry(), plain(f.name())), (*entry, plain(name)), "{what}");
        assert!(f.end() >= entry.offset(*size), "{what}: {name}");
        assert_eq!(modules.find(entry.offset(size - 1)).map(Func::entry), Some(*entry), "{what}: {name}");
        compared += 1;
    }
    compared
}

#[test]
fn every_function_has_its_name_and_place() {
    for kind in KINDS {
        for release in releases_of(kind) {
            let program = Loaded::open(&build(release, kind, "zoo"));
            let (first, modules) = modules(&program, release);
            assert_eq!(first, program.symbols["runtime.firstmoduledata"], "{release} {kind}");
            let compared = compare_functions(&program, &modules, &format!("{release} {kind}"));
            println!("{release} {kind}: functions compared, all equal: {compared}");
            assert!(compared > 1500);
        }
    }
}

type Dwarf = Context<EndianSlice<'static, LittleEndian>>;

fn dwarf(path: &Path) -> Dwarf {
    let bytes = std::fs::read(path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let load = |id: SectionId| {
        let section = file.section_by_name(id.name());
        let content = section.map(|s| s.uncompressed_data().unwrap().into_owned()).unwrap_or_default();
        Ok::<_, gimli::Error>(EndianSlice::new(content.leak(), LittleEndian))
    };
    Context::from_dwarf(gimli::Dwarf::load(load).unwrap()).unwrap()
}

/// Function, file and line of each call at `pc`, innermost first.
type Frames = Vec<(String, String, u32)>;

fn by_dwarf(dwarf: &Dwarf, pc: Addr) -> Frames {
    let mut frames = dwarf.find_frames(pc.get()).skip_all_loads().unwrap();
    let mut found = Vec::new();
    while let Some(frame) = frames.next().unwrap() {
        let name = frame.function.map(|f| f.raw_name().unwrap().into_owned()).unwrap_or_default();
        let (file, line) = frame.location.map_or((None, None), |place| (place.file, place.line));
        // What the compiler generated has a name like a file in the current folder.
        let file = file.unwrap_or("").trim_start_matches("./").to_owned();
        found.push((plain(&name), file, line.unwrap_or(0)));
    }
    found
}

fn by_tables(program: &Loaded, func: Func<'_>, pc: Addr) -> Frames {
    let frames = func.inline_at(&program.memory, pc);
    frames.map(|f| (plain(f.name), f.file.unwrap_or("").to_owned(), f.line)).collect()
}

#[test]
fn lines_and_inlined_calls_are_those_of_the_dwarf() {
    for release in ["1.18.10", "1.19.13", "1.22.12", "1.27.4"] {
        for kind in ["default", "arm64"] {
            let path = build(release, kind, "zoo");
            let (program, dwarf) = (Loaded::open(&path), dwarf(&path));
            let (_, modules) = modules(&program, release);
            let (mut compared, mut inlined, mut differ) = (0, 0, Vec::new());
            for f in modules.modules()[0].functions().filter(|f| !f.asm()).step_by(3) {
                let len = f.end().above(f.entry()).unwrap();
                for pc in (0..len).step_by(28).map(|n| f.entry().offset(n)) {
                    let (wanted, got) = (by_dwarf(&dwarf, pc), by_tables(&program, f, pc));
                    // The DWARF says nothing of padding and little of what the compiler generated.
                    let generated = got.last().is_none_or(|(_, file, _)| file == "<autogenerated>");
                    if wanted.is_empty() || generated {
                        continue;
                    }
                    compared += 1;
                    inlined += usize::from(got.len() > 1);
                    if wanted != got {
                        differ.push((pc, wanted, got));
                    }
                }
            }
            println!("{release} {kind}: addresses: {compared}, inlined: {inlined}, differ: {}", differ.len());
            // Padding before the target of a jump: the tables count it to the next line already.
            assert!(differ.len() * 5000 < compared, "{release} {kind}: {differ:x?}");
            assert!(compared > 10_000 && inlined > 2000);
        }
    }
}
