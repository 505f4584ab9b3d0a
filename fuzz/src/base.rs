//! The real target that is changed: a core of `testprogs/crash` and its executable, made by
//! `fuzz/run.sh seeds` in the folder that `ALLGS_FUZZ_BASE` names.

use allgs::image::{Image, OpenOptions};
use allgs::source::Source;
use allgs::source::core::CoreFile;
use std::path::PathBuf;

/// A file of the folder.
pub fn file(name: &str) -> PathBuf {
    let folder = std::env::var_os("ALLGS_FUZZ_BASE").map_or_else(|| PathBuf::from("base"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: run fuzz/run.sh seeds", path.display());
    path
}

/// The target, opened once for all inputs.
pub struct Base {
    pub core: CoreFile,
    pub image: Image,
}

impl Base {
    pub fn open() -> Base {
        let core = CoreFile::open(&file("core")).expect("the core of the base is sound");
        let image = Image::open(&core, &options()).expect("the executable of the base is sound");
        assert!(!core.mappings().is_empty());
        Base { core, image }
    }
}

/// How its image is opened.
pub fn options() -> OpenOptions {
    OpenOptions { exe: Some(file("exe")) }
}
