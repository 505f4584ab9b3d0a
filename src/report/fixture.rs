//! Report, tests: a whole report made by hand.

use super::model::{Capture, Counts, Hex, Ns, Target, Word};
use super::{Report, model};
use crate::addr::Addr;
use crate::analysis::fixture::World;
use crate::analysis::select::Filter;
use crate::analysis::survey::Show;
use crate::diag::Diagnostics;
use crate::image::Provenance;
use std::time::Duration;

pub fn target() -> Target {
    Target {
        kind: "live",
        pid: Some(4242),
        exe: Some("/usr/bin/app".to_owned()),
        go_version: "go1.27.3".to_owned(),
        arch: "amd64",
        main_module: Some("example.com/app".to_owned()),
        build_settings: vec![("-ldflags".to_owned(), "-s -w".to_owned())],
        ..Target::default()
    }
}

pub fn crash() -> model::Crash {
    model::Crash {
        signal: model::Signal {
            number: 11,
            name: Some("SIGSEGV"),
            code: Some(1),
            fault_address: Some(Hex(Addr::new(0x18))),
        },
        thread: 7,
        goroutine: Some(18),
        cause: None,
    }
}

/// Makes a report of a world and gives it to `use_it`.
pub fn with<T>(world: &World, target: &Target, use_it: impl FnOnce(&Report<'_>) -> T) -> T {
    let survey = world.survey(Show::Users);
    let mut diagnostics = Diagnostics::default();
    diagnostics.warn("memory at 0x1000 could not be read", "2 goroutines have no stack");
    let capture = Capture {
        at: Some("2026-11-22T05:00:00Z".to_owned()),
        consistency: "stopped",
        pause_ns: Some(Ns(Duration::from_nanos(8_123_456))),
        bytes_read: Some(85_123_456),
        threads: Some(9),
        provenance: [("allgs", Word(Provenance::Dwarf))].into(),
        ..Capture::default()
    };
    use_it(&Report {
        threads: None,
        why: None,
        target,
        capture: &capture,
        counts: &Counts::of(&survey, 3),
        selection: &Filter::default().select(&survey),
        survey: &survey,
        diagnostics: &diagnostics,
    })
}
