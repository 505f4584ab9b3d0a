//! The command line without any Go: help, mistakes, targets that are none, output, exit status.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use support::not_go::NotGo;
use support::{allgs, allgs_ok, folder};

/// Runs allgs, which must say that it could not be done; returns what it said.
fn refused(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = allgs(args);
    let stderr = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stdout.is_empty(), "{args:?} wrote on stdout");
    stderr
}

#[test]
fn help_begins_with_examples_and_fits_100_columns() {
    for args in [&["--help"][..], &["list", "--help"], &["dump", "-h"], &["info", "-h"], &["ps", "-h"]] {
        let help = allgs_ok(args);
        let examples = help.find("Examples:\n  allgs ").unwrap_or_else(|| panic!("{args:?}: {help}"));
        assert!(examples < help.find("Usage:").expect("usage"), "{args:?}: {help}");
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{args:?}: {help}");
    }
    assert!(!allgs_ok(&["--help"]).contains("generate"), "generate is for packagers");
    assert!(allgs_ok(&["--version"]).starts_with("allgs "));
}

#[test]
fn no_arguments_print_the_help_and_fail() {
    let text = refused(&[]);
    assert!(text.contains("Examples:"), "{text}");
}

#[test]
fn mistakes_in_usage_are_told() {
    assert!(refused(&["lst", "4242"]).contains("'lst'"));
    assert!(refused(&["dump"]).contains("<TARGET>"));
    assert!(refused(&["dump", "4242", "x"]).contains("positive integer"));
    assert!(refused(&["4242", "--format", "xml"]).contains("[possible values: text, json, go]"));
    assert!(refused(&["4242", "--status", "asleep"]).contains("runnable"));
    assert!(refused(&["0"]).contains("allgs: 0 is not the number of a process\nhint: "));
}

#[test]
fn what_is_no_process_and_no_file_is_told_in_one_line() {
    let gone = {
        let mut child = Command::new("true").spawn().expect("true");
        child.wait().expect("wait");
        child.id().to_string()
    };
    let text = refused(&[&gone]);
    assert!(text.starts_with(&format!("allgs: there is no process {gone}\n")), "{text}");
    let text = refused(&["./no/such/core"]);
    assert!(text.starts_with("allgs: ") && text.contains("./no/such/core"), "{text}");
    assert!(text.contains("No such file"), "{text}");
    let text = refused(&[env!("CARGO_MANIFEST_DIR")]);
    assert!(text.starts_with("allgs: "), "{text}");
    let dir = folder();
    let file = dir.path().join("\x1b[2J");
    fs::write(&file, "not a core").expect("writes");
    let text = refused(&[file.to_str().expect("UTF-8")]);
    assert!(text.contains("\\x1b[2J") && !text.contains('\x1b'), "{text:?}");
}

#[test]
fn processes_that_are_not_go_are_told_apart() {
    let other = NotGo::start();
    let text = refused(&[&other.pid()]);
    assert!(text.contains("Go") && text.starts_with("allgs: "), "{text}");
    let text = refused(&["info", &other.pid()]);
    assert!(text.contains("Go"), "{text}");
}

#[test]
fn its_own_process_is_refused() {
    // The shell becomes allgs and keeps its number.
    let exe = env!("CARGO_BIN_EXE_allgs");
    let output = Command::new("sh").args(["-c", &format!("exec '{exe}' $$")]).output().expect("sh");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("allgs: ") && text.lines().count() <= 2, "{text}");
}

#[test]
fn a_zombie_is_said_to_have_ended() {
    // Nobody waits for this child before the test does.
    let mut child = Command::new("true").spawn().expect("true starts");
    let pid = child.id().to_string();
    let is_zombie = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "));
    while !is_zombie() {
        std::thread::yield_now();
    }
    let text = refused(&[&pid]);
    child.wait().expect("the child is ours");
    assert!(text.contains(&pid) && text.contains("ended"), "{text}");
}

#[test]
fn a_kernel_thread_is_told_apart() {
    // Where the host's kernel threads are not visible (a container), there is nothing to test with.
    let stat = fs::read_to_string("/proc/2/stat").unwrap_or_default();
    if stat.contains("(kthreadd)") {
        let text = refused(&["2"]);
        assert!(text.contains("kernel"), "{text}");
    } else {
        println!("skipped: no kernel thread is visible");
    }
}

#[test]
fn ps_lists_no_process_that_is_not_go() {
    let other = NotGo::start();
    let list = allgs_ok(&["ps", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(document["schema"], "allgs.ps/1");
    let pids: Vec<String> =
        document["processes"].as_array().expect("list").iter().map(|p| p["pid"].to_string()).collect();
    assert!(!pids.contains(&other.pid()), "{pids:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_allgs"))
        .args(["generate", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.status.signal(), None);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn output_goes_to_a_file_that_appears_complete() {
    let dir = folder();
    let file = dir.path().join("ps.json");
    let path = file.to_str().expect("UTF-8");
    assert_eq!(allgs_ok(&["ps", "--format", "json", "-o", path]), "");
    let text = fs::read_to_string(&file).expect("the file is there");
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1, "nothing else is left");
}

#[test]
fn a_failure_leaves_the_old_file_and_no_other() {
    let dir = folder();
    let file = dir.path().join("out");
    fs::write(&file, "old").expect("writes");
    let other = NotGo::start();
    refused(&[&other.pid(), "-o", file.to_str().expect("UTF-8")]);
    assert_eq!(fs::read_to_string(&file).expect("reads"), "old");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1);
    let text = refused(&["ps", "-o", "/no/such/folder/file"]);
    assert!(text.starts_with("allgs: cannot write /no/such/folder/file: No such file"), "{text}");
}

#[test]
fn a_full_disk_is_an_error() {
    let text = refused(&["ps", "-o", "/dev/full"]);
    assert!(text.starts_with("allgs: cannot write /dev/full: No space left"), "{text}");
}

#[test]
fn completions_and_man_page_name_all_commands() {
    for what in ["man", "bash", "zsh", "fish"] {
        let text = allgs_ok(&["generate", what]);
        for command in ["list", "dump", "info", "ps"] {
            assert!(text.contains(command), "{what} lacks {command}");
        }
    }
    let bash = allgs_ok(&["generate", "bash"]);
    let mut check = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    std::io::Write::write_all(&mut check.stdin.take().expect("stdin"), bash.as_bytes()).expect("bash reads");
    assert!(check.wait().expect("bash ends").success(), "the completions are no valid shell");
}

#[test]
fn colours_only_where_they_are_wanted() {
    let coloured = |args: &[&str], no_color: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_allgs"))
            .args(args)
            .env("NO_COLOR", no_color)
            .output()
            .expect("starts");
        output.stdout.contains(&0x1b)
    };
    assert!(!coloured(&["ps"], ""));
    assert!(!coloured(&["ps", "--color", "never"], ""));
    assert!(coloured(&["ps", "--color", "always"], "1"));
}

#[test]
fn a_terminal_gets_colours_and_no_color_takes_them_away() {
    let run = |no_color: &str| {
        let command = format!("{} ps", env!("CARGO_BIN_EXE_allgs"));
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("NO_COLOR", no_color)
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        let mut text = Vec::new();
        child.stdout.take().expect("stdout").read_to_end(&mut text).expect("reads");
        child.wait().expect("ends");
        assert!(!text.is_empty());
        text.contains(&0x1b)
    };
    assert!(run(""));
    assert!(!run("1"));
}
