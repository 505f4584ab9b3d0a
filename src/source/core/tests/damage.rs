use super::*;

/// A core with everything in it.
fn rich(machine: u16) -> Core {
    let memory: Vec<u8> = (0..0x4000u32).map(|i| i as u8).collect();
    Core::new(machine)
        .thread(10, 11, 0x100)
        .process(10, b"app", b"/bin/app")
        .siginfo(11, 1, 8)
        .auxv(&[(6, 4096), (3, 0x40_0040)])
        .files(&[(0x40_0000, 0x40_2000, 0, "/bin/app"), (0x7f00_0000, 0x7f00_1000, 3, "/lib/x.so")])
        .thread(11, 0, 0x200)
        .partial(0x40_0000, 0x2000, 5, [0x7f; 0x1000])
        .load(0xc000_0000, memory)
        .load(0x7f00_0000, [9; 0x1000])
}

/// Numbers that look random and are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Uses all that an opened core offers.
fn exercise(core: &CoreFile) {
    for at in [0, 0x40_0000, 0x40_0ff8, 0xc000_0000, 0xc000_3ffc, 0x7f00_0000, u64::MAX - 7] {
        let _ = read(core, at, 16);
    }
    assert!(core.mappings().is_sorted_by_key(|m| m.span.start));
    for pair in core.mappings().windows(2) {
        assert!(pair[0].span.end() <= pair[1].span.start, "{pair:?}");
    }
    let _ = (core.crash(), threads(core), core.diagnostics());
}

#[test]
fn a_core_cut_anywhere_shows_what_is_left() {
    let file = rich(AMD64).build();
    let first_byte = file.len() - 0x6000;
    for len in 0..file.len() {
        match open(&file[..len]) {
            Ok(core) => {
                assert!(len > first_byte, "{len} bytes hold no memory");
                exercise(&core);
                assert_eq!(threads(&core).len(), 2);
                assert_eq!(whats(&core).len(), 1, "{len}: {:?}", whats(&core));
                let cut = file.len() - len;
                assert!(whats(&core)[0].contains(&format!(" miss {cut} bytes")), "{len}: {:?}", whats(&core));
            }
            Err(e) => {
                assert!(len <= first_byte, "{len}: {e}");
                assert_eq!(e.kind(), ErrorKind::BadCore, "{e}");
            }
        }
    }
}

#[test]
fn bytes_beyond_the_end_are_not_in_the_core() {
    let mut file = rich(AMD64).build();
    file.truncate(file.len() - 0x1000 - 0x2000);
    let core = open(&file).unwrap();
    assert_eq!(read(&core, 0xc000_1ffe, 2), Ok(vec![0xfe, 0xff]));
    assert_eq!(read(&core, 0xc000_1fff, 2), Err(ReadFail::NotInCore));
    assert_eq!(read(&core, 0x7f00_0000, 1), Err(ReadFail::NotInCore));
    let expected = "the core file is cut: 2 segments miss 12288 bytes, 12288 bytes are there";
    assert_eq!(whats(&core), [expected]);
}

#[test]
fn random_changes_never_panic() {
    for machine in [AMD64, ARM64] {
        let file = rich(machine).build();
        let structure = file.len() - 0x6000;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut opened = 0;
        for _ in 0..4000 {
            let mut damaged = file.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(structure);
                damaged[at] = random.below(256) as u8;
            }
            if let Ok(core) = open(&damaged) {
                exercise(&core);
                opened += 1;
            }
        }
        assert!(opened > 3000, "{opened} of 4000 opened");
    }
}

#[test]
fn a_damaged_note_costs_those_after_it_in_its_segment_only() {
    let mut core = Core::new(AMD64).load(0x1000, [0]).thread(1, 0, 0);
    let second = core.notes.len();
    core = core.thread(2, 0, 0);
    core.notes[second + 4..second + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    let core = open(&core.build()).unwrap();
    assert_eq!(threads(&core).len(), 1);
    assert_eq!(whats(&core), ["notes of the core file are damaged: 0 bytes missing, 1 notes unreadable"]);
}

#[test]
fn a_short_note_costs_itself_only() {
    let core = Core::new(AMD64).load(0x1000, [0]).note(b"CORE", 1, &[0; 40]).thread(2, 0, 0);
    let core = open(&core.build()).unwrap();
    assert_eq!(threads(&core).iter().map(|t| t.tid).collect::<Vec<_>>(), [Tid(2)]);
    assert_eq!(whats(&core).len(), 1);
}

#[test]
fn a_count_of_files_is_not_believed() {
    for count in [u64::MAX, 1 << 40, 3] {
        let mut body = Vec::new();
        for word in [count, 4096, 0x1000, 0x2000, 0] {
            body.extend(word.to_le_bytes());
        }
        body.extend(b"/a\0");
        let core = Core::new(AMD64).load(0x1000, [0]).thread(1, 0, 0).note(b"CORE", 0x46494c45, &body);
        let core = open(&core.build()).unwrap();
        assert_eq!(whats(&core).len(), 1, "{count}");
    }
}

#[test]
fn names_of_files_do_not_multiply() {
    let long = "x".repeat(5000);
    let files: Vec<(u64, u64, u64, &str)> =
        (1..100).map(|i| (i * 0x1000, (i + 1) * 0x1000, 0, long.as_str())).collect();
    let core = open(&Core::new(AMD64).load(0x100, [0]).thread(1, 0, 0).files(&files).build()).unwrap();
    assert!(core.mappings().iter().all(|m| m.path.is_none()));
    assert_eq!(whats(&core), ["the names of 99 mapped files are too long"]);
}
