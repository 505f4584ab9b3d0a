//! Source, live: a process of this host, seen through `/proc`, `process_vm_readv` and ptrace. Nothing
//! is ever written to it, and nothing here stops it but a [`LiveTracer`].

mod clock;
mod descriptors;
pub mod guard;
mod memory;
mod proc;
mod readers;
mod refusal;
mod sys;
mod threads;
mod tracer;

pub use readers::Readers;
pub use threads::Activity;
pub use tracer::LiveTracer;

use super::descriptors::{Descriptor, SystemCall};
use super::maps::{FileId, parse_with_files};
use super::{Auxv, Crash, Mapping, Origin, Source, Thread, Tracer};
use crate::addr::{Nanotime, Pid, Tid};
use crate::arch::Arch;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::Memory;
use clock::Clock;
use memory::LiveMemory;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use proc::{ProcDir, status_number};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use threads::Activities;

/// Longest list of mappings that is read, in bytes: the default limit of 65,530 mappings with long
/// paths.
const MAPS_LIMIT: u64 = 64 << 20;

/// Longest auxiliary vector that is read, in bytes.
const AUXV_LIMIT: u64 = 64 << 10;

/// A live process.
#[derive(Debug)]
pub struct LiveProcess {
    pid: Pid,
    origin: Origin,
    arch: Arch,
    dir: ProcDir,
    exe: FileId,
    exe_path: Option<PathBuf>,
    mappings: Vec<Mapping>,
    /// The file behind each of `mappings`.
    files: Vec<FileId>,
    auxv: Auxv,
    memory: LiveMemory,
    clock: Clock,
    activities: Mutex<Activities>,
}

impl LiveProcess {
    /// Looks up a process; stops nothing. The number of a thread stands for its process, whose own
    /// number [`Source::origin`] then tells.
    ///
    /// Errors: no such process, one that ended altogether (a zombie), a kernel thread, ourselves, one that the
    /// kernel does not let us look into, one of another processor or of 32 bits.
    pub fn open(pid: Pid) -> Result<LiveProcess> {
        let (pid, dir) = find(pid)?;
        let failed = |doing| move |dir: &ProcDir, e| refusal::failed(dir, pid, doing, e);
        let exe = dir.file("exe").map_err(|e| failed("opening the executable")(&dir, e))?;
        let exe_path = dir.link("exe").ok().map(without_mark);
        let arch = arch_of(pid, &exe, exe_path.as_deref())?;
        let exe = fstat(&exe).map_err(|e| failed("opening the executable")(&dir, e))?;
        let text =
            dir.read("maps", MAPS_LIMIT).map_err(|e| failed("reading the mappings")(&dir, errno(&e)))?;
        let (mappings, files): (Vec<_>, Vec<_>) = parse_with_files(&text).unzip();
        let probe = mappings.iter().find(|m| m.readable).ok_or_else(|| refusal::ended(pid))?.span.start;
        let memory = LiveMemory::open(&dir, pid, probe).map_err(|e| failed("reading the memory")(&dir, e))?;
        Ok(LiveProcess {
            pid,
            origin: Origin::Live { pid },
            arch,
            exe: file_id(&exe),
            exe_path,
            mappings,
            files,
            auxv: parse_auxv(&dir.read("auxv", AUXV_LIMIT).unwrap_or_default()),
            memory,
            clock: Clock::of(&dir),
            activities: Mutex::default(),
            dir,
        })
    }

    /// Its number in our PID namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process that traces it (a debugger, strace, another of us), if there is one: then it cannot
    /// be stopped by us.
    pub fn tracer_pid(&self) -> Option<Pid> {
        let by_main_thread = tracer_of(&self.dir, self.pid.0);
        if !self.dir.orphaned() {
            return by_main_thread;
        }
        let mut all = Vec::new();
        threads::TaskDir::open(&self.dir).ok()?.list(&mut all).ok()?;
        all.into_iter().find_map(|tid| tracer_of(&self.dir, tid))
    }

