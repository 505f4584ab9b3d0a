//! The catalogue of waits: programs that say of each of their goroutines what it waits for, who could
//! wake it and whether it waits in a circle (testprogs/why), or whose truth is in expect.toml
//! (testprogs/wakers). Whoever is named as likely or certain must be one of those; a name too many is
//! worse than one too few.

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use support::cores;
use support::{Target, allgs_ok, build, each, newest, repo, whole_product};

/// What the answers add up to.
#[derive(Default, Debug)]
struct Score {
    declared: usize,
    found: usize,
    /// Names that were given as certain.
    certain: usize,
    wrong: Vec<String>,
    missing: Vec<String>,
}

impl Score {
    fn add(&mut self, other: Score) {
        self.declared += other.declared;
        self.found += other.found;
        self.certain += other.certain;
        self.wrong.extend(other.wrong);
        self.missing.extend(other.missing);
    }

    fn print(&self, name: &str) {
        let Score { found, declared, certain, .. } = self;
        println!("{name}: found {found}, declared {declared}, wrong {}, certain {certain}", self.wrong.len());
        for line in self.wrong.iter().chain(&self.missing) {
            println!("  {line}");
        }
    }
}

/// What is asked: a process, or a core and its executable.
fn report(args: &[&str]) -> Value {
    let text = allgs_ok(&[&["why", "-q", "--format", "json"], args].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// One program to judge: release, kind, and whether gdb's core of the process is asked, too.
#[derive(Clone, Debug)]
struct Build {
    release: String,
    kind: &'static str,
    core: bool,
}

impl Build {
    fn new(release: &str, kind: &'static str, core: bool) -> Build {
        Build { release: release.to_owned(), kind, core }
    }

    fn name(&self) -> String {
        format!("{} {}", self.release, self.kind)
    }

    /// The reports of a program that is parked: by how it was asked.
    fn reports(&self, target: &Target) -> Vec<(&'static str, Value)> {
        let mut reports = vec![("live", report(&[&target.pid().to_string()]))];
        if self.core
            && let Some(core) = cores::gcore(target)
        {
            reports.push(("core", report(&[core.arg()])));
        }
        reports
    }
}

/// Goroutines that are named as likely or certain wakers.
fn named(goroutine: &Value) -> BTreeSet<u64> {
    let empty = Vec::new();
    let wakers = goroutine["blocked_on"]["wakers"].as_array().unwrap_or(&empty);
    let relied_on = wakers.iter().filter(|w| w["trust"] != "possible");
    relied_on.filter_map(|w| w["goroutine"].as_u64()).collect()
}

/// Goroutines that are named as certain wakers, with the reasons.
fn sure(goroutine: &Value) -> Vec<(u64, &str)> {
    let wakers = goroutine["blocked_on"]["wakers"].as_array().map_or(&[][..], Vec::as_slice);
    let certain = wakers.iter().filter(|w| w["trust"] == "certain");
    certain.filter_map(|w| Some((w["goroutine"].as_u64()?, w["because"].as_str()?))).collect()
}

/// Whether time is named as a likely or certain waker.
fn names_time(goroutine: &Value) -> bool {
    let wakers = goroutine["blocked_on"]["wakers"].as_array();
    wakers.is_some_and(|all| all.iter().any(|w| w["by"] == "time" && w["trust"] != "possible"))
}

/// Goroutines in a deadlock that can be relied on.
fn deadlocked(report: &Value) -> BTreeSet<u64> {
    let empty = Vec::new();
    let situations = report["situations"].as_array().unwrap_or(&empty);
    let dead = situations.iter().filter(|s| s["kind"] == "deadlock" && s["trust"] != "possible");
    dead.flat_map(|s| s["goroutines"].as_array().cloned().unwrap_or_default())
        .filter_map(|id| id.as_u64())
        .collect()
}

fn by_id(report: &Value) -> BTreeMap<u64, &Value> {
    let goroutines = report["goroutines"].as_array().expect("goroutines");
    goroutines.iter().filter_map(|g| Some((g["id"].as_u64()?, g))).collect()
}

/// Judges one `TRUTH key=value ...` line.
fn judge(line: &str, goroutines: &BTreeMap<u64, &Value>, dead: &BTreeSet<u64>) -> Score {
    let mut score = Score { declared: 1, ..Score::default() };
    let facts: BTreeMap<&str, &str> = line.split(' ').filter_map(|word| word.split_once('=')).collect();
    let list = |key: &str| facts[key].split(',').filter(|w| !w.is_empty()).collect::<Vec<_>>();
    let id: u64 = facts["goroutine"].parse().expect("a number");
    let name = facts["name"];
    let Some(goroutine) = goroutines.get(&id) else {
        score.missing.push(format!("{name}: goroutine {id} is not listed"));
        return score;
    };
    let blocked = &goroutine["blocked_on"];
    let waits = facts["waits"];
    if waits != "nothing" && blocked["kind"] != waits {
        score.wrong.push(format!("{name}: waits for {waits}, not for {}", blocked["kind"]));
    }
    let declared: BTreeSet<u64> = list("wakers").iter().filter_map(|w| w.parse().ok()).collect();
    let named = named(goroutine);
    score.certain = sure(goroutine).len();
    if !named.is_subset(&declared) {
        score.wrong.push(format!("{name}: {declared:?} may wake it, named: {}", blocked["wakers"]));
    }
    let by_time = list("wakers").contains(&"time");
    if names_time(goroutine) && !by_time {
        score.wrong.push(format!("{name}: no timer wakes it, named: {}", blocked["wakers"]));
    }
    if dead.contains(&id) && facts["deadlock"] != "true" {
        score.wrong.push(format!("{name}: is in no circle, but is said to be"));
    }
    let objects: BTreeSet<&str> = blocked["objects"]
        .as_array()
        .map(|o| o.iter().filter_map(|o| o["address"].as_str()).collect())
        .unwrap_or_default();
    let objects_found = list("objects").iter().all(|o| objects.contains(o));
    // Whoever runs may be met at the moment when it waits after all.
    let waker_found = declared.is_empty() || waits == "nothing" || !named.is_disjoint(&declared);
    let circle_found = facts["deadlock"] != "true" || dead.contains(&id);
    // Where a timer is the wait itself, the deadline says so.
    let itself = ["sleep", "timer", "io", "select"].contains(&waits);
    let timer_found = !by_time || itself || names_time(goroutine);
    if blocked["kind"] == "coroutine" && name.ends_with(".caller") {
        let sure =
            blocked["wakers"].as_array().is_some_and(|all| all.iter().all(|w| w["trust"] == "certain"));
        if !sure {
            score.wrong.push(format!("{name}: the other side is known for certain, not as {blocked}"));
        }
    }
    if objects_found && waker_found && circle_found && timer_found {
        score.found += 1;
    } else {
        score.missing.push(format!("{name}: {line}: {blocked}"));
    }
    score
}

fn catalogue(build_of: &Build, cases: &[&str]) -> Score {
    let target = Target::start(&build(&build_of.release, build_of.kind, "why"), cases, &[]);
    let mut sum = Score::default();
    for (how, report) in build_of.reports(&target) {
        let name = format!("{} {how} why {}", build_of.name(), cases.join(" "));
        sum.add(judge_all(&name, &target.said, &report));
    }
    sum
}

/// Judges all `TRUTH` lines among those that a program said.
fn judge_all<S: AsRef<str>>(name: &str, said: &[S], report: &Value) -> Score {
    let truth: Vec<&str> = said.iter().map(AsRef::as_ref).filter(|l| l.starts_with("TRUTH ")).collect();
    assert!(!truth.is_empty(), "{name}: no goroutine says what it does");
    let (goroutines, dead) = (by_id(report), deadlocked(report));
    let mut score = Score::default();
    for line in truth {
        score.add(judge(line, &goroutines, &dead));
    }
    score.print(name);
    score
}

/// `function` and `waker` of the tables of testprogs/wakers/expect.toml that have both.
fn expected() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repo().join("testprogs/wakers/expect.toml")).expect("truth");
    let key = |table: &str, name: &str| {
        let line = table.lines().find(|l| l.split('=').next().is_some_and(|k| k.trim() == name))?;
        line.split('"').nth(1).map(str::to_owned)
    };
    let tables = text.split("[[goroutine]]").skip(1);
    tables.filter_map(|table| Some((key(table, "function")?, key(table, "waker")?))).collect()
}

