//! Lists that bite their own tail, lengths beyond all sense, stacks outside of stacks: a real core of which
//! one thing is damaged on purpose is answered in bounded memory, with what is missing marked. Random
//! damage is for fuzzing (docs/FUZZING.md).

#[path = "../fuzz/src/answer.rs"]
mod answer;
mod support;

use allgs::addr::{Addr, Nanotime};
use allgs::arch::Arch;
use allgs::error::Result;
use allgs::image::layout::field::Field;
use allgs::image::{Image, OpenOptions};
use allgs::memory::{Memory, ReadResult};
use allgs::runtime::Status;
use allgs::runtime::capture::CaptureOptions;
use allgs::runtime::snapshot::Snapshot;
use allgs::source::core::CoreFile;
use allgs::source::{Auxv, Crash, Mapping, Origin, Source, Tracer};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use support::{build, cores};

/// A core with some words of its memory changed.
struct Damaged<'a> {
    core: &'a CoreFile,
    words: BTreeMap<Addr, u64>,
}

impl Memory for Damaged<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        self.core.memory().read(at, buf)?;
        for (start, word) in
            self.words.range(Addr::new(at.get().saturating_sub(7))..at.offset(buf.len() as u64))
        {
            for (i, byte) in (start.get()..).zip(word.to_le_bytes()) {
                if let Some(place) = i.checked_sub(at.get()).and_then(|n| buf.get_mut(n as usize)) {
                    *place = byte;
                }
            }
        }
        Ok(())
    }
}

impl Source for Damaged<'_> {
    fn origin(&self) -> &Origin {
        self.core.origin()
    }
    fn arch(&self) -> Arch {
        self.core.arch()
    }
    fn memory(&self) -> &dyn Memory {
        self
    }
    fn mappings(&self) -> &[Mapping] {
        self.core.mappings()
    }
    fn auxv(&self) -> &Auxv {
        self.core.auxv()
    }
    fn executable_path(&self) -> Option<&Path> {
        self.core.executable_path()
    }
    fn open_executable(&self) -> Result<File> {
        self.core.open_executable()
    }
    fn open_mapped(&self, mapping: &Mapping) -> Result<File> {
        self.core.open_mapped(mapping)
    }
    fn now(&self) -> Option<Nanotime> {
        None
    }
    fn crash(&self) -> Option<Crash> {
        self.core.crash()
    }
    fn trace(&self) -> Result<Box<dyn Tracer + '_>> {
        self.core.trace()
    }
}

/// The core of a program with goroutines of all kinds, and what is found in it.
struct Sound {
    core: CoreFile,
    image: Image,
    open: OpenOptions,
    _files: cores::Core,
}

impl Sound {
    fn open() -> Sound {
        let exe = build("1.27.4", "default", "crash");
        let files = cores::dead(&exe, "nil");
        let core = CoreFile::open(&files.path).expect("a sound core");
        let open = OpenOptions { exe: Some(exe) };
        let image = Image::open(&core, &open).expect("a sound executable");
        Sound { core, image, open, _files: files }
    }

    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::take(&self.core, &self.image, &CaptureOptions::UNSTOPPED).expect("a sound core")
    }

    /// The same with words changed.
    fn damaged(&self, words: impl IntoIterator<Item = (Addr, u64)>) -> Damaged<'_> {
        Damaged { core: &self.core, words: words.into_iter().collect() }
    }

    /// Where the largest piece of memory begins.
    fn largest(&self) -> Addr {
        let largest = self.core.mappings().iter().max_by_key(|m| m.span.len);
        largest.expect("a core has memory").span.start
    }

    fn word(&self, at: Addr) -> u64 {
        self.core.memory().read_u64(at).expect("it is in the core")
    }
}

fn member(of: Addr, field: Field<Addr>) -> Addr {
    of.offset(field.offset.into())
}

