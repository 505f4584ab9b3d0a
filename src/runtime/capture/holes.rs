//! The holes of the proof (docs/ARCHITECTURE.md), each opened: a target made by hand whose memory changes
//! at chosen moments plays what the runtime does there. With all rules what is accepted is what was
//! there in the stop; without the rule that closes the hole the check finds a wrong one.

use super::rules::{Rule, Rules};
use super::{Capture, CaptureOptions, Instant, session};
use crate::addr::{Addr, Nanotime, Pid, Tid};
use crate::arch::Arch;
use crate::error::{Error, ErrorKind, Result};
use crate::image::layout::field::Field;
use crate::image::layout::schema;
use crate::image::{Found, Globals, Image, Provenance, testing};
use crate::memory::{Memory, ReadError, ReadFail, ReadResult};
use crate::source::{
    Activity, Auxv, Crash, General, Mapping, Origin, Registers, Source, Stopped, Thread, Tracer,
};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

const BASE: u64 = 0x10_0000;
const SIZE: usize = 8 << 20;
const ALLGS: u64 = BASE;
const ALLGLEN: u64 = BASE + 0x20;
const ALLGPTR: u64 = BASE + 0x28;
const ALLM: u64 = BASE + 0x30;
const POINTERS: u64 = BASE + 0x1000;
const M: u64 = BASE + 0x8000;
const GS: u64 = BASE + 0x1_0000;
/// Where the only thread has its stack.
const SENDER_SP: u64 = BASE + 0x9000;
const P: u64 = BASE + 0xb000;
const SUDOG: u64 = BASE + 0xa000;
const G_SIZE: u64 = 0x400;
/// Behind the members of a g: a word that never changes.
const STILL: u32 = 0x3f0;
const STACKS: u64 = BASE + 0x20_0000;
const STACK_SIZE: u64 = 0x2000;
const USED: u64 = 0x100;
/// More than are read in one stop anyway.
const COUNT: u64 = 300;
/// The goroutine that every test plays with.
const ONE: u64 = 7;
/// One that is not in `allgs` from the beginning.
const LATE: u64 = COUNT;

const RUNNABLE: u32 = 1;
const SYSCALL: u32 = 3;
const WAITING: u32 = 4;
const DEAD: u32 = 6;
const PREEMPTED: u32 = 9;
const CHAN_RECEIVE: u8 = 14;
const COROUTINE: u8 = 38;

/// When memory changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// Right after the first read of an address.
    Read(u64),
    /// After the base, before anything is read in the first stop.
    Stop,
    /// At the end of the first stop.
    Resume,
    /// After that, before anything is read in the second.
    SecondStop,
}

type Change = Box<dyn Fn(&mut Bytes<'_>) + Send + Sync>;

/// The target's memory.
struct Bytes<'b> {
    all: &'b mut [u8],
    layout: schema::G,
}

impl Bytes<'_> {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let from = (at - BASE) as usize;
        self.all[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    fn member<T>(&mut self, g: u64, field: Field<T>, bytes: &[u8]) {
        self.put(g_at(g) + u64::from(field.offset), bytes);
    }

    fn status(&mut self, g: u64, status: u32) {
        self.member(g, self.layout.atomicstatus, &status.to_le_bytes());
    }

    fn reason(&mut self, g: u64, reason: u8) {
        self.member(g, self.layout.waitreason, &[reason]);
    }

    /// Something on its stack is not as it was.
    fn touch_stack(&mut self, g: u64) {
        self.word(stack_hi(g) - 16, 0xdead);
    }

    /// It leaves the processor so many times: what `casgstatus` counts.
    fn count(&mut self, g: u64, times: u8) {
        let at = (g_at(g) + u64::from(self.layout.tracking_seq.offset) - BASE) as usize;
        self.all[at] = self.all[at].wrapping_add(times);
    }

    /// Parked in a channel.
    fn make(&mut self, g: u64) {
        let hi = stack_hi(g);
        let l = self.layout;
        self.member(g, l.goid, &(g + 1).to_le_bytes());
        self.member(g, l.stack_lo, &(hi - STACK_SIZE).to_le_bytes());
        self.member(g, l.stack_hi, &hi.to_le_bytes());
        self.member(g, l.sched_sp, &(hi - USED).to_le_bytes());
        self.member(g, l.sched_pc, &testing::TEXT.to_le_bytes());
        self.status(g, WAITING);
        self.reason(g, CHAN_RECEIVE);
        self.put(hi - USED, &[g as u8; USED as usize]);
        self.word(POINTERS + 8 * g, g_at(g));
    }
}