    /// Gets ready to stop the process, as [`Source::trace`] does.
    pub fn tracer(&self) -> Result<LiveTracer<'_>> {
        if let Some(tracer) = self.tracer_pid() {
            return Err(refusal::traced_by(self.pid, tracer));
        }
        self.check()?;
        LiveTracer::new(self, self.same_numbers())
    }

    /// Whether threads have the same numbers for the target as for us.
    fn same_numbers(&self) -> bool {
        let ours = Path::new("/proc/self/ns/pid").read_link().ok();
        ours.is_some() && self.dir.link("ns/pid").ok() == ours
    }

    /// What the kernel counted of each thread until now, ascending by number. Files are kept open from
    /// call to call: a thread that slept since the last one costs about 2 microseconds.
    pub fn thread_activity(&self) -> Result<Vec<Activity>> {
        let mut activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        activities.look(&self.dir).map_err(|e| self.failed("looking at the threads", e))
    }

    /// Fails when the process has ended or runs another program since it was opened.
    pub fn check(&self) -> Result<()> {
        if self.memory.alive() { Ok(()) } else { Err(refusal::ended(self.pid)) }
    }

    fn dir(&self) -> &ProcDir {
        &self.dir
    }

    fn failed(&self, doing: &str, errno: Errno) -> Error {
        refusal::failed(&self.dir, self.pid, doing, errno)
    }

    /// Opens a mapped file by its name as the target's root directory has it, if it is the same file
    /// still. Only looked at by its name at first: opening a pipe or a device can do things.
    fn open_by_name(&self, path: &Path, wanted: FileId) -> Result<File, Errno> {
        let root = self.dir.root()?;
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let found = openat2(&root, path, how)?;
        let stat = fstat(&found)?;
        if !same_file(wanted, file_id(&stat)) || !is_regular(&stat) {
            return Err(Errno::ESTALE);
        }
        let again = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
        File::open(again).map_err(|e| errno(&e))
    }
}

impl Source for LiveProcess {
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
        self.exe_path.as_deref()
    }

    fn open_executable(&self) -> Result<File> {
        let failed = |e| self.failed("opening the executable", e);
        let file = self.dir.file("exe").map_err(failed)?;
        if file_id(&fstat(&file).map_err(failed)?) != self.exe {
            return Err(refusal::ended(self.pid));
        }
        Ok(file)
    }

    fn open_mapped(&self, mapping: &Mapping) -> Result<File> {
        let missing = |why: &str| {
            let path = mapping.path.as_deref().unwrap_or(Path::new("no file"));
            let what = format_args!("{} as mapped by process {}", path.display(), self.pid);
            Error::new(ErrorKind::BadExecutable, format_args!("cannot open {what}: {why}"))
        };
        let known = self.mappings.iter().zip(&self.files).find(|(m, _)| m.span == mapping.span);
        let (_, file) = known.filter(|(_, f)| f.inode != 0).ok_or_else(|| missing("no file lies there"))?;
        let (start, end) = (mapping.span.start.get(), mapping.span.end().get());
        if let Ok(opened) = self.dir.file(&format!("map_files/{start:x}-{end:x}")) {
            return Ok(opened);
        }
        // map_files is for privileged users, and the mapping may have been cut since.
        if mapping.deleted {
            return Err(missing("it was removed or replaced").hint("root can still open it"));
        }
        let path = mapping.path.as_deref().ok_or_else(|| missing("it has no name"))?;
        self.open_by_name(path, *file).map_err(|e| match e {
            Errno::ESTALE => missing("another file has its name now").hint("root can still open it"),
            other => missing(other.desc()).because(other),
        })
    }

    fn now(&self) -> Option<Nanotime> {
        self.clock.now()
    }

    fn crash(&self) -> Option<Crash> {
        None
    }

    fn threads(&self) -> Vec<Thread> {
        let same = self.same_numbers();
        let listed = self.thread_activity().unwrap_or_default();
        let thread = |tid: Tid| {
            let own = if same { Some(tid) } else { threads::own_tid(&self.dir, tid.0) };
            let name = threads::name(&self.dir, tid.0);
            Some(Thread { tid: own?, name, registers: None, asleep_at: None, state: None })
        };
        listed.into_iter().filter_map(|a| thread(a.tid)).collect()
    }

    fn activity(&self) -> Option<Vec<Activity>> {
        self.thread_activity().ok()
    }

    fn trace(&self) -> Result<Box<dyn Tracer + '_>> {
        Ok(Box::new(self.tracer()?))
    }

    fn descriptors(&self, wanted: &[i32]) -> Vec<Descriptor> {
        descriptors::describe(&self.dir, wanted)
    }

    fn system_call(&self, thread: Tid) -> Option<SystemCall> {
        descriptors::system_call(&self.dir, thread)
    }

    fn thread_state(&self, thread: Tid) -> Option<char> {
        threads::state(&self.dir, descriptors::host_number(&self.dir, thread)?)
    }
}

