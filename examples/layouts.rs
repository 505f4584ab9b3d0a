//! Writes the measured part of the built-in layout tables, `src/image/layout/baked/*.layout`: builds
//! `testprogs/layout` with each release of its `releases.txt`, for both processors, and reads the
//! DWARF of what comes out. What is above the line in each file stays as it is.
//!
//! `make layouts`, or `cargo run --example layouts [MINOR...]`.

#[path = "../testprogs/layout/measure.rs"]
mod measure;

use allgs::arch::Arch;
use allgs::image::dwarf::DwarfFacts;
use allgs::image::layout::schema::{self, StructDecl};
use allgs::image::layout::version::Release;
use measure::ARCHES;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const LINE: &str = "# ---- measured ----\n";

/// One patch: DWARF of both processors.
type Patch = [DwarfFacts; 2];

fn main() {
    let wanted: Vec<u16> = std::env::args().skip(1).map(|a| a.parse().expect("a minor")).collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut minors: BTreeMap<u16, BTreeMap<u16, Patch>> = BTreeMap::new();
    for (name, Release { minor, patch }) in measure::releases() {
        if wanted.is_empty() || wanted.contains(&minor) {
            eprintln!("{name}");
            let of = |arch| measure::build(&name, arch, dir.path()).expect("this release is to be had");
            let both = ARCHES.map(|arch| measure::measure(&of(arch)));
            minors.entry(minor).or_default().insert(patch, both);
        }
    }
    for (minor, patches) in minors {
        let path = format!("src/image/layout/baked/go1.{minor}.layout");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let old = fs::read_to_string(&path).expect("the part kept by hand exists");
        let (by_hand, _) = old.split_once(LINE).expect("the line is there");
        fs::write(&path, format!("{by_hand}{LINE}{}", measured(minor, &patches))).expect("writes");
    }
}

fn measured(minor: u16, patches: &BTreeMap<u16, Patch>) -> String {
    let names: Vec<_> = patches.keys().map(|p| format!("1.{minor}.{p}")).collect();
    let mut out = format!("measured {}\n", names.join(" "));
    let mut before: HashMap<(Arch, &str), String> = HashMap::new();
    for (patch, both) in patches {
        let mut blocks: BTreeMap<&str, String> = BTreeMap::new();
        for decl in schema::ALL {
            let texts = [0, 1].map(|i| structure(decl, &both[i]));
            let changed = [0, 1].map(|i| before.get(&(ARCHES[i], decl.go_name)) != Some(&texts[i]));
            let [amd64, arm64] = &texts;
            if amd64 == arm64 && changed != [false, false] {
                blocks.entry("").or_default().push_str(amd64);
            } else {
                for i in (0..2).filter(|i| changed[*i]) {
                    blocks.entry(ARCHES[i].name()).or_default().push_str(&texts[i]);
                }
            }
            for (arch, text) in ARCHES.into_iter().zip(texts) {
                before.insert((arch, decl.go_name), text);
            }
        }
        for (arch, text) in blocks {
            let head = format!("from 1.{minor}.{patch} {arch}");
            write!(out, "\n{}\n{text}", head.trim_end()).expect("a string takes all");
        }
    }
    out
}

/// The lines of one structure: of each member the first of its names that exists.
fn structure(decl: &StructDecl, facts: &DwarfFacts) -> String {
    let Some(known) = facts.structs.get(decl.go_name) else {
        panic!("{} is not in the DWARF", decl.go_name);
    };
    let mut out = format!("struct {} {}\n", decl.go_name, known.size);
    for field in decl.fields {
        let found = field.paths.iter().find_map(|path| Some((path, known.offsets.get(path)?)));
        if let Some((path, offset)) = found {
            writeln!(out, "  {path} {offset}").expect("a string takes all");
        }
    }
    out
}
