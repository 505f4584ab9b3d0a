//! Reports of real targets: they fit the published schema, agree with the runtime's own text, keep to
//! their columns, and filters select what they say.

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::{Target, allgs, allgs_ok, blocks, build, newest, repo};

fn schema() -> jsonschema::Validator {
    let text = std::fs::read_to_string(repo().join("docs/report.schema.json")).expect("the schema");
    jsonschema::draft202012::new(&serde_json::from_str(&text).expect("JSON")).expect("a schema")
}

fn json(args: &[&str]) -> Value {
    let text = allgs_ok(&[args, &["--format", "json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

fn goroutines(document: &Value) -> BTreeMap<u64, &Value> {
    let list = document["goroutines"].as_array().expect("goroutines");
    list.iter().map(|g| (g["id"].as_u64().expect("id"), g)).collect()
}

fn zoo(release: &str, kind: &str) -> Target {
    Target::start(&build(release, kind, "zoo"), &[], &[])
}

/// Oldest and newest release, and the newest without symbols and debug information.
fn targets() -> Vec<(String, Target)> {
    let releases = newest();
    let (first, last) = (releases.first().expect("a release"), releases.last().expect("a release"));
    let kinds = [(first, "default"), (last, "default"), (last, "s")];
    kinds.into_iter().map(|(release, kind)| (format!("{release} {kind}"), zoo(release, kind))).collect()
}

#[test]
fn documents_fit_the_schema() {
    let schema = schema();
    for (name, target) in targets() {
        let pid = target.pid().to_string();
        for args in [&["list", &pid][..], &["dump", &pid, "--all"], &["list", &pid, "--no-stop", "--timings"]]
        {
            let document = json(args);
            let errors: Vec<String> = schema.iter_errors(&document).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{name} {args:?}: {errors:#?}");
            assert!(goroutines(&document).len() > 100, "{name} {args:?}");
        }
    }
}

/// The schema with nothing allowed that it does not describe: newer documents may hold more, but today's
/// must not.
fn closed(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.contains_key("properties") {
            object.entry("additionalProperties").or_insert(false.into());
        }
        object.values_mut().for_each(closed);
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(closed);
    }
}

fn closed_schema() -> jsonschema::Validator {
    let text = std::fs::read_to_string(repo().join("docs/report.schema.json")).expect("the schema");
    let mut schema = serde_json::from_str(&text).expect("JSON");
    closed(&mut schema);
    jsonschema::draft202012::new(&schema).expect("a schema")
}

/// Nodes of the graph that the document shows.
fn nodes(document: &Value) -> BTreeSet<String> {
    let list = document["goroutines"].as_array().expect("goroutines");
    let objects = list.iter().flat_map(|g| g["blocked_on"]["objects"].as_array().into_iter().flatten());
    let goroutines = list.iter().map(|g| format!("goroutine {}", g["id"]));
    goroutines.chain(objects.map(|o| format!("object {}", o["address"]))).collect()
}

#[test]
fn why_says_what_the_schema_describes_and_its_edges_lead_somewhere() {
    let schema = closed_schema();
    let releases = newest();
    for release in [releases.first(), releases.last()].into_iter().flatten() {
        let target = Target::start(&build(release, "s", "why"), &[], &[]);
        let pid = target.pid().to_string();
        for more in [&[][..], &["--all"], &["--wait-reason", "select"], &["--limit", "20"], &["1", "2"]] {
            let document = json(&[&["why", "-q", &pid], more].concat());
            let errors: Vec<String> = schema.iter_errors(&document).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{release} {more:?}: {errors:#?}");
            let nodes = nodes(&document);
            let edges = document["graph"]["edges"].as_array().expect("edges");
            for end in edges.iter().flat_map(|edge| [&edge["from"], &edge["to"]]) {
                let (kind, name) = end.as_object().and_then(|o| o.iter().next()).expect("one of two");
                assert!(nodes.contains(&format!("{kind} {name}")), "{release} {more:?}: no {kind} {name}");
            }
            assert!(more != [""; 0] || edges.len() > 100, "{release}: only {} edges", edges.len());
            assert!(document["situations"].is_array());
        }
    }
}

/// Function names of a block of the runtime's text, without arguments (which hold no parentheses) and
/// type arguments.
fn functions(block: &str) -> Vec<String> {
    let lines = block.lines().skip(1).filter(|l| !l.starts_with('\t') && !l.starts_with("created by "));
    lines.map(|line| plain(line.rsplit_once('(').map_or(line, |(name, _)| name))).collect()
}

fn plain(name: &str) -> String {
    name.split('[').next().unwrap_or(name).to_owned()
}

#[test]
fn frames_are_those_of_the_runtimes_own_text() {
    for (name, target) in targets() {
        let document = json(&["dump", &target.pid().to_string()]);
        let found = goroutines(&document);
        let mut compared = 0;
        for (id, block) in blocks(&target.file("stack.txt")) {
            let runtimes = functions(&block);
            // Panics and finalizers are written differently, the dumping goroutine moved on, and of
            // very deep stacks the runtime leaves frames out.
            let odd = |f: &String| f == "panic" || f.starts_with("runtime.");
            if block.contains("[running") || runtimes.iter().any(odd) || runtimes.len() > 90 {
                continue;
            }
            let ours: Vec<String> = found[&id]["frames"]
                .as_array()
                .expect("frames")
                .iter()
                .map(|frame| plain(frame["function"].as_str().expect("a name")))
                .collect();
            let differs = ours.iter().zip(&runtimes).position(|(a, b)| a != b);
            let same = ours.len() == runtimes.len() && differs.is_none();
            assert!(same, "{name}: goroutine {id}, frame {differs:?}: {ours:#?} and {runtimes:#?}");
            compared += 1;
        }
        assert!(compared > 80, "{name}: only {compared} compared");
    }
}

#[test]
fn the_list_keeps_to_its_columns_and_counts_all() {
    for (name, target) in targets() {
        let pid = target.pid().to_string();
        let text = allgs_ok(&[&pid]);
        for line in text.lines().skip(1) {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
        let counts = text.lines().filter(|line| line.contains(", chan ") || line.contains(", select"));
        assert!(counts.count() > 10, "{name}: {text}");
        let sum: u64 = text
            .lines()
            .skip_while(|line| !line.starts_with("COUNT"))
            .filter_map(|line| line.get(..5)?.trim().parse::<u64>().ok())
            .sum();
        assert_eq!(Some(sum), json(&[&pid])["counts"]["user"].as_u64(), "{name}: {text}");
    }
}

#[test]
fn filters_select_what_they_say() {
    let releases = newest();
    let target = zoo(releases.last().expect("a release"), "default");
    let pid = target.pid().to_string();
    let select = |args: &[&str]| json(&[&["dump", pid.as_str()], args].concat());
    let all = select(&[]);
    let all = goroutines(&all);
    for (args, holds) in [
        (&["--wait-reason", "select"][..], (|g| g["wait_reason"] == "select") as fn(&Value) -> bool),
        (&["--status", "syscall"], |g| g["status"] == "syscall"),
        (&["--created-by", r"\.startLocks$"], |g| {
            g["created_by"]["function"].as_str().is_some_and(|f| f.ends_with(".startLocks"))
        }),
        (&["--function", r"sync\.\(\*WaitGroup\)"], |g| g.to_string().contains("sync.(*WaitGroup)")),
        (&["--min-wait", "1ms"], |g| g["waiting_at_least_ns"].as_u64().is_some_and(|ns| ns >= 1_000_000)),
    ] {
        let document = select(args);
        let found = goroutines(&document);
        let expected: Vec<u64> = all.iter().filter(|(_, g)| holds(g)).map(|(id, _)| *id).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "{args:?}");
        assert!(!expected.is_empty() && expected.len() < all.len(), "{args:?} tells nothing apart");
    }
    assert_eq!(goroutines(&select(&["--limit", "3"])).len(), 3);
    assert_eq!(goroutines(&json(&["dump", &pid, "1"])).keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(allgs(&["dump", &pid, "999999999"]).status.code(), Some(2));
}

#[test]
fn info_and_ps_know_the_target() {
    let releases = newest();
    let release = releases.last().expect("a release");
    let target = zoo(release, "default");
    let pid = target.pid().to_string();
    let info = json(&["info", &pid]);
    assert_eq!(info["target"]["go_version"], format!("go{release}"));
    assert_eq!(info["target"]["main_module"], "example.com/testprogs");
    assert!(allgs_ok(&["info", &pid]).contains(&format!("go{release}, ")));
    let ps = json(&["ps"]);
    let processes = ps["processes"].as_array().expect("processes");
    let own = processes.iter().find(|p| p["pid"] == target.pid()).expect("the target is listed");
    assert_eq!(own["go_version"], format!("go{release}"));
    assert_eq!(own["main_package"], "example.com/testprogs/zoo");
    assert_eq!(own["attachable"], true);
    assert_eq!(own["goroutines"], json(&[&pid])["counts"]["user"]);
}
