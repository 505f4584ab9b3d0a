//! Image, ELF: what an executable's headers say. Segments, sections (inflated on demand), symbols by
//! name, build ids, and how far the loader moved the file. All numbers of the file are hostile.

use crate::addr::{Addr, Bias, FileOffset, FileVa, Span};
use crate::arch::Arch;
use crate::error::{Error, ErrorKind, Result};
use crate::image::inflate::{Compression, Inflated};
use crate::memory::{Memory, ReadError, ReadFail, ReadResult};
use crate::source::mmap::FileMap;
use crate::source::{Auxv, Mapping};
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

/// What kind of file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfKind {
    /// Loaded where it says.
    Exe,
    /// A program that is loaded anywhere.
    Pie,
    /// A shared library or a plugin.
    SharedLibrary,
    /// A relocatable object, a core, or something unheard of.
    Other,
}

impl ElfKind {
    /// A word for people and for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            ElfKind::Exe => "exe",
            ElfKind::Pie => "pie",
            ElfKind::SharedLibrary => "shared library",
            ElfKind::Other => "other",
        }
    }
}

/// One program header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// `p_type`.
    pub kind: elf::ProgramType,
    /// Address that the file states.
    pub va: FileVa,
    /// Bytes in memory.
    pub mem_size: u64,
    /// Where its bytes are in the file.
    pub offset: FileOffset,
    /// How many bytes the file has.
    pub file_size: u64,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
}

/// One section header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Its name; what is not UTF-8 is replaced.
    pub name: String,
    /// Address that the file states; 0 when it is not loaded.
    pub va: FileVa,
    /// Size in the file, in bytes.
    pub size: u64,
    kind: elf::SectionType,
    compressed: bool,
    offset: u64,
    link: u32,
}

/// One symbol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// Address that the file states.
    pub va: FileVa,
    /// Size in bytes; 0 when not stated.
    pub size: u64,
}

/// A parsed ELF file; a copy shares its bytes.
#[derive(Clone)]
pub struct ElfFile {
    data: Arc<dyn Deref<Target = [u8]> + Send + Sync>,
    machine: u16,
    kind: ElfKind,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    program_headers: u64,
}

/// Symbol table entries are this long in 64-bit files.
const SYMBOL_SIZE: usize = 24;
const DF_TEXTREL: u64 = 4;
const DT_TEXTREL: u64 = 22;
const DT_FLAGS: u64 = 30;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// Most program headers of a file: 64 KiB of them (`load_elf_phdrs`, fs/binfmt_elf.c).
const SEGMENTS: usize = 65_536 / 56;

fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadExecutable, format!("damaged ELF file: {what}"))
}

impl ElfFile {
    /// Maps and parses a file.
    pub fn open(file: &File) -> Result<ElfFile> {
        ElfFile::parse(FileMap::open(file)?)
    }

    /// Parses the bytes of a file. Files of 32 bits or big endian are an `Unsupported` error.
    pub fn parse(data: impl Deref<Target = [u8]> + Send + Sync + 'static) -> Result<ElfFile> {
        let bytes: &[u8] = &data;
        match bytes.get(..6) {
            Some(&[0x7f, b'E', b'L', b'F', 2, 1]) => {}
            Some(&[0x7f, b'E', b'L', b'F', ..]) => {
                let text = "not a 64-bit little-endian program: allgs reads amd64 and arm64";
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            _ => return Err(Error::new(ErrorKind::NotGo, "not an ELF file")),
        }
        let header = FileHeader64::<LE>::parse(bytes).map_err(bad)?;
        let headers = header.program_headers(LE, bytes).map_err(bad)?;
        if headers.len() > SEGMENTS {
            return Err(bad(format!("{} program headers, the kernel takes {SEGMENTS}", headers.len())));
        }
        let segments: Vec<Segment> = headers.iter().map(segment).collect();
        let sections = sections(header, bytes);
        let kind = kind(header.e_type(LE), &segments, bytes);
        Ok(ElfFile {
            machine: header.e_machine(LE).0,
            program_headers: header.e_phoff(LE),
            data: Arc::new(data),
            kind,
            segments,
            sections,
        })
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// All bytes of the file, to be held.
    pub fn shared_bytes(&self) -> Arc<dyn Deref<Target = [u8]> + Send + Sync> {
        self.data.clone()
    }

    /// `e_machine`.
    pub fn machine(&self) -> u16 {
        self.machine
    }

    /// The processor, if it is one that is decoded.
    pub fn arch(&self) -> Option<Arch> {
        Arch::from_elf_machine(self.machine)
    }

    /// What kind of file it is.
    pub fn kind(&self) -> ElfKind {
        self.kind
    }

    /// All program headers.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The program headers of what is loaded.
    pub fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.kind == elf::PT_LOAD)
    }

