//! Image: the program that a target runs, as its files and its runtime's own tables describe it.
//! Opened once, before any stop: version, modules and their function tables, layouts of the runtime's
//! structures, addresses of its globals. Everything says how it was found.

pub mod blob;
pub mod buildinfo;
pub mod code;
pub mod dwarf;
pub mod elf;
mod globals;
pub mod inflate;
pub mod inline;
pub mod layout;
pub mod locate;
pub mod moduledata;
pub mod native;
mod open;
pub mod pclntab;
pub mod search;
pub mod statics;
#[cfg(test)]
#[allow(missing_docs)]
pub mod testing;
mod unlabelled;

pub use open::LoadedFile;

use crate::addr::{Addr, Bias};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::Result;
use crate::memory::Memory;
use crate::source::Source;
use buildinfo::BuildInfo;
use code::rules::SignalHandlers;
use elf::ElfKind;
use layout::Layouts;
use layout::rules::Rules;
use layout::version::GoVersion;
use pclntab::Modules;
pub use statics::ImageMemory;
use statics::Statics;
use std::fmt;
use std::path::PathBuf;

/// How a thing was found; ordered from the most to the least direct.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Provenance {
    /// The target's DWARF.
    Dwarf,
    /// The ELF symbol table.
    Symtab,
    /// A section or note of the executable.
    Section,
    /// The target's own data in memory.
    Target,
    /// The code of small runtime functions was read.
    Code,
    /// The built-in table of exactly this release.
    Builtin,
    /// The built-in table of the nearest release.
    Nearest,
    /// Memory was searched for a pattern.
    Scan,
}

impl Provenance {
    /// The stable word for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Provenance::Dwarf => "dwarf",
            Provenance::Symtab => "symtab",
            Provenance::Section => "section",
            Provenance::Target => "target",
            Provenance::Code => "code",
            Provenance::Builtin => "builtin",
            Provenance::Nearest => "nearest",
            Provenance::Scan => "scan",
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A thing and how it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<T> {
    /// The thing.
    pub value: T,
    /// How it was found.
    pub by: Provenance,
}

/// Addresses of the runtime's globals. Those that no decoder can do without are not optional; what
/// is missing is said in the diagnostics of the image.
#[derive(Clone, Debug)]
pub struct Globals {
    /// `runtime.allgs`, a `[]*g`.
    pub allgs: Found<Addr>,
    /// `runtime.allglen`, a uintptr.
    pub allglen: Option<Found<Addr>>,
    /// `runtime.allgptr`, a `**g`.
    pub allgptr: Option<Found<Addr>>,
    /// `runtime.allm`, a `*m`.
    pub allm: Option<Found<Addr>>,
    /// `runtime.allp`, a `[]*p`.
    pub allp: Option<Found<Addr>>,
    /// `runtime.sched`, a schedt.
    pub sched: Option<Found<Addr>>,
    /// `runtime.semtable`.
    pub semtable: Option<Found<Addr>>,
    /// `runtime.mheap_`.
    pub mheap: Option<Found<Addr>>,
    /// `runtime.waitReasonStrings`, an array of strings, and its length.
    pub wait_reasons: Option<Found<(Addr, u64)>>,
}

/// How an image is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// The executable, if not the one that the target names.
    pub exe: Option<PathBuf>,
}

/// The file that holds the target's Go runtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executable {
    /// Where it is.
    pub path: PathBuf,
    /// The GNU build id, if it has one.
    pub build_id: Option<Vec<u8>>,
    /// Go's own build id, if it has one.
    pub go_build_id: Option<String>,
    /// What kind of file it is.
    pub kind: ElfKind,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// Whether it has DWARF.
    pub has_dwarf: bool,
    /// How far the loader moved it.
    pub bias: Bias,
}

/// The program of a target.
pub struct Image {
    /// Its processor.
    pub arch: Arch,
    /// The version of the Go toolchain that built it.
    pub go: GoVersion,
    /// How the version was found.
    pub go_by: Provenance,
    /// What the linker recorded of the build.
    pub build: BuildInfo,
    /// The file that holds the runtime.
    pub exe: Executable,
    /// Its modules and their function tables.
    pub modules: Modules,
    /// How the first module was found.
    pub modules_by: Provenance,
    /// Where the members of the runtime's structures lie.
    pub layouts: Layouts,
    /// How the runtime of its release behaves.
    pub rules: Rules,
    /// Where the runtime's variables lie.
    pub globals: Globals,
    /// The texts of wait reasons by number.
    pub wait_reasons: Vec<String>,
    /// How they were found.
    pub wait_reasons_by: Provenance,
    /// What is missing, and what it means.
    pub diagnostics: Diagnostics,
    statics: Statics,
    /// The file that holds the runtime, open.
    file: LoadedFile,
}

impl Image {
    /// Opens the program of a source. Fails when it is not Go, is of a release that is not decoded, or
    /// when what no decoder can do without was not found or does not fit the memory.
    pub fn open(source: &dyn Source, options: &OpenOptions) -> Result<Image> {
        open::open(source, options)
    }

    /// Files other than the executable whose code is mapped into the target: shared libraries,
    /// plugins. Those that can't be opened are left out.
    pub fn candidates(source: &dyn Source) -> impl Iterator<Item = LoadedFile> + '_ {
        open::candidates(source)
    }

    /// The text of a wait reason; `None` for a number that the target's release does not define.
    pub fn wait_reason(&self, number: u8) -> Option<&str> {
        self.wait_reasons.get(usize::from(number)).map(String::as_str)
    }

    /// Where package os/signal keeps who wants to be told of signals, if the program uses it. Reads code.
    pub fn signal_handlers(&self, memory: &dyn Memory) -> Option<SignalHandlers> {
        code::rules::signal_handlers(&self.modules, &self.memory(memory), self.arch)
    }

    /// Code and read-only data from the files of the target, all else from `lower`.
    pub fn memory<'a>(&'a self, lower: &'a dyn Memory) -> ImageMemory<'a> {
        ImageMemory { statics: &self.statics, lower }
    }
}
