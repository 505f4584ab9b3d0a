//! The function tables of real programs against the symbol table and the DWARF of the same file.

#[path = "support/elf_memory.rs"]
mod elf_memory;
#[path = "support/layouts.rs"]
mod layouts;

use allgs::addr::Addr;
use allgs::image::blob::FromMemory;
use allgs::image::pclntab::Modules;
use allgs::image::search::{SearchSpace, find_moduledata};
use elf_memory::{Loaded, build, minor, releases_of};
use std::collections::HashSet;

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

#[test]
fn the_moduledata_is_found_without_symbols() {
    for kind in KINDS {
        for release in releases_of(kind) {
            let program = Loaded::open(&build(release, kind, "zoo"));
            let (first, _) = modules(&program, release);
            assert_eq!(first, program.symbols["runtime.firstmoduledata"], "{release} {kind}");
        }
    }
}

/// Functions of the symbol table that the tables may lack: C code and what the linker makes.
#[test]
fn every_function_has_its_name_and_place() {
    for kind in KINDS {
        for release in releases_of(kind) {
            let program = Loaded::open(&build(release, kind, "zoo"));
            let (_, modules) = modules(&program, release);
            let mut compared = 0;
            for (name, entry, size) in &program.functions {
                let Some(f) = modules.find(*entry) else {
                    assert!(
                        ["runtime.etext", "runtime.text", "_rt0_amd64_linux"].contains(&name.as_str())
                            || *size == 0,
                        "{release} {kind}: {name} at {entry} is in no function"
                    );
                    continue;
                };
                if *size == 0 {
                    continue;
                }
                assert_eq!(f.entry(), *entry, "{release} {kind}: {name}");
                assert!(f.end() >= entry.offset(*size), "{release} {kind}: {name}");
                assert_eq!(plain(f.name()), plain(name), "{release} {kind}");
                assert_eq!(modules.find(entry.offset(size - 1)).map(|f| f.entry()), Some(*entry));
                compared += 1;
            }
            let listed: HashSet<Addr> =
                modules.modules().iter().flat_map(|m| m.functions()).map(|f| f.entry()).collect();
            println!("{release} {kind}: functions compared: {compared}, listed {}", listed.len());
            assert!(compared > 1500);
        }
    }
}

/// A name without type arguments and without the ABI suffix of symbols.
fn plain(name: &str) -> String {
    let name = name.trim_end_matches(".abi0").trim_end_matches(".abiinternal");
    match (name.find('['), name.rfind(']')) {
        (Some(a), Some(b)) if a < b => format!("{}[...]{}", &name[..a], &name[b + 1..]),
        _ => name.to_owned(),
    }
}
