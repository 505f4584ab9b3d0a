//! Source, core files: the notes, in which the kernel, gcore, qemu and Delve describe threads,
//! mapped files and the signal. Layouts are those of Linux (`include/linux/elfcore.h`,
//! `fs/binfmt_elf.c`), declared as offsets below and nowhere else.

use super::header::{EntryKind, Header};
use super::raw::{i32_at, slice, u16_at, u32_at, u64_at};
use crate::addr::{Addr, FileOffset, Span, Tid};
use crate::arch::Arch;
use crate::source::regs::MAX_WORDS;
use crate::source::{Auxv, Registers, Thread};

/// Threads that are kept: what Linux allows at most is four times that, per host.
const MAX_THREADS: usize = 1 << 20;
/// Mapped files that are kept.
const MAX_FILES: u64 = 1 << 20;
/// Pairs of the auxiliary vector that are kept; the kernel gives about 25.
const MAX_AUXV: u64 = 256;
/// `PATH_MAX` of Linux.
const MAX_PATH: usize = 4096;

/// Where `NT_PRSTATUS` has what (`struct elf_prstatus`); the same in both processors.
mod prstatus {
    /// `pr_cursig`, i16.
    pub const SIGNAL: u64 = 12;
    /// `pr_pid`, i32: the thread's number in the namespace of the process.
    pub const TID: u64 = 32;
    /// `pr_reg`.
    pub const REGISTERS: u64 = 112;
}

/// Where `NT_PRPSINFO` has what (`struct elf_prpsinfo`).
mod prpsinfo {
    /// `pr_pid`, i32.
    pub const PID: u64 = 24;
    /// `pr_fname`, 16 bytes.
    pub const NAME: (u64, u64) = (40, 16);
    /// `pr_psargs`, 80 bytes.
    pub const ARGUMENTS: (u64, u64) = (56, 80);
}

/// Where `NT_SIGINFO` has what (`siginfo_t`).
mod siginfo {
    pub const SIGNAL: u64 = 0;
    pub const CODE: u64 = 8;
    pub const ADDRESS: u64 = 16;
}

/// What killed the process, as one thread tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Signal {
    pub number: i32,
    /// `si_code` and `si_addr`, of `NT_SIGINFO`.
    pub detail: Option<(i32, u64)>,
    pub tid: Tid,
}

/// What `NT_PRPSINFO` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Process {
    pub pid: i32,
    /// At most 15 bytes of the program's name.
    pub name: Vec<u8>,
    /// At most 79 bytes of its command line.
    pub arguments: Vec<u8>,
}

/// One mapped file of `NT_FILE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MappedFile {
    pub span: Span,
    pub offset: FileOffset,
    pub name: Vec<u8>,
}

/// All that was read from the notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub threads: Vec<Thread>,
    /// Signals in the order of the threads; those that are none (0) are left out.
    pub signals: Vec<Signal>,
    pub process: Option<Process>,
    pub auxv: Auxv,
    /// Whether there is an auxiliary vector that makes no sense.
    pub bad_auxv: bool,
    /// In the order of the note.
    pub files: Vec<MappedFile>,
    /// Notes, or parts of one, that were damaged.
    pub damaged: u64,
    /// Bytes of notes beyond the end of the file.
    pub missing: u64,
    /// The operating system, if Delve wrote the core.
    pub delve_system: Option<String>,
}

impl Notes {
    /// Reads all notes of a core.
    pub(super) fn read(header: &Header, bytes: &[u8]) -> Notes {
        let mut notes = Notes::default();
        for e in header.entries(bytes).filter(|e| e.kind == EntryKind::Note) {
            let present = e.file_size.min((bytes.len() as u64).saturating_sub(e.offset));
            notes.missing = notes.missing.saturating_add(e.file_size.saturating_sub(present));
            let align = if e.align == 8 { 8 } else { 4 };
            let body = slice(bytes, e.offset, present).unwrap_or(&[]);
            notes.segment(body, align, header.arch);
        }
        notes
    }

    /// Reads the notes of one segment.
    fn segment(&mut self, body: &[u8], align: u64, arch: Arch) {
        let mut at = 0;
        while at < body.len() as u64 {
            let Some((note, next)) = Note::at(body, at, align) else {
                self.damaged = self.damaged.saturating_add(1);
                return;
            };
            if self.note(&note, arch).is_none() {
                self.damaged = self.damaged.saturating_add(1);
            }
            at = next;
        }
    }

    /// Takes one note; `None` when it is shorter than what it must hold.
    fn note(&mut self, note: &Note<'_>, arch: Arch) -> Option<()> {
        // Delve leaves the owner of its notes empty.
        match (note.name, note.kind) {
            (b"CORE" | b"", 1) => self.thread(note.body, arch),
            (b"CORE" | b"", 3) => self.process(note.body),
            (b"CORE" | b"", 6) => self.auxv(note.body),
            (b"CORE", 0x5349_4749) => self.siginfo(note.body),
            (b"CORE", 0x4649_4c45) => self.files(note.body),
            (_, super::delve::HEADER) => self.delve_header(note.body),
            (_, super::delve::THREAD) => self.push(super::delve::thread(note.body, arch)?),
            _ => Some(()),
        }
    }

    fn push(&mut self, thread: Thread) -> Option<()> {
        (self.threads.len() < MAX_THREADS).then(|| self.threads.push(thread))
    }

