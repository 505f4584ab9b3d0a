//! The oracle, over the ways to build: stripped or not, position-independent, with C, with the race
//! detector, without optimization. A part of the product of releases and kinds; with ALLGS_PRODUCT=all
//! all of it.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use support::{Target, allgs_ok, build, newest, oracle, tally_all, whole_product};

const KINDS: [&str; 10] = ["s", "w", "pie", "pie-s", "cgo", "cgo-s", "cgo-pie", "race", "noopt", "v3"];

/// Each kind and each newest release at least once. Most of these share compiled packages with what
/// other tests build.
const PART: [(&str, &str); 14] = [
    ("1.18.10", "cgo-pie"),
    ("1.18.10", "v3"),
    ("1.19.13", "s"),
    ("1.20.14", "w"),
    ("1.21.13", "pie-s"),
    ("1.22.12", "s"),
    ("1.23.12", "s"),
    ("1.24.13", "pie"),
    ("1.25.14", "s"),
    ("1.26.11", "s"),
    ("1.27.4", "cgo"),
    ("1.27.4", "cgo-s"),
    ("1.27.4", "race"),
    ("1.27.4", "noopt"),
];

fn pairs() -> Vec<(String, &'static str)> {
    if whole_product() {
        // By release, so that its toolchain is used while it is in memory.
        let kinds = |release: &String| KINDS.map(|kind| (release.clone(), kind));
        return newest().iter().flat_map(kinds).collect();
    }
    PART.iter().map(|(release, kind)| ((*release).to_owned(), *kind)).collect()
}

#[test]
fn the_part_has_every_kind_and_every_newest_release() {
    let kinds: BTreeSet<&str> = PART.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, KINDS.into_iter().collect());
    let of_part: BTreeSet<String> = PART.iter().map(|(release, _)| (*release).to_owned()).collect();
    assert_eq!(of_part, newest().into_iter().collect());
}

/// How the list of goroutines and the layouts of structures are found in a kind.
fn ways(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "s" | "pie-s" | "cgo-s" => ("code", "builtin"),
        "w" => ("symtab", "builtin"),
        _ => ("dwarf", "dwarf"),
    }
}

/// `allgs info` says how each thing was found, and that nothing is missing.
fn check_info(release: &str, kind: &str, target: &Target) {
    let text = allgs_ok(&["info", "--format", "json", &target.pid().to_string()]);
    let info: Value = serde_json::from_str(&text).expect("JSON");
    let what = format!("{release} {kind}: {info:#}");
    let (global, layout) = ways(kind);
    let located = info["located"].as_array().expect("located");
    for name in ["allgs", "allglen", "allgptr", "allm", "allp", "sched", "semtable", "mheap"] {
        let found = located.iter().find(|l| l["name"] == name).unwrap_or_else(|| panic!("{name}: {what}"));
        assert_eq!(found["by"], global, "{name}: {what}");
    }
    let modules = located.iter().find(|l| l["name"] == "moduledata").expect("moduledata");
    assert_eq!(modules["by"], if global == "code" { "scan" } else { global }, "moduledata: {what}");
    let layouts = info["layouts"].as_array().expect("layouts");
    assert!(layouts.len() > 8, "{what}");
    for found in layouts {
        assert_eq!(found["by"], layout, "{what}");
    }
    assert_eq!(info["wait_reasons"]["by"], "target", "{what}");
    assert_eq!(info["go_version_by"], "section", "{what}");
    assert_eq!(info["executable"]["stripped"], global == "code", "{what}");
    assert_eq!(info["executable"]["dwarf"], layout == "dwarf", "{what}");
    assert_eq!(info["diagnostics"].as_array().map(Vec::len), Some(0), "{what}");
}

#[test]
fn every_kind_of_build_is_byte_for_byte_the_runtimes_own_text() {
    let pairs = pairs();
    let tally = tally_all(&pairs, |(release, kind)| {
        let program = build(release, kind, "zoo");
        oracle::zoo(&format!("{release} {kind}"), &program, |target| check_info(release, kind, target))
    });
    println!(
        "{} pairs of release and kind: goroutines compared: {}, equal: {}",
        pairs.len(),
        tally.compared,
        tally.equal
    );
    assert!(tally.compared > 200 * pairs.len());
    assert_eq!(tally.compared, tally.equal);
}
