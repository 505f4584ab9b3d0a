//! Odd ways to build, deploy and run a Go program: the file is gone, the runtime is in a library, its
//! version is unheard of. Each time the oracle is the runtime's own text, byte for byte.

mod support;

use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::oracle::parked;
use support::{Tally, Target, allgs, allgs_ok, build, compare, folder, newest, repo, whole_product};

/// Releases of a test: `part`, or with ALLGS_PRODUCT=all the newest patch of each minor release from
/// 1.`since` on.
fn some(part: &[&str], since: u32) -> Vec<String> {
    if !whole_product() {
        return part.iter().map(|release| (*release).to_owned()).collect();
    }
    let minor = |release: &String| release.split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
    newest().into_iter().filter(|release| minor(release).is_some_and(|m| m >= since)).collect()
}

/// Compares all parked goroutines of process `pid` with the text that `target` wrote; all must be equal.
fn judge_pid(name: &str, target: &Target, pid: u32) -> Tally {
    let text = allgs_ok(&["dump", "--format", "go", &pid.to_string()]);
    let tally = compare(name, &target.file("stack.txt"), &text, parked);
    println!("{name}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    assert!(tally.compared > 100, "{name}: only {} goroutines in the runtime's text", tally.compared);
    assert_eq!(tally.compared, tally.equal, "{name}");
    tally
}

fn judge(name: &str, target: &Target) -> Tally {
    judge_pid(name, target, target.pid())
}

fn info(target: &Target) -> Value {
    let text = allgs_ok(&["info", "--format", "json", &target.pid().to_string()]);
    serde_json::from_str(&text).expect("JSON")
}

/// How `allgs info` says that the global was found.
fn by(info: &Value, global: &str) -> String {
    let located = info["located"].as_array().expect("located");
    let found = located.iter().find(|l| l["name"] == global).expect("a known name");
    found["by"].as_str().unwrap_or("not found").to_owned()
}

/// Runs a tool that must succeed.
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the tool can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn strip(from: &Path, to: &Path) {
    run(Command::new("strip").arg("-s").arg("-o").arg(to).arg(from));
}

#[test]
fn the_executable_was_removed_or_replaced() {
    for (release, kind) in [("1.19.13", "s"), ("1.27.4", "pie"), ("1.27.4", "s")] {
        let dir = folder();
        for replaced in [false, true] {
            let program = dir.path().join("program");
            fs::copy(build(release, kind, "zoo"), &program).expect("a copy");
            let target = Target::start(&program, &[], &[]);
            fs::remove_file(&program).expect("removed");
            if replaced {
                fs::copy(build("1.24.13", "default", "zoo"), &program).expect("another program");
            }
            let name = format!("{release} {kind}, {}", if replaced { "replaced" } else { "removed" });
            judge(&name, &target);
            assert_eq!(info(&target)["target"]["go_version"], format!("go{release}"), "{name}");
        }
    }
}

/// The number of the only child of a process.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    children.trim().parse().expect("one child")
}

/// Process 1 of a container: its own numbers of processes and threads, and its program lies where only
/// itself can name it.
#[test]
fn the_process_is_in_other_namespaces() {
    let script = "mount -t tmpfs none /mnt && cp \"$1\" /mnt/program && exec /mnt/program \"$2\"";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--mount",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        command
    };
    let possible = unshare("mount -t tmpfs none /mnt").stdin(Stdio::null()).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("1 skipped: new namespaces are not permitted here (uid {})", geteuid());
        return;
    }
    for (release, kind) in [("1.24.13", "pie-s"), ("1.27.4", "default")] {
        let dir = folder();
        let mut command = unshare(script);
        command.arg(build(release, kind, "zoo")).arg(dir.path());
        let target = Target::spawn(command, dir);
        assert_eq!(target.ready, "READY 1", "its number in its own namespace");
        let pid = child_of(target.pid());
        judge_pid(&format!("{release} {kind} in other namespaces"), &target, pid);
    }
}

/// Compiles the C program of `testprogs/hosts` into `to`.
fn c_host(to: &Path, options: &[&str], library: Option<&Path>) {
    let mut gcc = Command::new("gcc");
    gcc.args(options).arg("-o").arg(to).arg(repo().join("testprogs/hosts/host.c"));
    run(gcc.args(library).args(["-ldl", "-lpthread"]));
}

