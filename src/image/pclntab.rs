//! Image: the runtime's own function tables (`runtime.pclntab`), present in stripped programs too.
//! From an address to its function, source line, stack depth and the data that unwinding needs.
//! Formats since Go 1.18 (`runtime/symtab.go`, `cmd/link/internal/ld/pcln.go`).

use super::blob::{Blob, Regions};
use super::inline::InlineFrames;
use super::layout::schema;
use super::moduledata::{ModuleInfo, Raw, TableSpans, TextSection};
use crate::addr::{Addr, Span};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::Memory;
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;

/// Indices of the tables of [`Func::pcdata`] (`internal/abi/symtab.go`).
pub mod pcdata {
    /// Whether the code can be interrupted: -1 yes, -2 no, -3 to -5 with a restart.
    pub const UNSAFE_POINT: u32 = 0;
    /// Which pointer map holds.
    pub const STACK_MAP_INDEX: u32 = 1;
    /// Which entry of the inline tree the code belongs to; -1 is the function itself.
    pub const INL_TREE_INDEX: u32 = 2;
    /// Which arguments are live: offset in [`super::funcdata::ARG_LIVE_INFO`].
    pub const ARG_LIVE_INDEX: u32 = 3;
}

/// Indices of the tables of [`Func::funcdata`] (`internal/abi/symtab.go`).
pub mod funcdata {
    /// Pointer maps of arguments.
    pub const ARGS_POINTER_MAPS: u32 = 0;
    /// Pointer maps of local variables.
    pub const LOCALS_POINTER_MAPS: u32 = 1;
    /// Objects on the stack.
    pub const STACK_OBJECTS: u32 = 2;
    /// The inline tree.
    pub const INL_TREE: u32 = 3;
    /// Defers that were open-coded.
    pub const OPEN_CODED_DEFER_INFO: u32 = 4;
    /// How arguments are printed.
    pub const ARG_INFO: u32 = 5;
    /// Which arguments are live.
    pub const ARG_LIVE_INFO: u32 = 6;
    /// The function that a wrapper calls.
    pub const WRAP_INFO: u32 = 7;
}

/// What a name is when the table has none or not UTF-8.
const NO_NAME: &str = "?";

/// Which of the two formats the tables have; the header's magic number says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Format {
    /// Size of a `_func`.
    func_size: usize,
    /// Offset of `_func.funcID`; the flags follow, the count of funcdata is three bytes further.
    func_id: usize,
    /// Offset of `_func.startLine`.
    start_line: Option<usize>,
    /// Size of an `inlinedCall`.
    pub(super) inline_size: usize,
    /// Offset of `inlinedCall.funcID`.
    pub(super) inline_id: usize,
    /// Offset of the name of the inlined function.
    pub(super) inline_name: usize,
    /// Offset of `inlinedCall.parentPc`.
    pub(super) inline_parent: usize,
}

const GO118: Format = Format {
    func_size: 40,
    func_id: 36,
    start_line: None,
    inline_size: 20,
    inline_id: 2,
    inline_name: 12,
    inline_parent: 16,
};

const GO120: Format = Format {
    func_size: 44,
    func_id: 40,
    start_line: Some(36),
    inline_size: 16,
    inline_id: 0,
    inline_name: 4,
    inline_parent: 8,
};

/// The two magic numbers, of 1.18 and 1.19, and since 1.20.
const MAGIC: [(u32, Format); 2] = [(0xffff_fff0, GO118), (0xffff_fff1, GO120)];

/// What the first eight bytes of a header can be for `arch`, as a little-endian number: magic, two
/// zeros, the instruction quantum and the size of a pointer.
pub(super) fn header_marks(arch: Arch) -> [u64; 2] {
    MAGIC.map(|(magic, _)| u64::from(magic) | arch.pc_quantum() << 48 | 8 << 56)
}

/// The format that a header states, if it is one of a 64-bit program for `arch`.
pub(super) fn header_format(bytes: &[u8], arch: Arch) -> Option<Format> {
    let mark = u64::from_le_bytes(*bytes.first_chunk()?);
    header_marks(arch).iter().zip(MAGIC).find(|(m, _)| **m == mark).map(|(_, (_, format))| format)
}

/// A little-endian u32 at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// One module: what its moduledata says, and its tables.
pub struct Module {
    /// What its moduledata says.
    pub info: ModuleInfo,
    sections: Vec<TextSection>,
    quantum: u64,
    pub(super) format: Format,
    blob: Blob,
    funcnametab: Range<usize>,
    cutab: Range<usize>,
    filetab: Range<usize>,
    pctab: Range<usize>,
    pclntable: Range<usize>,
    functions: usize,
}