    /// All section headers; empty when the file has none or they are damaged.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section of that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// Whether it has no symbol table.
    pub fn is_stripped(&self) -> bool {
        !self.sections.iter().any(|s| s.kind == elf::SHT_SYMTAB && s.size > 0)
    }

    /// Whether it has DWARF of types and variables.
    pub fn has_dwarf(&self) -> bool {
        self.debug_section("info").is_some()
    }

    fn debug_section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| {
            let rest = s.name.strip_prefix(".debug_").or_else(|| s.name.strip_prefix(".zdebug_"));
            rest == Some(name) && s.size > 0
        })
    }

    /// The bytes of `.debug_NAME`, plain, compressed, or in the old `.zdebug_NAME` form; they are
    /// inflated when they are asked for. `None` when there is no such section.
    pub fn debug_data(&self, name: &str) -> Option<Result<Inflated<'_>>> {
        let section = self.debug_section(name)?;
        Some(self.section_data(section))
    }

    /// The bytes of a section, inflated when they are asked for.
    pub fn section_data(&self, section: &Section) -> Result<Inflated<'_>> {
        let cut = || bad(format!("section {} goes past the end of the file", section.name));
        if section.kind == elf::SHT_NOBITS {
            return Ok(Inflated::plain(&[]));
        }
        let raw = slice(self.bytes(), section.offset, section.size).ok_or_else(cut)?;
        let field = |at: usize| raw.get(at..)?.first_chunk::<8>();
        if section.compressed {
            let kind = raw.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
            let size = field(8).map(|b| u64::from_le_bytes(*b)).ok_or_else(cut)?;
            let kind = match kind {
                Some(1) => Compression::Zlib,
                Some(2) => Compression::Zstd,
                _ => return Err(bad(format!("section {}: unknown compression", section.name))),
            };
            return Inflated::new(kind, raw.get(24..).ok_or_else(cut)?, size);
        }
        if section.name.starts_with(".zdebug_") && raw.starts_with(b"ZLIB") {
            let size = field(4).map(|b| u64::from_be_bytes(*b)).ok_or_else(cut)?;
            return Inflated::new(Compression::Zlib, raw.get(12..).ok_or_else(cut)?, size);
        }
        Ok(Inflated::plain(raw))
    }

    /// Looks symbols up by name, all in one pass; of several of one name the first defined counts.
    pub fn symbols<const N: usize>(&self, names: [&str; N]) -> [Option<Symbol>; N] {
        let mut found = [None; N];
        let tables = [elf::SHT_SYMTAB, elf::SHT_DYNSYM];
        for kind in tables {
            if found.iter().any(Option::is_none) {
                for table in self.sections.iter().filter(|s| s.kind == kind) {
                    self.search_symbols(table, &names, &mut found);
                }
            }
        }
        found
    }

    /// All functions that state a size, with their names, of both symbol tables.
    pub fn functions(&self) -> impl Iterator<Item = (Symbol, &[u8])> {
        let is_table = |s: &&Section| s.kind == elf::SHT_SYMTAB || s.kind == elf::SHT_DYNSYM;
        self.sections.iter().filter(is_table).flat_map(|table| {
            let part = |s: &Section| slice(self.bytes(), s.offset, s.size);
            let linked = usize::try_from(table.link).ok().and_then(|i| self.sections.get(i));
            let (entries, strings) = part(table).zip(linked.and_then(part)).unwrap_or_default();
            entries.chunks_exact(SYMBOL_SIZE).filter_map(move |entry| function(entry, strings))
        })
    }

    /// Where `.eh_frame_hdr` is loaded, and its bytes.
    pub fn eh_frame_header(&self) -> Option<(FileVa, &[u8])> {
        let s = self.segments.iter().find(|s| s.kind == elf::PT_GNU_EH_FRAME)?;
        Some((s.va, slice(self.bytes(), s.offset.0, s.file_size)?))
    }

    /// The file's bytes from an address to the end of what is loaded there.
    pub fn loaded_from(&self, va: FileVa) -> Option<&[u8]> {
        self.loads().find_map(|s| {
            let inside = va.0.checked_sub(s.va.0)?;
            let rest = s.file_size.checked_sub(inside).filter(|rest| *rest > 0)?;
            slice(self.bytes(), s.offset.0.checked_add(inside)?, rest)
        })
    }

    fn search_symbols(&self, table: &Section, names: &[&str], found: &mut [Option<Symbol>]) {
        let Some(entries) = slice(self.bytes(), table.offset, table.size) else { return };
        let strings = usize::try_from(table.link).ok().and_then(|i| self.sections.get(i));
        let Some(strings) = strings.and_then(|s| slice(self.bytes(), s.offset, s.size)) else {
            return;
        };
        let prefix = common_prefix(names);
        for entry in entries.chunks_exact(SYMBOL_SIZE) {
            let Some(name) = number::<4>(entry, 0).and_then(|at| strings.get(at as usize..)) else {
                continue;
            };
            if !name.starts_with(prefix) {
                continue;
            }
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            let Some(which) = names.iter().position(|n| name.get(..end) == Some(n.as_bytes())) else {
                continue;
            };
            let undefined = number::<2>(entry, 6).is_none_or(|index| index == 0);
            let (va, size) = (number::<8>(entry, 8), number::<8>(entry, 16));
            if let (false, Some(slot @ None), Some(va), Some(size)) =
                (undefined, found.get_mut(which), va, size)
            {
                *slot = Some(Symbol { va: FileVa(va), size });
            }
        }
    }

    /// The GNU build id.
    pub fn build_id(&self) -> Option<Vec<u8>> {
        self.note(b"GNU\0", 3).map(<[u8]>::to_vec)
    }

    /// Go's own build id.
    pub fn go_build_id(&self) -> Option<String> {
        self.note(b"Go\0\0", 4).map(|id| String::from_utf8_lossy(id).into_owned())
    }

    fn note(&self, name: &[u8], kind: u64) -> Option<&[u8]> {
        let segments = self.segments.iter().filter(|s| s.kind == elf::PT_NOTE);
        let in_segments = segments.map(|s| (s.offset.0, s.file_size));
        let sections = self.sections.iter().filter(|s| s.kind == elf::SHT_NOTE);
        let in_sections = sections.map(|s| (s.offset, s.size));
        in_segments
            .chain(in_sections)
            .find_map(|(offset, size)| find_note(slice(self.bytes(), offset, size)?, name, kind))
    }

    /// Address of the program headers as the file states it.
    fn program_headers_va(&self) -> Option<FileVa> {
        if let Some(s) = self.segments.iter().find(|s| s.kind == elf::PT_PHDR) {
            return Some(s.va);
        }
        self.loads().find_map(|s| {
            let inside = self.program_headers.checked_sub(s.offset.0)?;
            (inside < s.file_size).then(|| FileVa(s.va.0.wrapping_add(inside)))
        })
    }

    /// How far the loader moved the main program: by the auxiliary vector, else by its mappings.
    pub fn bias_of_program(&self, auxv: &Auxv, own: &[&Mapping]) -> Option<Bias> {
        if self.kind == ElfKind::Exe {
            return Some(Bias(0));
        }
        let by_auxv = auxv
            .program_headers()
            .zip(self.program_headers_va())
            .map(|(at, stated)| Bias::between(stated, at))
            .filter(|bias| bias.0 & 0xfff == 0);
        by_auxv.or_else(|| self.bias_of_mapped(own))
    }

    /// How far the loader moved a file, by where its first loaded segment is mapped. `own` are the
    /// mappings of this file.
    pub fn bias_of_mapped(&self, own: &[&Mapping]) -> Option<Bias> {
        let first = self.loads().min_by_key(|s| s.va)?;
        own.iter().filter(|m| m.offset <= first.offset).min_by_key(|m| m.span.start).and_then(|m| {
            let inside = first.offset.0.checked_sub(m.offset.0)?;
            (inside < m.span.len).then(|| Bias::between(first.va, m.span.start.offset(inside)))
        })
    }

    /// How far the loader moved a file whose first loaded segment is at `start`.
    pub fn bias_of_start(&self, start: Addr) -> Option<Bias> {
        Some(Bias::between(self.loads().map(|s| s.va).min()?, start))
    }

    /// The file's loaded bytes at their stated addresses moved by `bias`, as the loader would put
    /// them there before any relocation.
    pub fn at_rest(&self, bias: Bias) -> AtRest<'_> {
        AtRest { elf: self, bias }
    }

    /// The parts whose bytes in memory are always those of the file: never written, never relocated.
    pub fn unchanging(&self, bias: Bias) -> Vec<(Span, FileOffset)> {
        if has_text_relocations(&self.segments, self.bytes()) {
            return Vec::new();
        }
        let relro = self.segments.iter().find(|s| s.kind == elf::PT_GNU_RELRO);
        let overlaps = |s: &Segment| {
            relro.is_some_and(|r| {
                r.va.0 < s.va.0.saturating_add(s.mem_size) && s.va.0 < r.va.0.saturating_add(r.mem_size)
            })
        };
        let constant = self.loads().filter(|s| !s.writable && !overlaps(s));
        constant
            .map(|s| {
                let len = s.file_size.min(s.mem_size);
                (Span { start: bias.to_runtime(s.va), len }, s.offset)
            })
            .collect()
    }
}