fn g_at(g: u64) -> u64 {
    GS + g * G_SIZE
}

fn stack_hi(g: u64) -> u64 {
    STACKS + (g + 1) * STACK_SIZE
}

/// A target that follows a script.
struct Scripted {
    origin: Origin,
    auxv: Auxv,
    layout: schema::G,
    state: Mutex<State>,
}

struct State {
    bytes: Vec<u8>,
    script: Vec<(Moment, Change)>,
    stops: usize,
    /// Threads left alone in each stop.
    left: Vec<usize>,
    /// What the kernel counts, look by look; the last one stays.
    activity: Vec<Vec<Activity>>,
}

impl State {
    fn play(&mut self, layout: schema::G, due: impl Fn(Moment) -> bool) {
        let State { bytes, script, .. } = self;
        script.retain(|(moment, change)| {
            if due(*moment) {
                change(&mut Bytes { all: bytes, layout });
            }
            !due(*moment)
        });
    }
}

impl Scripted {
    fn new(image: &Image, script: Vec<(Moment, Change)>) -> Scripted {
        let layout = image.layouts.g;
        let mut all = vec![0; SIZE];
        let mut bytes = Bytes { all: &mut all, layout };
        for (at, value) in [
            (ALLGS, POINTERS),
            (ALLGS + 8, COUNT),
            (ALLGS + 16, 2 * COUNT),
            (ALLGLEN, COUNT),
            (ALLGPTR, POINTERS),
        ] {
            bytes.word(at, value);
        }
        bytes.word(ALLM, M);
        bytes.word(M + u64::from(image.layouts.m.procid.offset), 1);
        bytes.word(M + u64::from(image.layouts.m.p.offset), P);
        (0..COUNT).for_each(|g| bytes.make(g));
        let state = State { bytes: all, script, stops: 0, left: Vec::new(), activity: Vec::new() };
        let origin = Origin::Live { pid: Pid(1) };
        Scripted { origin, auxv: Auxv::default(), layout, state: Mutex::new(state) }
    }
}

impl Memory for Scripted {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let fail = ReadError { at, len: buf.len() as u64, why: ReadFail::Unmapped };
        let mut state = self.state.lock().unwrap();
        let from = at.above(Addr::new(BASE)).ok_or(fail)? as usize;
        let bytes = state.bytes.get(from..from + buf.len()).ok_or(fail)?;
        buf.copy_from_slice(bytes);
        let end = at.get() + buf.len() as u64;
        state.play(self.layout, |moment| matches!(moment, Moment::Read(a) if at.get() <= a && a < end));
        Ok(())
    }
}

struct Stops<'t>(&'t Scripted);

impl Tracer for Stops<'_> {
    fn stop(&mut self, limit: Duration) -> Result<Stopped> {
        self.stop_except(limit, &[])
    }

    fn stop_except(&mut self, _: Duration, leave: &[Tid]) -> Result<Stopped> {
        let mut state = self.0.state.lock().unwrap();
        state.stops += 1;
        state.left.push(leave.len());
        let now = if state.stops == 1 { Moment::Stop } else { Moment::SecondStop };
        state.play(self.0.layout, |moment| moment == now);
        let sp = Addr::new(SENDER_SP);
        let registers = Registers {
            pc: Addr::new(testing::TEXT),
            sp,
            bp: Addr::NULL,
            lr: None,
            g: Addr::NULL,
            general: General::default(),
        };
        let threads = vec![Thread {
            tid: Tid(1),
            name: None,
            registers: Some(registers),
            asleep_at: None,
            state: None,
        }];
        Ok(Stopped { threads, left: leave.to_vec(), running: Vec::new() })
    }

    fn resume(&mut self) -> Result<()> {
        self.0.state.lock().unwrap().play(self.0.layout, |moment| moment == Moment::Resume);
        Ok(())
    }
}

