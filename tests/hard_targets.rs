//! Targets that are hard to look into: threads that come and go, programs that replace themselves, a main
//! thread that ended, one that somebody else traces, one of another namespace or user, names made to
//! upset a terminal; and allgs itself with fewer rights than it is used to.

mod support;

use allgs::addr::Pid;
use allgs::error::ErrorKind;
use allgs::source::live::LiveProcess;
use allgs::source::{Source, Tracer};
use nix::libc;
use serde_json::Value;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::not_go::NotGo;
use support::{Target, allgs, allgs_ok, build, folder, until};

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the main goroutine of the test program does when all others are where they belong.
const SERVES: &str = "example.com/testprogs/internal/ready.Program.Serve";

/// The test program in one of its modes.
fn hard(kind: &str, mode: &str) -> Target {
    let dir = folder();
    let mut command = Command::new(build("1.27.4", kind, "hard"));
    command.arg(dir.path()).arg(mode);
    Target::spawn(command, dir)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a command around allgs (`setpriv ...`, `unshare ...`): the program and its arguments follow.
fn within(around: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new(around[0]);
    command.args(&around[1..]).arg(env!("CARGO_BIN_EXE_allgs")).args(args);
    command.stdin(Stdio::null()).output().expect("starts")
}

fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Whether a goroutine stands in `function`.
fn shows(document: &Value, function: &str) -> bool {
    let goroutines = document["goroutines"].as_array().expect("goroutines");
    let frames = goroutines.iter().filter_map(|g| g["frames"].as_array()).flatten();
    frames.into_iter().any(|frame| frame["function"] == function)
}

/// What is said in the diagnostics.
fn said(document: &Value) -> String {
    document["diagnostics"].to_string()
}

#[test]
fn a_process_goes_on_and_is_shown_when_its_main_thread_has_ended() {
    let mut target = hard("default", "orphan");
    let pid = target.pid().to_string();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    assert!(stat.contains(") Z "), "the main thread has ended: {stat}");
    for how in [&[][..], &["--no-stop"]] {
        let document = document(&allgs(&[&["dump", "--format", "json", &pid], how].concat()));
        assert!(shows(&document, "main.parked") && shows(&document, "main.orphan"), "{document}");
        let wanted = if how.is_empty() { "stopped" } else { "unstopped" };
        assert_eq!(document["capture"]["consistency"], wanted);
    }
    assert!(allgs_ok(&["why", &pid]).contains("main.parked"));
    assert!(allgs_ok(&["info", &pid]).contains("1.27.4"));
    let list: Value = serde_json::from_str(&allgs_ok(&["ps", "--format", "json"])).expect("JSON");
    let listed = list["processes"].as_array().expect("a list");
    let own = listed.iter().find(|p| p["pid"] == target.pid()).expect("ps shows it");
    assert!(own["goroutines"].is_number() && own["attachable"] == true, "{own}");
    target.send("hello");
    assert!(target.ended().is_none(), "it still runs");
}

#[test]
fn a_thousand_new_threads_a_second_do_not_keep_it_from_an_instant() {
    let target = hard("default", "churn");
    let pid = target.pid().to_string();
    for _ in 0..10 {
        let document = document(&allgs(&["dump", "--format", "json", &pid]));
        assert!(shows(&document, "main.parked"), "{document}");
        // On a busy machine no thread of it may run while it is read.
        let instant = document["capture"]["consistency"].as_str().expect("a word").to_owned();
        assert!(["stopped", "partial", "asleep"].contains(&&*instant), "{instant}");
    }
    let no_one_stopped = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
        let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        stats.into_iter().all(|stat| !stat.contains(") t "))
    };
    until("no thread is stopped", PATIENCE, no_one_stopped);
}

#[test]
fn a_program_that_replaces_itself_or_ends_meanwhile_is_shown_whole_or_not_at_all() {
    let (mut shown, mut refused) = (0, 0);
    for round in 0..12u32 {
        let mut target = hard("default", "exec");
        let pid = target.pid().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_allgs"));
        command.args(["dump", "--format", "json", &pid]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(u64::from(round) * 4));
        if round % 2 == 0 {
            target.send("now");
            target.wait_for("READY");
        } else {
            target.signal(nix::sys::signal::Signal::SIGKILL);
        }
        let output = child.wait_with_output().expect("ends");
        match output.status.code() {
            Some(0) => {
                // A program that has only just begun has nobody parked, and does not serve yet either.
                let shown_whole =
                    |document: &Value| shows(document, "main.parked") || !shows(document, SERVES);
                assert!(shown_whole(&document(&output)), "{}", text(&output.stdout));
                shown += 1;
            }
            Some(2) => {
                let why = text(&output.stderr);
                assert!(why.starts_with("allgs: "), "{why}");
                refused += 1;
            }
            _ => panic!("{output:?}"),
        }
    }
    println!("{shown} shown, {refused} refused with a reason");
}

