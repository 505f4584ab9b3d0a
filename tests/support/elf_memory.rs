//! A program's file as the memory it would have right after loading, and its symbols as the oracle for
//! what is found without them.

use allgs::addr::{Addr, Span};
use allgs::arch::Arch;
use allgs::memory::sparse::SparseMemory;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, elf};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Newest patch of each minor release.
pub const RELEASES: [&str; 10] = [
    "1.18.10", "1.19.13", "1.20.14", "1.21.13", "1.22.12", "1.23.12", "1.24.13", "1.25.14", "1.26.11",
    "1.27.4",
];

/// The releases of which a kind of build is tested: each kind but the plain one needs a standard library
/// of its own per release, so only some are built unless `ALLGS_PRODUCT=all` asks for the whole product.
pub fn releases_of(kind: &str) -> Vec<&'static str> {
    let all = kind == "default" || std::env::var("ALLGS_PRODUCT").is_ok_and(|v| v == "all");
    let some = ["1.18.10", "1.21.13", "1.24.13", "1.27.4"];
    RELEASES.into_iter().filter(|release| all || some.contains(release)).collect()
}

/// The minor release of `1.MINOR.PATCH`.
pub fn minor(release: &str) -> u16 {
    release.split('.').nth(1).unwrap().parse().unwrap()
}

/// Builds a test program (or takes the one that is there) and says where it is.
pub fn build(release: &str, kind: &str, program: &str) -> PathBuf {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("testprogs/setup.sh");
    let run = Command::new(setup).args(["build", release, kind, program]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    PathBuf::from(String::from_utf8(run.stdout).unwrap().trim_end())
}

/// A loaded program.
pub struct Loaded {
    pub arch: Arch,
    pub memory: SparseMemory,
    /// All that is loaded, by segment.
    pub segments: Vec<Span>,
    /// Address of each symbol with a name, the last one where several have it.
    pub symbols: HashMap<String, Addr>,
    /// Entries of `runtime.waitReasonStrings`, by the size of the symbol.
    pub wait_reason_strings: u64,
    /// Name, address and size of each function of the symbol table.
    pub functions: Vec<(String, Addr, u64)>,
}

impl Loaded {
    /// Loads the file at its stated addresses and applies its relative relocations.
    pub fn open(path: &Path) -> Loaded {
        let bytes = std::fs::read(path).unwrap();
        let file = ElfFile64::<LittleEndian>::parse(&*bytes).unwrap();
        let endian = LittleEndian;
        let arch = Arch::from_elf_machine(file.elf_header().e_machine.get(endian).0).unwrap();
        let mut segments: Vec<(u64, Vec<u8>)> = Vec::new();
        for header in file.elf_program_headers() {
            if header.p_type(endian) == elf::PT_LOAD {
                let mut content = header.data(endian, &*bytes).unwrap().to_vec();
                content.resize(header.p_memsz(endian) as usize, 0);
                segments.push((header.p_vaddr(endian), content));
            }
        }
        relocate(&file, &mut segments);
        let mut loaded = Loaded {
            arch,
            memory: SparseMemory::new(),
            segments: segments
                .iter()
                .map(|(at, content)| Span { start: Addr::new(*at), len: content.len() as u64 })
                .collect(),
            symbols: HashMap::new(),
            wait_reason_strings: 0,
            functions: Vec::new(),
        };
        for (at, content) in segments {
            loaded.memory.put(Addr::new(at), content);
        }
        for symbol in file.symbols().filter(|s| s.is_definition()) {
            let (name, at) = (symbol.name().unwrap().to_owned(), Addr::new(symbol.address()));
            if symbol.kind() == object::SymbolKind::Text {
                loaded.functions.push((name.clone(), at, symbol.size()));
            }
            if name == "runtime.waitReasonStrings" {
                loaded.wait_reason_strings = symbol.size() / 16;
            }
            loaded.symbols.insert(name, at);
        }
        loaded
    }
}

/// Applies `R_*_RELATIVE`, as the loader does, without moving the program.
fn relocate(file: &ElfFile64<'_, LittleEndian>, segments: &mut [(u64, Vec<u8>)]) {
    for (at, relocation) in file.dynamic_relocations().into_iter().flatten() {
        let object::RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
        if r_type != elf::R_X86_64_RELATIVE && r_type != elf::R_AARCH64_RELATIVE {
            continue;
        }
        let (start, content) = segments.iter_mut().rfind(|(start, _)| *start <= at).unwrap();
        let offset = (at - *start) as usize;
        content[offset..offset + 8].copy_from_slice(&relocation.addend().to_le_bytes());
    }
}
