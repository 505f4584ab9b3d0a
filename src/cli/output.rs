//! Cli: where the answer goes. A file appears under its name once it is complete. Until then it has no
//! name at all where the file system can do that, so that nothing is left behind however we end; else
//! a temporary name beside it, which is gone when anything fails.

use super::exit::cannot_write;
use crate::error::{Error, ErrorKind};
use crate::report::clean::clean_bytes;
use crate::source::live::guard;
use anyhow::Result;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Bytes collected before they are written.
const BUFFER: usize = 64 << 10;

/// Where the answer goes, and how it is called in messages.
pub struct Output {
    writer: BufWriter<Sink>,
    name: String,
}

enum Sink {
    Stdout(io::StdoutLock<'static>),
    /// Something that exists and is no file: a device, a pipe.
    Special(File),
    /// Becomes the file at the path; has no name yet.
    Nameless(File, PathBuf),
    /// Becomes the file at the path; has another name.
    Pending(NamedTempFile, PathBuf),
}

impl Output {
    /// Opens the file, or stdout if there is none, or if it is `-`.
    pub fn open(path: Option<&Path>) -> Result<Output> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Output::new(Sink::Stdout(io::stdout().lock()), "the output".to_owned()));
        };
        let name = clean_bytes(path.as_os_str().as_bytes()).into_owned();
        let sink = open(path).map_err(|e| cannot_write(&name, e))?;
        Ok(Output::new(sink, name))
    }

    fn new(sink: Sink, name: String) -> Output {
        Output { writer: BufWriter::with_capacity(BUFFER, sink), name }
    }

    /// Whether a person sees the answer while it is written.
    pub fn is_terminal(&self) -> bool {
        match self.writer.get_ref() {
            Sink::Stdout(out) => out.is_terminal(),
            Sink::Special(file) => file.is_terminal(),
            Sink::Nameless(..) | Sink::Pending(..) => false,
        }
    }

    /// Writes all of an answer and makes it visible.
    pub fn write(mut self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let written = body(&mut self.writer).and_then(|()| self.writer.flush());
        let done = written.and_then(|()| self.writer.into_inner().map_err(|e| e.into_error())?.publish());
        if let Some(signal) = guard::pending() {
            return Err(Error::new(ErrorKind::Interrupted, format_args!("ended by signal {signal}")).into());
        }
        done.map_err(|e| cannot_write(&self.name, e))
    }
}

fn open(path: &Path) -> io::Result<Sink> {
    // A symbolic link stays one: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => {
            return OpenOptions::new().write(true).open(&path).map(Sink::Special);
        }
        _ => {}
    }
    let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nameless =
        OpenOptions::new().write(true).mode(MODE).custom_flags(OFlag::O_TMPFILE.bits()).open(beside);
    if let Ok(file) = nameless {
        return Ok(Sink::Nameless(file, path));
    }
    let named = temporary().tempfile_in(beside);
    named.map(|file| Sink::Pending(file, path)).map_err(plain)
}

/// Permissions of a new file, from which the umask takes.
const MODE: u32 = 0o666;

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".allgs-").permissions(Permissions::from_mode(MODE));
    builder
}

/// Gives a nameless file its name. To replace a file takes two steps: a new name, then that of the old.
fn name(file: &File, path: &Path) -> io::Result<()> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let beside = path.parent().unwrap_or(Path::new("."));
    let link = |to: &Path| {
        linkat(AT_FDCWD, own.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
    };
    let temporary = temporary().make_in(beside, link).map_err(plain)?;
    temporary.into_temp_path().persist(path).map_err(|e| e.error)
}

/// The error of the system alone, without the path that the maker of temporary files adds.
fn plain(error: io::Error) -> io::Error {
    error.raw_os_error().map_or(error, io::Error::from_raw_os_error)
}

impl Sink {
    fn publish(self) -> io::Result<()> {
        match self {
            Sink::Nameless(file, path) => name(&file, &path),
            Sink::Pending(file, path) => file.persist(path).map(drop).map_err(|e| e.error),
            Sink::Stdout(_) | Sink::Special(_) => Ok(()),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(out) => out.write(bytes),
            Sink::Special(file) | Sink::Nameless(file, _) => file.write(bytes),
            Sink::Pending(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(out) => out.flush(),
            Sink::Special(file) | Sink::Nameless(file, _) => file.flush(),
            Sink::Pending(file, _) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let failed = Output::open(Some(&path)).unwrap().write(|out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(names(), 0);
        Output::open(Some(&path)).unwrap().write(|out| out.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Output::open(Some(&link)).unwrap().write(|out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn devices_are_written_to_and_never_replaced() {
        Output::open(Some(Path::new("/dev/null"))).unwrap().write(|out| out.write_all(b"x")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
