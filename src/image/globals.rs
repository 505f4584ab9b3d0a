//! Image, globals: where the runtime's variables lie: by DWARF, by the symbol table, or by reading the
//! code of small functions. What is found is checked against memory before it is believed.

use super::code::rules::{Located, locate_globals};
use super::dwarf::DwarfFacts;
use super::layout::Layouts;
use super::layout::table::Chosen;
use super::open::LoadedFile;
use super::pclntab::Modules;
use super::{Found, Globals, Provenance};
use crate::addr::Addr;
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Memory, SliceHeader, read_slice, read_string};
use std::cell::OnceCell;

/// The variables that are looked for.
pub(super) const NAMES: &[&str] = &[
    "runtime.firstmoduledata",
    "runtime.allgs",
    "runtime.allglen",
    "runtime.allgptr",
    "runtime.allm",
    "runtime.allp",
    "runtime.sched",
    "runtime.semtable",
    "runtime.mheap_",
    "runtime.waitReasonStrings",
];

/// Size of a Go string header, in bytes.
const STRING: u64 = 16;
/// Longest text of a wait reason, in bytes, and most of them.
const REASON: u64 = 200;
const REASONS: u64 = 256;
/// Pointers of allgs that are looked at.
const LOOKED_AT: u64 = 16;
/// How often a list that grows meanwhile is read again.
const TRIES: usize = 5;

/// What the search needs.
pub(super) struct Finder<'a> {
    pub(super) file: &'a LoadedFile,
    pub(super) facts: Option<&'a DwarfFacts>,
    pub(super) modules: &'a Modules,
    pub(super) memory: &'a dyn Memory,
    pub(super) layouts: &'a Layouts,
    pub(super) arch: Arch,
}

