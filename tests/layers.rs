//! The architecture, as a test: each layer uses only those before it, and what is dangerous stays in
//! the files named for it. Each finding is printed as `file:line: what`.

use std::fs;
use std::path::{Path, PathBuf};

/// Layers in the order in which they may use each other. `base` is what has no folder.
const LAYERS: [(&str, u8); 14] = [
    ("addr", 0),
    ("arch", 0),
    ("error", 0),
    ("diag", 0),
    ("memory", 1),
    ("source", 2),
    ("image", 3),
    ("runtime", 4),
    ("unwind", 5),
    ("analysis", 6),
    ("report", 7),
    ("cli", 8),
    ("lib", 9),
    ("main", 9),
];

fn rank(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, rank)| *rank)
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// (path below src, number, text) of each line of code, without comments.
fn lines() -> Vec<(String, usize, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    found.sort();
    assert!(found.len() > 20, "only {} files found under src", found.len());
    let mut all = Vec::new();
    for path in found {
        let name = path.strip_prefix(&src).expect("below src").display().to_string();
        let text = fs::read_to_string(&path).expect("source is readable");
        // Unit tests may build what they need from anything.
        let product =
            text.lines().take_while(|line| line.trim() != "#[cfg(test)]" || !text.contains("mod tests {"));
        for (i, line) in product.enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            all.push((name.clone(), i + 1, code.to_owned()));
        }
    }
    all
}

fn layer_of(file: &str) -> u8 {
    let first = file.split(['/', '.']).next().unwrap_or_default();
    rank(first).unwrap_or_else(|| panic!("{file}: no layer is declared for it"))
}

fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The layers that a line names, by `crate::NAME` or `allgs::NAME`, also inside `crate::{a, b}`.
fn named(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for prefix in ["crate::", "allgs::"] {
        for (at, _) in line.match_indices(prefix) {
            let rest = &line[at + prefix.len()..];
            let list = rest.strip_prefix('{').map_or(rest, |r| r.split('}').next().unwrap_or_default());
            let parts = if rest.starts_with('{') { list.split(',').collect() } else { vec![list] };
            for part in parts {
                let name: String =
                    part.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn the_reader_of_names_sees_all_forms() {
    assert_eq!(named("use crate::memory::Memory;"), ["memory"]);
    assert_eq!(named("use crate::{addr::Addr, cli::run};"), ["addr", "cli"]);
    assert_eq!(named("allgs::report::go(crate::unwind::x)"), ["unwind", "report"]);
}

#[test]
fn a_layer_uses_only_those_before_it() {
    let mut findings = Vec::new();
    for (file, number, line) in lines() {
        let own = layer_of(&file);
        for name in named(&line) {
            if rank(&name).is_some_and(|used| used > own) {
                findings.push(format!("src/{file}:{number}: uses {name}, a later layer"));
            }
        }
    }
    report(findings);
}

/// Words that belong into some files alone.
const RESERVED: [(&[&str], &[&str], &str); 4] = [
    (&["unsafe {", "unsafe fn", "unsafe impl"], &["source/live/sys.rs", "source/mmap.rs"], "unsafe code"),
    (&["nix::sys::ptrace", "process_vm_readv"], &["source/live/"], "ptrace"),
    (
        &["Release::new(", "release.minor", "table.minor", ".patch"],
        &["image/layout/"],
        "a comparison of releases",
    ),
    (&["anyhow"], &["cli/", "main.rs"], "anyhow"),
];

#[test]
fn what_is_dangerous_stays_in_the_files_named_for_it() {
    let mut findings = Vec::new();
    for (file, number, line) in lines() {
        for (words, places, what) in RESERVED {
            let allowed = places.iter().any(|place| file.starts_with(place));
            if !allowed && words.iter().any(|word| line.contains(word)) {
                findings.push(format!("src/{file}:{number}: {what} belongs into {}", places.join(" or ")));
            }
        }
    }
    report(findings);
}

#[test]
fn files_are_touched_only_by_sources_and_the_command_line() {
    let places = ["source/", "image/locate.rs", "cli/", "main.rs"];
    let words = ["fs::read", "File::open(", "fs::write", "std::process", "File::create("];
    let mut findings = Vec::new();
    for (file, number, line) in lines() {
        // `ElfFile::open` reads what somebody else opened.
        let line = line.replace("ElfFile::open(", "");
        if !places.iter().any(|place| file.starts_with(place)) && words.iter().any(|w| line.contains(w)) {
            findings.push(format!("src/{file}:{number}: touches files or processes"));
        }
    }
    report(findings);
}

#[test]
fn no_file_is_over_eight_hundred_lines() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let count = |path: &PathBuf| fs::read_to_string(path).expect("source is readable").lines().count();
    let long = found.iter().filter(|path| count(path) > 800);
    report(long.map(|path| format!("{}: {} lines", path.display(), count(path))).collect());
}