#[test]
fn a_c_program_loaded_the_runtime() {
    let dir = folder();
    let host = dir.path().join("host");
    c_host(&host, &[], None);
    for release in some(&["1.18.10", "1.27.4"], 0) {
        let library = build(&release, "c-shared", "library");
        let target = Target::start(&host, &[&library.to_string_lossy()], &[]);
        judge(&format!("{release} c-shared in C"), &target);
        let known = info(&target);
        assert_eq!(by(&known, "allgs"), "dwarf", "{known:#}");
        assert_eq!(known["executable"]["kind"], "shared library", "{known:#}");
        assert_eq!(
            known["target"]["exe"],
            library.canonicalize().expect("a path").to_str().expect("UTF-8"),
            "{known:#}"
        );
        assert_eq!(known["target"]["go_version"], format!("go{release}"));
        drop(target);
        let stripped = dir.path().join(format!("stripped-{release}"));
        strip(&library, &stripped);
        let target = Target::start(&host, &[&stripped.to_string_lossy()], &[]);
        judge(&format!("{release} c-shared, stripped, in C"), &target);
        assert_eq!(by(&info(&target), "allgs"), "code");
    }
}

#[test]
fn a_python_program_loaded_the_runtime() {
    for release in some(&["1.18.10", "1.27.4"], 0) {
        let dir = folder();
        let mut command = Command::new("python3");
        command.arg(repo().join("testprogs/hosts/host.py")).arg(dir.path());
        command.arg(build(&release, "c-shared", "library"));
        let target = Target::spawn(command, dir);
        judge(&format!("{release} c-shared in Python"), &target);
    }
}

#[test]
fn a_c_program_is_linked_with_the_runtime() {
    let dir = folder();
    for release in some(&["1.18.10", "1.27.4"], 0) {
        let host = dir.path().join(format!("linked-{release}"));
        let library = build(&release, "c-archive", "library");
        c_host(&host, &["-DLINKED"], Some(&library));
        let target = Target::start(&host, &[], &[]);
        judge(&format!("{release} c-archive"), &target);
        drop(target);
        let stripped = dir.path().join("stripped");
        strip(&host, &stripped);
        let target = Target::start(&stripped, &[], &[]);
        judge(&format!("{release} c-archive, stripped"), &target);
    }
}

#[test]
fn a_plugin_is_loaded() {
    for release in some(&["1.21.13", "1.27.4"], 0) {
        let plugin = build(&release, "plugin", "plugged");
        let host = build(&release, "cgo", "plughost");
        let target = Target::start(&host, &[&plugin.to_string_lossy()], &[]);
        judge(&format!("{release} plugin"), &target);
        let known = info(&target);
        assert_eq!(known["code"].as_array().map(Vec::len), Some(2), "two modules: {known:#}");
    }
}

/// C code of another C library, and code of a C library within the program.
#[test]
fn the_c_library_is_musl_or_static() {
    for kind in ["cgo-static", "musl", "musl-dynamic"] {
        for release in some(&["1.21.13", "1.27.4"], 0) {
            let target = Target::start(&build(&release, kind, "zoo"), &[], &[]);
            judge(&format!("{release} {kind}"), &target);
        }
    }
}

/// Releases whose `-linkshared` makes programs that run: that of 1.21 cannot parse an IP address, that of
/// 1.27 dies in half of its runs in its own garbage collector.
const SHARING: [&str; 2] = ["1.18.10", "1.24.13"];

#[test]
fn the_runtime_is_a_shared_library_of_go_programs() {
    for release in SHARING {
        let whole = build(release, "linkshared", "zoo");
        let target = Target::start(&whole, &[], &[]);
        judge(&format!("{release} -linkshared"), &target);
        let known = info(&target);
        assert_eq!(known["code"].as_array().map(Vec::len), Some(2), "two modules: {known:#}");
        assert_eq!(known["target"]["go_version"], format!("go{release}"));
        drop(target);
        let dir = folder();
        let stripped = dir.path().join("stripped");
        strip(&whole, &stripped);
        let target = Target::start(&stripped, &[], &[]);
        judge(&format!("{release} -linkshared, stripped"), &target);
    }
}

#[test]
fn the_program_measures_its_coverage() {
    for release in some(&["1.20.14", "1.26.11"], 20) {
        let out = folder();
        let env = [("GOCOVERDIR", &*out.path().to_string_lossy())];
        let target = Target::start(&build(&release, "cover", "zoo"), &[], &env);
        judge(&format!("{release} -cover"), &target);
    }
}

