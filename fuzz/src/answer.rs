//! All that can be asked of a target, asked, and written in all formats.

use allgs::analysis::blocked::{self, Inputs};
use allgs::analysis::names::ImageNames;
use allgs::analysis::select::{Filter, System};
use allgs::analysis::survey::{Show, Survey};
use allgs::analysis::wakers::{Answers, Provable};
use allgs::analysis::why::Why;
use allgs::diag::Diagnostics;
use allgs::image::Image;
use allgs::report::go::{Level, write_go};
use allgs::report::info::{self, Info};
use allgs::report::style::Palette;
use allgs::report::{Report, describe, dot, json, model, text, why};
use allgs::runtime::G;
use allgs::runtime::capture::CaptureOptions;
use allgs::runtime::snapshot::Snapshot;
use allgs::source::Source;
use allgs::unwind::Unwinder;
use allgs::unwind::stacks::Stacks;
use std::io::{Write, sink};

/// Writing to nothing does not fail.
const WRITTEN: &str = "the sink takes all";

/// [`Why::of`] without what the code ahead of each goroutine does: following it takes a sanitized program
/// many seconds.
pub fn by_objects(inputs: &Inputs<'_>) -> Why {
    let blocked = blocked::find(inputs);
    let answers = Answers::ask(&blocked, &[&Provable::new(inputs, &blocked)]);
    Why::put_together(inputs, blocked, answers)
}

/// Looks at a target and asks everything, `why` for the reasons; a target that can't be captured at all is
/// an answer too.
pub fn everything(source: &dyn Source, image: &Image, why: fn(&Inputs<'_>) -> Why) {
    let Ok(snapshot) = Snapshot::take(source, image, &CaptureOptions::UNSTOPPED) else { return };
    let unwinder = Unwinder::new(image, &snapshot);
    let stacks = Stacks::of(&unwinder, &snapshot.gs);
    let found = why(&Inputs { source, image, snapshot: &snapshot, unwinder: &unwinder, stacks: &stacks });
    let memory = image.memory(&snapshot.memory);
    let names = ImageNames::new(image, &memory);
    let died = snapshot.crash.map(|crash| crash.tid);
    let target = describe::target(source, image, None);
    let mut diagnostics = source.diagnostics();
    diagnostics.merge(snapshot.diagnostics.clone());
    for show in [Show::Users, Show::All] {
        let survey = Survey::new(&snapshot.gs, &snapshot.ms, &stacks, died, show, &names);
        let report = Report {
            target: &target,
            capture: &describe::capture(image, &snapshot),
            counts: &model::Counts::of(&survey, snapshot.dead),
            survey: &survey,
            selection: &Filter { system: System::Show, ..Filter::default() }.select(&survey),
            why: Some(&found),
            threads: None,
            diagnostics: &diagnostics,
        };
        write(&report, &found);
    }
    let all: Vec<&G> = snapshot.gs.iter().collect();
    for level in [Level::User, Level::System] {
        write_go(&mut sink(), image, &snapshot, &all, level).expect(WRITTEN);
    }
    about(&target, image, &diagnostics);
}

fn write(report: &Report<'_>, found: &Why) {
    let out: &mut dyn Write = &mut sink();
    let palette = Palette::plain();
    text::list(out, report, None, &palette).expect(WRITTEN);
    text::dump(out, report, &palette).expect(WRITTEN);
    json::write(out, report).expect(WRITTEN);
    why::situations(out, report, found, None, &palette).expect(WRITTEN);
    why::goroutines(out, report, found, &palette).expect(WRITTEN);
    dot::write(out, report, found).expect(WRITTEN);
}

/// What `allgs info` says.
pub fn about(target: &model::Target, image: &Image, diagnostics: &Diagnostics) {
    let info = Info::of(target, image);
    info::text(&mut sink(), &info, diagnostics, &Palette::plain()).expect(WRITTEN);
    info::json(&mut sink(), &info, diagnostics).expect(WRITTEN);
}