fn wakers(build_of: &Build) -> Score {
    let target = Target::start(&build(&build_of.release, build_of.kind, "wakers"), &[], &[]);
    let mut sum = Score::default();
    for (how, report) in build_of.reports(&target) {
        sum.add(judge_wakers(&format!("{} {how} wakers", build_of.name()), &report));
    }
    sum
}

fn judge_wakers(name: &str, report: &Value) -> Score {
    let goroutines = by_id(report);
    let running = |function: &str| -> BTreeSet<u64> {
        let quoted = format!("\"function\":\"{function}\"");
        goroutines
            .iter()
            .filter(|(_, g)| g["frames"].to_string().contains(&quoted))
            .map(|(id, _)| *id)
            .collect()
    };
    let mut score = Score::default();
    for (function, waker) in expected() {
        let wakers = running(&waker);
        for id in running(&function) {
            score.declared += 1;
            let named = named(goroutines[&id]);
            if !named.is_subset(&wakers) {
                score
                    .wrong
                    .push(format!("{function}: {waker} wakes it, named: {}", goroutines[&id]["blocked_on"]));
            } else if wakers.is_empty() || !named.is_empty() {
                score.found += 1;
            } else {
                score.missing.push(format!("{function}: {waker} was not found"));
            }
        }
    }
    score.print(name);
    score
}