/// What stderr of allgs says about a target, whose goroutines must all be right.
fn said(name: &str, target: &Target) -> String {
    judge(name, target);
    let output = allgs(&["list", &target.pid().to_string()]);
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_experiment_has_its_own_layouts_or_says_that_they_are_borrowed() {
    for release in some(&["1.25.14", "1.26.11"], 25) {
        let whole = build(&release, "experiment", "zoo");
        let target = Target::start(&whole, &[], &[]);
        let text = said(&format!("{release} experiment"), &target);
        assert!(!text.contains("nearest release"), "{text}");
        let experiment = if release.starts_with("1.25.") { " X:greenteagc" } else { "-X:nogreenteagc" };
        assert_eq!(info(&target)["target"]["go_version"], format!("go{release}{experiment}"));
        drop(target);
        let dir = folder();
        let stripped = dir.path().join("stripped");
        strip(&whole, &stripped);
        let target = Target::start(&stripped, &[], &[]);
        let text = said(&format!("{release} experiment, stripped"), &target);
        assert!(text.contains("nearest release"), "{text}");
    }
}

#[test]
fn a_vendors_version_is_tried_with_the_layouts_of_its_release() {
    for release in some(&["1.21.13", "1.24.13"], 0) {
        let target = Target::start(&build(&release, "vendor", "zoo"), &[], &[]);
        let text = said(&format!("{release} vendor"), &target);
        assert!(text.contains("nearest release"), "{text}");
        assert_eq!(info(&target)["target"]["go_version"], format!("go{release}-vendor"));
    }
}

#[test]
fn an_unknown_release_is_tried_with_the_newest_layouts_and_says_so() {
    let release = newest().pop().expect("a release");
    let target = Target::start(&build(&release, "unknown", "zoo"), &[], &[]);
    let text = said(&format!("{release} as go1.99.1"), &target);
    assert!(text.contains("warning") && text.contains("nearest release"), "{text}");
    let known = info(&target);
    assert_eq!(known["target"]["go_version"], "go1.99.1");
    assert!(known["layouts"].as_array().expect("layouts").iter().all(|l| l["by"] == "nearest"), "{known:#}");
}

/// Cuts the section headers off, as packers and some strippers do.
fn without_sections(from: &Path, to: &Path) {
    let mut bytes = fs::read(from).expect("the program");
    bytes[0x28..0x30].fill(0); // e_shoff
    bytes[0x3c..0x40].fill(0); // e_shnum, e_shstrndx
    fs::write(to, bytes).expect("a copy");
    run(Command::new("chmod").arg("+x").arg(to));
}

#[test]
fn sections_have_other_names_or_are_gone() {
    let dir = folder();
    for (release, kind) in [("1.24.13", "pie-s"), ("1.27.4", "s")] {
        let whole = build(release, kind, "zoo");
        let renamed: PathBuf = dir.path().join(format!("renamed-{release}"));
        let other_name = ["--rename-section", ".go.buildinfo=.other"];
        run(Command::new("objcopy").args(other_name).arg(&whole).arg(&renamed));
        let bare = dir.path().join(format!("bare-{release}"));
        without_sections(&whole, &bare);
        for program in [renamed, bare] {
            let name = program.file_name().expect("a name").to_string_lossy();
            let target = Target::start(&program, &[], &[]);
            judge(&format!("{kind} {name}"), &target);
            let known = info(&target);
            assert_eq!(known["target"]["go_version"], format!("go{release}"));
            assert_eq!(known["go_version_by"], "scan", "{name}: no section names it");
        }
    }
}

/// Takes the build information away: nothing but the runtime's own variable says the version then.
fn without_build_info(from: &Path, to: &Path) {
    let mut bytes = fs::read(from).expect("the program");
    let magic = b"\xff Go buildinf:";
    let places: Vec<usize> =
        bytes.windows(magic.len()).enumerate().filter(|(_, w)| w == magic).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "{} has no build information", from.display());
    for at in places {
        bytes[at..at + magic.len()].fill(0);
    }
    fs::write(to, bytes).expect("a copy");
    run(Command::new("chmod").arg("+x").arg(to));
}

#[test]
fn a_program_that_names_its_version_nowhere_is_asked_by_its_code() {
    let dir = folder();
    for (release, kind) in [("1.19.13", "s"), ("1.24.13", "pie-s"), ("1.27.4", "s")] {
        let silent = dir.path().join(format!("silent-{release}"));
        without_build_info(&build(release, kind, "zoo"), &silent);
        let target = Target::start(&silent, &[], &[]);
        judge(&format!("{release} {kind} without build information"), &target);
        let known = info(&target);
        assert_eq!(known["target"]["go_version"], format!("go{release}"));
        assert_eq!(known["go_version_by"], "code");
    }
}

/// What packers such as UPX leave to be seen: another executable, and the program in memory only.
#[test]
fn a_program_that_was_unpacked_into_memory() {
    let dir = folder();
    let loader = dir.path().join("loader");
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-Wl,-Ttext-segment=0x70000000", "-o"]).arg(&loader);
    run(gcc.arg(repo().join("testprogs/hosts/unpack.c")));
    for (release, kind) in [("1.19.13", "s"), ("1.27.4", "s")] {
        let out = folder();
        let mut command = Command::new(&loader);
        command.arg(build(release, kind, "zoo")).arg(out.path());
        let target = Target::spawn(command, out);
        judge(&format!("{release} {kind} unpacked into memory"), &target);
        let known = info(&target);
        assert_eq!(known["target"]["go_version"], format!("go{release}"));
        assert_eq!(by(&known, "allgs"), "code", "{known:#}");
    }
}
