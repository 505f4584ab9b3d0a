//! Stopping live processes: that all threads stand still, that nothing of the target is lost or left
//! stopped, whatever happens to us. The targets are this same program in another role.

use allgs::addr::{Addr, Pid, Tid};
use allgs::error::ErrorKind;
use allgs::memory::Piece;
use allgs::source::live::{LiveProcess, guard};
use allgs::source::{Origin, Source, Stopped, Tracer};
use nix::sys::signal::{Signal, kill};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Threads of the target that counts.
const COUNTERS: usize = 50;

/// Long enough for every stop on a busy machine; a stop that needs it has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// A child process, killed when the test ends.
struct Target {
    child: Child,
    /// The lines that it writes.
    out: Receiver<String>,
    /// What it said after READY.
    facts: Vec<u64>,
}

impl Target {
    fn spawn(command: &mut Command) -> Target {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let written = BufReader::new(child.stdout.take().unwrap());
        let (into, out) = channel();
        std::thread::spawn(move || {
            written.lines().map_while(Result::ok).try_for_each(|line| into.send(line))
        });
        let mut target = Target { child, out, facts: Vec::new() };
        let ready = target.line_with("READY");
        target.facts = ready.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        target
    }

    /// This program in another role; see `role`.
    fn role(name: &str) -> Target {
        Target::spawn(&mut in_role(name))
    }

    /// Waits for the next line with `word`; returns what follows it.
    fn line_with(&self, word: &str) -> String {
        self.next_with(word).expect("the target ended or hangs")
    }

    fn next_with(&self, word: &str) -> Option<String> {
        loop {
            let line = self.out.recv_timeout(2 * LIMIT).ok()?;
            if let Some((_, after)) = line.split_once(word) {
                return Some(after.to_owned());
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid(i32::try_from(self.child.id()).unwrap())
    }

    fn open(&self) -> LiveProcess {
        LiveProcess::open(self.pid()).unwrap()
    }

    fn send(&self, signal: Signal) {
        kill(nix::unistd::Pid::from_raw(self.pid().0), signal).unwrap();
    }

    fn tell(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process that is not our child.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill(nix::unistd::Pid::from_raw(self.0.0), Signal::SIGKILL);
    }
}

fn in_role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "role", "--nocapture", "--test-threads=1"]);
    command.env("ALLGS_TEST_ROLE", name);
    command
}

/// Not a test: what the targets of the tests do.
#[test]
#[ignore = "the program that the tests look into"]
fn role() {
    match std::env::var("ALLGS_TEST_ROLE").as_deref() {
        Ok("counters") => counters(),
        Ok("churn") => churn(),
        Ok("exec") => exec(),
        Ok("tracer") => tracer(),
        Ok("guarded") => guarded(),
        Ok("stranger") => stranger(),
        _ => {}
    }
}

static COUNTS: [AtomicU64; COUNTERS] = [const { AtomicU64::new(0) }; COUNTERS];