/// Finds the process that a number stands for, and makes sure that it is one to look into.
fn find(pid: Pid) -> Result<(Pid, ProcDir)> {
    let own = Pid(i32::try_from(std::process::id()).unwrap_or_default());
    if Path::new("/proc/self").read_link().ok() != Some(PathBuf::from(own.to_string())) {
        let message = "/proc does not show the processes of this PID namespace";
        return Err(Error::new(ErrorKind::Io, message).hint("mount it: `mount -t proc proc /proc`"));
    }
    let mut asked = pid;
    let mut dir = open_dir(pid)?;
    let ended = |e: std::io::Error| refusal::failed(&dir, pid, "reading the status", errno(&e));
    let process = status_number(&dir.status().map_err(ended)?, "Tgid").map_or(pid, Pid);
    if process != pid {
        dir = open_dir(process)?;
        asked = process;
    }
    if process == own {
        return Err(Error::new(ErrorKind::Usage, format_args!("process {pid} is this program itself")));
    }
    let stat = dir.stat().map_err(|e| refusal::failed(&dir, asked, "reading the status", errno(&e)))?;
    if stat.kernel {
        let message = format_args!("{process} is a thread of the kernel, not a program");
        return Err(Error::new(ErrorKind::NotGo, message));
    }
    if !stat.ended() {
        return Ok((process, dir));
    }
    // A main thread may end before the others do (pthread_exit): the process goes on.
    let threads = threads::TaskDir::open(&dir).and_then(|tasks| tasks.count()).unwrap_or(1);
    if threads > 1 {
        return Ok((process, dir.without_main_thread()));
    }
    let message = format_args!("process {process} has ended (a zombie)");
    Err(Error::new(ErrorKind::NoSuchProcess, message)
        .hint(format_args!("its parent, process {}, has not collected it yet", stat.parent)))
}

fn open_dir(pid: Pid) -> Result<ProcDir> {
    ProcDir::open(pid).map_err(|e| match e {
        Errno::ENOENT | Errno::ESRCH => refusal::no_such_process(pid),
        other => Error::new(ErrorKind::Io, format_args!("cannot open /proc/{pid}")).because(other),
    })
}

/// The processor of the executable, if it is ours.
fn arch_of(pid: Pid, exe: &File, path: Option<&Path>) -> Result<Arch> {
    const CLASS: usize = 4;
    let name = path.map_or_else(|| "its executable".to_owned(), |p| p.display().to_string());
    let unsupported =
        |what: String| Error::new(ErrorKind::Unsupported, format_args!("process {pid} ({name}) is {what}"));
    let mut header = [0; 20];
    if exe.read_exact_at(&mut header, 0).is_err() || !header.starts_with(b"\x7fELF") {
        return Err(Error::new(ErrorKind::BadExecutable, format_args!("{name} is not an ELF file")));
    }
    if header.get(CLASS) == Some(&1) {
        return Err(unsupported("a 32-bit program".to_owned()));
    }
    let machine = header.get(18..20).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
    let host = host();
    let arch = Arch::from_elf_machine(machine).filter(|arch| Some(*arch) == host).ok_or_else(|| {
        unsupported(format!("for another processor (ELF machine {machine}) than this host's"))
            .hint("a core file of it can be read, if it is one of amd64 or arm64")
    })?;
    if emulator(path) {
        return Err(unsupported("an emulator of another processor".to_owned())
            .hint("the program in it cannot be seen from outside; a core file of it can be read"));
    }
    Ok(arch)
}

