//! Executables with damaged headers, sections and debug information: whatever is read from them is an
//! error or an answer, never a panic and never without end.

#[path = "../testprogs/layout/measure.rs"]
#[allow(dead_code)]
mod measure;

use allgs::addr::Bias;
use allgs::arch::Arch;
use allgs::image::buildinfo::BuildInfo;
use allgs::image::dwarf;
use allgs::image::elf::ElfFile;
use allgs::image::layout::schema;
use std::ops::Range;

const VARIABLES: &[&str] = &["runtime.allgs", "runtime.allm", "runtime.sched"];

/// Numbers that look random and are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// Reads all that is read of an executable; says whether the layout of g was found.
fn read(bytes: Vec<u8>) -> bool {
    let Ok(elf) = ElfFile::parse(bytes) else { return false };
    let _ = (elf.build_id(), elf.go_build_id(), elf.has_dwarf(), elf.is_stripped());
    let _ = elf.symbols(["runtime.allgs", "runtime.sched"]);
    let _ = elf.unchanging(Bias(0));
    let _ = BuildInfo::of_file(&elf);
    let facts = dwarf::read(&elf, schema::ALL, VARIABLES);
    matches!(facts, Ok(Some(facts)) if facts.structs.contains_key("runtime.g"))
}

/// Where in the file the first bytes of some sections are, and the headers of the file.
fn targets(bytes: &[u8]) -> Vec<Range<usize>> {
    let elf = ElfFile::parse(bytes.to_vec()).expect("parses");
    let headers = u64::from_le_bytes(*bytes[0x28..].first_chunk().expect("a header")) as usize;
    let mut ranges = vec![0..64, 64..64 + 56 * elf.segments().len()];
    ranges.push(headers..headers + 64 * elf.sections().len());
    for name in [".debug_abbrev", ".debug_info", ".debug_addr", ".go.buildinfo", ".symtab"] {
        if let Some(section) = elf.section(name) {
            let mut data = elf.section_data(section).expect("data");
            let content = data.all().expect("plain").to_vec();
            let window = content.len().min(64);
            let at = bytes.windows(window).position(|w| w == &content[..window]).expect("in the file");
            ranges.push(at..at + content.len().min(400_000));
        }
    }
    ranges
}

#[test]
fn nothing_panics_and_everything_ends() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut tried = 0;
    for release in ["go1.18.10", "go1.27.4"] {
        let flags = "-compressdwarf=false";
        let Some(program) = measure::build_with(release, Arch::Amd64, dir.path(), flags) else {
            println!("{release}: not to be had here");
            continue;
        };
        let whole = std::fs::read(program).expect("readable");
        assert!(read(whole.clone()), "{release}: the whole file has a layout");
        let targets = targets(&whole);
        let mut numbers = Numbers(1);
        let mut lost = 0;
        for round in 0..400 {
            let mut damaged = whole.clone();
            let range = &targets[round % targets.len()];
            for _ in 0..=numbers.below(8) {
                let at = range.start + numbers.below(range.len());
                damaged[at] = [0, 1, 0x7f, 0x80, 0xff, damaged[at] ^ 1][numbers.below(6)];
            }
            if round % 10 == 9 {
                damaged.truncate(numbers.below(whole.len()));
            }
            lost += usize::from(!read(damaged));
            tried += 1;
        }
        println!("{release}: 400 damaged files, {lost} of them without a layout");
        assert!(lost > 0, "{release}: no damage was noticed");
    }
    assert!(tried > 0, "no release of Go is to be had");
}
