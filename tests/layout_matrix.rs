//! The built-in tables against what they describe: the DWARF of programs of each release and both
//! processors, and the sources of the runtime. Releases that can't be had here are named and skipped.

#[path = "../testprogs/layout/measure.rs"]
mod measure;

use allgs::arch::Arch;
use allgs::image::Provenance;
use allgs::image::layout::rules::{FuncKind, Rules};
use allgs::image::layout::schema;
use allgs::image::layout::table::Chosen;
use allgs::image::layout::version::GoVersion;
use measure::ARCHES;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn chosen(release: &str) -> Chosen {
    Chosen::of(&GoVersion::parse(release)).expect("a built-in table")
}

/// Compares all members of all declared structures; returns how many there are and what differs.
fn compare(release: &str, arch: Arch, dir: &std::path::Path) -> Option<(usize, Vec<String>)> {
    let facts = measure::measure(&measure::build(release, arch, dir)?);
    let chosen = chosen(release);
    let (mut compared, mut differ) = (0, Vec::new());
    for decl in schema::ALL {
        let dwarf = &facts.structs[decl.go_name];
        let (table, by) = chosen.structure(decl.go_name, arch).expect("in the table");
        assert_eq!(by, Provenance::Builtin, "{release} {arch} {}", decl.go_name);
        let sizes = ("size", Some(dwarf.size), Some(table.size));
        let members = decl.fields.iter().map(|field| {
            let in_dwarf = field.paths.iter().find_map(|p| dwarf.offsets.get(p).copied());
            (field.name, in_dwarf, field.paths.iter().find_map(|p| table.offset(p)))
        });
        for (name, in_dwarf, in_table) in members.chain([sizes]) {
            compared += usize::from(in_dwarf.is_some() || in_table.is_some());
            if in_dwarf != in_table {
                differ.push(format!("{}.{name}: {in_dwarf:?}, table {in_table:?}", decl.go_name));
            }
        }
    }
    Some((compared, differ))
}

/// A second processor needs a second standard library per release: some are measured, all of them with
/// `ALLGS_PRODUCT=all`.
fn arm64_is_measured(release: &str) -> bool {
    ["go1.18.10", "go1.21.13", "go1.24.13", "go1.27.4"].contains(&release)
        || std::env::var("ALLGS_PRODUCT").is_ok_and(|v| v == "all")
}

#[test]
fn the_tables_are_what_the_dwarf_of_every_release_says() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut seen = 0;
    for (name, _) in measure::releases() {
        for arch in ARCHES {
            if arch == Arch::Arm64 && !arm64_is_measured(&name) {
                continue;
            }
            let Some((compared, differ)) = compare(&name, arch, dir.path()) else {
                println!("{name} {arch}: not to be had here");
                continue;
            };
            let equal = compared - differ.len();
            println!("{name} {arch}: members compared: {compared}, equal: {equal}");
            assert!(compared > 100, "{name} {arch}: hardly anything was compared");
            assert_eq!(differ, Vec::<String>::new(), "{name} {arch}");
            seen += 1;
        }
    }
    assert!(seen > 0, "no release of Go is to be had");
}

/// Reads a file of a release's sources.
fn source(release: &str, path: &str) -> Option<String> {
    let output = measure::go(release)?.args(["env", "GOROOT"]).output().expect("go runs");
    let root = String::from_utf8(output.stdout).expect("a path in UTF-8");
    std::fs::read_to_string(PathBuf::from(root.trim()).join("src").join(path)).ok()
}

/// The names of a Go `const ( A = iota; B; ... )` list that begins with the line `first`.
fn constants<'a>(source: &'a str, first: &str) -> Vec<&'a str> {
    let (_, list) = source.split_once(first).expect("the list is there");
    let lines = list.lines().skip(1).take_while(|l| l.trim() != ")");
    let names = lines.map(|l| l.split("//").next().unwrap_or(""));
    let name = first.trim().split(' ').next().expect("a name");
    let first = &source[source.find(first).expect("found")..][..name.len()];
    std::iter::once(first).chain(names.map(str::trim).filter(|n| !n.is_empty())).collect()
}

/// The texts of `waitReasonStrings` by number.
fn wait_reasons(runtime2: &str) -> Vec<String> {
    let names = constants(runtime2, "waitReasonZero ");
    let names = names.into_iter().map(|n| n.split(' ').next().unwrap_or(n));
    let (_, table) = runtime2.split_once("var waitReasonStrings = ").expect("the table is there");
    let (table, _) = table.split_once("\n}").expect("it ends");
    let texts: BTreeMap<&str, String> = table
        .lines()
        .filter_map(|line| {
            let (name, text) = line.trim().split_once(':')?;
            let text = text.trim().trim_end_matches(',').trim_matches('"');
            Some((name, text.to_owned()))
        })
        .collect();
    names.map(|name| texts.get(name).cloned().unwrap_or_default()).collect()
}

#[test]
fn the_wait_reasons_are_those_of_the_sources() {
    let mut seen = 0;
    for (name, release) in measure::releases() {
        let Some(runtime2) = source(&name, "runtime/runtime2.go") else { continue };
        let table = chosen(&name).table.wait_reasons(release.patch);
        let real = wait_reasons(&runtime2);
        assert!(real.len() > 20, "{name}: {real:?}");
        assert_eq!(table, real, "{name}");
        println!("{name}: wait reasons equal: {}", real.len());
        seen += 1;
    }
    assert!(seen > 0, "no release of Go is to be had");
}

#[test]
fn the_special_functions_are_those_of_the_sources() {
    let mut seen = 0;
    for (name, _) in measure::releases() {
        let (symtab, prefix) = match source(&name, "internal/abi/symtab.go") {
            Some(text) if text.contains("FuncIDNormal") => (text, "FuncID_"),
            _ => match source(&name, "runtime/symtab.go") {
                Some(text) if text.contains("funcID_normal") => (text, "funcID_"),
                _ => continue,
            },
        };
        let first = if prefix == "FuncID_" { "FuncIDNormal " } else { "funcID_normal " };
        let rules = Rules::of(&chosen(&name)).expect("rules");
        let names = constants(&symtab, first);
        assert!(names.len() > 20, "{name}: {names:?}");
        for (number, function) in names.iter().enumerate() {
            let kind = rules.func_kind(u8::try_from(number).expect("a small number"));
            let short = function.trim_start_matches(prefix).trim_start_matches("FuncID");
            let plain = |text: &str| text.to_lowercase().replace('_', "").replace("v2", "");
            assert_eq!(plain(&format!("{kind:?}")), plain(short), "{name} {number}");
        }
        let after = u8::try_from(names.len()).expect("a small number");
        assert_eq!(rules.func_kind(after), FuncKind::Other, "{name}");
        println!("{name}: special functions equal: {}", names.len());
        seen += 1;
    }
    assert!(seen > 0, "no release of Go is to be had");
}
