//! Cli: `allgs ps`: the Go processes of this host. Each executable is examined once; goroutines are
//! counted by reading memory while the process runs. Stops nothing and attaches to nothing.

use super::super::args::{PlainFormat, PsArgs};
use super::super::output::Output;
use super::super::plan::Voice;
use crate::addr::Pid;
use crate::image::buildinfo::BuildInfo;
use crate::image::elf::ElfFile;
use crate::image::{Image, OpenOptions};
use crate::report::ps::{Process, Processes};
use crate::runtime::capture::CaptureOptions;
use crate::runtime::snapshot::Snapshot;
use crate::source::{self, TargetSpec};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Runs it.
pub fn run(args: &PsArgs, voice: Voice) -> Result<()> {
    let out = Output::open(args.output.as_deref())?;
    let list = scan().context("cannot list processes")?;
    let palette = voice.palette(args.output.is_some());
    out.write(|out| match args.format {
        PlainFormat::Text => list.text(out, &palette),
        PlainFormat::Json => list.json(out),
    })
}

/// What executables were found to be, by device and inode.
type Known = HashMap<(u64, u64), Option<Rc<BuildInfo>>>;

fn scan() -> io::Result<Processes> {
    let mut known = Known::new();
    let (mut processes, mut not_examined) = (Vec::new(), 0);
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let dir = living(Path::new("/proc").join(&name));
        match examine(&dir, &mut known) {
            Ok(Some(build)) => processes.push(describe(pid, &dir, &build)),
            Ok(None) => {}
            // Kernel threads and processes that ended have no executable.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {}
            Err(_) => not_examined += 1,
        }
    }
    processes.sort_by_key(|process| process.pid);
    Ok(Processes::new(processes, not_examined))
}

/// The directory that tells of a process: its own, or that of another thread when the main thread ended
/// before the others.
fn living(dir: PathBuf) -> PathBuf {
    if dir.join("exe").read_link().is_ok() {
        return dir;
    }
    let threads = fs::read_dir(dir.join("task")).into_iter().flatten().flatten().map(|task| task.path());
    threads.into_iter().find(|thread| thread.join("exe").read_link().is_ok()).unwrap_or(dir)
}

/// No such process: it ended while it was looked at.
const ESRCH: i32 = 3;

/// What Go made of the executable of a process; nothing when it is not Go.
fn examine(dir: &Path, known: &mut Known) -> io::Result<Option<Rc<BuildInfo>>> {
    let exe = File::open(dir.join("exe"))?;
    let meta = exe.metadata()?;
    let build = known.entry((meta.dev(), meta.ino())).or_insert_with(|| {
        let elf = ElfFile::open(&exe).ok()?;
        BuildInfo::of_file(&elf).map(Rc::new)
    });
    Ok(build.clone())
}

fn describe(pid: i32, dir: &Path, build: &BuildInfo) -> Process {
    let status = fs::read_to_string(dir.join("status")).unwrap_or_default();
    let why_not = why_not(dir, &status);
    Process {
        pid,
        go_version: build.go_version.clone(),
        main_module: build.main_module.clone(),
        main_package: build.path.clone(),
        exe: fs::read_link(dir.join("exe")).ok().map(text),
        goroutines: if why_not.is_none() { goroutines(Pid(pid)) } else { None },
        threads: number(&status, "Threads:"),
        rss_bytes: number(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
        attachable: why_not.is_none(),
        why_not,
    }
}

/// Most goroutines, dead ones too, that are looked at to be counted.
const COUNTED: u64 = 50_000;

/// How many goroutines of its own a process has; unknown if they are too many or can't be read.
fn goroutines(pid: Pid) -> Option<u64> {
    let source = source::open(&TargetSpec::Pid(pid)).ok()?;
    let image = Image::open(&*source, &OpenOptions::default()).ok()?;
    let all = source.memory().read_u64(image.globals.allglen?.value).ok()?;
    if all > COUNTED {
        return None;
    }
    let snapshot = Snapshot::take(&*source, &image, &CaptureOptions::UNSTOPPED).ok()?;
    Some(snapshot.gs.iter().filter(|g| !g.system).count() as u64)
}

/// Why a process cannot be attached to. To open its memory, the kernel asks for the same rights as
/// to attach.
fn why_not(dir: &Path, status: &str) -> Option<String> {
    match number(status, "TracerPid:") {
        Some(tracer) if tracer != 0 => {
            // The kernel names the thread that traces.
            let status = fs::read_to_string(format!("/proc/{tracer}/status")).unwrap_or_default();
            return Some(format!("traced by {}", number(&status, "Tgid:").unwrap_or(tracer)));
        }
        _ => {}
    }
    match File::open(dir.join("mem")) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Some("not permitted".to_owned()),
        Err(error) => Some(error.kind().to_string()),
    }
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn text(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
