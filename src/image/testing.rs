//! Image, tests only: a small program's function tables, built by hand in the format of either
//! generation, with offsets as literal numbers.

use super::blob::FromMemory;
use super::buildinfo::BuildInfo;
use super::elf::{ElfFile, ElfKind};
use super::layout::Layouts;
use super::layout::rules::Rules;
use super::layout::schema::{Binder, FieldDecl, Moduledata, StructDecl};
use super::layout::table::Chosen;
use super::layout::version::GoVersion;
use super::pclntab::Modules;
use super::statics::Statics;
use super::{Executable, Globals, Image, LoadedFile, Provenance};
use crate::addr::{Addr, Bias};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::memory::sparse::SparseMemory;

/// Where the code begins.
pub const TEXT: u64 = 0x40_1000;
/// Where the function tables lie.
pub const TABLE: u64 = 0x50_0000;
/// What funcdata counts from.
pub const GOFUNC: u64 = 0x60_0000;
/// Where the moduledata lies.
pub const MODULEDATA: u64 = 0x70_0000;
/// Where the writable data lies.
pub const GLOBALS: u64 = 0x70_0000;

/// One function: everything that the tables say of it.
#[derive(Clone, Default)]
pub struct FuncSpec {
    pub name: &'static str,
    /// Offset from the start of the code.
    pub entry: u32,
    pub args: i32,
    pub deferreturn: u32,
    pub start_line: u32,
    pub id: u8,
    pub flags: u8,
    /// (value, length in quanta) pairs of each table; empty = no table.
    pub pcsp: &'static [(i32, u32)],
    pub pcfile: &'static [(i32, u32)],
    pub pcln: &'static [(i32, u32)],
    pub pcdata: Vec<&'static [(i32, u32)]>,
    /// Offsets from GOFUNC.
    pub funcdata: Vec<u32>,
}

/// The program.
pub struct Spec {
    /// First word of the header.
    pub magic: u32,
    /// Instruction quantum: 1 amd64, 4 arm64.
    pub quantum: u8,
    pub funcs: Vec<FuncSpec>,
    /// End of the code, as an offset from its start.
    pub end: u32,
    pub files: Vec<&'static str>,
    /// More names for the name table; their offsets are given back.
    pub names: Vec<&'static str>,
}

/// Offsets of the built tables that tests refer to.
pub struct Built {
    pub memory: SparseMemory,
    /// The function table, from its header.
    pub table: Vec<u8>,
    /// Where the pc table begins within `table`.
    pub pctab: usize,
    /// Offsets of `Spec::names`.
    pub names: Vec<u32>,
}

/// Appends one LEB128 number.
fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a pc table and gives its offset; 0 for none.
fn pc_table(out: &mut Vec<u8>, pairs: &[(i32, u32)]) -> u32 {
    if pairs.is_empty() {
        return 0;
    }
    let offset = out.len() as u32;
    let mut last = -1;
    for (value, length) in pairs {
        let change: i32 = value - last;
        varint(out, ((change << 1) ^ (change >> 31)) as u32);
        varint(out, *length);
        last = *value;
    }
    out.push(0);
    offset
}

fn text(out: &mut Vec<u8>, text: &str) -> u32 {
    let offset = out.len() as u32;
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    offset
}

impl Spec {
    /// Lays the tables out in memory: header, names, units, files, pc tables, functions.
    pub fn build(&self) -> Built {
        let old = self.magic == 0xffff_fff0;
        let (mut names, mut files, mut cutab, mut pctab) = (vec![0], vec![0], Vec::new(), vec![0]);
        for file in &self.files {
            cutab.extend(text(&mut files, file).to_le_bytes());
        }
        let extra = self.names.iter().map(|name| text(&mut names, name)).collect();
        let mut ftab = Vec::new();
        let mut bodies = Vec::new();
        let first_body = (self.funcs.len() + 1) * 8;
        for f in &self.funcs {
            ftab.extend(f.entry.to_le_bytes());
            ftab.extend(((first_body + bodies.len()) as u32).to_le_bytes());
            for word in [f.entry, text(&mut names, f.name), f.args as u32, f.deferreturn] {
                bodies.extend(word.to_le_bytes());
            }
            for table in [f.pcsp, f.pcfile, f.pcln] {
                bodies.extend(pc_table(&mut pctab, table).to_le_bytes());
            }
            bodies.extend((f.pcdata.len() as u32).to_le_bytes());
            bodies.extend(0u32.to_le_bytes());
            if !old {
                bodies.extend(f.start_line.to_le_bytes());
            }
            bodies.extend([f.id, f.flags, 0, f.funcdata.len() as u8]);
            for table in &f.pcdata {
                bodies.extend(pc_table(&mut pctab, table).to_le_bytes());
            }
            for offset in &f.funcdata {
                bodies.extend(offset.to_le_bytes());
            }
        }
        ftab.extend(self.end.to_le_bytes());
        ftab.extend([0; 4]);
        ftab.extend(bodies);
        self.assemble([names, cutab, files, pctab, ftab], extra)
    }

