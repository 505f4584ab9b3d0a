use super::*;
use crate::addr::Addr;
use crate::analysis::fixture::World;
use crate::report::fixture;
use std::time::Duration;

fn world() -> World {
    let mut w = World::default();
    let by_main = w.creator("main.main", 72);
    w.add(1, Status::Waiting, 2, &["runtime.gopark", "main.main", "runtime.main"]);
    for id in 18..30 {
        let g = w.add(id, Status::Waiting, 1, &["runtime.gopark", "runtime.chanrecv1", "main.leak"]);
        (g.gopc, g.waiting_at_least) = (by_main, Some(Duration::from_secs(300)));
        g.parent = Some(crate::runtime::GoId(1));
    }
    w.add(2, Status::Waiting, 1, &["runtime.gopark", "runtime.forcegchelper"]).system = true;
    w
}

fn listed(w: &World) -> String {
    let mut out = Vec::new();
    fixture::with(w, &fixture::target(), |report| list(&mut out, report, None, &Palette::plain())).unwrap();
    String::from_utf8(out).unwrap()
}

fn dumped(w: &World) -> String {
    let mut out = Vec::new();
    fixture::with(w, &fixture::target(), |report| dump(&mut out, report, &Palette::plain())).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_list_has_a_header_and_two_lines_for_each_group() {
    let expected = "\
process 4242, /usr/bin/app
go1.27.3, amd64, example.com/app
14 goroutines (13 user, 1 system not shown), 9 threads, stopped for 8.1 ms

COUNT  STATE                     WAITED  WHERE
   12  waiting, chan receive     5m+     main.leak  main.go:30
       goroutines 18, 19, 20, 21, ...    created by main.main  main.go:72
    1  waiting, select                   main.main  main.go:20
       goroutine 1
";
    assert_eq!(listed(&world()), expected);
}

#[test]
fn the_dump_shows_whole_stacks_without_the_runtimes_own_frames() {
    let text = dumped(&world());
    let expected = "
goroutine 18: waiting, chan receive, at least 5m
    main.leak                            /src/main.go:30
    created by main.main in goroutine 1  /src/main.go:72

goroutine 19: ";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("gopark"), "{text}");
}

#[test]
fn places_go_below_the_names_when_one_does_not_fit() {
    let mut w = World::default();
    w.add(1, Status::Running, 0, &["net/http.(*conn).serve", &("main.".to_owned() + &"long".repeat(25))]);
    let file = "/usr/local/go/src/net/http/server.go";
    w.stacks.distinct.last_mut().unwrap().frames.first_mut().unwrap().file = Some(file.into());
    let text = dumped(&w);
    let expected = "
    net/http.(*conn).serve
        $GOROOT/src/net/http/server.go:10
    main.longlong";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn several_creators_are_counted() {
    let mut w = World::default();
    for (id, (function, line)) in (1..).zip([("main.main", 1), ("main.main", 2), ("main.other", 3)]) {
        let gopc = w.creator(function, line);
        w.add(id, Status::Waiting, 1, &["main.a"]).gopc = gopc;
        if id == 2 {
            assert!(listed(&w).contains("created by main.main  in 2 places\n"), "{}", listed(&w));
        }
    }
    assert!(listed(&w).contains("created by main.main  and 1 other\n"), "{}", listed(&w));
}

#[test]
fn lines_fit_whatever_the_names() {
    let mut w = world();
    let long =
        "example.com/very/long/path/of/a/package/".repeat(4) + "pkg.(*" + &"Type".repeat(40) + ").Method";
    let creator = w.creator(&long, 123_456);
    let g = w.add(u64::MAX, Status::Unknown(4_000_000_000), 0, &[&long]);
    (g.gopc, g.waiting_at_least) = (creator, Some(Duration::from_secs(86_400 * 400)));
    for line in listed(&w).lines() {
        assert!(line.chars().count() <= COLUMNS, "{} columns: {line}", line.chars().count());
    }
    assert!(listed(&w).contains("...") && listed(&w).contains("TypeType).Method"), "{}", listed(&w));
}

#[test]
fn nothing_that_moves_a_terminal_gets_through() {
    let mut w = world();
    let evil = "main.\x1b]0;owned\x07\u{202e}\r\nfake goroutine 99";
    w.label(evil, evil);
    let gopc = w.creator(evil, 1);
    let g = w.add(99, Status::Running, 0, &[evil]);
    (g.gopc, g.labels) = (gopc, Addr::new(1));
    for text in [listed(&w), dumped(&w)] {
        assert!(text.contains("owned"), "{text}");
        assert!(!text.contains(|c: char| c != '\n' && super::super::clean::is_unsafe(c)), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("fake")), "{text}");
    }
}

#[test]
fn a_crash_is_said_and_its_goroutine_is_first() {
    let mut w = world();
    w.died = Some(crate::addr::Tid(7));
    let m = w.thread(7, 500);
    w.add(500, Status::Running, 0, &["main.crash"]).m = m;
    let target = model::Target { kind: "core", crash: Some(fixture::crash()), ..fixture::target() };
    let mut out = Vec::new();
    fixture::with(&w, &target, |report| dump(&mut out, report, &Palette::plain())).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("killed by SIGSEGV at 0x18, thread 7, goroutine 18\n"), "{text}");
    let first = text.lines().find(|line| line.starts_with("goroutine "));
    assert_eq!(first, Some("goroutine 500: running, crashed, on thread 7"));
}

#[test]
fn colours_change_nothing_but_the_looks() {
    let mut out = Vec::new();
    let w = world();
    fixture::with(&w, &fixture::target(), |r| list(&mut out, r, None, &Palette::coloured())).unwrap();
    let coloured = String::from_utf8(out).unwrap();
    assert!(coloured.contains('\x1b'));
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), listed(&w));
}