/// The processor that this program was built for, which is the one of processes that it can trace.
fn host() -> Option<Arch> {
    [(Arch::Amd64, "x86_64"), (Arch::Arm64, "aarch64")]
        .into_iter()
        .find_map(|(arch, name)| (name == std::env::consts::ARCH).then_some(arch))
}

/// Whether a file is user-mode qemu, by its name.
fn emulator(path: Option<&Path>) -> bool {
    let name = path.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("qemu-").is_some_and(|guest| {
        ["system", "img", "nbd", "io", "ga"].iter().all(|other| !guest.starts_with(other))
    })
}

/// The process that traces a thread. The kernel names the thread that does (`TracerPid`).
fn tracer_of(dir: &ProcDir, tid: i32) -> Option<Pid> {
    let tracer = status_number(&dir.thread_status(tid).ok()?, "TracerPid").filter(|tid| *tid != 0)?;
    let status = ProcDir::open(Pid(tracer)).ok().and_then(|dir| dir.status().ok());
    Some(Pid(status.and_then(|text: Vec<u8>| status_number(&text, "Tgid")).unwrap_or(tracer)))
}

/// The path of a link in `/proc`, without the mark of a removed file.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(stem) => PathBuf::from(stem),
        None => path,
    }
}

fn parse_auxv(bytes: &[u8]) -> Auxv {
    let words: Vec<u64> =
        bytes.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes).collect();
    let pairs = words.chunks_exact(2).filter_map(|pair| match pair {
        [key, value] => Some((*key, *value)),
        _ => None,
    });
    Auxv(pairs.take_while(|(key, _)| *key != 0).collect())
}

fn file_id(stat: &FileStat) -> FileId {
    FileId { major: major(stat.st_dev), minor: minor(stat.st_dev), inode: stat.st_ino }
}

/// Whether a file found by name is the one that is mapped. File systems without a device (overlayfs,
/// btrfs) show another device in `maps` than in `stat`: there the inode must do.
fn same_file(mapped: FileId, found: FileId) -> bool {
    let device =
        mapped.major == 0 || found.major == 0 || (mapped.major, mapped.minor) == (found.major, found.minor);
    device && mapped.inode == found.inode
}

fn is_regular(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;

    #[test]
    fn the_auxiliary_vector_ends_at_its_mark() {
        let words = [3u64, 0x40_0040, 9, 0x1000, 0, 0, 7, 7];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let auxv = parse_auxv(&bytes);
        assert_eq!(auxv.0, [(3, 0x40_0040), (9, 0x1000)]);
        assert_eq!(auxv.program_headers(), Some(Addr::new(0x40_0040)));
        assert_eq!(parse_auxv(&bytes[..20]).0, [(3, 0x40_0040)]);
    }

    #[test]
    fn emulators_are_known_by_name() {
        assert!(emulator(Some(Path::new("/usr/bin/qemu-aarch64-static"))));
        assert!(!emulator(Some(Path::new("/usr/bin/qemu-system-x86_64"))));
        assert!(!emulator(Some(Path::new("/usr/bin/qemu"))));
        assert!(!emulator(None));
    }

    #[test]
    fn a_file_is_the_same_by_inode_and_by_device_where_there_is_one() {
        let file = |major, minor, inode| FileId { major, minor, inode };
        assert!(same_file(file(8, 1, 7), file(8, 1, 7)));
        assert!(!same_file(file(8, 1, 7), file(8, 2, 7)));
        assert!(!same_file(file(8, 1, 7), file(8, 1, 8)));
        assert!(same_file(file(0, 30, 7), file(0, 44, 7)));
    }
}
