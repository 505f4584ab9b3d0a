//! The runtime's globals, located by reading code, against the symbol table of the same file. Nothing
//! but the content of the segments is used to find them.

#[path = "support/elf_memory.rs"]
mod elf_memory;
#[path = "support/layouts.rs"]
mod layouts;

use allgs::addr::Addr;
use allgs::image::blob::FromMemory;
use allgs::image::code::rules::{Located, locate_globals, signal_handlers};
use allgs::image::pclntab::Modules;
use allgs::image::search::{SearchSpace, find_moduledata};
use allgs::image::{Found, Provenance};
use elf_memory::{Loaded, build, minor, releases_of};
use std::path::Path;

fn modules(program: &Loaded, release: &str) -> Modules {
    let (memory, arch) = (&program.memory, program.arch);
    let layout = layouts::moduledata(minor(release));
    let space = SearchSpace { tables: &program.segments, data: &program.segments };
    let first = find_moduledata(memory, &FromMemory(memory), &space, &layout, arch)[0];
    Modules::load(memory, &FromMemory(memory), first, &layout, arch).unwrap()
}

fn locate(program: &Loaded, release: &str) -> Located {
    let modules = modules(program, release);
    locate_globals(&modules, &program.memory, program.arch, &layouts::sched(minor(release)))
}

/// Compares all globals; gives the count and the names of those that differ.
fn compare(path: &Path, release: &str) -> (usize, Vec<String>) {
    let program = Loaded::open(path);
    let found = locate(&program, release);
    let place = |found: Option<Found<Addr>>| {
        assert!(found.is_none_or(|f| f.by == Provenance::Code));
        found.map(|f| f.value)
    };
    let globals = [
        ("allgs", place(found.allgs)),
        ("allglock", place(found.allglock)),
        ("allglen", place(found.allglen)),
        ("allgptr", place(found.allgptr)),
        ("allm", place(found.allm)),
        ("allp", place(found.allp)),
        ("sched", place(found.sched)),
        ("semtable", place(found.semtable)),
        ("mheap_", place(found.mheap)),
        ("waitReasonStrings", found.wait_reasons.map(|f| f.value.0)),
    ];
    let mut wrong = Vec::new();
    for (name, at) in globals {
        let right = program.symbols[&format!("runtime.{name}")];
        if at != Some(right) {
            wrong.push(format!("{name} is {right}, found {at:?}"));
        }
    }
    let (table, length) = (program.symbols["runtime.waitReasonStrings"], program.wait_reason_strings);
    if found.wait_reasons.map(|f| f.value) != Some((table, length)) {
        wrong.push(format!("waitReasonStrings has {length} entries, found {:?}", found.wait_reasons));
    }
    (globals.len() + 1, wrong)
}

/// Some releases of one kind of build.
fn check(kind: &str, releases: &[&str]) {
    let mut failures = Vec::new();
    for release in releases {
        let (compared, wrong) = compare(&build(release, kind, "zoo"), release);
        println!(
            "{release} {kind}: globals compared: {compared}, equal: {} {wrong:?}",
            compared - wrong.len()
        );
        failures.extend(wrong.into_iter().map(|w| format!("{release} {kind}: {w}")));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn amd64() {
    check("default", &releases_of("default"));
}

#[test]
fn amd64_position_independent() {
    check("pie", &releases_of("pie"));
}

#[test]
fn arm64() {
    check("arm64", &releases_of("arm64"));
}

#[test]
fn arm64_position_independent() {
    check("arm64-pie", &releases_of("arm64-pie"));
}

/// Oldest, one in the middle, newest.
const SOME: [&str; 3] = ["1.18.10", "1.22.12", "1.27.4"];

#[test]
fn without_optimization() {
    check("noopt", &SOME);
}

#[test]
fn for_a_newer_processor() {
    check("v3", &SOME);
}

#[test]
fn with_the_race_detector() {
    check("race", &SOME);
}

#[test]
fn with_c_code() {
    check("cgo", &SOME);
    check("cgo-pie", &SOME);
}

/// The map of package os/signal, and whether maps have buckets: until 1.23.
fn check_signals(kind: &str, releases: &[&str]) {
    for release in releases {
        let program = Loaded::open(&build(release, kind, "why"));
        let found = signal_handlers(&modules(&program, release), &program.memory, program.arch)
            .unwrap_or_else(|| panic!("{release} {kind}: not found"));
        assert_eq!(found.map, program.symbols["os/signal.handlers"].offset(8), "{release} {kind}");
        assert_eq!(found.buckets, minor(release) < 24, "{release} {kind}");
    }
}

#[test]
fn who_is_told_of_signals() {
    for kind in ["default", "arm64"] {
        check_signals(kind, &releases_of(kind));
    }
    for kind in ["noopt", "race", "pie", "arm64-pie"] {
        check_signals(kind, &SOME);
    }
}
