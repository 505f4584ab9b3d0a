//! Image: the program that a target runs, as its files and its runtime's own tables describe it.
//! Opened once, before any stop: version, modules and their function tables, layouts of the runtime's
//! structures, addresses of its globals. Everything says how it was found.

pub mod blob;
pub mod buildinfo;
pub mod code;
pub mod dwarf;
pub mod elf;
pub mod inflate;
pub mod inline;
pub mod layout;
pub mod moduledata;
pub mod pclntab;
pub mod search;

use crate::addr::Addr;
use std::fmt;

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
    /// `runtime.waitReasonStrings`, an array of strings, and its length.
    pub wait_reasons: Option<Found<(Addr, u64)>>,
}