    /// Header, tables and the moduledata of 1.22 that leads to them.
    fn assemble(&self, tables: [Vec<u8>; 5], names: Vec<u32>) -> Built {
        let mut table = vec![0; 72];
        let starts = tables.each_ref().map(|part| {
            table.resize(table.len().next_multiple_of(8), 0);
            let start = table.len();
            table.extend(part);
            start
        });
        table[..8].copy_from_slice(&[0, 0, 0, 0, 0, 0, self.quantum, 8]);
        table[..4].copy_from_slice(&self.magic.to_le_bytes());
        table[8..16].copy_from_slice(&(self.funcs.len() as u64).to_le_bytes());
        for (n, start) in starts.iter().enumerate() {
            table[32 + n * 8..40 + n * 8].copy_from_slice(&(*start as u64).to_le_bytes());
        }
        let mut data = vec![0; 592];
        let mut put = |at: usize, value: u64| data[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0, TABLE);
        for (n, (part, start)) in tables.iter().zip(starts).enumerate() {
            let at = [8, 32, 56, 80, 104][n];
            put(at, TABLE + start as u64);
            // The unit table counts elements of four bytes.
            put(at + 8, part.len() as u64 / [1, 4, 1, 1, 1][n]);
        }
        put(128, TABLE + starts[4] as u64);
        put(136, self.funcs.len() as u64 + 1);
        put(160, TEXT + u64::from(self.funcs[0].entry));
        put(168, TEXT + u64::from(self.end));
        put(176, TEXT);
        put(184, TEXT + u64::from(self.end));
        for (n, bound) in [192, 200, 208, 216, 224, 232, 240, 248].into_iter().zip(1u64..) {
            put(n, GLOBALS + bound / 2 * 0x4_0000);
        }
        put(320, GOFUNC);
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(TABLE), table.clone());
        memory.put(Addr::new(MODULEDATA), data);
        Built { memory, table, pctab: starts[3], names }
    }
}

struct Literal;

impl Binder for Literal {
    fn offset(&mut self, _: &StructDecl, field: &FieldDecl) -> Option<u32> {
        const MEMBERS: [(&str, u32); 29] = [
            ("pcHeader", 0),
            ("funcnametab", 8),
            ("cutab", 32),
            ("filetab", 56),
            ("pctab", 80),
            ("pclntable", 104),
            ("ftab", 128),
            ("minpc", 160),
            ("maxpc", 168),
            ("text", 176),
            ("etext", 184),
            ("noptrdata", 192),
            ("enoptrdata", 200),
            ("data", 208),
            ("edata", 216),
            ("bss", 224),
            ("ebss", 232),
            ("noptrbss", 240),
            ("enoptrbss", 248),
            ("end", 272),
            ("types", 296),
            ("etypes", 304),
            ("rodata", 312),
            ("gofunc", 320),
            ("textsectmap", 328),
            ("pluginpath", 424),
            ("modulename", 488),
            ("bad", 576),
            ("next", 584),
        ];
        field.paths.iter().find_map(|path| MEMBERS.iter().find(|(name, _)| name == path).map(|m| m.1))
    }

    fn size(&mut self, _: &StructDecl) -> Option<u32> {
        Some(592)
    }
}

/// `runtime.moduledata` of 1.22.
pub fn layout() -> Moduledata {
    Moduledata::bind(&mut Literal).unwrap()
}

/// A file of no sections and no symbols.
fn nothing() -> LoadedFile {
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x02\x01");
    header[6] = 1;
    header[16] = 2; // ET_EXEC
    header[18] = 62; // EM_X86_64
    header[54] = 56;
    header[58] = 64;
    let elf = ElfFile::parse(header).unwrap();
    LoadedFile {
        path: "/bin/program".into(),
        elf,
        bias: Bias(0),
        missing: None,
        is_program: true,
        is_whole: false,
    }
}

/// A program of one function, of a release that is built in, with the runtime's variables where
/// `globals` says.
pub fn image(version: &str, globals: Globals, wait_reasons: Vec<String>) -> Image {
    let only = FuncSpec { name: "main.main", ..FuncSpec::default() };
    let spec =
        Spec { magic: 0xffff_fff1, quantum: 1, funcs: vec![only], end: 0x40, files: vec![], names: vec![] };
    let memory = spec.build().memory;
    let (arch, go) = (Arch::Amd64, GoVersion::parse(version));
    let chosen = Chosen::of(&go).unwrap();
    let mut diagnostics = Diagnostics::default();
    Image {
        arch,
        modules: Modules::load(&memory, &FromMemory(&memory), Addr::new(MODULEDATA), &layout(), arch)
            .unwrap(),
        modules_by: Provenance::Symtab,
        layouts: Layouts::bind(None, &chosen, arch, &mut diagnostics).unwrap(),
        rules: Rules::of(&chosen).unwrap(),
        go,
        go_by: Provenance::Target,
        build: BuildInfo::default(),
        exe: Executable {
            path: "/bin/program".into(),
            build_id: None,
            go_build_id: None,
            kind: ElfKind::Exe,
            stripped: true,
            has_dwarf: false,
            bias: Bias(0),
        },
        globals,
        wait_reasons,
        wait_reasons_by: Provenance::Target,
        diagnostics,
        statics: Statics::default(),
        file: nothing(),
    }
}