/// Fifty threads that count, and one that tells of every SIGUSR1.
fn counters() {
    let received = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&received)).unwrap();
    for count in &COUNTS {
        std::thread::spawn(move || {
            loop {
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
    }
    println!("READY {}", COUNTS.as_ptr() as u64);
    loop {
        if received.swap(false, Ordering::Relaxed) {
            println!("RECEIVED");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Threads that start threads, all the time.
fn churn() {
    for _ in 0..4 {
        std::thread::spawn(|| {
            loop {
                let children: Vec<_> = (0..4).map(|_| std::thread::spawn(std::thread::yield_now)).collect();
                for child in children {
                    child.join().unwrap();
                }
            }
        });
    }
    println!("READY");
    loop {
        std::thread::park();
    }
}

/// Becomes another program when told to.
fn exec() {
    use std::os::unix::process::CommandExt;
    println!("READY");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    panic!("{}", Command::new("sh").args(["-c", "echo CHANGED; exec sleep 1000"]).exec());
}

/// Stops a target of its own and never lets it go.
fn tracer() {
    let target = Target::role("counters");
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    tracer.stop(LIMIT).unwrap();
    println!("READY {} {}", target.pid(), target.facts[0]);
    loop {
        std::thread::park();
    }
}

/// Like `tracer`, but waits for a signal to end as a program should.
fn guarded() {
    guard::install().unwrap();
    let target = Target::role("counters");
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    tracer.stop(LIMIT).unwrap();
    println!("READY {} {}", target.pid(), target.facts[0]);
    while guard::pending().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let refused = tracer.stop(LIMIT).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Interrupted);
    println!("RELEASED");
    std::mem::forget(target); // The test kills it.
    guard::obey();
}

/// Tells what keeps it from a process.
fn stranger() {
    let pid = std::env::var("ALLGS_TEST_PID").unwrap().parse().unwrap();
    let error = LiveProcess::open(Pid(pid)).unwrap_err();
    println!("READY {:?} | {error} | {}", error.kind(), error.hint_text().unwrap());
}

/// Waits until `done`; only a target that hangs lets it fail.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < 2 * LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn counts(process: &LiveProcess, at: u64) -> Vec<u64> {
    let mut bytes = [[0; 8]; COUNTERS];
    let mut pieces: Vec<Piece<'_>> = bytes
        .iter_mut()
        .zip(0..)
        .map(|(into, n)| Piece { at: Addr::new(at).offset(8 * n), into, ok: false })
        .collect();
    process.memory().read_pieces(&mut pieces);
    assert!(pieces.iter().all(|piece| piece.ok));
    bytes.into_iter().map(u64::from_le_bytes).collect()
}

/// All threads of the counting target get on.
fn all_count(process: &LiveProcess, at: u64) {
    let before = counts(process, at);
    until("all threads count", || counts(process, at).iter().zip(&before).all(|(now, then)| now > then));
}

/// The states of all threads of a process.
fn states(pid: Pid) -> Vec<(i32, char)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut states: Vec<(i32, char)> = tasks
        .filter_map(|task| {
            let path = task.unwrap().path();
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            Some((path.file_name()?.to_str()?.parse().ok()?, state))
        })
        .collect();
    states.sort_unstable();
    states
}

fn all_in(state: char, pid: Pid) -> bool {
    states(pid).iter().all(|(_, s)| *s == state)
}

fn main_state(pid: Pid) -> char {
    states(pid).iter().find(|(tid, _)| *tid == pid.0).map_or('-', |(_, state)| *state)
}

fn tids(stopped: &Stopped) -> Vec<i32> {
    stopped.threads.iter().map(|thread| thread.tid.0).collect()
}

/// The target of a tracer in another process, by what that one said.
fn target_of(tracer: &Target) -> (Orphan, u64) {
    (Orphan(Pid(i32::try_from(tracer.facts[0]).unwrap())), tracer.facts[1])
}

#[test]
fn all_threads_stand_still_with_registers_and_then_go_on() {
    let target = Target::role("counters");
    let at = target.facts[0];
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    for _ in 0..3 {
        assert!(tracer.stopped_since().is_none());
        let stopped = tracer.stop(LIMIT).unwrap();
        let first = counts(&process, at);
        assert_eq!(stopped.running, []);
        assert!(tracer.stopped_since().is_some());
        let listed = states(target.pid());
        assert!(listed.len() > COUNTERS && listed.iter().all(|(_, state)| *state == 't'), "{listed:?}");
        assert_eq!(tids(&stopped), listed.iter().map(|(tid, _)| *tid).collect::<Vec<_>>());
        for thread in &stopped.threads {
            let registers = thread.registers.expect("registers of a stopped thread");
            let code = process.mappings().iter().find(|m| m.span.contains(registers.pc));
            assert!(code.unwrap().executable);
            assert!(process.memory().read_u64(registers.sp).is_ok());
            assert!(thread.name.is_some());
        }
        assert_eq!(counts(&process, at), first);
        tracer.resume().unwrap();
        assert_eq!(process.tracer_pid(), None);
        all_count(&process, at);
    }
}

#[test]
fn no_thread_slips_through_while_threads_come_and_go() {
    let target = Target::role("churn");
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    for _ in 0..50 {
        let stopped = tracer.stop(LIMIT).unwrap();
        let listed = states(target.pid());
        assert_eq!(stopped.running, []);
        assert!(listed.iter().all(|(_, state)| *state == 't'), "{listed:?}");
        assert_eq!(tids(&stopped), listed.iter().map(|(tid, _)| *tid).collect::<Vec<_>>());
        tracer.resume().unwrap();
    }
    drop(tracer);
    assert_eq!(process.tracer_pid(), None);
    until("threads come and go again", || {
        let before = states(target.pid());
        states(target.pid()) != before
    });
}

#[test]
fn threads_left_alone_run_on() {
    let target = Target::role("counters");
    let at = target.facts[0];
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    let all = tids(&tracer.stop(LIMIT).unwrap());
    tracer.resume().unwrap();
    let left = Tid(all[7]);
    let stopped = tracer.stop_except(LIMIT, &[left]).unwrap();
    assert_eq!(tids(&stopped), all);
    let without: Vec<Tid> =
        stopped.threads.iter().filter(|t| t.registers.is_none()).map(|thread| thread.tid).collect();
    assert_eq!(without, [left]);
    let moving = |before: &[u64]| counts(&process, at).iter().zip(before).filter(|(a, b)| a != b).count();
    let before = counts(&process, at);
    until("the one that was left counts", || moving(&before) == 1);
}

#[test]
fn sleep_is_proved_by_the_kernels_counts_and_disproved_by_a_run() {
    let mut target =
        Target::spawn(Command::new("sh").args(["-c", "echo READY; read line; echo AWAKE; read line"]));
    let process = target.open();
    let look = || process.thread_activity().unwrap();
    until("it sleeps", || look().iter().all(|thread| thread.asleep));
    let first = look();
    assert_eq!(first.iter().map(|thread| thread.tid.0).collect::<Vec<_>>(), [target.pid().0]);
    assert!(look().iter().zip(&first).all(|(now, then)| now.slept_since(then)));
    target.tell();
    target.line_with("AWAKE");
    until("it sleeps again", || look().iter().all(|thread| thread.asleep));
    assert!(!look().iter().zip(&first).any(|(now, then)| now.slept_since(then)));
}

#[test]
fn a_target_that_was_stopped_before_stays_stopped() {
    let target = Target::role("counters");
    let at = target.facts[0];
    let process = target.open();
    target.send(Signal::SIGSTOP);
    until("it is stopped", || all_in('T', target.pid()));
    let before = counts(&process, at);
    let mut tracer = process.tracer().unwrap();
    for _ in 0..3 {
        let stopped = tracer.stop(LIMIT).unwrap();
        assert!(stopped.threads.iter().all(|thread| thread.registers.is_some()));
        tracer.resume().unwrap();
        until("it is stopped again", || all_in('T', target.pid()));
    }
    drop(tracer);
    assert_eq!(counts(&process, at), before);
    target.send(Signal::SIGCONT);
    all_count(&process, at);
}

#[test]
fn job_control_works_while_the_target_is_stopped() {
    let target = Target::role("counters");
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    tracer.stop(LIMIT).unwrap();
    target.send(Signal::SIGSTOP);
    tracer.resume().unwrap();
    until("the stop signal takes effect", || all_in('T', target.pid()));
    tracer.stop(LIMIT).unwrap();
    target.send(Signal::SIGCONT);
    tracer.resume().unwrap();
    all_count(&process, target.facts[0]);
}

#[test]
fn no_signal_is_lost() {
    let target = Target::role("counters");
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    for _ in 0..20 {
        tracer.stop(LIMIT).unwrap();
        target.send(Signal::SIGUSR1);
        tracer.resume().unwrap();
        target.line_with("RECEIVED");
    }
    drop(tracer);
    // And at any moment of stopping and going on.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let tracing = scope.spawn(|| {
            let mut tracer = process.tracer().unwrap();
            let mut stops = 0;
            while !done.load(Ordering::Relaxed) {
                tracer.stop(LIMIT).unwrap();
                tracer.resume().unwrap();
                stops += 1;
            }
            stops
        });
        let lost = (0..250).find(|_| {
            target.send(Signal::SIGUSR1);
            target.next_with("RECEIVED").is_none()
        });
        done.store(true, Ordering::Relaxed);
        assert!(tracing.join().unwrap() > 0);
        assert_eq!(lost, None);
    });
}