impl Module {
    pub(super) fn new(raw: Raw, regions: &dyn Regions, arch: Arch) -> Result<Module> {
        let Raw { info, tables, sections, .. } = raw;
        let damaged = |what: &str| {
            let at = info.at;
            Error::new(ErrorKind::BadExecutable, format!("the moduledata at {at} is damaged: {what}"))
        };
        if !(info.text <= info.minpc && info.minpc < info.maxpc && info.maxpc <= info.etext) {
            return Err(damaged("its code has no extent"));
        }
        let TableSpans { header, funcnametab, cutab, filetab, pctab, pclntable, functions } = tables;
        let span = Span::between(header, pclntable.end());
        let blob = regions.blob(span)?;
        let format = header_format(blob.as_slice(), arch)
            .ok_or_else(|| damaged("it leads to no function table of a known format"))?;
        let part = |what: &str, table: Span| {
            let start = table.start.above(header).filter(|_| span.contains_range(table.start, table.len));
            let range = start.and_then(|start| {
                Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(table.len)?).ok()?)
            });
            range.ok_or_else(|| damaged(&format!("its {what} lies outside of its function table")))
        };
        let entries = functions.saturating_add(1).checked_mul(8);
        if functions == 0 || entries.is_none_or(|len| len > pclntable.len) {
            return Err(damaged("its count of functions does not fit"));
        }
        Ok(Module {
            funcnametab: part("name table", funcnametab)?,
            cutab: part("unit table", cutab)?,
            filetab: part("file table", filetab)?,
            pctab: part("pc table", pctab)?,
            pclntable: part("function list", pclntable)?,
            functions: usize::try_from(functions).map_err(|_| damaged("it has too many functions"))?,
            quantum: arch.pc_quantum(),
            info,
            sections,
            format,
            blob,
        })
    }

    fn table(&self, range: &Range<usize>) -> &[u8] {
        self.blob.as_slice().get(range.clone()).unwrap_or_default()
    }

    /// How many functions it has.
    pub fn len(&self) -> usize {
        self.functions
    }

    /// Whether it has no function; that can't be, a module without any does not load.
    pub fn is_empty(&self) -> bool {
        self.functions == 0
    }

    /// Whether `pc` lies in its Go code.
    pub fn contains(&self, pc: Addr) -> bool {
        self.info.minpc <= pc && pc < self.info.maxpc
    }

    /// The function that `pc` belongs to.
    pub fn find(&self, pc: Addr) -> Option<Func<'_>> {
        if !self.contains(pc) {
            return None;
        }
        let wanted = self.text_offset(pc)?;
        let pclntable = self.table(&self.pclntable);
        let (entries, _) = pclntable.get(..self.functions.checked_mul(8)?)?.as_chunks::<8>();
        let above = entries
            .partition_point(|[a, b, c, d, ..]| u64::from(u32::from_le_bytes([*a, *b, *c, *d])) <= wanted);
        self.function(above.checked_sub(1)?).filter(|f| f.entry() <= pc && pc < f.end())
    }

    /// The function with number `index`, in the order of their code.
    pub fn function(&self, index: usize) -> Option<Func<'_>> {
        if index >= self.functions {
            return None;
        }
        let pclntable = self.table(&self.pclntable);
        let entry = index.checked_mul(8)?;
        let at = usize::try_from(u32_at(pclntable, entry.checked_add(4)?)?).ok()?;
        Some(Func {
            module: self,
            entry: self.text_address(u32_at(pclntable, entry)?),
            end: self.text_address(u32_at(pclntable, entry.checked_add(8)?)?),
            bytes: pclntable.get(at..)?,
        })
    }

    /// All functions, in the order of their code.
    pub fn functions(&self) -> impl Iterator<Item = Func<'_>> {
        (0..self.functions).filter_map(|index| self.function(index))
    }

    /// `moduledata.textOff`: what the function table calls an address.
    fn text_offset(&self, pc: Addr) -> Option<u64> {
        let Some(last) = self.sections.last() else {
            return pc.above(self.info.text);
        };
        let section = self.sections.iter().take_while(|s| s.base <= pc).find(|s| {
            let past = pc.above(s.base).unwrap_or(u64::MAX);
            let len = s.end.saturating_sub(s.offset);
            past < len || (*s == last && past == len)
        })?;
        pc.above(section.base)?.checked_add(section.offset)
    }

    /// `moduledata.textAddr`: the opposite of `text_offset`.
    fn text_address(&self, offset: u32) -> Addr {
        let offset = u64::from(offset);
        let last = self.sections.last();
        let section = self
            .sections
            .iter()
            .find(|s| s.offset <= offset && (offset < s.end || (Some(*s) == last && offset == s.end)));
        match section {
            Some(s) => s.base.offset(offset.saturating_sub(s.offset)),
            None => self.info.text.offset(offset),
        }
    }

    /// The name at an offset of the name table.
    pub(super) fn name(&self, offset: u32) -> &str {
        text_at(self.table(&self.funcnametab), offset).unwrap_or(NO_NAME)
    }

    /// The file with number `file` of the unit whose files begin at `unit`.
    fn file(&self, unit: u32, file: u32) -> Option<&str> {
        let at = usize::try_from(unit.checked_add(file)?).ok()?.checked_mul(4)?;
        match u32_at(self.table(&self.cutab), at)? {
            u32::MAX => None,
            offset => text_at(self.table(&self.filetab), offset),
        }
    }
}

