//! The race: allgs against the floor (`examples/floor.rs`), debuggers and the runtime's own traceback, on
//! processes of many sizes and activities. Prints tables of medians; the raw runs go into a file.
//!
//! `race RUNS.tsv [--only PART]... [--tool NAME]... [STATE]...`, after `cargo build --release --bins
//! --examples` (see `make bench`). Parts: `states`, `large`, `server`. A tool or a state is named by any
//! part of its name; without names all take part.

mod large;
mod server;
mod table;
mod target;
mod tools;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use target::Target;
use tools::{Figures, Tool};

/// What this program's functions return.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs of each measurement; the median counts.
const RUNS: usize = 5;

/// From that many goroutines on, slow tools make fewer runs.
const MANY: usize = 100_000;

/// Name, goroutines, arguments of the program.
const STATES: [(&str, usize, &str); 15] = [
    ("1k parked", 1_000, "-ticker"),
    ("1k 1 %", 1_000, "-ticker -active 1 -period 1s"),
    ("1k 10 %", 1_000, "-ticker -active 10 -period 1s"),
    ("10k parked", 10_000, "-ticker"),
    ("10k 1 %", 10_000, "-ticker -active 1 -period 1s"),
    ("10k 10 %", 10_000, "-ticker -active 10 -period 1s"),
    ("100k parked", 100_000, "-ticker"),
    ("100k 1 %", 100_000, "-ticker -active 1 -period 1s"),
    ("100k 10 %", 100_000, "-ticker -active 10 -period 1s"),
    ("1M parked", 1_000_000, "-ticker"),
    ("1M 1 %", 1_000_000, "-ticker -active 1 -period 5s"),
    ("1M 10 %", 1_000_000, "-ticker -active 10 -period 5s"),
    ("1k asleep", 1_000, ""),
    ("100k asleep", 100_000, ""),
    ("1k threads in system calls", 1_000, "-ticker -blocked 1000"),
];

/// What is wanted of it.
#[derive(Default)]
struct Plan {
    runs: PathBuf,
    parts: Vec<String>,
    tools: Vec<String>,
    states: Vec<String>,
}

impl Plan {
    fn of(args: &[String]) -> Option<Plan> {
        let (runs, mut rest) = args.split_first()?;
        let mut plan = Plan { runs: runs.into(), ..Plan::default() };
        while let Some((word, more)) = rest.split_first() {
            let (list, value, more) = match (word.as_str(), more.split_first()) {
                ("--only", Some((value, more))) => (&mut plan.parts, value, more),
                ("--tool", Some((value, more))) => (&mut plan.tools, value, more),
                ("--only" | "--tool", None) => return None,
                _ => (&mut plan.states, word, more),
            };
            list.push(value.clone());
            rest = more;
        }
        Some(plan)
    }
}

/// Whether a name is among those asked for.
fn wanted(asked: &[String], name: &str) -> bool {
    asked.is_empty() || asked.iter().any(|part| name.contains(part.as_str()))
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((word, rest)) = args.split_first()
        && word == "one"
    {
        return tools::one(rest);
    }
    let plan = Plan::of(&args).ok_or("usage: race RUNS.tsv [--only PART]... [--tool NAME]... [STATE]...")?;
    let own = std::env::current_exe()?;
    let release = own.parent().and_then(Path::parent).ok_or("no target folder")?;
    if wanted(&plan.parts, "states") {
        states(&plan, release)?;
    }
    if wanted(&plan.parts, "large") {
        large::large(release)?;
    }
    if wanted(&plan.parts, "server") {
        server::server(release)?;
    }
    Ok(())
}

fn states(plan: &Plan, release: &Path) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    // Without the floor there is no ratio.
    let tools: Vec<Tool> = tools::all(release, dir.path())?
        .into_iter()
        .filter(|tool| tool.name == "floor" || wanted(&plan.tools, tool.name))
        .collect();
    let mut raw = File::create(&plan.runs)?;
    writeln!(raw, "state\ttool\trun\tpause_ns\tgap_ns\twall_ns\tcpu_ns\trss_bytes")?;
    table::head();
    let program = target::build("load")?;
    for (state, count, args) in STATES {
        if wanted(&plan.states, state) {
            let n = count.to_string();
            let args: Vec<&str> = args.split_whitespace().chain(["-n", &n]).collect();
            race(state, count, &mut Target::start(&program, &args)?, &tools, &mut raw)?;
        }
    }
    Ok(())
}

/// All tools in turn, so that each meets the same moods of the machine.
fn race(state: &str, count: usize, target: &mut Target, tools: &[Tool], raw: &mut File) -> Outcome<()> {
    let mut all: Vec<Vec<Figures>> = tools.iter().map(|_| Vec::new()).collect();
    for run in 0..RUNS {
        for (tool, runs) in tools.iter().zip(&mut all) {
            let enough = if count >= MANY { tool.runs_of_many } else { RUNS };
            if count > tool.most || run >= enough {
                continue;
            }
            let figures = tool.look(target)?;
            let Figures { pause, gap, wall, cpu, rss } = figures;
            let words = [pause, gap, wall, cpu, rss].map(|f| f.map_or(String::new(), |f| f.to_string()));
            writeln!(raw, "{state}\t{}\t{run}\t{}", tool.name, words.join("\t"))?;
            runs.push(figures);
        }
    }
    let floor = all.first().and_then(|runs| table::median(runs.iter().filter_map(|f| f.pause).collect()));
    for (tool, runs) in tools.iter().zip(&all) {
        if !runs.is_empty() {
            table::row(state, tool.name, runs, floor);
        }
    }
    Ok(())
}
