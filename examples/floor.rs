//! The floor that allgs is measured against: what a plain bulk copy costs. Seizes and interrupts all
//! threads, copies all g structs and the used part of all stacks by merged process_vm_readv calls on
//! one thread, detaches. Prints its pause in nanoseconds.
//!
//! `floor PID`

use allgs::addr::{Addr, Pid};
use allgs::image::{Image, OpenOptions};
use allgs::memory::{Memory, Piece};
use allgs::runtime::Snapshot;
use allgs::runtime::capture::CaptureOptions;
use allgs::source::{Source, live::LiveProcess};
use nix::sys::{ptrace, wait};
use nix::unistd::Pid as NixPid;
use std::time::Instant;

/// Ranges closer than this are read as one, in bytes.
const GAP: u64 = 2048;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid: i32 = std::env::args().nth(1).ok_or("usage: floor PID")?.parse()?;
    let source = LiveProcess::open(Pid(pid))?;
    let image = Image::open(&source, &OpenOptions::default())?;
    let snapshot = Snapshot::take(&source, &image, &CaptureOptions::UNSTOPPED)?;
    let size = u64::from(image.layouts.g.size);
    let mut gs: Vec<Addr> = snapshot.gs.iter().map(|g| g.at).collect();
    gs.sort_unstable();
    let g_ranges = merge(gs.iter().map(|g| (*g, g.offset(size))));
    let mut g_bytes: Vec<Vec<u8>> =
        g_ranges.iter().map(|(a, b)| vec![1; (b.get() - a.get()) as usize]).collect();
    let mut stack_bytes = vec![1u8; if gs.len() > 200_000 { 4 << 30 } else { 1 << 30 }];

    let tids: Vec<NixPid> = std::fs::read_dir(format!("/proc/{pid}/task"))?
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .map(NixPid::from_raw)
        .collect();
    for tid in &tids {
        ptrace::seize(*tid, ptrace::Options::empty())?;
    }
    let begin = Instant::now();
    for tid in &tids {
        ptrace::interrupt(*tid)?;
    }
    for tid in &tids {
        wait::waitpid(*tid, Some(wait::WaitPidFlag::__WALL))?;
    }
    read(source.memory(), &g_ranges, g_bytes.iter_mut().map(Vec::as_mut_slice));
    let mut stacks: Vec<(Addr, Addr)> = Vec::with_capacity(gs.len());
    let mut range = 0;
    for g in &gs {
        while g_ranges.get(range).is_some_and(|(_, end)| g >= end) {
            range += 1;
        }
        let (Some((start, _)), Some(bytes)) = (g_ranges.get(range), g_bytes.get(range)) else { continue };
        let word = |offset: u32| {
            let at = (g.get() - start.get()) as usize + offset as usize;
            bytes.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap_or_default()))
        };
        let (sp, hi) = (word(image.layouts.g.sched_sp.offset), word(image.layouts.g.stack_hi.offset));
        if sp < hi && hi - sp < 1 << 26 {
            stacks.push((Addr::new(sp), Addr::new(hi)));
        }
    }
    stacks.sort_unstable();
    let ranges = merge(stacks.into_iter());
    let mut rest = stack_bytes.as_mut_slice();
    let buffers = ranges.iter().map(|(a, b)| {
        let (now, later) = std::mem::take(&mut rest).split_at_mut((b.get() - a.get()) as usize);
        rest = later;
        now
    });
    let copied = read(source.memory(), &ranges, buffers);
    for tid in &tids {
        ptrace::detach(*tid, None)?;
    }
    let pause = begin.elapsed();
    println!("{}", pause.as_nanos());
    eprintln!("{} gs, {} threads, {copied} bytes of stacks", gs.len(), tids.len());
    Ok(())
}

fn merge(sorted: impl Iterator<Item = (Addr, Addr)>) -> Vec<(Addr, Addr)> {
    let mut ranges: Vec<(Addr, Addr)> = Vec::new();
    for (start, end) in sorted {
        match ranges.last_mut() {
            Some((_, last)) if start.get() <= last.get() + GAP => *last = (*last).max(end),
            _ => ranges.push((start, end)),
        }
    }
    ranges
}

fn read<'b>(
    memory: &dyn Memory,
    ranges: &[(Addr, Addr)],
    buffers: impl Iterator<Item = &'b mut [u8]>,
) -> usize {
    let mut pieces: Vec<Piece<'b>> =
        ranges.iter().zip(buffers).map(|((at, _), into)| Piece { at: *at, into, ok: false }).collect();
    memory.read_pieces(&mut pieces);
    pieces.iter().filter(|p| p.ok).map(|p| p.into.len()).sum()
}