/// A file's loaded bytes as a memory.
pub struct AtRest<'a> {
    elf: &'a ElfFile,
    bias: Bias,
}

impl Memory for AtRest<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let fail = ReadError { at, len: buf.len() as u64, why: ReadFail::Unmapped };
        let va = self.bias.to_file(at).0;
        let bytes = self.elf.loads().find_map(|s| {
            let inside = va.checked_sub(s.va.0)?;
            let rest = s.file_size.checked_sub(inside)?;
            let offset = s.offset.0.checked_add(inside)?;
            (rest >= fail.len).then(|| slice(self.elf.bytes(), offset, fail.len))?
        });
        buf.copy_from_slice(bytes.ok_or(fail)?);
        Ok(())
    }
}

/// `len` bytes at `offset`, if the data has them.
pub(crate) fn slice(data: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    data.get(start..end)
}

/// A function among the entries of a symbol table, if it is one that is defined and states a size.
fn function<'a>(entry: &[u8], strings: &'a [u8]) -> Option<(Symbol, &'a [u8])> {
    const FUNC: u8 = 2;
    const IFUNC: u8 = 10;
    let kind = entry.get(4)? & 0xf;
    let defined = number::<2>(entry, 6)? != 0;
    let (va, size) = (number::<8>(entry, 8)?, number::<8>(entry, 16)?);
    if !matches!(kind, FUNC | IFUNC) || !defined || size == 0 {
        return None;
    }
    let name = strings.get(usize::try_from(number::<4>(entry, 0)?).ok()?..)?;
    let name = name.split(|b| *b == 0).next()?;
    (!name.is_empty()).then_some((Symbol { va: FileVa(va), size }, name))
}