/// Most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[test]
fn each_damage_is_answered_in_bounded_memory() {
    let sound = Sound::open();
    let snapshot = sound.snapshot();
    let (globals, layouts) = (&sound.image.globals, &sound.image.layouts);
    let waiting = |reason: &str| {
        let is = |number: u8| sound.image.wait_reason(number) == Some(reason);
        let g = snapshot.gs.iter().find(|g| g.status == Status::Waiting && is(g.waitreason));
        g.unwrap_or_else(|| panic!("no goroutine waits for {reason}")).clone()
    };
    let receiver = waiting("chan receive");
    let ticket = receiver.waiting;
    let channel = Addr::new(sound.word(member(ticket, layouts.sudog.c)));
    let len = globals.allglen.expect("allglen").value;
    let first_m = Addr::new(sound.word(globals.allm.expect("allm").value));
    let sched = globals.sched.expect("sched").value;
    let table = globals.semtable.expect("semtable").value;
    let treap = (0..251).map(|i| member(table.offset(64 * i), layouts.sema_root.treap));
    let (root, node) = treap
        .map(|at| (at, Addr::new(sound.word(at))))
        .find(|(_, node)| !node.is_null())
        .expect("somebody waits for a semaphore");
    let deferring = snapshot.gs.iter().find(|g| !g.deferred.is_null());
    let of_g = |field| member(receiver.at, field);
    let mut damages = vec![
        ("2^60 goroutines", vec![(len, 1 << 60)]),
        ("more goroutines than numbers", vec![(len, u64::MAX)]),
        (
            "more goroutines than memory can hold",
            vec![
                (len, u64::MAX),
                (globals.allgs.value.offset(16), u64::MAX),
                (globals.allgptr.expect("allgptr").value, sound.largest().get()),
            ],
        ),
        ("a list of goroutines that is not there", vec![(globals.allgptr.expect("allgptr").value, 8)]),
        (
            "a list of goroutines that is the list itself",
            vec![(globals.allgptr.expect("allgptr").value, globals.allgptr.expect("allgptr").value.get())],
        ),
        ("2^60 processors", vec![(globals.allp.expect("allp").value.offset(8), 1 << 60)]),
        ("a thread that follows itself", vec![(member(first_m, layouts.m.alllink), first_m.get())]),
        ("a ticket that follows itself", vec![(member(ticket, layouts.sudog.waitlink), ticket.get())]),
        (
            "a ticket next to itself",
            vec![
                (member(ticket, layouts.sudog.next), ticket.get()),
                (member(channel, layouts.hchan.recvq_first), ticket.get()),
            ],
        ),
        (
            "a channel that is its own queue",
            vec![(member(channel, layouts.hchan.recvq_first), channel.get())],
        ),
        (
            "a treap that is its own child",
            vec![
                (member(node, layouts.sudog.next), node.get()),
                (member(node, layouts.sudog.prev), node.get()),
            ],
        ),
        ("waiters of a semaphore in a ring", vec![(member(node, layouts.sudog.waitlink), node.get())]),
        ("a treap whose root is the table", vec![(root, table.get())]),
        (
            "a goroutine queued behind itself",
            vec![
                (member(sched, layouts.sched.runq_head), receiver.at.get()),
                (of_g(layouts.g.schedlink), receiver.at.get()),
            ],
        ),
        ("a stack pointer in a g", vec![(of_g(layouts.g.sched_sp), receiver.at.get())]),
        ("a stack pointer above the stack", vec![(of_g(layouts.g.sched_sp), receiver.stack_hi.get() + 64)]),
        ("a stack of all memory", vec![(of_g(layouts.g.stack_lo), 0), (of_g(layouts.g.stack_hi), u64::MAX)]),
        (
            "a stack upside down",
            vec![
                (of_g(layouts.g.stack_lo), receiver.stack_hi.get()),
                (of_g(layouts.g.stack_hi), receiver.stack_lo.get()),
            ],
        ),
    ];
    if let Some(g) = deferring {
        damages.push((
            "a deferred call before itself",
            vec![(member(g.deferred, layouts.defer.link), g.deferred.get())],
        ));
    }
    for i in 0..3 {
        damages.push(("a goroutine that is listed again", {
            let list = Addr::new(sound.word(globals.allgptr.expect("allgptr").value));
            vec![(list.offset(8 * i), sound.word(list.offset(8 * i + 8)))]
        }));
    }
    for (what, words) in damages {
        println!("{what}");
        let damaged = sound.damaged(words);
        answer::everything(&damaged, &sound.image, answer::by_objects);
        assert!(peak() < 1 << 20, "{what}: {} KiB of memory", peak());
    }
}

