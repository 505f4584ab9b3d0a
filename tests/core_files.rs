//! Core files of real programs: those that the kernel, gcore, Delve and qemu write are opened, with
//! and without their executables, whole, cut, damaged and packed.

mod support;

use allgs::addr::{Addr, Tid};
use allgs::arch::Arch;
use allgs::image::{Image, OpenOptions};
use allgs::source::core::CoreFile;
use allgs::source::{Source, Thread};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::Target;
use support::cores::{self, Core};

const RELEASE: &str = "1.27.4";

fn open(path: &Path) -> CoreFile {
    CoreFile::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn image(core: &CoreFile, exe: Option<&Path>) -> allgs::error::Result<Image> {
    Image::open(core, &OpenOptions { exe: exe.map(PathBuf::from) })
}

fn threads(core: &CoreFile) -> Vec<Thread> {
    core.trace().and_then(|mut t| t.stop(Duration::ZERO)).expect("threads of a core").threads
}

fn warnings(core: &CoreFile, image: &Image) -> Vec<String> {
    let (core, image) = (core.diagnostics(), image.diagnostics.clone());
    core.entries().iter().chain(image.entries()).map(|d| format!("{}: {}", d.what, d.effect)).collect()
}

/// Opens a whole core of `program` and checks all that is the same whoever wrote it.
fn whole(core: &Core, program: &Path, release: &str, arch: Arch) -> CoreFile {
    let file = open(&core.path);
    assert_eq!(file.arch(), arch);
    let image = image(&file, Some(program)).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    assert_eq!(image.go.to_string(), format!("go{release}"));
    assert_eq!(warnings(&file, &image), Vec::<String>::new());
    let allgs = file.memory().read_u64(image.globals.allgs.value.offset(8)).expect("length of allgs");
    assert!(allgs > 5, "{allgs} goroutines");
    let threads = threads(&file);
    assert!(threads.len() > 1, "{threads:?}");
    let mapped = |at: Addr| file.mappings().iter().any(|m| m.span.contains(at));
    for thread in &threads {
        let registers = thread.registers.expect("registers");
        assert!(mapped(registers.pc) && mapped(registers.sp), "{thread:?}");
    }
    file
}

#[test]
fn cores_of_the_kernel() {
    for (release, kind) in
        [("1.18.10", "default"), (RELEASE, "default"), (RELEASE, "pie-s"), (RELEASE, "cgo-pie")]
    {
        let program = support::build(release, kind, "crash").canonicalize().expect("it is there");
        let Some(core) = cores::kernel(&program, "abort") else { return };
        let file = whole(&core, &program, release, Arch::Amd64);
        let crash = file.crash().expect("it crashed");
        assert_eq!((crash.signal, crash.fault), (6, None));
        assert_eq!(Some(crash.tid), threads(&file).first().map(|t| t.tid));
        assert_eq!(file.executable_path(), Some(&*program), "NT_FILE names it");
        let found = image(&file, None).expect("found by its name");
        assert_eq!(found.exe.path, program);
    }
}

#[test]
fn the_fault_address_is_that_of_the_signal() {
    let program = support::build(RELEASE, "cgo", "crash");
    let Some(core) = cores::kernel(&program, "nil") else { return };
    // The runtime turns the fault into a panic and aborts, so the signal is SIGABRT without address.
    let crash = open(&core.path).crash().expect("it crashed");
    assert_eq!((crash.signal, crash.fault), (6, None));
}

#[test]
fn cores_of_live_processes() {
    let program = support::build(RELEASE, "default", "zoo");
    let target = Target::start(&program, &[], &[]);
    for core in [cores::gcore(&target), cores::delve(&target)].into_iter().flatten() {
        let file = whole(&core, &program, RELEASE, Arch::Amd64);
        assert_eq!(file.crash(), None, "nothing died");
        let pid = Tid(i32::try_from(target.pid()).expect("pid"));
        assert!(threads(&file).iter().any(|t| t.tid == pid));
    }
}

#[test]
fn cores_of_qemu() {
    for kind in ["arm64-s", "arm64-pie"] {
        let program = support::build(RELEASE, kind, "crash");
        let Some(core) = cores::qemu(&program, "abort") else { return };
        let file = whole(&core, &program, RELEASE, Arch::Arm64);
        assert_eq!(file.crash().map(|c| c.signal), Some(6));
        let other = support::build(RELEASE, if kind == "arm64-s" { "arm64-pie" } else { "arm64-s" }, "crash");
        assert!(image(&file, Some(&other)).is_err(), "a file of another build was taken");
    }
}

#[test]
fn another_executable_is_refused_and_none_is_asked_for() {
    let dir = support::folder();
    let built = support::build(RELEASE, "s", "crash");
    let program = dir.path().join("moved");
    std::fs::copy(&built, &program).expect("copy");
    let Some(core) = cores::kernel(&program, "abort") else { return };
    std::fs::remove_file(&program).expect("remove");
    let file = open(&core.path);
    let other = support::build("1.18.10", "default", "crash");
    let refused = image(&file, Some(&other)).err().expect("another build was taken");
    assert!(refused.to_string().contains("build id"), "{refused}");
    let asked = image(&file, None).err().expect("the tables are not in the core");
    let hint = asked.hint_text().expect("a hint");
    assert!(hint.contains(&*program.to_string_lossy()) && hint.contains("build id"), "{hint}");
    std::fs::copy(&built, core.path.with_file_name("moved")).expect("copy");
    let beside = image(&file, None).expect("found next to the core");
    assert_eq!(beside.exe.path, core.path.with_file_name("moved"));
}

#[test]
fn a_core_that_has_everything_needs_no_executable() {
    for (release, kind) in [("1.18.10", "s"), (RELEASE, "s"), (RELEASE, "pie-s"), (RELEASE, "cgo-pie")] {
        let dir = support::folder();
        let built = support::build(release, kind, "crash");
        let program = dir.path().join("gone");
        std::fs::copy(&built, &program).expect("copy");
        let Some(core) = cores::kernel_full(&program, "abort") else { return };
        std::fs::remove_file(&program).expect("remove");
        let file = open(&core.path);
        let alone = image(&file, None)
            .unwrap_or_else(|e| panic!("{release} {kind}: {e}, {:?}", std::error::Error::source(&e)));
        let with = image(&file, Some(&built)).expect("with the executable");
        assert_eq!(alone.globals.allgs.value, with.globals.allgs.value, "{release} {kind}");
        assert_eq!(alone.go, with.go);
        let said = warnings(&file, &alone);
        assert!(said.iter().any(|w| w.contains("cannot find") && w.contains("gone")), "{said:?}");
    }
}

#[test]
fn packed_cores() {
    let program = support::build(RELEASE, "default", "crash");
    let Some(core) = cores::kernel(&program, "abort") else { return };
    for (command, suffix) in [("gzip", "gz"), ("zstd", "zst"), ("lz4", "lz4")] {
        let packed = core.path.with_extension(suffix);
        let output = std::fs::File::create(&packed).expect("file");
        match Command::new(command).args(["-1", "-q", "-c"]).arg(&core.path).stdout(output).status() {
            Ok(status) => assert!(status.success(), "{command}"),
            Err(_) => {
                println!("skipped: there is no {command}");
                continue;
            }
        }
        let file = open(&packed);
        assert!(image(&file, Some(&program)).is_ok(), "{command}");
        assert_eq!(threads(&file), threads(&open(&core.path)));
    }
}
