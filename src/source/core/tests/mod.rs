use super::*;
use crate::addr::{FileOffset, Span, Tid};
use crate::memory::ReadFail;
use crate::source::{General, Registers};
use std::io::Write;
use synth::{AMD64, ARM64, Core};

mod damage;
pub(crate) mod synth;

/// Opens `bytes` as a core file.
fn open(bytes: &[u8]) -> Result<CoreFile> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    CoreFile::open(file.path())
}

fn error(bytes: &[u8]) -> Error {
    match open(bytes) {
        Ok(_) => panic!("it opened"),
        Err(e) => e,
    }
}

fn read(core: &CoreFile, at: u64, len: usize) -> Result<Vec<u8>, ReadFail> {
    let mut bytes = vec![0; len];
    core.memory().read(Addr::new(at), &mut bytes).map(|()| bytes).map_err(|e| e.why)
}

fn whats(core: &CoreFile) -> Vec<String> {
    core.diagnostics().entries().iter().map(|d| d.what.clone()).collect()
}

fn threads(core: &CoreFile) -> Vec<Thread> {
    core.trace().unwrap().stop(Duration::ZERO).unwrap().threads
}

#[test]
fn memory_is_read_across_segments_and_what_is_absent_is_not_zero() {
    let core = Core::new(AMD64)
        .partial(0x40_0000, 0x3000, 5, [0x7f; 0x1000])
        .load(0xc000_0000, [1; 0x1000])
        .load(0xc000_1000, [2; 0x1000])
        .build();
    let core = open(&core).unwrap();
    assert_eq!(read(&core, 0xc000_0fff, 2), Ok(vec![1, 2]));
    assert_eq!(read(&core, 0xc000_1fff, 1), Ok(vec![2]));
    assert_eq!(read(&core, 0xc000_1fff, 2), Err(ReadFail::Unmapped));
    assert_eq!(read(&core, 0xbfff_ffff, 2), Err(ReadFail::Unmapped));
    assert_eq!(read(&core, 0x40_0fff, 1), Ok(vec![0x7f]));
    assert_eq!(read(&core, 0x40_0fff, 2), Err(ReadFail::NotInCore));
    assert_eq!(read(&core, 0x40_2fff, 1), Err(ReadFail::NotInCore));
    assert_eq!(read(&core, u64::MAX, 2), Err(ReadFail::Overflow));
    assert_eq!(read(&core, 0xc000_0000, 0), Ok(vec![]));
}

#[test]
fn threads_and_registers_of_x86_64() {
    let core = Core::new(AMD64).load(0x1000, [0]).thread(100, 11, 0x100).thread(101, 11, 0x200).build();
    let core = open(&core).unwrap();
    assert_eq!(core.arch(), Arch::Amd64);
    let threads = threads(&core);
    assert_eq!(threads.iter().map(|t| t.tid).collect::<Vec<_>>(), [Tid(100), Tid(101)]);
    let word = |i: u64| Addr::new(0x200 + i);
    let found = threads.get(1).unwrap().registers.unwrap();
    let general = found.general;
    let expected = Registers { pc: word(16), sp: word(19), bp: word(4), lr: None, g: word(1), general };
    assert_eq!(found, expected);
    // rbx is DWARF's 3.
    assert_eq!(general.get(3), Some(0x205));
}

#[test]
fn threads_and_registers_of_aarch64() {
    let core = Core::new(ARM64).load(0x1000, [0]).thread(100, 6, 0x100).build();
    let core = open(&core).unwrap();
    assert_eq!(core.arch(), Arch::Arm64);
    let word = |i: u64| Addr::new(0x100 + i);
    let found = threads(&core).first().unwrap().registers.unwrap();
    let (lr, general) = (Some(word(30)), found.general);
    let expected = Registers { pc: word(32), sp: word(31), bp: word(29), lr, g: word(28), general };
    assert_eq!(found, expected);
    assert_eq!(general.get(19), Some(0x113));
}

#[test]
fn the_signal_of_the_first_thread_is_what_killed_it() {
    let kernel = |code| {
        let core = Core::new(AMD64).load(0x1000, [0]).thread(7, 11, 0).siginfo(11, code, 0xdead);
        open(&core.thread(8, 11, 0).build()).unwrap().crash().unwrap()
    };
    let crash = Crash { signal: 11, code: Some(1), fault: Some(Addr::new(0xdead)), tid: Tid(7) };
    assert_eq!(kernel(1), crash);
    assert_eq!(kernel(0x80).fault, None, "a general protection fault has no address");
    assert_eq!(kernel(-6).fault, None, "a signal that was sent has no address");

    let qemu = Core::new(ARM64).load(0x1000, [0]).thread(7, 6, 0).thread(8, 0, 0).build();
    let crash = Crash { signal: 6, code: None, fault: None, tid: Tid(7) };
    assert_eq!(open(&qemu).unwrap().crash(), Some(crash));

    let alive = Core::new(AMD64).load(0x1000, [0]).thread(7, 19, 0).siginfo(19, 0, 0).thread(8, 0, 0);
    assert_eq!(open(&alive.build()).unwrap().crash(), None, "gcore stops a process, nothing dies");
}

