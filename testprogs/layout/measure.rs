// Builds the layout program with each release and reads its DWARF: shared by the generator of the
// built-in tables and by the test that compares them.

use allgs::arch::Arch;
use allgs::image::dwarf::{self, DwarfFacts};
use allgs::image::elf::ElfFile;
use allgs::image::layout::schema;
use allgs::image::layout::version::{GoVersion, Release};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Both processors.
pub const ARCHES: [Arch; 2] = [Arch::Amd64, Arch::Arm64];

/// The releases of `releases.txt`: the name that Go's tool has for each, and its number.
pub fn releases() -> Vec<(String, Release)> {
    let lines = include_str!("releases.txt").lines().filter(|l| !l.starts_with('#'));
    let named = lines.map(|l| format!("go{}", l.trim()));
    named.map(|name| (name.clone(), GoVersion::parse(&name).release.expect("a release"))).collect()
}

/// A Go command that runs as this release; `None` when it can't be had here.
pub fn go(release: &str) -> Option<Command> {
    let command = || {
        let mut go = Command::new("go");
        go.env("GOTOOLCHAIN", release).env("GOFLAGS", "").env("GOWORK", "off").env("CGO_ENABLED", "0");
        go
    };
    let version = command().arg("version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    text.split(' ').any(|word| word == release).then(command)
}

/// Builds the layout program.
pub fn build(release: &str, arch: Arch, into: &Path) -> Option<PathBuf> {
    build_with(release, arch, into, "")
}

/// Builds the layout program with flags for the linker.
pub fn build_with(release: &str, arch: Arch, into: &Path, linker: &str) -> Option<PathBuf> {
    let out = into.join(format!("layout-{release}-{arch}"));
    let status = go(release)?
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("testprogs"))
        .env("GOARCH", arch.name())
        .args(["build", "-ldflags", linker, "-o"])
        .arg(&out)
        .arg("./layout")
        .status()
        .expect("go runs");
    assert!(status.success(), "{release} {arch} does not build");
    Some(out)
}

/// What the DWARF of a program says of all declared structures.
pub fn measure(program: &Path) -> DwarfFacts {
    let elf = ElfFile::open(&File::open(program).expect("opens")).expect("parses");
    dwarf::read(&elf, schema::ALL, &[]).expect("reads").expect("has DWARF")
}