    fn thread(&mut self, body: &[u8], arch: Arch) -> Option<()> {
        let tid = Tid(i32_at(body, prstatus::TID)?);
        let signal = i32::from(u16_at(body, prstatus::SIGNAL)?);
        let registers = registers(body, arch)?;
        self.push(Thread { tid, name: None, registers: Some(registers), asleep_at: None, state: None })?;
        if signal != 0 {
            self.signals.push(Signal { number: signal, detail: None, tid });
        }
        Some(())
    }

    fn process(&mut self, body: &[u8]) -> Option<()> {
        let text = |(at, len)| Some(until_nul(slice(body, at, len)?).to_vec());
        let pid = i32_at(body, prpsinfo::PID)?;
        let (name, arguments) = (text(prpsinfo::NAME)?, text(prpsinfo::ARGUMENTS)?);
        self.process = Some(Process { pid, name, arguments });
        Some(())
    }

    /// A vector without a page size that can be is no vector: user-mode qemu writes one that is
    /// shifted by a word when the program was started through the loader.
    fn auxv(&mut self, body: &[u8]) -> Option<()> {
        let mut pairs = Vec::new();
        for i in 0..MAX_AUXV.min(body.len() as u64 / 16) {
            let at = i.saturating_mul(16);
            let (key, value) = (u64_at(body, at)?, u64_at(body, at.saturating_add(8))?);
            if key == 0 {
                break;
            }
            pairs.push((key, value));
        }
        let page = pairs.iter().find(|(key, _)| *key == 6).map(|(_, value)| *value);
        if page.is_some_and(|p| p.is_power_of_two() && (4096..=65536).contains(&p)) {
            self.auxv = Auxv(pairs);
        } else {
            self.bad_auxv = true;
        }
        Some(())
    }

    /// The note follows the `NT_PRSTATUS` of the thread to which it belongs.
    fn siginfo(&mut self, body: &[u8]) -> Option<()> {
        let number = i32_at(body, siginfo::SIGNAL)?;
        let detail = Some((i32_at(body, siginfo::CODE)?, u64_at(body, siginfo::ADDRESS)?));
        let Some(tid) = self.threads.last().map(|t| t.tid) else { return Some(()) };
        let same = self.signals.iter_mut().rev().find(|s| s.tid == tid);
        match same.filter(|s| s.detail.is_none()) {
            Some(s) if s.number == number => s.detail = detail,
            _ if number != 0 => self.signals.push(Signal { number, detail, tid }),
            _ => {}
        }
        Some(())
    }

    /// `count, page size, count * (start, end, offset in pages), names`, all but the names u64.
    fn files(&mut self, body: &[u8]) -> Option<()> {
        let (count, page) = (u64_at(body, 0)?, u64_at(body, 8)?);
        let room = (body.len() as u64).saturating_sub(16) / 24;
        let names_at = count.checked_mul(24)?.checked_add(16)?;
        let mut names = body.get(usize::try_from(names_at).ok()?..)?;
        for i in 0..count.min(room).min(MAX_FILES) {
            let at = i.saturating_mul(24).saturating_add(16);
            let start = Addr::new(u64_at(body, at)?);
            let end = Addr::new(u64_at(body, at.saturating_add(8))?);
            let offset = u64_at(body, at.saturating_add(16))?.checked_mul(page)?;
            let name = until_nul(names);
            names = names.get(name.len().checked_add(1)?..)?;
            let name = if name.len() < MAX_PATH { name.to_vec() } else { Vec::new() };
            self.files.push(MappedFile { span: Span::between(start, end), offset: FileOffset(offset), name });
        }
        Some(())
    }

    fn delve_header(&mut self, body: &[u8]) -> Option<()> {
        self.delve_system = super::delve::system(body).map(str::to_owned);
        if self.process.is_none() {
            let pid = super::delve::pid(body)?;
            self.process = Some(Process { pid, name: Vec::new(), arguments: Vec::new() });
        }
        Some(())
    }
}

/// One note, not yet understood.
struct Note<'a> {
    kind: u32,
    name: &'a [u8],
    body: &'a [u8],
}

impl<'a> Note<'a> {
    /// The note at `at` and where the next one begins.
    fn at(segment: &'a [u8], at: u64, align: u64) -> Option<(Note<'a>, u64)> {
        let name_len = u64::from(u32_at(segment, at)?);
        let body_len = u64::from(u32_at(segment, at.checked_add(4)?)?);
        let kind = u32_at(segment, at.checked_add(8)?)?;
        let name_at = at.checked_add(12)?;
        let body_at = name_at.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let name = until_nul(slice(segment, name_at, name_len)?);
        let body = slice(segment, body_at, body_len)?;
        Some((Note { kind, name, body }, body_at.checked_add(body_len)?.checked_next_multiple_of(align)?))
    }
}

/// The registers of an `NT_PRSTATUS`; `None` when it is too short to hold them all.
fn registers(prstatus: &[u8], arch: Arch) -> Option<Registers> {
    let set = prstatus.get(usize::try_from(prstatus::REGISTERS).ok()?..)?;
    let words = set.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_le_bytes));
    Registers::from_words(arch, &words.take(MAX_WORDS).collect::<Vec<u64>>())
}

/// The bytes before the first NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or(&[])
}
