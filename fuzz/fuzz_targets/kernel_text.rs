//! Any text as what the kernel writes of mappings, sockets and system calls: names in it are the target's.
#![no_main]

use allgs::report::clean::clean_bytes;
use allgs::source::descriptors::{not_a_socket, parse_inet, parse_system_call, parse_unix, socket_of};
use allgs::source::maps::parse_with_files;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let lines = input.iter().filter(|b| **b == b'\n').count() + 1;
    assert!(parse_with_files(input).count() <= lines);
    assert!(parse_inet(input, "tcp").len() <= lines);
    assert!(parse_unix(input).len() <= lines);
    let _ = parse_system_call(input);
    let text = String::from_utf8_lossy(input);
    let _ = (socket_of(&text), not_a_socket(3, &text));
    let cleaned = clean_bytes(input);
    assert!(!cleaned.chars().any(|c| c.is_control()), "{cleaned:?}");
});