impl Finder<'_> {
    /// Finds and checks all globals. The list of goroutines is needed; others may be missing.
    pub(super) fn find(&self, diagnostics: &mut Diagnostics) -> Result<Globals> {
        let code = OnceCell::new();
        let code =
            || code.get_or_init(|| locate_globals(self.modules, self.memory, self.arch, &self.layouts.sched));
        let symbols = self.symbols();
        let named = |index: usize| self.named(index, &symbols);
        let allgs = named(1).or_else(|| code().allgs).ok_or_else(|| {
            let path = self.file.path.display();
            Error::new(ErrorKind::Layout, format!("{path}: the list of goroutines was not found"))
        })?;
        let globals = Globals {
            allgs,
            allglen: named(2).or_else(|| code().allglen),
            allgptr: named(3).or_else(|| code().allgptr),
            allm: named(4).or_else(|| code().allm),
            allp: named(5).or_else(|| code().allp),
            sched: named(6).or_else(|| code().sched),
            semtable: named(7).or_else(|| code().semtable),
            mheap: named(8).or_else(|| code().mheap),
            wait_reasons: self.wait_reasons(&symbols, code),
        };
        report_missing(&globals, diagnostics);
        self.check(&globals)?;
        Ok(globals)
    }

    fn symbols(&self) -> [Option<super::elf::Symbol>; NAMES.len()] {
        let mut names = [""; NAMES.len()];
        for (slot, name) in names.iter_mut().zip(NAMES) {
            *slot = name;
        }
        self.file.elf.symbols(names)
    }

    fn named(
        &self,
        index: usize,
        symbols: &[Option<super::elf::Symbol>; NAMES.len()],
    ) -> Option<Found<Addr>> {
        let name = NAMES.get(index)?;
        let by_dwarf = self.facts.and_then(|f| f.variables.get(name)).copied();
        let (va, by) = match by_dwarf {
            Some(va) => (va, Provenance::Dwarf),
            None => (symbols.get(index).copied()??.va, Provenance::Symtab),
        };
        Some(Found { value: self.file.bias.to_runtime(va), by })
    }

    /// The table of wait reasons; its length is the size of the symbol, or what the code compares with.
    fn wait_reasons<'c>(
        &self,
        symbols: &[Option<super::elf::Symbol>; NAMES.len()],
        code: impl Fn() -> &'c Located,
    ) -> Option<Found<(Addr, u64)>> {
        match symbols.last().copied().flatten() {
            Some(symbol) if symbol.size >= STRING => {
                let at = self.file.bias.to_runtime(symbol.va);
                Some(Found { value: (at, symbol.size / STRING), by: Provenance::Symtab })
            }
            _ => code().wait_reasons,
        }
    }

    /// Checks the list of goroutines. A live target may change it while it is read.
    fn check(&self, globals: &Globals) -> Result<()> {
        let mut last = Ok(());
        for _ in 0..TRIES {
            last = self.check_once(globals);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn check_once(&self, globals: &Globals) -> Result<()> {
        let read = |g: Option<Found<Addr>>| g.map(|g| self.memory.read_u64(g.value)).transpose();
        // The runtime stores the pointer before the length: read in the other order.
        let len = read(globals.allglen)?;
        let pointer = read(globals.allgptr)?;
        let list = read_slice(self.memory, globals.allgs.value)?;
        let wrong = |what: String| {
            let at = globals.allgs.value;
            let text = format!("the list of goroutines at {at} (by {}): {what}", globals.allgs.by);
            Error::new(ErrorKind::Layout, text)
                .hint("is this the executable that the target ran? --exe names another")
        };
        let SliceHeader { array, len: list_len, cap } = list;
        if list_len > cap || list_len > 0 && (array.is_null() || !array.is_aligned(8)) {
            return Err(wrong(format!("array {array}, length {list_len}, capacity {cap}")));
        }
        if len.is_some_and(|len| len != list_len) {
            return Err(wrong(format!("its length is {list_len}, allglen is {len:?}")));
        }
        if pointer.is_some_and(|pointer| pointer != array.get() && list_len > 0) {
            return Err(wrong(format!("its array is {array}, allgptr is {pointer:x?}")));
        }
        for i in 0..list_len.min(LOOKED_AT) {
            let g = self.memory.read_addr(array.offset(i.wrapping_mul(8)))?;
            let stack_lo = self.layouts.g.stack_lo.read(self.memory, g);
            let stack_hi = self.layouts.g.stack_hi.read(self.memory, g);
            let sound = matches!((stack_lo, stack_hi), (Ok(lo), Ok(hi)) if lo <= hi);
            if g.is_null() || !g.is_aligned(8) || !sound {
                return Err(wrong(format!("element {i}, {g}, is no goroutine")));
            }
        }
        Ok(())
    }
}

fn report_missing(globals: &Globals, diagnostics: &mut Diagnostics) {
    let missing = [
        ("allm", globals.allm.is_none(), "threads are not told apart"),
        ("allp", globals.allp.is_none(), "processors of the scheduler are unknown"),
        ("sched", globals.sched.is_none(), "the scheduler's state is unknown"),
        ("semtable", globals.semtable.is_none(), "waiters at semaphores are found by stacks alone"),
    ];
    for (name, is_missing, effect) in missing {
        if is_missing {
            diagnostics.warn(format!("runtime.{name} was not found"), effect);
        }
    }
}

/// The texts of wait reasons by number: the target's own, else the built-in ones.
pub(super) fn wait_reasons(
    memory: &dyn Memory,
    globals: &Globals,
    chosen: &Chosen,
    diagnostics: &mut Diagnostics,
) -> (Vec<String>, Provenance) {
    let builtin = chosen.wait_reasons();
    let own = globals.wait_reasons.and_then(|found| read_reasons(memory, found.value));
    match own {
        Some(own) => {
            if chosen.own && own != builtin {
                diagnostics.note(
                    "the target's wait reasons are not those of its release",
                    "the target's own are used",
                );
            }
            (own, Provenance::Target)
        }
        None => {
            let by = if chosen.own { Provenance::Builtin } else { Provenance::Nearest };
            diagnostics.warn(
                "the target's own table of wait reasons was not found",
                format!("wait reasons are those of {}", chosen.table_name()),
            );
            (builtin, by)
        }
    }
}

/// The target's own texts. The first one is empty and no other is: what is not so is no such table.
fn read_reasons(memory: &dyn Memory, (at, count): (Addr, u64)) -> Option<Vec<String>> {
    if !(2..=REASONS).contains(&count) {
        return None;
    }
    let text = |i: u64| {
        let bytes = read_string(memory, at.offset(i.wrapping_mul(STRING)), REASON).ok()?;
        String::from_utf8(bytes).ok().filter(|t| t.is_empty() == (i == 0))
    };
    (0..count).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    fn table(texts: &[&str]) -> SparseMemory {
        let mut memory = SparseMemory::new();
        let mut headers = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let at = 0x2000 + 0x100 * i as u64;
            memory.put(Addr::new(at), text.as_bytes());
            headers.extend(at.to_le_bytes());
            headers.extend((text.len() as u64).to_le_bytes());
        }
        memory.put(Addr::new(0x1000), headers);
        memory
    }

    #[test]
    fn a_table_of_wait_reasons_is_read_or_refused() {
        let at = Addr::new(0x1000);
        let good = table(&["", "IO wait", "select"]);
        assert_eq!(read_reasons(&good, (at, 3)).unwrap(), ["", "IO wait", "select"]);
        assert_eq!(read_reasons(&good, (at, 4)), None);
        assert_eq!(read_reasons(&good, (at, u64::MAX)), None);
        assert_eq!(read_reasons(&table(&["x", "IO wait"]), (at, 2)), None);
        assert_eq!(read_reasons(&table(&["", "IO wait", ""]), (at, 3)), None);
    }
}