#[test]
fn a_panic_lets_the_target_go() {
    let target = Target::role("counters");
    let process = target.open();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut tracer = process.tracer().unwrap();
        tracer.stop(LIMIT).unwrap();
        assert!(all_in('t', target.pid()));
        std::panic::resume_unwind(Box::new("while the target is stopped"));
    }));
    assert!(result.unwrap_err().is::<&str>());
    assert_eq!(process.tracer_pid(), None);
    all_count(&process, target.facts[0]);
}

#[test]
fn the_death_of_the_tracer_lets_the_target_go() {
    let tracer = Target::role("tracer");
    let (target, at) = target_of(&tracer);
    assert!(all_in('t', target.0));
    tracer.send(Signal::SIGKILL);
    let process = LiveProcess::open(target.0).unwrap();
    all_count(&process, at);
    assert_eq!(process.tracer_pid(), None);
}

#[test]
fn a_signal_to_end_waits_until_the_target_is_let_go() {
    use std::os::unix::process::ExitStatusExt;
    let mut tracer = Target::role("guarded");
    let (target, at) = target_of(&tracer);
    tracer.send(Signal::SIGTERM);
    tracer.line_with("RELEASED");
    let process = LiveProcess::open(target.0).unwrap();
    all_count(&process, at);
    assert_eq!(tracer.child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn one_tracer_at_a_time_and_the_other_one_is_named() {
    let tracer = Target::role("tracer");
    let (target, at) = target_of(&tracer);
    let process = LiveProcess::open(target.0).unwrap();
    assert_eq!(process.tracer_pid(), Some(tracer.pid()));
    let error = process.trace().err().expect("somebody else traces it");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&format!("already traced by process {}", tracer.pid())), "{error}");
    assert!(process.memory().read_u64(Addr::new(at)).is_ok());
}

