//! Image: `runtime.moduledata`, one per Go executable, plugin or shared library of a target, chained
//! by `next`. Says where code, data and the function tables lie; the tables themselves are decoded
//! in [`super::pclntab`].

use super::layout::field::{Field, StructView};
use super::layout::schema::Moduledata;
use crate::addr::{Addr, Span};
use crate::memory::{Memory, ReadError, ReadFail, ReadResult, read_string};

/// What one moduledata says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleInfo {
    /// Where the moduledata itself lies.
    pub at: Addr,
    /// First address of Go code.
    pub minpc: Addr,
    /// First address after the Go code.
    pub maxpc: Addr,
    /// What the function table counts from.
    pub text: Addr,
    /// End of the code.
    pub etext: Addr,
    /// Initialised globals without pointers.
    pub noptrdata: Span,
    /// Initialised globals with pointers.
    pub data: Span,
    /// Globals with pointers that begin as zero.
    pub bss: Span,
    /// Globals without pointers that begin as zero.
    pub noptrbss: Span,
    /// Start of the type descriptors.
    pub types: Addr,
    /// End of the type descriptors.
    pub etypes: Addr,
    /// Start of the read-only data.
    pub rodata: Addr,
    /// What the offsets of funcdata count from.
    pub gofunc: Addr,
    /// Path of a plugin; empty for all else.
    pub pluginpath: String,
    /// Name of the module in a program of several (`-linkshared`); empty for all else.
    pub modulename: String,
    /// Whether the runtime refused the module (a plugin that does not fit).
    pub bad: bool,
}

impl ModuleInfo {
    /// Whether one of the module's global variables lies at `at`.
    pub fn is_global(&self, at: Addr) -> bool {
        [self.noptrdata, self.data, self.bss, self.noptrbss].iter().any(|span| span.contains(at))
    }
}

/// A table of which moduledata states start and length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TableSpans {
    pub(super) header: Addr,
    pub(super) funcnametab: Span,
    pub(super) cutab: Span,
    pub(super) filetab: Span,
    pub(super) pctab: Span,
    pub(super) pclntable: Span,
    /// Pairs of the function table, without the one that only ends it.
    pub(super) functions: u64,
}

/// A part of the code that the linker had to move apart (`runtime/symtab.go`, `type textsect`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TextSection {
    /// Offset at which it begins.
    pub(super) offset: u64,
    /// Offset at which it ends.
    pub(super) end: u64,
    /// Address at which it begins.
    pub(super) base: Addr,
}

/// All of one moduledata.
pub(super) struct Raw {
    pub(super) info: ModuleInfo,
    pub(super) tables: TableSpans,
    pub(super) sections: Vec<TextSection>,
    pub(super) next: Addr,
}

/// Longest name that is read, in bytes.
const NAME: u64 = 4096;

/// Most text sections: an arm64 section ends after 128 MB of code at the latest.
const SECTIONS: u64 = 4096;

/// Size of a `textsect`, in bytes.
const SECTION: u64 = 24;

impl Raw {
    /// Reads the moduledata at `at`.
    pub(super) fn read(memory: &dyn Memory, at: Addr, layout: &Moduledata) -> ReadResult<Raw> {
        let bytes = memory.read_span(Span { start: at, len: layout.size.into() }, 1 << 16)?;
        let view = StructView::new(&bytes, at);
        let name = |field: Field<Addr>| {
            let bytes = read_string(memory, at.offset(field.offset.into()), NAME)?;
            Ok::<_, ReadError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Raw {
            info: ModuleInfo {
                at,
                minpc: view.get(layout.minpc)?,
                maxpc: view.get(layout.maxpc)?,
                text: view.get(layout.text)?,
                etext: view.get(layout.etext)?,
                noptrdata: bounds(view, layout.noptrdata)?,
                data: bounds(view, layout.data)?,
                bss: bounds(view, layout.bss)?,
                noptrbss: bounds(view, layout.noptrbss)?,
                types: view.get(layout.types)?,
                etypes: view.get(layout.etypes)?,
                rodata: view.get(layout.rodata)?,
                gofunc: view.get(layout.gofunc)?,
                pluginpath: name(layout.pluginpath)?,
                modulename: name(layout.modulename)?,
                bad: view.get(layout.bad)? != 0,
            },
            tables: TableSpans {
                header: view.get(layout.pc_header)?,
                funcnametab: slice(view, layout.funcnametab, 1)?,
                cutab: slice(view, layout.cutab, 4)?,
                filetab: slice(view, layout.filetab, 1)?,
                pctab: slice(view, layout.pctab, 1)?,
                pclntable: slice(view, layout.pclntable, 1)?,
                functions: slice(view, layout.ftab, 1)?.len.saturating_sub(1),
            },
            sections: text_sections(memory, slice(view, layout.textsectmap, 1)?)?,
            next: view.get(layout.next)?,
        })
    }
}

/// A start that is a member; the end is the member after it, in all releases.
fn bounds(view: StructView<'_>, start: Field<Addr>) -> ReadResult<Span> {
    let end = Field::at(start.offset.saturating_add(8));
    Ok(Span::between(view.get(start)?, view.get(end)?))
}

/// A Go slice that is a member, with its length in bytes.
fn slice(view: StructView<'_>, field: Field<Addr>, element: u64) -> ReadResult<Span> {
    let start = view.get(field)?;
    let len: u64 = view.get(Field::at(field.offset.saturating_add(8)))?;
    let fail = ReadError { at: start, len, why: ReadFail::Overflow };
    Ok(Span { start, len: len.checked_mul(element).ok_or(fail)? })
}

/// The text sections, if there is more than one: `map` is the slice, its length in elements.
fn text_sections(memory: &dyn Memory, map: Span) -> ReadResult<Vec<TextSection>> {
    if map.len < 2 {
        return Ok(Vec::new());
    }
    if map.len > SECTIONS {
        return Err(ReadError { at: map.start, len: map.len, why: ReadFail::Overflow });
    }
    let entry = |i: u64| {
        let at = map.start.offset(i.saturating_mul(SECTION));
        Ok(TextSection {
            offset: memory.read_u64(at)?,
            end: memory.read_u64(at.offset(8))?,
            base: memory.read_addr(at.offset(16))?,
        })
    };
    (0..map.len).map(entry).collect()
}
