//! An executable with changed bytes: headers, sections, symbols, build information and debug information;
//! half of the inputs are the debug information, whole, of an executable made around them.
#![no_main]

use allgs::addr::Bias;
use allgs::image::buildinfo::BuildInfo;
use allgs::image::dwarf;
use allgs::image::elf::ElfFile;
use allgs::image::layout::schema;
use allgs_fuzz::base::file;
use allgs_fuzz::change::Change;
use libfuzzer_sys::fuzz_target;
use std::ops::Range;
use std::sync::LazyLock;

/// A small executable with its debug information unpacked, and where in it things are.
struct Program {
    bytes: Vec<u8>,
    parts: Vec<Range<usize>>,
}

/// Bytes of a section header of the file.
const HEADER: usize = 64;

static PROGRAM: LazyLock<Program> = LazyLock::new(|| {
    let bytes = std::fs::read(file("program")).expect("the program can be read");
    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside")) as usize;
    let (headers, count) = (word(0x28), usize::from(bytes[0x3c]) | usize::from(bytes[0x3d]) << 8);
    let mut parts = vec![0..64, 64..64 + 56 * 12, headers..headers + HEADER * count];
    let elf = ElfFile::parse(bytes.clone()).expect("the program is sound");
    for (section, number) in elf.sections().iter().zip(0..) {
        let wanted =
            section.name.starts_with(".debug_") || [".go.buildinfo", ".symtab"].contains(&&*section.name);
        if wanted && section.size > 8 {
            let at = word(headers + HEADER * number + 0x18);
            parts.push(at..at + section.size as usize);
        }
    }
    assert!(parts.len() > 5);
    Program { bytes, parts }
});

const VARIABLES: &[&str] = &["runtime.allgs", "runtime.allm", "runtime.sched"];

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    match first % 2 {
        0 => read(changed(rest)),
        _ => read(around(rest)),
    }
});

fn changed(input: &[u8]) -> Vec<u8> {
    let mut bytes = PROGRAM.bytes.clone();
    for change in Change::all(input) {
        let part = &PROGRAM.parts[usize::from(change.class) % PROGRAM.parts.len()];
        let at = part.start + change.pick(part.len() as u64 - 8) as usize;
        let word = bytes[at..].first_chunk_mut().expect("inside");
        *word = change.apply(u64::from_le_bytes(*word), at as u64, |n| n % 0x10000).to_le_bytes();
    }
    bytes
}

/// An executable of no code: the input is `.debug_abbrev`, up to a mark, and `.debug_info`.
fn around(input: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"INFO";
    let split = input.windows(MARK.len()).position(|w| w == MARK).unwrap_or(input.len());
    let (abbrev, info) = (&input[..split], input.get(split + MARK.len()..).unwrap_or_default());
    let names = b"\0.debug_abbrev\0.debug_info\0.shstrtab\0";
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    let mut headers = vec![[0; 8]];
    for (name, content) in [(1, abbrev), (15, info), (27, &names[..])] {
        let kind = if name == 27 { 3 } else { 1 };
        headers.push([name | kind << 32, 0, 0, file.len() as u64, content.len() as u64, 0, 1, 0]);
        file.extend(content);
    }
    let at = file.len() as u64;
    file.extend(headers.iter().flatten().flat_map(|word| word.to_le_bytes()));
    for (place, value, len) in [
        (16, 2, 2),
        (18, 62, 2),
        (20, 1, 4),
        (0x28, at, 8),
        (0x34, 64, 2),
        (0x3a, 64, 2),
        (0x3c, 4, 2),
        (0x3e, 3, 2),
    ] {
        file[place..place + len].copy_from_slice(&u64::to_le_bytes(value)[..len]);
    }
    file
}

fn read(bytes: Vec<u8>) {
    let Ok(elf) = ElfFile::parse(bytes) else { return };
    let _ = (elf.build_id(), elf.go_build_id(), elf.has_dwarf(), elf.is_stripped());
    let _ = elf.symbols(["runtime.allgs", "runtime.sched"]);
    let _ = elf.unchanging(Bias(0));
    let _ = BuildInfo::of_file(&elf);
    let _ = dwarf::read(&elf, schema::ALL, VARIABLES);
}