/// A little-endian number of `N` bytes, up to 8.
fn number<const N: usize>(data: &[u8], at: usize) -> Option<u64> {
    let bytes: &[u8; N] = data.get(at..)?.first_chunk()?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn common_prefix<'a>(names: &[&'a str]) -> &'a [u8] {
    let Some(first) = names.first() else { return &[] };
    let mut len = first.len();
    for name in names {
        let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        len = len.min(same);
    }
    first.as_bytes().get(..len).unwrap_or_default()
}

fn segment(header: &elf::ProgramHeader64<LE>) -> Segment {
    let flags = header.p_flags(LE);
    Segment {
        kind: header.p_type(LE),
        va: FileVa(header.p_vaddr(LE)),
        mem_size: header.p_memsz(LE),
        offset: FileOffset(header.p_offset(LE)),
        file_size: header.p_filesz(LE),
        writable: flags.0 & elf::PF_W.0 != 0,
        executable: flags.0 & elf::PF_X.0 != 0,
    }
}

/// Section headers; none when they can't be read: a program runs without them.
fn sections(header: &FileHeader64<LE>, bytes: &[u8]) -> Vec<Section> {
    let Ok(table) = header.sections(LE, bytes) else { return Vec::new() };
    let sections = table.iter().map(|s| Section {
        name: table
            .section_name(LE, s)
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .unwrap_or_default(),
        va: FileVa(s.sh_addr(LE)),
        size: s.sh_size(LE),
        kind: s.sh_type(LE),
        compressed: s.sh_flags(LE).0 & elf::SHF_COMPRESSED.0 != 0,
        offset: s.sh_offset(LE),
        link: s.sh_link(LE),
    });
    sections.collect()
}

