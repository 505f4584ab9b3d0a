//! Source: a core file. Opening one maps it (a compressed one is first unpacked), indexes its
//! segments and reads its notes; from then on it is a [`Memory`] like that of a live process.
//!
//! Cores are often cut, because the disk was full or a limit was reached. What is there is shown;
//! what is missing is counted in [`CoreFile::diagnostics`].

mod compressed;
mod delve;
mod header;
mod mappings;
mod notes;
mod raw;
mod segments;

use super::mmap::FileMap;
use super::{Auxv, Crash, Mapping, Origin, Source, Stopped, Thread, Tracer, fault};
use crate::addr::{Addr, Nanotime, Pid};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::Memory;
use compressed::Packing;
pub use compressed::Progress;
use header::{Header, bad};
use notes::{Notes, Signal};
use segments::{CoreMemory, Segments};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A core file, opened.
pub struct CoreFile {
    origin: Origin,
    arch: Arch,
    memory: CoreMemory,
    mappings: Vec<Mapping>,
    auxv: Auxv,
    threads: Vec<Thread>,
    crash: Option<Crash>,
    executable: Option<PathBuf>,
    diagnostics: Diagnostics,
}

impl CoreFile {
    /// Opens the core file at `path`. Fails with [`ErrorKind::BadCore`] on what is no core or is
    /// damaged beyond use, with [`ErrorKind::Unsupported`] on cores of other processors.
    pub fn open(path: &Path) -> Result<CoreFile> {
        CoreFile::open_with(path, &mut |_| {})
    }

    /// The same; `progress` is called again and again while a packed core is unpacked.
    pub fn open_with(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<CoreFile> {
        let name = path.display().to_string();
        let io =
            |e: std::io::Error| Error::new(ErrorKind::Io, format!("cannot open the core file {name}: {e}"));
        let file = open_regular(path).map_err(io)?;
        let map = FileMap::open(&file)?;
        let Some(packing) = Packing::of(&map, &name)? else {
            return CoreFile::of_map(path, map);
        };
        drop(map);
        let unpacked = compressed::unpack(&file, &name, packing, progress)?;
        let mut core = CoreFile::of_map(path, FileMap::open(&unpacked.file)?)?;
        if let Some(why) = unpacked.cut {
            let what = format!("the packed core file cannot be unpacked to its end: {why}");
            core.diagnostics.warn(what, "what came out before is used");
        }
        Ok(core)
    }

    /// Reads the core in `map`; `path` is what it is called.
    fn of_map(path: &Path, map: FileMap) -> Result<CoreFile> {
        let name = path.display().to_string();
        let header = Header::parse(&map, &name)?;
        let segments = Segments::index(&header, &map);
        let notes = Notes::read(&header, &map);
        if let Some(system) = notes.delve_system.as_deref().filter(|s| *s != "linux") {
            let message = format!("{name} is a core of a {system:?} program");
            return Err(Error::new(ErrorKind::Unsupported, message).hint("cores of Linux are decoded"));
        }
        if segments.held() == 0 {
            let why = format!("it holds no memory; the file has {} bytes", map.len());
            return Err(bad(&name, why));
        }
        let mut diagnostics = Diagnostics::default();
        report(&mut diagnostics, &header, &segments, &notes);
        let mappings = mappings::join(&segments.regions, &notes.files, &mut diagnostics);
        let mapped = mappings.iter().map(|m| m.span).collect();
        let pid = notes.process.as_ref().map(|p| Pid(p.pid));
        let executable = executable(&mappings, &notes);
        let crash = crash(&notes);
        Ok(CoreFile {
            origin: Origin::Core { path: path.to_owned(), pid },
            arch: header.arch,
            memory: CoreMemory { map, segments, mapped },
            mappings,
            auxv: notes.auxv,
            threads: notes.threads,
            crash,
            executable,
            diagnostics,
        })
    }
}

/// Opens a file that the user, or a core, names. Nothing but a regular file is touched: opening a
/// pipe waits for its other end, and opening a device may do things.
pub fn open_regular(path: &Path) -> std::io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)
}