#[test]
fn a_target_that_is_killed_in_its_stop_disappears() {
    let tracer = Target::role("counters");
    let process = tracer.open();
    let mut stop = process.tracer().unwrap();
    stop.stop(LIMIT).unwrap();
    tracer.send(Signal::SIGKILL);
    until("its memory is gone", || process.check().is_err());
    assert_eq!(stop.resume().unwrap_err().kind(), ErrorKind::NoSuchProcess);
    drop(stop);
    until("its remains are collected", || {
        let error = LiveProcess::open(tracer.pid()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchProcess);
        !std::path::Path::new(&format!("/proc/{}", tracer.pid())).exists()
    });
}

#[test]
fn a_target_that_executes_another_program_is_not_taken_for_itself() {
    let mut target = Target::role("exec");
    let process = target.open();
    let mut tracer = process.tracer().unwrap();
    tracer.stop(LIMIT).unwrap();
    tracer.resume().unwrap();
    target.tell();
    target.line_with("CHANGED");
    assert_eq!(tracer.stop(LIMIT).unwrap_err().kind(), ErrorKind::NoSuchProcess);
    assert_eq!(process.open_executable().unwrap_err().kind(), ErrorKind::NoSuchProcess);
    let mut byte = [0];
    let mut pieces = [Piece { at: process.mappings()[0].span.start, into: &mut byte, ok: true }];
    process.memory().read_pieces(&mut pieces);
    assert!(!pieces[0].ok);
    until("the new program is let go", || main_state(target.pid()) == 'S');
}