impl Source for Scripted {
    fn origin(&self) -> &Origin {
        &self.origin
    }
    fn arch(&self) -> Arch {
        Arch::Amd64
    }
    fn memory(&self) -> &dyn Memory {
        self
    }
    fn mappings(&self) -> &[Mapping] {
        &[]
    }
    fn auxv(&self) -> &Auxv {
        &self.auxv
    }
    fn executable_path(&self) -> Option<&Path> {
        None
    }
    fn open_executable(&self) -> Result<File> {
        Err(Error::new(ErrorKind::Io, "it has none"))
    }
    fn open_mapped(&self, _: &Mapping) -> Result<File> {
        Err(Error::new(ErrorKind::Io, "it has none"))
    }
    fn now(&self) -> Option<Nanotime> {
        None
    }
    fn crash(&self) -> Option<Crash> {
        None
    }
    fn activity(&self) -> Option<Vec<Activity>> {
        let mut state = self.state.lock().unwrap();
        if state.activity.len() > 1 {
            Some(state.activity.remove(0))
        } else {
            state.activity.first().cloned()
        }
    }
    fn trace(&self) -> Result<Box<dyn Tracer + '_>> {
        Ok(Box::new(Stops(self)))
    }
}

fn image() -> Image {
    let at = |at| Found { value: Addr::new(at), by: Provenance::Symtab };
    let globals = Globals {
        allgs: at(ALLGS),
        allglen: Some(at(ALLGLEN)),
        allgptr: Some(at(ALLGPTR)),
        allm: Some(at(ALLM)),
        allp: None,
        sched: None,
        semtable: None,
        mheap: None,
        wait_reasons: None,
    };
    let texts = (0..=COROUTINE).map(|n| if n == COROUTINE { "coroutine" } else { "chan receive" });
    let mut image = testing::image("go1.26.0", globals, texts.map(str::to_owned).collect());
    image.layouts.g.size = G_SIZE as u32;
    image
}

fn run<'t>(target: &'t Scripted, image: &Image, rules: Rules) -> Capture<'t> {
    let options = CaptureOptions { verify: true, ..CaptureOptions::default() };
    session::run(target, image, &options, rules).unwrap()
}