/// Says what the core lacks.
fn report(to: &mut Diagnostics, header: &Header, segments: &Segments, notes: &Notes) {
    let lost = segments.lost;
    let headers = header.stated.saturating_sub(header.present);
    if headers > 0 {
        let what = format!("the core file ends before {headers} of its {} program headers", header.stated);
        to.warn(what, "the memory that they describe is missing");
    }
    if lost.segments > 0 {
        let what = format!(
            "the core file is cut: {} segments miss {} bytes, {} bytes are there",
            lost.segments,
            lost.bytes,
            segments.held()
        );
        to.warn(what, "goroutines and stacks in the missing memory cannot be shown");
    }
    if lost.overlapping > 0 {
        let what = format!("{} segments of the core file overlap others", lost.overlapping);
        to.warn(what, "the file is damaged; of two segments the one that begins first is used");
    }
    if notes.missing > 0 || notes.damaged > 0 {
        let what = format!(
            "notes of the core file are damaged: {} bytes missing, {} notes unreadable",
            notes.missing, notes.damaged
        );
        to.warn(what, "threads or names of mapped files may be missing");
    }
    if notes.threads.is_empty() {
        to.warn("the core file names no threads", "goroutines that were running have no stack");
    }
    if notes.bad_auxv {
        to.note("the auxiliary vector of the core file makes no sense", "it is not used");
    }
}

/// Name of the executable: the mapped file that holds its program headers, else the first mapped
/// file, else what the process called itself.
fn executable(mappings: &[Mapping], notes: &Notes) -> Option<PathBuf> {
    let headers = notes.auxv.program_headers();
    let by_headers = headers.and_then(|at| mappings.iter().find(|m| m.span.contains(at))?.path.as_ref());
    let first = || mappings.iter().find_map(|m| m.path.as_ref());
    if let Some(path) = by_headers.or_else(first) {
        return Some(path.clone());
    }
    let process = notes.process.as_ref()?;
    let word = process.arguments.split(|b| *b == b' ').next().filter(|w| !w.is_empty());
    let name = word.unwrap_or(&process.name);
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

/// Signals that make a process dump core (`SIG_KERNEL_COREDUMP_MASK` of Linux).
const DEADLY: [i32; 10] = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];

/// What killed the process. Writers put the thread that died first, and gdb, when nothing died, the
/// thread that it stopped: signals that don't kill are no crash.
fn crash(notes: &Notes) -> Option<Crash> {
    let deadly = |s: &&Signal| DEADLY.contains(&s.number);
    let first = notes.threads.first()?.tid;
    let of_first = || notes.signals.iter().filter(|s| s.tid == first);
    let signal = of_first()
        .find(|s| deadly(s) && s.detail.is_some())
        .or_else(|| of_first().find(deadly))
        .or_else(|| notes.signals.iter().find(|s| deadly(s) && s.detail.is_some()))?;
    Some(Crash {
        signal: signal.number,
        code: signal.detail.map(|(code, _)| code),
        fault: signal.detail.and_then(|(code, at)| fault(signal.number, code, Addr::new(at))),
        tid: signal.tid,
    })
}

impl Source for CoreFile {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn arch(&self) -> Arch {
        self.arch
    }

    fn memory(&self) -> &dyn Memory {
        &self.memory
    }

    fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    fn auxv(&self) -> &Auxv {
        &self.auxv
    }

    fn executable_path(&self) -> Option<&Path> {
        self.executable.as_deref()
    }

    fn open_executable(&self) -> Result<File> {
        Err(Error::new(ErrorKind::BadExecutable, "a core file does not contain its executable"))
    }

    fn open_mapped(&self, mapping: &Mapping) -> Result<File> {
        let path = mapping.path.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Io, format!("no file is mapped at {}", mapping.span.start))
        })?;
        open_regular(path)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot open {}: {e}", path.display())))
    }

    fn now(&self) -> Option<Nanotime> {
        None
    }

    fn crash(&self) -> Option<Crash> {
        self.crash
    }

    fn diagnostics(&self) -> Diagnostics {
        self.diagnostics.clone()
    }

    fn trace(&self) -> Result<Box<dyn Tracer + '_>> {
        Ok(Box::new(Still(self)))
    }
}

/// Threads of a core: they stand still already.
struct Still<'a>(&'a CoreFile);

impl Tracer for Still<'_> {
    fn stop(&mut self, _limit: Duration) -> Result<Stopped> {
        Ok(Stopped { threads: self.0.threads.clone(), left: Vec::new(), running: Vec::new() })
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