#[test]
fn a_number_that_another_process_has_by_now_is_not_taken_for_the_first() {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let mut tried = 0;
    for _ in 0..200 {
        let mut first = NotGo::start();
        let pid = Pid(first.0.id() as i32);
        let process = LiveProcess::open(pid).expect("a process of ours");
        let mut tracer = process.tracer().expect("nobody traces it");
        first.0.kill().expect("kill");
        first.0.wait().expect("wait");
        if let Err(e) = fs::write(LAST, (pid.0 - 1).to_string()) {
            println!("skipped: the next number of a process cannot be chosen here: {e}");
            return;
        }
        let second = NotGo::start();
        let same = second.0.id() as i32 == pid.0;
        if same {
            let error = tracer.stop(PATIENCE).expect_err("it is another process");
            assert_eq!(error.kind(), ErrorKind::NoSuchProcess, "{error}");
            assert!(
                process.memory().read_u8(process.mappings()[0].span.start).is_err()
                    || process.check().is_err()
            );
            assert!(process.open_executable().is_err());
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the second one lives");
            assert!(!stat.contains(") t "), "{stat}");
            tried += 1;
        }
        if tried == 3 {
            return;
        }
    }
    println!("skipped: the number was never given again ({tried} times)");
}

#[test]
fn a_target_that_is_traced_already_is_read_without_a_stop_and_its_tracer_is_named() {
    let target = hard("default", "http");
    let pid = target.pid().to_string();
    let process = LiveProcess::open(Pid(target.pid() as i32)).expect("a process of ours");
    let mut tracer = process.tracer().expect("nobody else traces it");
    tracer.stop(PATIENCE).expect("it stops");
    let document = document(&allgs(&["dump", "--format", "json", &pid]));
    assert!(shows(&document, "main.parked"), "{document}");
    assert_eq!(document["capture"]["consistency"], "unstopped");
    let own = format!("already traced by process {}", std::process::id());
    assert!(
        said(&document).contains(&own) && said(&document).contains("without stopping"),
        "{}",
        said(&document)
    );
    let list = allgs_ok(&["ps"]);
    assert!(list.contains(&format!("traced by {}", std::process::id())), "{list}");
    tracer.resume().expect("it goes on");
}

#[test]
fn a_stopped_target_is_shown_and_stays_stopped() {
    let target = hard("default", "http");
    let pid = target.pid().to_string();
    target.signal(nix::sys::signal::Signal::SIGSTOP);
    let stopped = || fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat").contains(") T ");
    until("it is stopped", PATIENCE, stopped);
    let document = document(&allgs(&["dump", "--format", "json", &pid]));
    assert!(shows(&document, "main.parked"));
    until("it is stopped again", PATIENCE, stopped);
    target.signal(nix::sys::signal::Signal::SIGCONT);
}

#[test]
fn a_thread_in_state_d_is_named_and_all_else_is_shown() {
    let target = hard("cgo", "vfork");
    let pid = target.pid().to_string();
    let in_d = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
        tasks.filter_map(|t| fs::read_to_string(t.path().join("stat")).ok()).any(|s| s.contains(") D "))
    };
    until("a thread is in state D", PATIENCE, in_d);
    let begin = Instant::now();
    let document = document(&allgs(&["dump", "--format", "json", &pid]));
    println!("took {:?}", begin.elapsed());
    assert!(shows(&document, "main.parked") && shows(&document, "main.vforks"), "{document}");
    assert!(said(&document).contains("state D"), "{}", said(&document));
}

#[test]
fn memory_that_changes_without_a_stop_is_marked_never_wrong() {
    let target = hard("default", "churn");
    let pid = target.pid().to_string();
    for _ in 0..20 {
        let document = document(&allgs(&["dump", "--no-stop", "--format", "json", &pid]));
        assert_eq!(document["capture"]["consistency"], "unstopped");
        for g in document["goroutines"].as_array().expect("goroutines") {
            let word = g["consistency"].as_str().unwrap_or("missing");
            assert_ne!(word, "exact", "{g}");
        }
        assert!(shows(&document, "main.parked"));
    }
}

