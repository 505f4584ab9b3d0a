//! Source: files mapped into our own memory: executables and cores. The one place that maps.
//!
//! A file that is made shorter under a mapping raises SIGBUS at the next access of what is gone. The
//! kernel refuses that for the executable of a running program; for other files it ends us, which
//! no target notices: a tracer that dies lets its target go.
#![allow(unsafe_code)]

use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::ops::Deref;

/// The bytes of a file, mapped read-only.
#[derive(Debug)]
pub struct FileMap(memmap2::Mmap);

impl FileMap {
    /// Maps all of `file` as it is now. Fails for what is not a regular file.
    pub fn open(file: &File) -> Result<FileMap> {
        let failed = |e| Error::new(ErrorKind::Io, "the file cannot be mapped").because(e);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::new(ErrorKind::Io, "not a regular file"));
        }
        // SAFETY: the mapping is private and read-only, and its content is only ever looked at as
        // bytes whose values are not trusted: a change by another process changes what is decoded,
        // no more. Truncation: see the head of this file.
        let map = unsafe { memmap2::Mmap::map(file) }.map_err(failed)?;
        Ok(FileMap(map))
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn maps_all_of_a_file_and_an_empty_one() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(FileMap::open(&file).unwrap().len(), 0);
        file.write_all(b"goroutine").unwrap();
        assert_eq!(&*FileMap::open(&file).unwrap(), b"goroutine");
    }

    #[test]
    fn refuses_what_is_not_a_regular_file() {
        assert_eq!(FileMap::open(&File::open("/").unwrap()).unwrap_err().kind(), ErrorKind::Io);
        assert!(FileMap::open(&File::open("/dev/null").unwrap()).is_err());
    }
}
