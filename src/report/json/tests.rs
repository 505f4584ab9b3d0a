use super::*;
use crate::analysis::fixture::World;
use crate::report::fixture;
use crate::report::model::Target;
use crate::runtime::{GoId, Status};
use crate::unwind::StackEnd;
use serde_json::{Value, json};
use std::time::Duration;

fn world() -> World {
    let mut w = World::default();
    let by_main = w.creator("main.main", 72);
    let labels = w.label("handler", "/pay");
    w.add(1, Status::Waiting, 2, &["runtime.gopark", "main.main"]);
    let m = w.thread(4250, 18);
    let g = w.add(18, Status::Waiting, 1, &["runtime.gopark", "main.leak"]);
    (g.gopc, g.labels, g.m, g.lockedm, g.parent) = (by_main, labels, m, m, Some(GoId(1)));
    g.waiting_at_least = Some(Duration::from_secs(300));
    w.add(20, Status::Unknown(37), 0, &["main.x\u{1b}\u{202e}\u{7f}\""]);
    w.stacks.distinct.last_mut().unwrap().end = StackEnd::Unreadable { at: crate::addr::Addr::new(0xc000) };
    w
}

fn text(w: &World, target: &Target) -> String {
    let mut out = Vec::new();
    fixture::with(w, target, |report| write(&mut out, report)).unwrap();
    String::from_utf8(out).unwrap()
}

fn document(w: &World) -> Value {
    serde_json::from_str(&text(w, &fixture::target())).unwrap()
}

#[test]
fn a_goroutine_is_written_as_the_contract_says() {
    let goroutine = document(&world()).pointer("/goroutines/1").cloned().unwrap();
    let expected = json!({
        "id": 18, "status": "waiting", "wait_reason": "chan receive", "waiting_at_least_ns": 300_000_000_000_u64,
        "system": false, "consistency": "exact", "thread": 4250, "locked_to_thread": 4250,
        "labels": {"handler": "/pay"},
        "created_by": {"function": "main.main", "file": "/src/main.go", "line": 72, "goroutine": 1},
        "start": {"function": "main.leak"},
        "frames": [{"function": "main.leak", "file": "/src/main.go", "line": 20, "pc": "0x401014",
                    "inlined": false, "kind": "go"}],
        "stack_end": "complete"
    });
    assert_eq!(goroutine, expected);
}

#[test]
fn counts_are_of_all_and_do_not_depend_on_the_selection() {
    let mut w = world();
    w.add(2, Status::Waiting, 1, &["runtime.gopark"]).system = true;
    let document = document(&w);
    let expected = json!({
        "total": 4, "user": 3, "system": 1, "dead": 3,
        "by_status": {"waiting": 3, "unknown(37)": 1},
        "by_wait_reason": {"chan receive": 2, "select": 1}
    });
    assert_eq!(document.get("counts"), Some(&expected));
    assert_eq!(document.pointer("/goroutines").and_then(Value::as_array).map(Vec::len), Some(3));
}

#[test]
fn names_are_exact_but_harmless_on_a_terminal() {
    let text = text(&world(), &fixture::target());
    assert!(!text.contains(|c: char| c != '\n' && is_unsafe(c)), "{text:?}");
    let name = document(&world()).pointer("/goroutines/2/frames/0/function").cloned();
    assert_eq!(name, Some(json!("main.x\u{1b}\u{202e}\u{7f}\"")));
}

#[test]
fn each_goroutine_is_on_a_line_of_its_own() {
    let text = text(&world(), &fixture::target());
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"id\":")).count(), 3, "{text}");
}

#[test]
fn real_output_fits_the_published_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let core = Target {
        kind: "core",
        core: Some("core.1".to_owned()),
        crash: Some(fixture::crash()),
        ..fixture::target()
    };
    for target in [fixture::target(), core] {
        let document: Value = serde_json::from_str(&text(&world(), &target)).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
        assert_eq!(errors, [""; 0]);
    }
    // The schema does constrain: an address as a number, and a missing member, are refused.
    for (pointer, wrong) in [("/goroutines/0/frames/0/pc", json!(5)), ("/counts", json!({}))] {
        let mut document = document(&world());
        *document.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&document), "{pointer}");
    }
}
