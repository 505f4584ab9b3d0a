//! Any bytes as the build information in a target's memory.
#![no_main]

use allgs::addr::{Addr, Span};
use allgs::image::buildinfo::BuildInfo;
use allgs::image::layout::table::Chosen;
use allgs::image::layout::version::GoVersion;
use allgs::memory::sparse::SparseMemory;
use libfuzzer_sys::fuzz_target;

/// Where the bytes lie.
const AT: Addr = Addr::new(0x10000);

fuzz_target!(|input: &[u8]| {
    let mut memory = SparseMemory::new();
    memory.put(AT, input);
    let span = Span { start: AT, len: input.len() as u64 };
    let Some(build) = BuildInfo::of_memory(&memory, &[span]) else { return };
    if let Ok(chosen) = Chosen::of(&GoVersion::parse(&build.go_version)) {
        assert!(!chosen.table_name().is_empty());
    }
});
