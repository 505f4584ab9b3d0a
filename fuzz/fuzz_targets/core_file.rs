//! Any bytes as a core file, packed ones too: header, segments, notes, mapped files, threads.
#![no_main]

use allgs::addr::Addr;
use allgs::source::Source;
use allgs::source::core::CoreFile;
use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

fuzz_target!(|input: &[u8]| {
    let mut file = File::from(memfd_create("core", MFdFlags::MFD_CLOEXEC).expect("memory for a file"));
    file.write_all(input).expect("memory for a file");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(core) = CoreFile::open(&path) else { return };
    let stopped = core.trace().expect("a core stands still").stop(std::time::Duration::MAX);
    let threads = stopped.expect("a core stands still").threads;
    let places = core.mappings().iter().flat_map(|m| [m.span.start, m.span.end().back(8)]);
    let stacks = threads.iter().filter_map(|t| t.registers).map(|r| r.sp);
    for at in places.chain(stacks).chain([Addr::NULL, Addr::new(u64::MAX)]).take(1000) {
        let mut bytes = [0; 64];
        let _ = core.memory().read(at, &mut bytes);
    }
    let _ = (core.crash(), core.auxv().program_headers(), core.executable_path(), core.diagnostics());
    for mapping in core.mappings().iter().take(4) {
        assert!(mapping.path.as_deref().is_none_or(|path| !path.as_os_str().is_empty()));
    }
});