#[test]
fn what_is_damaged_is_marked_and_the_rest_is_as_it_was() {
    let sound = Sound::open();
    let whole = sound.snapshot();
    let (globals, layouts) = (&sound.image.globals, &sound.image.layouts);
    let len = globals.allglen.expect("allglen").value;
    let many = sound.damaged([(len, 1 << 60)]);
    let snapshot = Snapshot::take(&many, &sound.image, &CaptureOptions::UNSTOPPED).expect("a partial answer");
    let said = format!("{:?}", snapshot.diagnostics);
    assert!(said.contains("the list of goroutines is damaged"), "{said}");
    let ids = |s: &Snapshot<'_>| s.gs.iter().map(|g| g.id).collect::<Vec<_>>();
    assert!(ids(&snapshot).starts_with(&ids(&whole)), "the goroutines that there are come first");
    assert!(snapshot.gs.len() < 2 * whole.gs.len() + 100, "{}", snapshot.gs.len());

    let first = sound.word(globals.allm.expect("allm").value);
    let ring = sound.damaged([(member(Addr::new(first), layouts.m.alllink), first)]);
    let snapshot = Snapshot::take(&ring, &sound.image, &CaptureOptions::UNSTOPPED).expect("a partial answer");
    assert!(snapshot.ms.len() <= whole.ms.len(), "{} threads of {}", snapshot.ms.len(), whole.ms.len());
    assert_eq!(ids(&snapshot), ids(&whole));
}

#[test]
fn function_tables_that_lead_to_themselves_are_refused_or_used_in_part() {
    let sound = Sound::open();
    let info = sound.image.modules.modules()[0].info.clone();
    let l = &sound.image.layouts.moduledata;
    let damages: [(&str, Field<Addr>, u64); 5] = [
        ("a module that follows itself", l.next, info.at.get()),
        ("a table that is its own moduledata", l.pc_header, info.at.get()),
        ("a table of functions that is the moduledata", l.ftab, info.at.get()),
        ("function data that is the moduledata", l.gofunc, info.at.get()),
        ("code of all memory", l.maxpc, u64::MAX),
    ];
    for (what, field, value) in damages {
        let damaged = sound.damaged([(member(info.at, field), value)]);
        match Image::open(&damaged, &sound.open) {
            Ok(image) => {
                println!(
                    "{what}: used in part: {:?}",
                    image.diagnostics.entries().iter().map(|e| &e.what).collect::<Vec<_>>()
                );
                answer::everything(&damaged, &image, answer::by_objects);
            }
            Err(e) => println!("{what}: {e}"),
        }
    }
    // A name of a function that is longer than its table, and a length of it beyond all sense.
    let lengths = [l.funcnametab, l.cutab, l.filetab, l.pctab, l.pclntable, l.ftab];
    for field in lengths {
        let damaged = sound.damaged([(member(info.at, field).offset(8), 1 << 60)]);
        if let Ok(image) = Image::open(&damaged, &sound.open) {
            answer::everything(&damaged, &image, answer::by_objects);
        }
    }
    assert!(peak() < 1 << 20, "{} KiB of memory", peak());
}