#[test]
fn mappings_join_segments_and_files() {
    let core = Core::new(AMD64)
        .partial(0x40_0000, 0x2000, 5, [0; 0x10])
        .load(0x50_0000, [0; 0x3000])
        .auxv(&[(6, 4096), (3, 0x40_0040), (9, 0x40_1000)])
        .files(&[
            (0x40_0000, 0x40_2000, 0, "/bin/app (deleted)"),
            (0x50_1000, 0x50_2000, 7, "/data"),
            (0x60_0000, 0x60_1000, 2, "/alone"),
        ])
        .process(77, b"app", b"./app -x")
        .build();
    let core = open(&core).unwrap();
    let short = |m: &Mapping| {
        let path = m.path.as_ref().map(|p| p.display().to_string());
        (m.span.start.get(), m.span.len, m.offset, path, m.deleted, m.writable, m.executable)
    };
    let expected = [
        (0x40_0000, 0x2000, FileOffset(0), Some("/bin/app".to_owned()), true, false, true),
        (0x50_0000, 0x1000, FileOffset(0), None, false, true, false),
        (0x50_1000, 0x1000, FileOffset(0x7000), Some("/data".to_owned()), false, true, false),
        (0x50_2000, 0x1000, FileOffset(0), None, false, true, false),
        (0x60_0000, 0x1000, FileOffset(0x2000), Some("/alone".to_owned()), false, false, false),
    ];
    assert_eq!(core.mappings().iter().map(short).collect::<Vec<_>>(), expected);
    assert_eq!(core.executable_path(), Some(Path::new("/bin/app")));
    assert_eq!(core.auxv().program_headers(), Some(Addr::new(0x40_0040)));
    assert_eq!(read(&core, 0x60_0000, 1), Err(ReadFail::NotInCore));
    let Origin::Core { pid, .. } = core.origin() else { panic!("a core") };
    assert_eq!(*pid, Some(Pid(77)));
    assert_eq!(whats(&core), ["the core file names no threads"]);
}

#[test]
fn a_file_that_reaches_over_two_segments_is_split() {
    let core = Core::new(AMD64)
        .partial(0x1000, 0x1000, 4, [0; 1])
        .partial(0x3000, 0x1000, 6, [])
        .files(&[(0x1000, 0x5000, 1, "/a")])
        .build();
    let core = open(&core).unwrap();
    let spans: Vec<_> =
        core.mappings().iter().map(|m| (m.span.start.get(), m.offset.0, m.writable)).collect();
    assert_eq!(
        spans,
        [(0x1000, 0x1000, false), (0x2000, 0x2000, false), (0x3000, 0x3000, true), (0x4000, 0x4000, false)]
    );
}

#[test]
fn more_segments_than_a_u16_counts() {
    let mut core = Core::new(AMD64);
    core.count_in_section = true;
    for i in 0..70_000u64 {
        core = core.load(0x1000_0000 + i * 0x2000, (i as u32).to_le_bytes());
    }
    let mut file = core.build();
    let far = 0x1000_0000 + 69_999 * 0x2000;
    let whole = open(&file).unwrap();
    assert_eq!(read(&whole, far, 4), Ok(69_999u32.to_le_bytes().to_vec()));
    assert_eq!(whole.mappings().len(), 70_000);
    file.truncate(file.len() - 65);
    let cut = open(&file).unwrap();
    assert_eq!(
        read(&cut, far, 3),
        Ok(69_999u32.to_le_bytes()[..3].to_vec()),
        "section 0 is lost with the end"
    );
    assert_eq!(read(&cut, far, 4), Err(ReadFail::NotInCore));
    assert_eq!(cut.mappings().len(), 70_000);
}

#[test]
fn of_segments_that_overlap_the_first_counts() {
    let core = Core::new(AMD64).load(0x2800, [2; 0x1000]).load(0x2000, [1; 0x1000]).load(0x2100, [3; 0x10]);
    let core = open(&core.thread(1, 0, 0).build()).unwrap();
    assert_eq!(read(&core, 0x2fff, 2), Ok(vec![1, 2]));
    assert_eq!(read(&core, 0x37ff, 1), Ok(vec![2]));
    assert_eq!(read(&core, 0x2100, 1), Ok(vec![1]));
    assert_eq!(whats(&core), ["2 segments of the core file overlap others"]);
    let spans: Vec<Span> = core.mappings().iter().map(|m| m.span).collect();
    let between = |a, b| Span::between(Addr::new(a), Addr::new(b));
    assert_eq!(spans, [between(0x2000, 0x3000), between(0x3000, 0x3800)]);
}

