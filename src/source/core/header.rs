//! Source, core files: is this a core at all, of which processor, and where its program headers are.

use super::raw::{slice, u16_at, u32_at, u64_at};
use crate::arch::Arch;
use crate::error::{Error, ErrorKind, Result};

/// Length of an ELF64 header.
const HEADER_SIZE: u64 = 64;
/// Length of an ELF64 program header.
const ENTRY_SIZE: u64 = 56;
/// `PN_XNUM`: the number of program headers does not fit and stands in section 0.
const COUNT_ELSEWHERE: u64 = 0xffff;
/// Where `sh_info` stands in a section header.
const SECTION_INFO: u64 = 44;
/// Program headers that are looked at. Linux allows 65,530 mappings unless told otherwise; this
/// bounds what a damaged count may cost.
const MAX_ENTRIES: u64 = 1 << 20;

/// One program header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub kind: EntryKind,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
    pub offset: u64,
    pub vaddr: u64,
    pub file_size: u64,
    pub mem_size: u64,
    pub align: u64,
}

/// What a program header describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryKind {
    /// `PT_LOAD`: memory.
    Load,
    /// `PT_NOTE`: notes.
    Note,
    /// Anything else.
    Other,
}

/// What the ELF header of a core says.
#[derive(Debug)]
pub(super) struct Header {
    pub arch: Arch,
    table: u64,
    /// Program headers that are whole in the file.
    pub present: u64,
    /// Program headers that the file says it has.
    pub stated: u64,
}

impl Header {
    /// Reads the header of a core; `name` is how messages call the file. Fails with a message that
    /// says what the file is instead.
    pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Header> {
        let arch = recognise(bytes, name)?;
        let cut = || bad(name, format!("it ends after {} bytes, inside its ELF header", bytes.len()));
        let table = u64_at(bytes, 32).ok_or_else(cut)?;
        let sections = u64_at(bytes, 40).ok_or_else(cut)?;
        let entry_size = u64::from(u16_at(bytes, 54).ok_or_else(cut)?);
        let count = u64::from(u16_at(bytes, 56).ok_or_else(cut)?);
        if table < HEADER_SIZE || count == 0 {
            return Err(bad(name, "it has no program headers: whoever wrote it did not finish"));
        }
        if entry_size != ENTRY_SIZE {
            return Err(bad(
                name,
                format!("its program headers are {entry_size} bytes long, not {ENTRY_SIZE}"),
            ));
        }
        let room = (bytes.len() as u64).saturating_sub(table) / ENTRY_SIZE;
        let stated = if count == COUNT_ELSEWHERE {
            let elsewhere = sections.checked_add(SECTION_INFO).and_then(|at| u32_at(bytes, at));
            let sane = elsewhere.map(u64::from).filter(|n| sections >= HEADER_SIZE && *n >= COUNT_ELSEWHERE);
            sane.unwrap_or_else(|| count_by_offsets(bytes, table, room))
        } else {
            count
        };
        Ok(Header { arch, table, present: stated.min(room).min(MAX_ENTRIES), stated })
    }

    /// The program headers that are there.
    pub(super) fn entries<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = Entry> + 'a {
        let table = self.table;
        (0..self.present).map_while(move |i| entry(bytes, table, i))
    }
}

/// The i-th program header.
fn entry(bytes: &[u8], table: u64, i: u64) -> Option<Entry> {
    let raw = slice(bytes, table.checked_add(i.checked_mul(ENTRY_SIZE)?)?, ENTRY_SIZE)?;
    let flags = u32_at(raw, 4)?;
    Some(Entry {
        kind: match u32_at(raw, 0)? {
            1 => EntryKind::Load,
            4 => EntryKind::Note,
            _ => EntryKind::Other,
        },
        readable: flags & 4 != 0,
        writable: flags & 2 != 0,
        executable: flags & 1 != 0,
        offset: u64_at(raw, 8)?,
        vaddr: u64_at(raw, 16)?,
        file_size: u64_at(raw, 32)?,
        mem_size: u64_at(raw, 40)?,
        align: u64_at(raw, 48)?,
    })
}

/// How many program headers there are when section 0 is lost. The kernel writes that section last,
/// so a core that was cut lacks it; but the first thing that any header points to follows the table.
fn count_by_offsets(bytes: &[u8], table: u64, room: u64) -> u64 {
    let mut end = u64::MAX;
    let mut count = 0;
    while count < room.min(MAX_ENTRIES) {
        let at = table.saturating_add(count.saturating_mul(ENTRY_SIZE));
        let Some(e) = entry(bytes, table, count).filter(|_| at < end) else { break };
        if e.offset > table && e.file_size > 0 {
            end = end.min(e.offset);
        }
        count = count.saturating_add(1);
    }
    count
}

/// The processor of the core, or an error that says what the file is.
pub(super) fn recognise(bytes: &[u8], name: &str) -> Result<Arch> {
    if bytes.is_empty() {
        return Err(bad(name, "it is empty"));
    }
    if slice(bytes, 0, 4) != Some(b"\x7fELF") {
        let message = format!("{name} is not a core file: it is not an ELF file");
        return Err(Error::new(ErrorKind::BadCore, message)
            .hint("name a core file (as the kernel, gcore, Delve or coredumpctl write it) or a PID"));
    }
    let cut = || bad(name, format!("it ends after {} bytes, inside its ELF header", bytes.len()));
    let (class, data) = match slice(bytes, 4, 2) {
        Some([class, data]) => (*class, *data),
        _ => return Err(cut()),
    };
    if class != 2 || data != 1 {
        let what = if class == 1 { "a 32-bit" } else { "no 64-bit little-endian" };
        let message = format!("{name} is {what} ELF file");
        return Err(Error::new(ErrorKind::Unsupported, message)
            .hint("cores of 64-bit x86-64 and AArch64 programs are decoded"));
    }
    check_type(u16_at(bytes, 16).ok_or_else(cut)?, name)?;
    let machine = u16_at(bytes, 18).ok_or_else(cut)?;
    Arch::from_elf_machine(machine).ok_or_else(|| {
        let message = format!("{name} is a core of {}", machine_name(machine));
        Error::new(ErrorKind::Unsupported, message).hint("cores of x86-64 and AArch64 are decoded")
    })
}

/// Refuses ELF files that are no cores.
fn check_type(kind: u16, name: &str) -> Result<()> {
    let what = match kind {
        4 => return Ok(()),
        2 | 3 => "an executable or shared library",
        1 => "an object file",
        _ => "an ELF file of an unknown type",
    };
    Err(Error::new(ErrorKind::BadCore, format!("{name} is {what}, not a core file"))
        .hint("name the core file or the PID, and the executable with --exe"))
}

/// A name for an `e_machine` that is not decoded.
fn machine_name(machine: u16) -> String {
    let known = match machine {
        3 => "386",
        8 | 10 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm (32-bit)",
        243 => "riscv",
        258 => "loong64",
        _ => return format!("a processor that is not known (e_machine {machine})"),
    };
    format!("processor {known}")
}

/// A core that is damaged beyond use.
pub(super) fn bad(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadCore, format!("cannot use the core file {name}: {why}"))
}