fn kind(file_type: elf::FileType, segments: &[Segment], bytes: &[u8]) -> ElfKind {
    let interpreter = || segments.iter().any(|s| s.kind == elf::PT_INTERP);
    let says_pie = || dynamic(segments, bytes).any(|(k, v)| k == DT_FLAGS_1 && v & DF_1_PIE != 0);
    match file_type {
        elf::ET_EXEC => ElfKind::Exe,
        elf::ET_DYN if interpreter() || says_pie() => ElfKind::Pie,
        elf::ET_DYN => ElfKind::SharedLibrary,
        _ => ElfKind::Other,
    }
}

fn has_text_relocations(segments: &[Segment], bytes: &[u8]) -> bool {
    dynamic(segments, bytes)
        .any(|(key, value)| key == DT_TEXTREL || key == DT_FLAGS && value & DF_TEXTREL != 0)
}

/// The entries of the dynamic section: key and value.
fn dynamic<'a>(segments: &[Segment], bytes: &'a [u8]) -> impl Iterator<Item = (u64, u64)> + 'a {
    let segment = segments.iter().find(|s| s.kind == elf::PT_DYNAMIC);
    let data = segment.and_then(|s| slice(bytes, s.offset.0, s.file_size)).unwrap_or_default();
    let entries = data.chunks_exact(16).filter_map(|e| number::<8>(e, 0).zip(number::<8>(e, 8)));
    entries.take_while(|(key, _)| *key != 0)
}