/// A filter under which a call of the kernel is refused, as container runtimes do.
fn refusing(call: i64, errno: i32, args: &[&str]) -> Output {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_allgs"));
    command.args(args).stdin(Stdio::null());
    // SAFETY: between fork and exec only two system calls are made, on data that was made before.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
            let private = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter);
            if private == 0 && set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command.output().expect("a filter can be set")
}

#[test]
fn without_process_vm_readv_memory_is_read_from_proc() {
    let target = hard("default", "http");
    let pid = target.pid().to_string();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let output = refusing(libc::SYS_process_vm_readv, errno, &["dump", "--format", "json", &pid]);
        assert!(shows(&document(&output), "main.parked"));
    }
}

#[test]
fn without_ptrace_a_target_is_read_without_a_stop() {
    let target = hard("default", "churn");
    let pid = target.pid().to_string();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let look = |_| document(&refusing(libc::SYS_ptrace, errno, &["dump", "--format", "json", &pid]));
        // Between two of its ticks all threads may be asleep.
        let unproved = |document: &Value| document["capture"]["consistency"] != "asleep";
        let document = (0..100).map(look).find(unproved).expect("threads come and go");
        assert!(shows(&document, "main.parked"));
        assert_eq!(document["capture"]["consistency"], "unstopped");
        assert!(said(&document).contains("without stopping"), "{}", said(&document));
    }
}

#[test]
fn a_target_in_namespaces_of_its_own_is_shown() {
    let dir = folder();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(build("1.27.4", "default", "hard")).arg(dir.path()).arg("churn");
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"])
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("skipped: no namespaces can be made here");
        return;
    }
    let target = Target::spawn(command, dir);
    assert!(target.ready.trim_end() == "READY 1", "it has a number of its own: {}", target.ready);
    let children = format!("/proc/{0}/task/{0}/children", target.pid());
    let pid = fs::read_to_string(children).expect("children").trim().to_owned();
    let document = document(&allgs(&["dump", "--all", "--format", "json", &pid]));
    assert!(shows(&document, "main.parked"), "{document}");
    let instant = document["capture"]["consistency"].as_str().expect("a word");
    assert!(["stopped", "partial", "asleep"].contains(&instant), "{instant}");
    assert_eq!(document["target"]["pid"].to_string(), pid);
}

#[test]
fn one_capability_is_enough_and_none_is_refused_in_words() {
    if !is_root() {
        println!("skipped: only root can give rights away");
        return;
    }
    let target = hard("default", "private");
    let pid = target.pid().to_string();
    let bounded = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let one = [
        "--inh-caps",
        "-all,+sys_ptrace",
        "--ambient-caps",
        "-all,+sys_ptrace",
        "--bounding-set",
        "-all,+sys_ptrace",
    ];
    let output = within(&[&bounded[..], &one].concat(), &["dump", "--format", "json", &pid]);
    let document = document(&output);
    assert!(shows(&document, "main.parked"));
    assert_ne!(document["capture"]["consistency"], "unstopped");
    let none = ["--inh-caps", "-all", "--bounding-set", "-all"];
    let output = within(&[&bounded[..], &none].concat(), &["dump", &pid]);
    assert_eq!(output.status.code(), Some(2));
    let why = text(&output.stderr);
    assert!(why.contains("cannot attach to") && why.contains("--cap-add=SYS_PTRACE"), "{why}");
}

#[test]
fn files_of_proc_that_are_missing_are_done_without() {
    let target = hard("default", "http");
    let pid = target.pid().to_string();
    let mut tried = 0;
    for name in ["auxv", "ns/time", "timens_offsets", "environ", "root", "map_files"] {
        let hide = format!(
            "mount --bind $(test -d /proc/{pid}/{name} && echo /sys/kernel/security || echo /dev/null) /proc/{pid}/{name} \
             && exec \"$@\""
        );
        let output = within(&["unshare", "-m", "sh", "-c", &hide, "sh"], &["dump", "--format", "json", &pid]);
        if output.status.success() {
            assert!(shows(&document(&output), "main.parked"), "without {name}");
            tried += 1;
        } else {
            let why = text(&output.stderr);
            assert!(why.contains("mount") || why.contains("unshare"), "without {name}: {why}");
        }
    }
    let script = "mount -o remount,ro,bind /proc && exec \"$@\"";
    let output = within(&["unshare", "-m", "sh", "-c", script, "sh"], &["dump", "--format", "json", &pid]);
    if output.status.success() {
        assert!(shows(&document(&output), "main.parked"), "with a read-only /proc");
        tried += 1;
    }
    println!("{tried} of 7 could be tried here");
}