/// Oldest and newest release, and of the others two, each day the next: all, each as it is and
/// stripped, with `ALLGS_PRODUCT=all`.
fn builds() -> Vec<Build> {
    let releases = newest();
    if whole_product() {
        let kinds = |release: &String| ["default", "s"].map(|kind| Build::new(release, kind, true));
        return releases.iter().flat_map(kinds).collect();
    }
    let (Some(first), Some(last)) = (releases.first(), releases.last()) else { panic!("no releases") };
    let between = releases.get(1..releases.len() - 1).unwrap_or_default();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let day = usize::try_from(since.as_secs() / 86400).expect("a day");
    let today = |n: usize| &between[(2 * day + n) % between.len()];
    vec![
        Build::new(first, "default", false),
        Build::new(last, "s", true),
        Build::new(today(0), "s", false),
        Build::new(today(1), "default", false),
    ]
}

fn conclude(scores: Vec<Score>) {
    let mut sum = Score::default();
    scores.into_iter().for_each(|score| sum.add(score));
    let Score { found, declared, certain, .. } = sum;
    println!("all: found {found}, declared {declared}, wrong {}, certain {certain}", sum.wrong.len());
    assert!(sum.wrong.is_empty(), "named wrongly: {:#?}", sum.wrong);
    // One run in many meets a word that looks like a pointer, or a holder that was being moved.
    assert!(sum.found * 100 >= sum.declared * 99, "found {} of {}", sum.found, sum.declared);
}

#[test]
fn whoever_is_named_could_wake_and_hardly_anybody_is_missed() {
    conclude(each(&builds(), |build| {
        let mut sum = catalogue(build, &[]);
        sum.add(wakers(build));
        sum
    }));
}

/// Cases that run in a process of their own, because they are large or noisy.
const ALONE: [&[&str]; 8] = [
    &["ring300"],
    &["many"],
    &["spinner"],
    &["trylock", "tryspinner"],
    &["trygosched"],
    &["tryreader", "trywriter"],
    &["casspinner", "lockspinners"],
    &["trycircle"],
];

#[test]
fn who_tries_or_spins_or_is_one_of_very_many_is_told_from_who_has_it() {
    let builds = builds();
    let builds = if whole_product() { &builds[..] } else { &builds[..2] };
    conclude(each(builds, |build| {
        let mut sum = Score::default();
        ALONE.iter().for_each(|cases| sum.add(catalogue(build, cases)));
        sum
    }));
}

/// Cores of arm64 programs that user-mode qemu writes.
fn arm64(build_of: &Build) -> Option<Score> {
    let mut sum = Score::default();
    for program in ["why", "wakers"] {
        let path = build(&build_of.release, build_of.kind, program);
        let core = cores::qemu(&path, "abort")?;
        let report = report(&[core.arg(), "--exe", path.to_str().expect("a path of text")]);
        let name = format!("{} {program}", build_of.name());
        sum.add(match program {
            "why" => judge_all(&name, &core.stdout.lines().collect::<Vec<_>>(), &report),
            _ => judge_wakers(&name, &report),
        });
    }
    Some(sum)
}

#[test]
fn code_of_arm64_is_read_ahead_too() {
    let wanted = |release: &str| whole_product() || ["1.18.10", "1.27.4"].contains(&release);
    let releases = newest().into_iter().filter(|release| wanted(release));
    let kinds = |release: String| ["arm64", "arm64-s"].map(|kind| Build::new(&release, kind, true));
    let builds: Vec<Build> = releases.flat_map(kinds).collect();
    let scores: Vec<Score> = each(&builds, arm64).into_iter().flatten().collect();
    if !scores.is_empty() {
        conclude(scores);
    }
}

/// Who waits, by the name that it has in its `TRUTH` line.
fn by_name<'r>(target: &Target, report: &'r Value) -> BTreeMap<String, &'r Value> {
    let goroutines = by_id(report);
    let name = |line: &String| {
        let fact = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
        let id: u64 = fact("goroutine=")?.parse().ok()?;
        Some((fact("name=")?.to_owned(), *goroutines.get(&id)?))
    };
    target.said.iter().filter(|line| line.starts_with("TRUTH ")).filter_map(name).collect()
}

