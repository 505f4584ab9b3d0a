//! The oracle: what the runtime of a test program says of itself, against what allgs says of it.

use super::{Tally, Target, allgs_ok, compare};
use nix::sys::signal::Signal;
use std::path::Path;

/// Parked goroutines: those that run or are about to differ between two looks.
pub fn parked(block: &str) -> bool {
    let header = block.lines().next().unwrap_or_default();
    !header.contains("[running") && !header.contains("[runnable")
}

/// The background scavenger wakes now and then, and the goroutine that reads stdin is in a system call
/// that the signal interrupts.
fn moves_by_itself(block: &str) -> bool {
    block.contains("runtime.bgscavenge")
}

/// Starts a build of `zoo` and compares its goroutines with its own `runtime.Stack`, then with what it
/// prints on SIGQUIT. `look` sees the target in between.
pub fn zoo(name: &str, program: &Path, look: impl FnOnce(&Target)) -> Tally {
    let mut tally = Tally::default();
    let target = Target::start(program, &[], &[("GOTRACEBACK", "system")]);
    let pid = target.pid().to_string();
    let text = allgs_ok(&["dump", "--format", "go", &pid]);
    let all = allgs_ok(&["dump", "--all", "--format", "go", &pid]);
    look(&target);
    let wanted = target.file("stack.txt");
    let level1 = compare(&format!("{name} runtime.Stack"), &wanted, &text, parked);
    assert!(level1.compared > 100, "{name}: only {} goroutines in the runtime's text", level1.compared);
    tally.add(level1);
    target.signal(Signal::SIGQUIT);
    let wanted = target.end();
    let steady = |block: &str| parked(block) && !moves_by_itself(block) && !block.starts_with("goroutine 0 ");
    let level2 = compare(&format!("{name} SIGQUIT"), &wanted, &all, steady);
    assert!(level2.compared > level1.compared, "{name}: level 2 has {} goroutines", level2.compared);
    tally.add(level2);
    println!("{name}: goroutines compared: {}, equal: {}", tally.compared, tally.equal);
    tally
}