/// The content of the note of that name and kind in a note segment.
fn find_note<'a>(mut data: &'a [u8], name: &[u8], kind: u64) -> Option<&'a [u8]> {
    loop {
        let name_len = usize::try_from(number::<4>(data, 0)?).ok()?;
        let len = usize::try_from(number::<4>(data, 4)?).ok()?;
        let this_kind = number::<4>(data, 8)?;
        let name_end = 12usize.checked_add(name_len)?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(len)?;
        let (this_name, content) = (data.get(12..name_end)?, data.get(start..end)?);
        if this_name == name && this_kind == kind {
            return Some(content);
        }
        data = data.get(end.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_file() -> ElfFile {
        let file = File::open("/proc/self/exe").unwrap();
        ElfFile::open(&file).unwrap()
    }

    #[test]
    fn reads_this_very_program() {
        let elf = own_file();
        assert!(elf.arch().is_some());
        assert_eq!(elf.kind(), ElfKind::Pie);
        assert!(!elf.is_stripped());
        let [main, nothing] = elf.symbols(["main", "no such symbol"]);
        assert!(main.is_some_and(|s| s.va.0 != 0));
        assert_eq!(nothing, None);
        let mut start = [0; 4];
        elf.at_rest(Bias(0x1000_0000)).read(Addr::new(0x1000_0000), &mut start).unwrap();
        assert_eq!(start, *b"\x7fELF");
    }

    #[test]
    fn the_bias_by_mappings_agrees_with_the_auxiliary_vector() {
        let elf = own_file();
        let bias = 0x5555_0000_0000;
        let first = elf.loads().next().copied().unwrap();
        let mapping = Mapping {
            span: Span { start: Addr::new(bias + first.va.0), len: 0x1000 },
            offset: first.offset,
            path: None,
            deleted: false,
            readable: true,
            writable: false,
            executable: false,
        };
        let headers = elf.program_headers_va().unwrap();
        let auxv = Auxv(vec![(3, bias + headers.0)]);
        assert_eq!(elf.bias_of_program(&auxv, &[]), Some(Bias(bias)));
        assert_eq!(elf.bias_of_program(&Auxv::default(), &[&mapping]), Some(Bias(bias)));
        assert_eq!(elf.bias_of_program(&Auxv::default(), &[]), None);
    }

    #[test]
    fn more_segments_than_the_kernel_takes_are_refused() {
        let parse = |count: u16| {
            let mut file = vec![0; 64 + 56 * usize::from(count)];
            file.splice(..7, *b"\x7fELF\x02\x01\x01");
            file.splice(32..34, [64, 0]);
            file.splice(54..58, [vec![56, 0], count.to_le_bytes().to_vec()].concat());
            ElfFile::parse(file).map(|elf| elf.segments().len())
        };
        assert_eq!(parse(1170).ok(), Some(1170));
        assert!(parse(1171).is_err());
    }

    #[test]
    fn damaged_files_are_errors_or_lack_parts() {
        let whole = own_file().bytes().to_vec();
        let header = whole.get(..64).unwrap();
        for cut in 0..64 {
            assert!(ElfFile::parse(whole.get(..cut).unwrap().to_vec()).is_err());
        }
        for at in 0..64 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.get(..4096).unwrap().to_vec();
                damaged.splice(at..=at, [value]);
                let Ok(elf) = ElfFile::parse(damaged) else { continue };
                let _ = elf.symbols(["main"]);
                let _ = (elf.build_id(), elf.go_build_id(), elf.unchanging(Bias(u64::MAX)));
                for section in elf.sections() {
                    let _ = elf.section_data(section);
                }
            }
        }
        assert_eq!(header.len(), 64);
    }

    #[test]
    fn notes_are_found_behind_others_and_cut_ones_are_not() {
        let mut data = Vec::new();
        for (name, kind, content) in [(&b"X\0"[..], 1u32, &b"abc"[..]), (b"Go\0\0", 4, b"id/x")] {
            data.extend((name.len() as u32).to_le_bytes());
            data.extend((content.len() as u32).to_le_bytes());
            data.extend(kind.to_le_bytes());
            for part in [name, content] {
                data.extend(part);
                data.resize(data.len().next_multiple_of(4), 0);
            }
        }
        assert_eq!(find_note(&data, b"Go\0\0", 4), Some(&b"id/x"[..]));
        assert_eq!(find_note(&data, b"Go\0\0", 5), None);
        assert_eq!(find_note(data.get(..data.len() - 1).unwrap(), b"Go\0\0", 4), None);
    }
}
