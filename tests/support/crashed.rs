//! Judging cores of programs that the runtime let die, by what it printed of all goroutines then.

use super::cores::Core;
use super::{Tally, allgs_ok, blocks, compare};

/// Whether a goroutine stood still from the runtime's look at it to the core.
pub fn parked(block: &str) -> bool {
    let header = block.lines().next().unwrap_or_default();
    let moves = block.contains("runtime.bgscavenge") || header.starts_with("goroutine 0 ");
    !header.contains("[running") && !header.contains("[runnable") && !moves
}

/// Compares each parked goroutine byte for byte, and of those that ran the calls of the program.
pub fn compare_all(name: &str, core: &Core, exe: &str) -> Tally {
    let got = allgs_ok(&["dump", "--all", "--format", "go", core.arg(), "--exe", exe]);
    let wanted = &core.runtimes_text();
    let mut tally = compare(name, wanted, &got, parked);
    assert!(tally.compared > 100, "{name}: only {} goroutines in\n{}", tally.compared, core.stderr);
    let running = compare_running(name, wanted, &got);
    assert!(running.compared > 0, "{name}: nothing ran");
    tally.add(running);
    // The goroutine of the thread that died comes first; after a SIGQUIT that may be any.
    let first = blocks(&got).first().map(|(id, _)| *id);
    let others = |text: &str| {
        let ids = blocks(text).into_iter().map(|(id, _)| id);
        ids.filter(|id| *id > 0 && Some(*id) != first).collect::<Vec<_>>()
    };
    assert_eq!(others(&got), others(wanted), "{name}: order");
    tally
}

fn compare_running(name: &str, wanted: &str, got: &str) -> Tally {
    let got = blocks(got);
    let mut tally = Tally::default();
    for (id, want) in blocks(wanted).iter().filter(|(_, block)| block.contains("[running")) {
        let found = got.iter().find(|(other, _)| other == id).map(|(_, block)| users_calls(block));
        let equal = found.as_ref() == Some(&users_calls(want));
        tally.add(Tally { compared: 1, equal: usize::from(equal) });
        if !equal {
            println!("{name}: goroutine {id} ran {:#?}, allgs says {found:#?}", users_calls(want));
        }
    }
    tally
}

/// The calls of a goroutine that are not the runtime's: pairs of lines, without registers.
fn users_calls(block: &str) -> Vec<String> {
    let lines: Vec<&str> = block.lines().skip(1).collect();
    let pairs = lines.chunks(2).filter(|pair| !pair[0].starts_with("runtime."));
    let place = |line: &str| line.split(" fp=").next().unwrap_or_default().to_owned();
    pairs.map(|pair| format!("{}{}", pair[0], pair.get(1).map_or_else(String::new, |l| place(l)))).collect()
}
