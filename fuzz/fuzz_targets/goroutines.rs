//! Words of the runtime's structures in a real core changed: the lists of goroutines and threads, gs,
//! ms, ps, stacks, and what they lead to (sudogs, channels, semaphores, timers, defers). Words may
//! become any number or the address of any other thing, their own too; some change from read to
//! read, as in a process that runs.
#![no_main]

use allgs_fuzz::changed::Ground;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static GROUND: LazyLock<Ground> = LazyLock::new(Ground::open);

fuzz_target!(|input: &[u8]| GROUND.changed(input).ask());
