//! Opening the image of real processes: all that is found of a stripped program is what the DWARF and
//! the symbols of the same program say, and the parts fit the memory of the process.

#[path = "support/elf_memory.rs"]
#[allow(dead_code)]
mod elf_memory;
#[path = "support/not_go.rs"]
mod not_go;

use allgs::addr::{Addr, Pid};
use allgs::error::ErrorKind;
use allgs::image::elf::ElfKind;
use allgs::image::{Found, Image, OpenOptions, Provenance};
use allgs::memory::{Memory, read_slice};
use allgs::source::Source;
use allgs::source::live::LiveProcess;
use elf_memory::{Loaded, build, releases_of};
use not_go::NotGo;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running program and the folder that it works in; killed when the test ends.
struct Running {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Running {
    fn start(program: &Path) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.arg(dir.path());
        Running::run(&mut command, dir)
    }

    fn run(command: &mut Command, dir: tempfile::TempDir) -> Running {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let running = Running { child, _dir: dir };
        assert!(out.lines().any(|line| line.unwrap().contains("READY")), "{command:?}");
        running
    }

    fn source(&self) -> LiveProcess {
        LiveProcess::open(Pid(i32::try_from(self.child.id()).unwrap())).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(source: &LiveProcess) -> Image {
    Image::open(source, &OpenOptions::default()).unwrap()
}

/// All globals by name.
fn globals(image: &Image) -> Vec<(&'static str, Option<Found<Addr>>)> {
    let g = &image.globals;
    let reasons = g.wait_reasons.map(|f| Found { value: f.value.0, by: f.by });
    vec![
        ("runtime.allgs", Some(g.allgs)),
        ("runtime.allglen", g.allglen),
        ("runtime.allgptr", g.allgptr),
        ("runtime.allm", g.allm),
        ("runtime.allp", g.allp),
        ("runtime.sched", g.sched),
        ("runtime.semtable", g.semtable),
        ("runtime.mheap_", g.mheap),
        ("runtime.waitReasonStrings", reasons),
    ]
}

/// Numbers of the goroutines on the list, which must all be distinct.
fn goids(image: &Image, source: &LiveProcess) -> usize {
    let memory = image.memory(source.memory());
    let list = read_slice(&memory, image.globals.allgs.value).unwrap();
    let ids: HashSet<u64> = (0..list.len)
        .map(|i| memory.read_addr(list.array.offset(i * 8)).unwrap())
        .map(|g| image.layouts.g.goid.read(&memory, g).unwrap())
        .filter(|id| *id != 0)
        .collect();
    ids.len()
}

/// What is found of a program, whose file may have lost its symbols, against a file of the same
/// program that has them.
fn check(release: &str, kind: &str, image: &Image, source: &LiveProcess) {
    let what = format!("{release} {kind}");
    assert_eq!(image.go.text, format!("go{release}"), "{what}");
    assert_eq!(image.go_by, Provenance::Section, "{what}");
    assert_eq!(image.build.path.as_deref(), Some("example.com/testprogs/zoo"), "{what}");
    assert!(image.build.settings.iter().any(|(key, value)| key == "GOOS" && value == "linux"), "{what}");
    let pie = if kind.contains("pie") { ElfKind::Pie } else { ElfKind::Exe };
    assert_eq!(image.exe.kind, pie, "{what}");
    assert_eq!(image.rules.by, Provenance::Builtin, "{what}");
    assert_eq!(image.wait_reasons_by, Provenance::Target, "{what}");
    assert_eq!(image.wait_reason(2), Some("IO wait"), "{what}");
    assert!(goids(image, source) > 20, "{what}");
    let main = image.modules.functions_of(&["main.main"]).concat();
    assert_eq!(main.len(), 1, "{what}");
    assert_eq!(image.diagnostics.entries(), &[], "{what}");
}

#[test]
fn programs_with_debug_information_are_known_by_it() {
    for kind in ["default", "pie"] {
        for release in releases_of(kind) {
            let program = build(release, kind, "zoo");
            let running = Running::start(&program);
            let source = running.source();
            let image = open(&source);
            check(release, kind, &image, &source);
            assert_eq!(image.layouts.by, Provenance::Dwarf, "{release} {kind}");
            assert_eq!(image.modules_by, Provenance::Dwarf, "{release} {kind}");
            let symbols = Loaded::open(&program).symbols;
            for (name, found) in globals(&image) {
                let stated = found.map(|f| image.exe.bias.to_file(f.value).0);
                assert_eq!(stated, Some(symbols[name].get()), "{release} {kind}: {name}");
            }
        }
    }
}

/// Symbols and DWARF are taken from the very file, so that all addresses stay as they were.
#[test]
fn stripped_programs_are_known_as_well() {
    let dir = tempfile::tempdir().unwrap();
    for kind in ["default", "pie"] {
        for release in releases_of(kind) {
            let whole = build(release, kind, "zoo");
            let stripped = dir.path().join(format!("{release}-{kind}"));
            let strip = Command::new("strip").arg("-s").arg("-o").arg(&stripped).arg(&whole).status();
            assert!(strip.unwrap().success());
            let running = Running::start(&stripped);
            let source = running.source();
            let image = open(&source);
            check(release, kind, &image, &source);
            assert!(image.exe.stripped && !image.exe.has_dwarf, "{release} {kind}");
            assert_eq!(image.layouts.by, Provenance::Builtin, "{release} {kind}");
            assert_eq!(image.modules_by, Provenance::Scan, "{release} {kind}");
            let symbols = Loaded::open(&whole).symbols;
            let mut equal = 0;
            for (name, found) in globals(&image) {
                let stated = found.map(|f| image.exe.bias.to_file(f.value).0);
                assert_eq!(stated, Some(symbols[name].get()), "{release} {kind}: {name}");
                assert_eq!(found.map(|f| f.by), Some(Provenance::Code), "{release} {kind}: {name}");
                equal += 1;
            }
            println!("{release} {kind}: globals equal: {equal}");
        }
    }
}

#[test]
fn another_executable_than_the_one_that_runs_is_refused() {
    let running = Running::start(&build("1.27.4", "default", "zoo"));
    let source = running.source();
    let wrong = OpenOptions { exe: Some(build("1.24.13", "default", "zoo")) };
    assert!(Image::open(&source, &wrong).is_err());
}

#[test]
fn a_program_that_is_not_go_is_told_so() {
    let other = NotGo::start();
    let source = LiveProcess::open(Pid(other.pid().parse().unwrap())).unwrap();
    let error = Image::open(&source, &OpenOptions::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotGo, "{error}");
}
