//! Image, locating: which file the target runs.

use crate::error::{Error, ErrorKind, Result};
use crate::image::elf::ElfFile;
use crate::source::Source;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file that was found.
pub struct Located {
    /// Opened for reading.
    pub file: File,
    /// Its name.
    pub path: PathBuf,
}

/// Opens the executable of a target: `wanted` if given, else the one that the source names. With a
/// `build_id`, a file of another build is an error.
pub fn executable(source: &dyn Source, wanted: Option<&Path>, build_id: Option<&[u8]>) -> Result<Located> {
    let located = match wanted {
        Some(path) => Located { file: open(path)?, path: path.to_owned() },
        None => {
            let path = source.executable_path().unwrap_or(Path::new("the executable")).to_owned();
            match source.open_executable() {
                Ok(file) => Located { file, path },
                Err(_) if path.is_absolute() => Located { file: open(&path)?, path },
                Err(e) => return Err(e),
            }
        }
    };
    let own = || ElfFile::open(&located.file).ok()?.build_id();
    match build_id {
        Some(id) if own().as_deref() != Some(id) => {
            let text = format!("{} is of another build than the target", located.path.display());
            Err(Error::new(ErrorKind::BadExecutable, text).hint("name the right file with --exe"))
        }
        _ => Ok(located),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| {
        let text = format!("cannot open {}: {e}", path.display());
        Error::new(ErrorKind::BadExecutable, text).hint("name the executable with --exe").because(e)
    })
}