#[test]
fn a_vector_that_makes_no_sense_is_dropped() {
    let shifted = Core::new(ARM64).load(0x1000, [0]).thread(1, 6, 0).auxv(&[(0x40, 3), (0x38, 4), (4096, 6)]);
    let core = open(&shifted.build()).unwrap();
    assert_eq!(core.auxv().program_headers(), None);
    assert_eq!(whats(&core), ["the auxiliary vector of the core file makes no sense"]);
}

#[test]
fn without_mapped_files_the_process_names_its_executable() {
    let core = Core::new(ARM64).load(0x1000, [0]).process(1, b"prog", b"./prog -v");
    assert_eq!(open(&core.build()).unwrap().executable_path(), Some(Path::new("./prog")));
}

#[test]
fn threads_of_delve_in_its_own_form() {
    let mut note: Vec<u8> = [4242u64, 1, 2, 3, 4].iter().flat_map(|w| w.to_le_bytes()).collect();
    note.push(1);
    note.extend(9u64.to_le_bytes());
    note.extend(3u32.to_le_bytes());
    for (name, value) in [("X0", 5u64), ("X28", 6), ("x30", 7)] {
        note.extend((name.len() as u16).to_le_bytes());
        note.extend(name.as_bytes());
        note.extend(8u16.to_le_bytes());
        note.extend(value.to_le_bytes());
    }
    let head = b"linux/arm64\nVersion: 1.27\nTarget Pid: 4240\nEntry Point: 0x1\n";
    let core = |head: &[u8]| {
        Core::new(ARM64).load(0x1000, [0]).note(b"Delve Header", 0x444C5645, head).note(
            b"Delve Thread",
            0x444C5654,
            &note,
        )
    };
    let opened = open(&core(head).build()).unwrap();
    let [one, two, three, six, seven] = [1, 2, 3, 6, 7].map(Addr::new);
    let mut general = General::default();
    [(0, 5), (28, 6), (30, 7), (31, 2)].into_iter().for_each(|(n, value)| general.set(n, Some(value)));
    let registers = Registers { pc: one, sp: two, bp: three, lr: Some(seven), g: six, general };
    let registers = Some(registers);
    let expected = Thread { tid: Tid(4242), name: None, registers, asleep_at: None, state: None };
    assert_eq!(threads(&opened), [expected]);
    assert!(matches!(opened.origin(), Origin::Core { pid: Some(Pid(4240)), .. }));
    assert_eq!(error(&core(b"freebsd/arm64\n").build()).kind(), ErrorKind::Unsupported);
}

#[test]
fn what_is_no_core_is_called_by_its_name() {
    let core = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut file = Core::new(AMD64).load(0x1000, [0]).build();
        edit(&mut file);
        let e = error(&file);
        (e.kind(), e.to_string())
    };
    let says = |(kind, text): (ErrorKind, String), expected_kind, part: &str| {
        assert_eq!(kind, expected_kind, "{text}");
        assert!(text.contains(part), "{text}");
    };
    says(core(&|f| f.clear()), ErrorKind::BadCore, "it is empty");
    says(core(&|f| *f = b"#!/bin/sh\n".to_vec()), ErrorKind::BadCore, "not an ELF file");
    says(core(&|f| f[16] = 2), ErrorKind::BadCore, "is an executable or shared library, not a core file");
    says(core(&|f| f[16] = 3), ErrorKind::BadCore, "is an executable or shared library, not a core file");
    says(core(&|f| f[4] = 1), ErrorKind::Unsupported, "is a 32-bit ELF file");
    says(core(&|f| f[5] = 2), ErrorKind::Unsupported, "no 64-bit little-endian");
    says(core(&|f| f[18] = 243), ErrorKind::Unsupported, "is a core of processor riscv");
    says(core(&|f| f[18] = 99), ErrorKind::Unsupported, "e_machine 99");
    says(core(&|f| f[56] = 0), ErrorKind::BadCore, "no program headers");
    says(core(&|f| f[32] = 0), ErrorKind::BadCore, "no program headers");
    says(core(&|f| f[54] = 32), ErrorKind::BadCore, "are 32 bytes long");
    let folder = CoreFile::open(Path::new("/")).err().unwrap();
    assert!(folder.to_string().contains("not a regular file"));
    let gone = CoreFile::open(Path::new("/nonexistent/core")).err().unwrap();
    assert_eq!(gone.kind(), ErrorKind::Io);
}
