//! Image, native: names of C code. Functions by the symbol table, or by the one of what is exported;
//! lines and inlined calls by DWARF, where it is there. A symbol names an address only inside the size
//! that it states.

use super::Object;
use crate::addr::{Addr, FileVa};
use crate::image::elf::ElfFile;
use addr2line::Context;
use gimli::{EndianArcSlice, LittleEndian};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Lines = Context<EndianArcSlice<LittleEndian>>;

/// One function at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its name as its programmer wrote it; `libx.so+0x12` where there is none.
    pub function: String,
    /// Source file.
    pub file: Option<String>,
    /// Source line; 0 when unknown.
    pub line: u32,
    /// Entry of the physical function; where unknown, the address itself.
    pub entry: Addr,
    /// Whether the call was inlined into the next one.
    pub inlined: bool,
}

/// Names of one file, read when the first one is asked for.
#[derive(Default)]
pub(super) struct Names {
    functions: OnceLock<Vec<Function>>,
    /// Not shared between threads.
    lines: OnceLock<Option<Mutex<Lines>>>,
}

struct Function {
    va: FileVa,
    size: u64,
    name: String,
}

/// Symbols of one file that are kept.
const SYMBOLS: usize = 4_000_000;

/// Symbols before an address that are looked at for one that holds it: functions rarely overlap.
const NEIGHBOURS: usize = 16;

/// Longest name that is demangled, in bytes: what comes out may be much longer.
const MANGLED: usize = 4096;

/// Longest name that is shown, in bytes.
const SHOWN: usize = 16 << 10;

/// Inlined calls at one address that are shown.
const INLINED: usize = 100;

impl Names {
    /// Entry and name of the function that holds an address.
    pub(super) fn function(&self, elf: &ElfFile, va: FileVa) -> Option<(FileVa, &str)> {
        let all = self.functions.get_or_init(|| functions(elf));
        let after = all.partition_point(|f| f.va <= va);
        let before = all.get(..after)?.iter().rev().take(NEIGHBOURS);
        let holds = |f: &&Function| va.0.wrapping_sub(f.va.0) < f.size;
        before.filter(holds).map(|f| (f.va, f.name.as_str())).next()
    }
}

/// The functions of a file by address; of several names of one the plainest comes last, which is the one
/// that is found.
fn functions(elf: &ElfFile) -> Vec<Function> {
    let mut all: Vec<Function> = elf
        .functions()
        .take(SYMBOLS)
        .map(|(symbol, name)| Function {
            va: symbol.va,
            size: symbol.size,
            name: String::from_utf8_lossy(name).into_owned(),
        })
        .collect();
    let decoration = |name: &str| name.len() - name.trim_start_matches('_').len();
    all.sort_by(|a, b| {
        let rank = |f: &Function| (decoration(&f.name), f.name.len());
        (a.va, rank(b), &b.name).cmp(&(b.va, rank(a), &a.name))
    });
    all
}

/// What the code at `pc` is called.
pub(super) fn places(object: &Object, pc: Addr, exact: bool) -> Vec<Place> {
    let lookup = if exact { pc } else { pc.back(1) };
    let va = object.bias.to_file(lookup);
    let found = object.names.function(&object.elf, va);
    let entry = found.map_or(pc, |(entry, _)| object.bias.to_runtime(entry));
    let name = found.map(|(_, name)| demangled(name));
    let mut all = by_dwarf(object, va, entry);
    match all.last_mut() {
        Some(outermost) => {
            // The table of symbols has the name that was linked.
            outermost.inlined = false;
            if let Some(name) = name {
                outermost.function = name;
            }
        }
        None => {
            let offset = object.bias.to_file(pc).0;
            let function = name.unwrap_or_else(|| format!("{}+{offset:#x}", object.name));
            all.push(Place { function, file: None, line: 0, entry, inlined: false });
        }
    }
    all
}

/// The functions at an address, innermost first, as DWARF has them.
fn by_dwarf(object: &Object, va: FileVa, entry: Addr) -> Vec<Place> {
    let Some(lines) = object.names.lines.get_or_init(|| lines(&object.elf).map(Mutex::new)) else {
        return Vec::new();
    };
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(mut frames) = lines.find_frames(va.0).skip_all_loads() else { return Vec::new() };
    let mut all = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let Some(function) = frame.function.as_ref().and_then(|f| f.raw_name().ok()) else { continue };
        let location = frame.location.as_ref();
        all.push(Place {
            function: demangled(&function),
            file: location.and_then(|l| l.file).map(str::to_owned),
            line: location.and_then(|l| l.line).unwrap_or(0),
            entry,
            inlined: true,
        });
        if all.len() >= INLINED {
            break;
        }
    }
    all
}

/// Sections of one kind that are inflated, in bytes: four times what the largest programs known have.
const SECTION: usize = 4 << 30;

fn lines(elf: &ElfFile) -> Option<Lines> {
    elf.has_dwarf().then_some(())?;
    let load = |id: gimli::SectionId| -> Result<EndianArcSlice<LittleEndian>, gimli::Error> {
        let name = id.name().trim_start_matches(".debug_");
        let data = elf.debug_data(name).and_then(Result::ok).filter(|data| data.len() <= SECTION);
        let bytes: Arc<[u8]> = match data {
            Some(mut data) => data.all().unwrap_or_default().into(),
            None => Arc::default(),
        };
        Ok(EndianArcSlice::new(bytes, LittleEndian))
    };
    Context::from_dwarf(gimli::Dwarf::load(load).ok()?).ok()
}

/// A symbol as its programmer wrote it.
pub(super) fn demangled(symbol: &str) -> String {
    let mangled = symbol.starts_with("_Z") || symbol.starts_with("_R");
    let shown = Some(symbol).filter(|name| mangled && name.len() <= MANGLED).and_then(|name| {
        if of_rust(name) {
            return rustc_demangle::try_demangle(name).ok().map(|name| format!("{name:#}"));
        }
        cpp_demangle::Symbol::new(name.as_bytes()).ok()?.demangle().ok()
    });
    shown.filter(|name| name.len() <= SHOWN).unwrap_or_else(|| symbol.to_owned())
}

/// Rust's older names are C++'s, but for a last part `17h` and 16 hex digits.
fn of_rust(name: &str) -> bool {
    let hash = name.rfind("17h").and_then(|at| name.get(at + 3..at + 19));
    name.starts_with("_R") || hash.is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_language() {
        for (symbol, expected) in [
            ("read_packet", "read_packet"),
            ("_ZN5shape4areaEid", "shape::area(int, double)"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_Znonsense", "_Znonsense"),
            ("_Runtime_init", "_Runtime_init"),
            ("", ""),
        ] {
            assert_eq!(demangled(symbol), expected);
        }
        let long = format!("_Z{}", "x".repeat(MANGLED));
        assert_eq!(demangled(&long), long);
    }
}
