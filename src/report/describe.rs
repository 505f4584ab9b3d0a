//! Report: what the layers below know of a target and a capture, in the words of the contract.

use super::model::{Capture, Cause, Crash, Hex, Ns, Signal, Target, Word, known_line};
use super::units::rfc3339;
use crate::addr::Addr;
use crate::analysis::survey::{Fault, Survey};
use crate::image::{Globals, Image, Provenance};
use crate::runtime::capture::Instant;
use crate::runtime::snapshot::Snapshot;
use crate::source::{Origin, Source, fault};
use std::collections::BTreeMap;

/// What was looked at. Only a survey of the goroutines tells which of them crashed, and by what.
pub fn target(source: &dyn Source, image: &Image, survey: Option<&Survey<'_>>) -> Target {
    let (kind, pid, core) = match source.origin() {
        Origin::Live { pid } => ("live", Some(*pid), None),
        Origin::Core { path, pid } => ("core", *pid, Some(path.to_string_lossy().into_owned())),
    };
    Target {
        kind,
        pid: pid.map(|pid| pid.0),
        core,
        exe: Some(image.exe.path.to_string_lossy().into_owned()),
        build_id: image.exe.build_id.as_deref().map(hex),
        go_build_id: image.exe.go_build_id.clone(),
        go_version: image.go.text.clone(),
        arch: image.arch.name(),
        main_module: image.build.main_module.clone(),
        main_version: image.build.main_version.clone(),
        build_settings: image.build.settings.clone(),
        crash: source.crash().map(|crash| Crash {
            signal: signal(crash.signal, crash.code, crash.fault),
            thread: crash.tid.0,
            goroutine: survey.and_then(|all| Some(all.row(all.crashed()?)?.g.id.0)),
            cause: survey.and_then(Survey::fault).map(cause),
        }),
    }
}

fn signal(number: i32, code: Option<i32>, fault: Option<Addr>) -> Signal {
    Signal { number, name: signal_name(number), code, fault_address: fault.map(Hex) }
}

fn cause(Fault { raised, at }: Fault<'_>) -> Cause {
    let at_fault = fault(raised.signal, raised.code, raised.address);
    Cause {
        signal: signal(raised.signal, Some(raised.code), at_fault),
        pc: Hex(raised.pc),
        function: at.function.to_string(),
        file: at.file.as_deref().map(str::to_owned),
        line: known_line(at.line),
    }
}

/// How it was looked at.
pub fn capture(image: &Image, snapshot: &Snapshot<'_>) -> Capture {
    let live = snapshot.instant != Instant::Core;
    Capture {
        at: rfc3339(snapshot.at).filter(|_| live),
        consistency: snapshot.instant.as_str(),
        pause_ns: live.then(|| Ns(snapshot.pause())),
        pauses_ns: match snapshot.pauses.as_slice() {
            [] | [_] => Vec::new(),
            several => several.iter().copied().map(Ns).collect(),
        },
        bytes_read: Some(snapshot.bytes_read),
        threads: Some(snapshot.threads.len() as u64).filter(|n| *n > 0),
        provenance: provenance(image),
        timings_ns: Vec::new(),
    }
}

/// How each thing was found.
fn provenance(image: &Image) -> BTreeMap<&'static str, Word> {
    let mut all = BTreeMap::from([
        ("go_version", Word(image.go_by)),
        ("moduledata", Word(image.modules_by)),
        ("layout", Word(image.layouts.by)),
        ("rules", Word(image.rules.by)),
        ("wait_reasons", Word(image.wait_reasons_by)),
    ]);
    all.extend(globals(&image.globals).into_iter().filter_map(|(name, by)| Some((name, Word(by?.1)))));
    all
}

/// The runtime's globals by name, with address and how each was found; absent ones too.
pub(super) fn globals(all: &Globals) -> [(&'static str, Option<(Hex, Provenance)>); 9] {
    use crate::image::Found;
    let known = |found: Option<Found<Addr>>| found.map(|found| (Hex(found.value), found.by));
    [
        ("allgs", known(Some(all.allgs))),
        ("allglen", known(all.allglen)),
        ("allgptr", known(all.allgptr)),
        ("allm", known(all.allm)),
        ("allp", known(all.allp)),
        ("sched", known(all.sched)),
        ("semtable", known(all.semtable)),
        ("mheap", known(all.mheap)),
        ("wait_reason_strings", all.wait_reasons.map(|found| (Hex(found.value.0), found.by))),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names of the signals that end processes (signal(7), equal on amd64 and arm64).
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}