#[test]
fn who_took_a_lock_and_keeps_it_is_told_with_the_place() {
    let cases = ["kept", "keptread", "handed", "recursiveread", "inversion", "self", "philosophers"];
    for (release, kind) in [("1.18.10", "default"), ("1.27.4", "s")] {
        let target = Target::start(&build(release, kind, "why"), &cases, &[]);
        let report = report(&[&target.pid().to_string()]);
        let waiters = by_name(&target, &report);
        let wakers = |name: &str| waiters[name]["blocked_on"]["wakers"].as_array().expect(name).clone();
        // Nobody will release it, but it is known who has it.
        for (name, took) in [("kept.waiter", "locked it in"), ("keptread.writer", "locked it for reading in")]
        {
            let [waker] = &wakers(name)[..] else { panic!("{release} {name}: {:?}", wakers(name)) };
            let because = waker["because"].as_str().expect("text");
            assert_eq!(waker["trust"], "likely", "{release} {name}: {because}");
            assert!(because.starts_with(took) && because.contains("(locks.go:"), "{release}: {because}");
            assert!(because.ends_with(", and no code ahead unlocks it"), "{release}: {because}");
        }
        // What was called since could have released it, and has.
        let bystander = wakers("handed.waiter");
        assert!(bystander.iter().all(|w| w["trust"] == "possible"), "{release}: {bystander:?}");
        let holder = |name: &str, start: &str| {
            let certain = sure(waiters[name]);
            let [(_, because)] = certain[..] else { panic!("{release} {name}: {:?}", wakers(name)) };
            assert!(because.starts_with(start) && because.contains(", will "), "{release} {name}: {because}");
        };
        holder("recursiveread.writer", "locked it for reading in main.recursiveRead.func1 (locks.go:");
        holder("inversion.left", "locked it in main.inversion.func2 (locks.go:");
        holder("inversion.right", "locked it in main.inversion.func1 (locks.go:");
        holder("self.me", "locked it in main.selfLock.func1 (locks.go:");
        holder("philosophers.seat0", "locked it in main.philosophers.func1 (locks.go:");
    }
}

/// Situations of a report of one kind.
fn situations<'r>(report: &'r Value, kind: &str) -> Vec<&'r Value> {
    let all = report["situations"].as_array().expect("situations");
    all.iter().filter(|s| s["kind"] == kind).collect()
}

#[test]
fn a_ring_of_300_is_one_deadlock_and_2000_behind_one_are_one_line() {
    let program = build("1.27.4", "s", "why");
    let target = Target::start(&program, &["ring300"], &[]);
    let pid = target.pid().to_string();
    let found = report(&[&pid]);
    let [ring] = situations(&found, "deadlock")[..] else { panic!("one deadlock: {}", found["situations"]) };
    let members = ring["goroutines"].as_array().map(Vec::len);
    assert_eq!((ring["count"].as_u64(), members), (Some(300), Some(300)), "{ring}");
    assert_eq!(ring["trust"], "certain");

    let target = Target::start(&program, &["many"], &[]);
    let pid = target.pid().to_string();
    let found = report(&[&pid]);
    // Nothing was found that could wake the one who has it: they are all one dead end.
    let all = found["situations"].as_array().expect("situations");
    assert_eq!(all.iter().filter(|s| s["count"] == 2001).count(), 1, "{}", found["situations"]);
    assert!(all.iter().all(|s| s["count"].as_u64() < Some(10) || s["count"] == 2001));
    let text = allgs_ok(&["why", "-q", &pid]);
    let lines = text.lines().filter(|line| line.contains("2000 more goroutines wait behind"));
    assert_eq!(lines.count(), 1, "{text}");
    assert!(situations(&found, "deadlock").is_empty());
}

/// A goroutine that computes without an end where it can't be interrupted, and one that wants to stop
/// the world meanwhile.
#[test]
fn who_keeps_the_world_from_stopping_is_named() {
    let program = build("1.27.4", "default", "why");
    let mut target = Target::start(&program, &["self"], &[("GODEBUG", "asyncpreemptoff=1")]);
    target.send("stop");
    let line = target.wait_for("STOPPING ");
    let number = |key: &str| -> u64 {
        let word = line.split(' ').find_map(|word| word.strip_prefix(key)).expect("a fact");
        word.parse().expect("a number")
    };
    let (spins, stops) = (number("spins="), number("stops="));
    let mut seen = Value::Null;
    for _ in 0..300 {
        let report = report(&[&target.pid().to_string()]);
        let goroutines = by_id(&report);
        seen = goroutines[&stops]["blocked_on"].clone();
        if seen["kind"] == "stop_the_world" && !named(goroutines[&stops]).is_empty() {
            assert_eq!(named(goroutines[&stops]), BTreeSet::from([spins]), "{seen}");
            return;
        }
    }
    panic!("nobody is named who keeps the world from stopping: {seen}");
}
