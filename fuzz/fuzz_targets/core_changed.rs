//! A real core file with some words changed, in its header, its segments, its notes and its memory,
//! opened with its executable and asked everything.
#![no_main]

use allgs::image::Image;
use allgs::source::core::CoreFile;
use allgs_fuzz::answer;
use allgs_fuzz::base::{file, options};
use allgs_fuzz::change::Change;
use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A copy of the core in memory, which is changed and mended again.
struct Copy {
    file: File,
    path: PathBuf,
    len: u64,
}

static COPY: LazyLock<Copy> = LazyLock::new(|| {
    let mut whole = File::open(file("core")).expect("the core can be opened");
    let mut file = File::from(memfd_create("core", MFdFlags::MFD_CLOEXEC).expect("memory for a file"));
    let len = std::io::copy(&mut whole, &mut file).expect("memory for a core");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Copy { file, path, len }
});

/// Bytes from the beginning: the header, the first segments, the notes, all.
const REACHES: [u64; 4] = [64, 4096, 1 << 15, u64::MAX];

fuzz_target!(|input: &[u8]| {
    let copy = &*COPY;
    let mut old: Vec<(u64, [u8; 8])> = Vec::new();
    for change in Change::all(input) {
        let reach = REACHES[usize::from(change.class) % REACHES.len()].min(copy.len) - 8;
        let at = change.pick(reach);
        let mut bytes = [0; 8];
        copy.file.read_exact_at(&mut bytes, at).expect("inside of the core");
        old.push((at, bytes));
        let new = change.apply(u64::from_le_bytes(bytes), at, |n| n % copy.len);
        copy.file.write_all_at(&new.to_le_bytes(), at).expect("inside of the core");
    }
    if let Ok(core) = CoreFile::open(&copy.path)
        && let Ok(image) = Image::open(&core, &options())
    {
        answer::everything(&core, &image, answer::by_objects);
    }
    for (at, bytes) in old.into_iter().rev() {
        copy.file.write_all_at(&bytes, at).expect("inside of the core");
    }
});