/// Where nothing can be written and no network is, all works the same.
#[test]
fn nothing_is_written_and_no_network_is_used() {
    let target = hard("default", "http");
    let pid = target.pid().to_string();
    let script = "mount --make-rprivate / && for m in / /tmp /dev/shm /var/tmp /root; do
             mount --bind $m $m 2>/dev/null; mount -o remount,ro,bind $m 2>/dev/null; done
         touch /tmp/x 2>/dev/null && exit 77; touch /x 2>/dev/null && exit 77; exec \"$@\"";
    let output =
        within(&["unshare", "-m", "-n", "sh", "-c", script, "sh"], &["dump", "--format", "json", &pid]);
    if matches!(output.status.code(), Some(1 | 77)) {
        println!("skipped: the file systems cannot be made read-only here");
    } else {
        assert!(shows(&document(&output), "main.parked"));
    }
    let dir = folder();
    let (trace, out) = (dir.path().join("trace"), dir.path().join("answer"));
    let (trace, out) = (trace.to_str().expect("text"), out.to_str().expect("text"));
    let wanted = "trace=openat,openat2,open,creat,socket,connect,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,\
                  linkat,link,symlink,symlinkat,truncate,process_vm_writev,pwrite64";
    let around = ["strace", "-f", "-o", trace, "-e", wanted];
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no strace");
        return;
    }
    let output = within(&around, &["dump", &pid, "-o", out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let calls = fs::read_to_string(trace).expect("a trace");
    assert!(calls.contains("/proc/"), "{calls}");
    let harmless = |line: &&str| {
        let reads = line.contains("open")
            && !["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
        let answer = line.contains(dir.path().to_str().expect("text"));
        reads || answer || line.contains("+++") || line.contains("---") || line.contains("resumed>")
    };
    let others: Vec<&str> = calls.lines().filter(|line| !harmless(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// Whether text could do anything to a terminal but be shown.
fn is_plain(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let unsafe_ = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    !text.contains(unsafe_)
}

#[test]
fn names_of_all_kinds_are_harmless_as_text_and_exact_as_json() {
    let dir = folder();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"e\x1b[2Jx\n\xe2\x80\xae\xff"));
    fs::create_dir(&odd).expect("any name but / and NUL is one");
    let exe = odd.join("hard\x1b]0;t\x07");
    fs::copy(build("1.27.4", "default", "hard"), &exe).expect("a copy");
    let mut command = Command::new(&exe);
    command.arg0("arg\x1b[31m").arg(dir.path()).arg("names");
    let target = Target::spawn(command, folder());
    let pid = target.pid().to_string();
    let runs: [&[&str]; 7] = [
        &["list", &pid],
        &["list", &pid, "--all"],
        &["dump", &pid, "--all"],
        &["why", &pid],
        &["info", &pid],
        &["ps"],
        &["why", &pid, "--format", "dot"],
    ];
    for args in runs {
        let output = allgs(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            is_plain(&output.stdout) && is_plain(&output.stderr),
            "{args:?}: {:?}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let go = format!("'{}' dump {pid} --format go --all", env!("CARGO_BIN_EXE_allgs"));
    let output = Command::new("script").args(["-qec", &go, "/dev/null"]).stdin(Stdio::null()).output();
    let on_terminal = text(&output.expect("script").stdout).replace("\r\n", "\n").replace('\t', "");
    assert!(on_terminal.contains("odd\\x1b[2J") && is_plain(on_terminal.as_bytes()), "{on_terminal:?}");
    assert!(
        allgs_ok(&["dump", &pid, "--format", "go"]).contains("odd\x1b[2J\u{202e}.go:"),
        "exact in a pipe"
    );
    let document = document(&allgs(&["dump", "--format", "json", &pid]));
    let name = document["target"]["exe"].as_str().expect("a path");
    assert!(name.contains("e\x1b[2Jx\n\u{202e}\u{fffd}/hard\x1b]0;t\x07"), "{name:?}");
    let goroutines = document["goroutines"].as_array().expect("goroutines");
    let labelled = goroutines.iter().find(|g| g["labels"].is_object()).expect("one has labels");
    let labels = labelled["labels"].as_object().expect("labels");
    assert_eq!(labels["esc\x1b[31m"], "red\x1b[2J\u{202e}green\r\n\u{fffd}");
    let file = labelled["frames"].as_array().expect("frames").iter().find(|f| f["function"] == "main.odd");
    let file = file.expect("it stands there")["file"].as_str().expect("a file");
    assert!(file.ends_with("odd\x1b[2J\u{202e}.go"), "{file:?}");
    assert!(Path::new(&exe).exists());
}