fn change(moment: Moment, change: impl Fn(&mut Bytes<'_>) + Send + Sync + 'static) -> (Moment, Change) {
    (moment, Box::new(change))
}

/// Goroutines that were accepted and were otherwise in the stop.
fn wrong(
    image: &Image,
    script: Vec<(Moment, Change)>,
    prepare: impl Fn(&mut Bytes<'_>),
    rules: Rules,
) -> u64 {
    let target = Scripted::new(image, script);
    prepare(&mut Bytes { all: &mut target.state.lock().unwrap().bytes, layout: target.layout });
    let verdict = run(&target, image, rules).verdict.unwrap();
    assert!(verdict.accepted >= COUNT - 1, "{verdict:?}");
    verdict.different
}

/// What `script` does is harmless with all rules, and without `rule` the check finds a wrong goroutine.
fn is_closed_by(rule: Rule, script: fn() -> Vec<(Moment, Change)>, prepare: fn(&mut Bytes<'_>)) {
    let image = image();
    assert_eq!(wrong(&image, script(), prepare, Rules::ALL), 0, "with {rule:?}");
    assert_eq!(wrong(&image, script(), prepare, Rules::without(rule)), 1, "without {rule:?}");
}

fn nothing(_: &mut Bytes<'_>) {}

#[test]
fn what_is_parked_is_accepted_unread() {
    let image = image();
    let target = Scripted::new(&image, Vec::new());
    let capture = run(&target, &image, Rules::ALL);
    assert_eq!(capture.instant, Instant::Stopped);
    assert_eq!((capture.pauses.len(), capture.read_in_stop, capture.proved), (1, 0, COUNT));
    let verdict = capture.verdict.unwrap();
    assert_eq!((verdict.accepted, verdict.different), (COUNT, 0));
}

#[test]
fn a_coroutine_is_switched_to_without_a_trace() {
    let script = || vec![change(Moment::Stop, |b| b.touch_stack(ONE))];
    is_closed_by(Rule::Coroutines, script, |b| b.reason(ONE, COROUTINE));
}

/// Who sends has copied the value and has not yet made the receiver runnable: its sudog, or its g itself, is
/// in a frame of a thread with a P.
fn sends(b: &mut Bytes<'_>, in_frame: u64) {
    b.word(SUDOG, g_at(ONE));
    b.word(SENDER_SP + 0x40, in_frame);
}

#[test]
fn a_receiver_is_written_to_before_it_is_made_runnable() {
    let script = || vec![change(Moment::Stop, |b| b.touch_stack(ONE))];
    is_closed_by(Rule::Handed, script, |b| sends(b, SUDOG));
    is_closed_by(Rule::Handed, script, |b| sends(b, g_at(ONE)));
}

#[test]
fn whoever_a_closed_channel_lets_go_is_in_a_list() {
    let script = || vec![change(Moment::Stop, |b| b.touch_stack(ONE))];
    is_closed_by(Rule::Handed, script, |b| {
        let link = b.layout.schedlink;
        b.member(ONE + 1, link, &g_at(ONE).to_le_bytes());
        sends(b, g_at(ONE + 1));
        b.word(SUDOG, 0);
    });
}

#[test]
fn statuses_that_change_uncounted_are_never_trusted() {
    let script = || vec![change(Moment::Stop, |b| b.touch_stack(ONE))];
    is_closed_by(Rule::Uncounted, script, |b| b.status(ONE, PREEMPTED));
    is_closed_by(Rule::Uncounted, script, |b| b.status(ONE, SYSCALL));
    is_closed_by(Rule::Uncounted, script, |b| b.status(ONE, RUNNABLE));
}

#[test]
fn the_runtime_works_for_goroutines_that_wait() {
    let script = || vec![change(Moment::Stop, |b| b.touch_stack(ONE))];
    let prepare = |b: &mut Bytes<'_>| b.word(M + u64::from(image().layouts.m.curg.offset), g_at(ONE));
    is_closed_by(Rule::WorkedFor, script, prepare);
}

#[test]
fn an_early_copy_counts_only_between_two_equal_looks() {
    // It runs right after its stack was copied, and parks where it was.
    let script = || {
        let moment = Moment::Read(stack_hi(ONE) - 16);
        vec![change(moment, |b| {
            b.touch_stack(ONE);
            b.count(ONE, 1);
        })]
    };
    is_closed_by(Rule::Between, script, nothing);
}

#[test]
fn what_ran_between_the_base_and_the_stop_is_read_again() {
    let script = || {
        vec![change(Moment::Stop, |b| {
            b.touch_stack(ONE);
            b.count(ONE, 1);
        })]
    };
    is_closed_by(Rule::Residue, script, nothing);
}

#[test]
fn goroutines_that_are_new_are_found_in_the_stop() {
    let known = |rules| {
        let image = image();
        let script = vec![change(Moment::Stop, |b| {
            b.make(LATE);
            b.word(ALLGLEN, COUNT + 1);
        })];
        let target = Scripted::new(&image, script);
        let capture = run(&target, &image, rules);
        assert_eq!(capture.verdict.unwrap().different, 0);
        capture.roster.len() as u64
    };
    assert_eq!(known(Rules::ALL), COUNT + 1);
    assert_eq!(known(Rules::without(Rule::New)), COUNT);
}

/// A member of the key and what the runtime does to it.
type Member = (&'static str, fn(&mut schema::G), fn(&mut Bytes<'_>));

/// Each member of the key is needed: what changes it alone, and the stack, would be accepted without it.
#[test]
fn each_member_of_the_key_catches_what_the_others_do_not() {
    let members: [Member; 8] = [
        ("trackingSeq", |l| l.tracking_seq = Field::at(STILL), |b| b.count(ONE, 1)),
        ("goid", |l| l.goid = Field::at(STILL), |b| b.member(ONE, b.layout.goid, &[99])),
        ("waitreason", |l| l.waitreason = Field::at(STILL), |b| b.reason(ONE, CHAN_RECEIVE + 1)),
        ("atomicstatus", |l| l.atomicstatus = Field::at(STILL), |b| b.status(ONE, DEAD)),
        ("sched.pc", |l| l.sched_pc = Field::at(STILL), |b| b.member(ONE, b.layout.sched_pc, &[9])),
        (
            "sched.sp",
            |l| l.sched_sp = Field::at(STILL),
            |b| {
                b.member(ONE, b.layout.sched_sp, &(stack_hi(ONE) - USED + 8).to_le_bytes());
            },
        ),
        (
            "stack.lo",
            |l| l.stack_lo = Field::at(STILL),
            |b| {
                b.member(ONE, b.layout.stack_lo, &(stack_hi(ONE) - STACK_SIZE / 2).to_le_bytes());
            },
        ),
        (
            "sleepWhen",
            |l| l.sleep_when = None,
            |b| {
                b.member(ONE, b.layout.sleep_when.unwrap(), &[1]);
            },
        ),
    ];
    for (name, remove, play) in members {
        let script = || {
            vec![change(Moment::Stop, move |b| {
                b.touch_stack(ONE);
                play(b);
            })]
        };
        let whole = image();
        assert_eq!(wrong(&whole, script(), nothing, Rules::ALL), 0, "with {name}");
        let mut less = image();
        remove(&mut less.layouts.g);
        let target = Scripted::new(&whole, script());
        let still = match name {
            "sched.sp" => stack_hi(ONE) - USED,
            "stack.lo" => stack_hi(ONE) - STACK_SIZE,
            "atomicstatus" => u64::from(WAITING),
            _ => 5,
        };
        {
            let mut state = target.state.lock().unwrap();
            let mut bytes = Bytes { all: &mut state.bytes, layout: target.layout };
            bytes.word(g_at(ONE) + u64::from(STILL), still);
        }
        let verdict = run(&target, &less, Rules::without(Rule::Afterwards)).verdict.unwrap();
        assert_eq!(verdict.different, 1, "without {name}");
    }
}

/// Whole bytes would not do either: the collector writes to parked gs.
#[test]
fn what_the_collector_writes_moves_nobody() {
    let image = image();
    let all = |b: &mut Bytes<'_>| (0..COUNT).for_each(|g| b.member(g, b.layout.waitsince, &[1, 2, 3]));
    let target = Scripted::new(&image, vec![change(Moment::Stop, all)]);
    let capture = run(&target, &image, Rules::ALL);
    assert_eq!((capture.pauses.len(), capture.read_in_stop, capture.proved), (1, 0, COUNT));
}

#[test]
fn whoever_is_off_and_on_all_the_time_is_read_in_the_stop() {
    let script = || {
        let begin = change(Moment::Read(g_at(ONE)), |b| b.count(ONE, 100));
        let later = change(Moment::Stop, |b| {
            b.touch_stack(ONE);
            b.count(ONE, 128);
            b.count(ONE, 128);
        });
        vec![begin, later]
    };
    // From 160 to 4, which is as if it had hardly ever moved.
    is_closed_by(Rule::Often, script, |b| b.count(ONE, 160));
}

#[test]
fn a_stack_that_is_not_as_it_was_copied_tells_that_the_count_wrapped() {
    let script = || {
        let burst = change(Moment::Stop, |b| {
            b.touch_stack(ONE);
            b.count(ONE, 128);
            b.count(ONE, 128);
        });
        vec![burst]
    };
    is_closed_by(Rule::Afterwards, script, |b| b.count(ONE, 100));
}

/// The hole that stays: 256 times off the processor between two looks, back at the same place, by one that
/// seemed to be still before. The check does see it.
#[test]
fn a_count_that_wraps_is_what_the_key_cannot_see() {
    let twice = |b: &mut Bytes<'_>| {
        b.touch_stack(ONE);
        b.count(ONE, 128);
        b.count(ONE, 128);
    };
    assert_eq!(wrong(&image(), vec![change(Moment::Stop, twice)], nothing, Rules::ALL), 1);
}

/// Sixty threads that sleep, and the same with one of them put on a processor once.
fn sixty(ran: i32) -> [Vec<Activity>; 2] {
    let thread = |n, times| Activity { tid: Tid(n), asleep: true, ran: times, switches: times, cpu_ns: 0 };
    let before = (1..=60).map(|n| thread(n, 5)).collect();
    [before, (1..=60).map(|n| thread(n, if n == ran { 6 } else { 5 })).collect()]
}

#[test]
fn a_thread_that_was_left_alone_and_ran_voids_the_stop() {
    let image = image();
    let target = Scripted::new(&image, Vec::new());
    let [before, after] = sixty(31);
    // Before all, before the stop, after it.
    target.state.lock().unwrap().activity = vec![before.clone(), before, after];
    let capture = run(&target, &image, Rules::ALL);
    assert_eq!(capture.pauses.len(), 2);
    assert_eq!(target.state.lock().unwrap().left, [60, 59], "the second stop leaves that one not alone");
}

/// A goroutine in a system call of thread 1, which sleeps or does not.
fn in_system_call(after: Vec<Activity>) -> (usize, u64) {
    let image = image();
    let curg = M + u64::from(image.layouts.m.curg.offset);
    let ran = after.first().is_some_and(|thread| thread.ran > 5);
    let script = vec![change(Moment::Stop, move |b| {
        if ran {
            b.touch_stack(ONE);
        }
    })];
    let target = Scripted::new(&image, script);
    {
        let mut state = target.state.lock().unwrap();
        let [before, _] = sixty(0);
        state.activity = vec![before.clone(), before, after];
        let mut bytes = Bytes { all: &mut state.bytes, layout: target.layout };
        bytes.word(curg, g_at(ONE));
        bytes.status(ONE, SYSCALL);
    }
    let capture = run(&target, &image, Rules::ALL);
    assert_eq!(capture.verdict.unwrap().different, 0);
    (capture.pauses.len(), capture.read_in_stop)
}

#[test]
fn a_goroutine_whose_thread_sleeps_in_a_system_call_need_not_be_read() {
    let [asleep, awake] = sixty(1);
    assert_eq!(in_system_call(asleep), (1, 0));
    assert_eq!(in_system_call(awake), (2, 1), "its thread ran: the first stop is void");
}

/// A goroutine ends while stacks are copied, and the collector frees its stack: the copy must go, since
/// another stack may lie there by now.
#[test]
fn a_stack_that_was_freed_is_forgotten() {
    let free = |b: &mut Bytes<'_>| {
        b.status(ONE, DEAD);
        b.member(ONE, b.layout.stack_lo, &[0; 8]);
        b.member(ONE, b.layout.stack_hi, &[0; 8]);
    };
    for moment in [Moment::Read(stack_hi(ONE) - 16), Moment::Stop] {
        assert_eq!(wrong(&image(), vec![change(moment, free)], nothing, Rules::ALL), 0, "{moment:?}");
    }
}

/// What an earlier stop read is of that stop, whatever the looks say.
#[test]
fn what_an_earlier_stop_read_is_read_again_in_the_next() {
    // It runs in the first stop, is preempted for a scan after it, and has run when the second comes,
    // which another one makes necessary.
    let script = || {
        let curg = M + u64::from(image().layouts.m.curg.offset);
        vec![
            change(Moment::Stop, move |b| {
                b.word(curg, g_at(ONE));
                b.status(ONE, 2);
                b.count(ONE + 1, 1);
            }),
            change(Moment::Resume, move |b| {
                b.word(curg, 0);
                b.status(ONE, PREEMPTED);
            }),
            change(Moment::SecondStop, |b| b.touch_stack(ONE)),
        ]
    };
    is_closed_by(Rule::Again, script, nothing);
}