/// The parent of a vfork waits in state D until its child ends or executes a program.
#[test]
fn a_thread_that_cannot_stop_is_named_not_waited_for() {
    // 58 is vfork on x86-64, which perl can call as it is. The child says READY.
    let script = "$| = 1; if (!syscall(58)) { print qq(READY\\n); sleep 1000 } sleep 1000";
    let target = Target::spawn(Command::new("perl").args(["-e", script]));
    let children = format!("/proc/{0}/task/{0}/children", target.pid());
    let child = Orphan(Pid(std::fs::read_to_string(children).unwrap().trim().parse().unwrap()));
    until("the parent waits", || main_state(target.pid()) == 'D');
    let (process, pid) = (target.open(), target.pid());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tracer = process.tracer().unwrap();
            let stopped = tracer.stop(Duration::from_millis(20)).unwrap();
            assert_eq!(stopped.threads.first().and_then(|thread| thread.registers), None);
            let (tid, why) = stopped.running.first().expect("it does not stop");
            assert_eq!(tid.0, pid.0);
            assert!(why.contains("state D"), "{why}");
        });
    });
    until("the end of the tracing thread lets it go", || process.tracer_pid().is_none());
    drop(child);
    until("the parent goes on", || !matches!(main_state(target.pid()), 'D' | 't'));
}

#[test]
fn what_is_no_process_to_look_into_is_refused_in_words() {
    let own = Pid(i32::try_from(std::process::id()).unwrap());
    assert_eq!(LiveProcess::open(own).unwrap_err().kind(), ErrorKind::Usage);
    let mut child = Command::new("true").spawn().unwrap();
    let pid = Pid(i32::try_from(child.id()).unwrap());
    until("it is a zombie", || main_state(pid) == 'Z');
    let error = LiveProcess::open(pid).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchProcess);
    assert!(error.to_string().contains("zombie"), "{error}");
    assert!(error.hint_text().unwrap().contains(&own.to_string()));
    child.wait().unwrap();
    for nobody in [pid, Pid(0), Pid(-1)] {
        let error = LiveProcess::open(nobody).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchProcess);
        assert!(error.to_string().contains(&format!("no process {nobody}")), "{error}");
    }
}

#[test]
fn the_number_of_a_thread_stands_for_its_process() {
    let target = Target::role("counters");
    let (thread, _) = *states(target.pid()).last().unwrap();
    assert_ne!(thread, target.pid().0);
    let process = LiveProcess::open(Pid(thread)).unwrap();
    assert_eq!(process.origin(), &Origin::Live { pid: target.pid() });
}

#[test]
fn a_refusal_says_what_to_do() {
    use std::os::unix::process::CommandExt;
    let target = Target::role("counters");
    let mut command = in_role("stranger");
    if nix::unistd::geteuid().is_root() {
        command.env("ALLGS_TEST_PID", target.pid().to_string()).uid(65534).gid(65534);
    } else {
        command.env("ALLGS_TEST_PID", "1");
    }
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(said.contains("READY PermissionDenied | cannot attach to"), "{said}");
    assert!(said.contains("run as") && said.contains("--cap-add=SYS_PTRACE"), "{said}");
}

#[test]
fn the_executable_and_mapped_files_are_opened_as_the_target_has_them() {
    use std::os::unix::fs::MetadataExt;
    let target = Target::role("churn");
    let process = target.open();
    let exe = std::env::current_exe().unwrap();
    let inode = std::fs::metadata(&exe).unwrap().ino();
    assert_eq!(process.open_executable().unwrap().metadata().unwrap().ino(), inode);
    assert_eq!(process.executable_path(), Some(exe.as_path()));
    let mapping = process.mappings().iter().find(|m| m.path.as_ref() == Some(&exe)).unwrap();
    assert_eq!(process.open_mapped(mapping).unwrap().metadata().unwrap().ino(), inode);
    let nameless = process.mappings().iter().find(|m| m.path.is_none()).unwrap();
    assert_eq!(process.open_mapped(nameless).unwrap_err().kind(), ErrorKind::BadExecutable);
    assert!(process.auxv().program_headers().is_some());
    assert!(process.now().is_some());
}