/// A NUL-terminated text; `None` if it isn't UTF-8 or doesn't end.
fn text_at(table: &[u8], offset: u32) -> Option<&str> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    let len = rest.iter().position(|b| *b == 0)?;
    std::str::from_utf8(rest.get(..len)?).ok()
}

/// A function of the tables.
#[derive(Clone, Copy)]
pub struct Func<'a> {
    pub(super) module: &'a Module,
    entry: Addr,
    end: Addr,
    /// Its `_func` and all behind it.
    bytes: &'a [u8],
}

impl<'a> Func<'a> {
    /// Its first instruction.
    pub fn entry(self) -> Addr {
        self.entry
    }

    /// First address after it: where the next function begins.
    pub fn end(self) -> Addr {
        self.end
    }

    /// The module that it belongs to.
    pub fn module(self) -> &'a Module {
        self.module
    }

    /// Its name as the table has it; `?` if it has none.
    pub fn name(self) -> &'a str {
        self.module.name(self.word(4))
    }

    /// Bytes of its arguments; negative when not known (`_func.args`).
    pub fn args(self) -> i32 {
        self.word(8).cast_signed()
    }

    /// Offset of the code that runs after a recovered panic, from the entry; 0 = none.
    pub fn deferreturn(self) -> u32 {
        self.word(12)
    }

    /// Line on which it begins; 0 when not known, always so until 1.19.
    pub fn start_line(self) -> u32 {
        self.module.format.start_line.map_or(0, |at| self.word(at))
    }

    /// `_func.funcID`: what kind of function it is, by the numbers of its release.
    pub fn id(self) -> u8 {
        self.byte(self.module.format.func_id)
    }

    /// Whether it is the outermost of its stack (`abi.FuncFlagTopFrame`).
    pub fn top_frame(self) -> bool {
        self.flags() & 1 != 0
    }

    /// Whether it sets SP to what can't be followed (`abi.FuncFlagSPWrite`).
    pub fn sp_write(self) -> bool {
        self.flags() & 2 != 0
    }

    /// Whether it is written in assembly (`abi.FuncFlagAsm`).
    pub fn asm(self) -> bool {
        self.flags() & 4 != 0
    }

    fn flags(self) -> u8 {
        self.byte(self.module.format.func_id.saturating_add(1))
    }

    fn word(self, at: usize) -> u32 {
        u32_at(self.bytes, at).unwrap_or(0)
    }

    fn byte(self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Bytes by which SP lies below its value at the entry when `pc` is next; `None` when there is no
    /// table (foreign assembly) or it doesn't reach.
    pub fn pcsp(self, pc: Addr) -> Option<i64> {
        self.value(self.word(16), pc).map(i64::from)
    }

    /// Value of one of the [`pcdata`] tables at `pc`; -1 when absent.
    pub fn pcdata(self, index: u32, pc: Addr) -> i32 {
        if index >= self.word(28) {
            return -1;
        }
        let table = self.module.format.func_size as u64 + u64::from(index) * 4;
        usize::try_from(table).ok().and_then(|at| self.value(self.word(at), pc)).unwrap_or(-1)
    }

    /// Where one of the [`funcdata`] tables lies; `None` when absent.
    pub fn funcdata(self, index: u32) -> Option<Addr> {
        let count = self.byte(self.module.format.func_id.checked_add(3)?);
        if index >= u32::from(count) {
            return None;
        }
        let number = u64::from(self.word(28)).checked_add(index.into())?;
        let at = number.checked_mul(4)?.checked_add(self.module.format.func_size as u64)?;
        match u32_at(self.bytes, usize::try_from(at).ok()?)? {
            u32::MAX => None,
            offset => Some(self.module.info.gofunc.offset(offset.into())),
        }
    }

    /// Source file and line at `pc`, of the innermost inlined call; no file and line 0 when unknown.
    /// The pc counts as it is: for a return address, ask with one less.
    pub fn file_line(self, pc: Addr) -> (Option<&'a str>, u32) {
        let number =
            |table: usize| self.value(self.word(table), pc).and_then(|value| u32::try_from(value).ok());
        let (Some(file), Some(line)) = (number(20), number(24)) else {
            return (None, 0);
        };
        (self.module.file(self.word(32), file), line)
    }

    /// The calls that `pc` belongs to, innermost first; the physical function is the last. The pc
    /// counts as it is: for a return address, ask with one less. The inline tree is read from
    /// `memory`.
    pub fn inline_at(self, memory: &'a dyn Memory, pc: Addr) -> InlineFrames<'a> {
        InlineFrames::new(self, memory, pc)
    }

    /// Value at `pc` of the table at `offset`; `None` when there is none or it doesn't reach.
    fn value(self, offset: u32, pc: Addr) -> Option<i32> {
        if offset == 0 {
            return None;
        }
        let pctab = self.module.table(&self.module.pctab);
        let table = pctab.get(usize::try_from(offset).ok()?..)?;
        pc_value(table, pc.above(self.entry)?, self.module.quantum)
    }
}

/// Most steps of one table: one for each instruction of a function of 16 MB. Only a damaged table
/// has more.
const STEPS: usize = 1 << 22;

/// Walks a table of pairs (change of value, distance) to the place `wanted` bytes from the entry.
fn pc_value(mut table: &[u8], wanted: u64, quantum: u64) -> Option<i32> {
    let mut value: i32 = -1;
    let mut reached: u64 = 0;
    for step in 0..STEPS {
        let change = varint(&mut table)?;
        if change == 0 && step > 0 {
            return None;
        }
        // Zigzag: the lowest bit is the sign.
        value = value.wrapping_add((change >> 1).cast_signed() ^ (change & 1).cast_signed().wrapping_neg());
        reached = reached.checked_add(u64::from(varint(&mut table)?).checked_mul(quantum)?)?;
        if wanted < reached {
            return Some(value);
        }
    }
    None
}

/// Takes one LEB128 number of at most 32 bits.
fn varint(table: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = table.split_first()?;
        *table = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// All Go modules of a target, by address of their code.
pub struct Modules {
    modules: Vec<Module>,
    losses: Diagnostics,
}

/// Most modules of one target; a chain that goes on longer is a damaged one.
const MODULES: usize = 10_000;

impl Modules {
    /// Follows the chain of modules from the moduledata at `first`. The first one must be sound;
    /// others that aren't are left out and named in [`Modules::losses`].
    pub fn load(
        memory: &dyn Memory,
        regions: &dyn Regions,
        first: Addr,
        layout: &schema::Moduledata,
        arch: Arch,
    ) -> Result<Modules> {
        let raw = Raw::read(memory, first, layout)?;
        let mut next = raw.next;
        let mut modules = vec![Module::new(raw, regions, arch)?];
        let mut losses = Diagnostics::default();
        let mut seen = FxHashSet::from_iter([first]);
        while !next.is_null() {
            let mut one = || {
                if !seen.insert(next) || seen.len() > MODULES {
                    return Err(Error::new(ErrorKind::BadExecutable, "the chain of modules has no end"));
                }
                let raw = Raw::read(memory, next, layout)?;
                let next = raw.next;
                Ok((Module::new(raw, regions, arch), next))
            };
            match one() {
                Ok((Ok(module), following)) => {
                    modules.push(module);
                    next = following;
                }
                Ok((Err(e), following)) => {
                    losses.warn(e, "functions of this module are unknown");
                    next = following;
                }
                Err(e) => {
                    losses.warn(e, "functions of this module and of those after it are unknown");
                    break;
                }
            }
        }
        modules.sort_by_key(|m| m.info.minpc);
        Ok(Modules { modules, losses })
    }

    /// The function that `pc` belongs to.
    pub fn find(&self, pc: Addr) -> Option<Func<'_>> {
        self.module_of(pc)?.find(pc)
    }

    /// The module whose Go code `pc` lies in.
    pub fn module_of(&self, pc: Addr) -> Option<&Module> {
        let above = self.modules.partition_point(|m| m.info.minpc <= pc);
        self.modules.get(above.checked_sub(1)?).filter(|m| m.contains(pc))
    }

    /// Whether a function of this name begins at `entry`.
    pub fn begins(&self, entry: Addr, name: &str) -> bool {
        self.find(entry).is_some_and(|func| func.entry() == entry && func.name() == name)
    }

    /// For each of `names` the functions of this name; all in one pass over the tables. Names are not unique:
    /// assembly functions have wrappers of the same name.
    pub fn functions_of(&self, names: &[&str]) -> Vec<Vec<Func<'_>>> {
        let numbers: FxHashMap<&str, usize> = names.iter().copied().zip(0..).collect();
        let mut found = vec![Vec::new(); names.len()];
        for f in self.modules.iter().flat_map(Module::functions) {
            if let Some(list) = numbers.get(f.name()).and_then(|n| found.get_mut(*n)) {
                list.push(f);
            }
        }
        found
    }

    /// The modules, by address of their code.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// What could not be loaded.
    pub fn losses(&self) -> &Diagnostics {
        &self.losses
    }
}

#[cfg(test)]
mod tests;
