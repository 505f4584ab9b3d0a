//! The target survives whatever is done to it and to allgs: attached to and let go again and again, allgs
//! killed at any moment, interrupted, with its output gone. Full numbers with `ALLGS_PRODUCT=all`.

mod support;

use allgs::addr::Pid;
use allgs::source::Tracer;
use allgs::source::live::LiveProcess;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Target, allgs_ok, build, folder, many, until};

/// Longest wait for what must come; only a target that hangs lets it pass.
const PATIENCE: Duration = Duration::from_secs(120);

fn server() -> (Target, u16) {
    let dir = folder();
    let mut command = Command::new(build("1.27.4", "default", "hard"));
    command.arg(dir.path()).arg("http");
    let target = Target::spawn(command, dir);
    let port = target.ready.split("port=").nth(1).expect("port= in READY").trim().parse().expect("a port");
    (target, port)
}

/// One request, which must be answered whole.
fn request(port: u16, number: u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "GET /{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer comes");
    let whole = answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&format!("served /{number}"));
    assert!(whole, "request {number}: {answer:?}");
}

/// Does something while two clients keep the server busy, whose requests must all be answered; gives
/// the count of the requests so far to whoever asks. A server that sleeps would not be stopped.
fn while_busy(port: u16, act: impl FnOnce(&AtomicU64)) -> u64 {
    let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = AtTheEnd(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    request(port, requests.load(Ordering::Relaxed));
                    requests.fetch_add(1, Ordering::Relaxed);
                    // It is not to be busy with nothing else: others want the processors too.
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        act(&requests);
    });
    requests.into_inner()
}

/// Stops the clients at the end of a test, also of one that fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// States of the threads of a process.
fn states(pid: u32) -> Vec<char> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the target is there").flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
}

/// Waits until no thread of a process is stopped; returns how long that took.
fn all_go_on(pid: u32) -> Duration {
    let start = Instant::now();
    until("no thread is stopped", PATIENCE, || !states(pid).iter().any(|state| matches!(state, 't' | 'T')));
    start.elapsed()
}

#[test]
fn a_busy_server_is_attached_to_and_let_go_again_and_again() {
    let cycles = many(60, 1000);
    let (mut target, port) = server();
    let pid = target.pid();
    let requests = while_busy(port, |requests| {
        for cycle in 0..cycles {
            let command = ["list", "dump", "why"][cycle as usize % 3];
            let text = allgs_ok(&[command, "--format", "json", &pid.to_string()]);
            assert!(text.contains("main.parked"), "cycle {cycle}: {text}");
        }
        all_go_on(pid);
        let before = requests.load(Ordering::Relaxed);
        until("requests are served", PATIENCE, || requests.load(Ordering::Relaxed) > before + 10);
    });
    assert!(target.ended().is_none());
    println!("{cycles} cycles, {requests} requests, none failed, no thread left stopped");
}

fn start_allgs(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_allgs"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("allgs starts")
}

#[test]
fn allgs_killed_at_any_moment_leaves_the_server_going() {
    let kills = many(20, 200);
    let (mut target, port) = server();
    let pid = target.pid().to_string();
    let start = Instant::now();
    allgs_ok(&["dump", &pid]);
    let whole = start.elapsed();
    let mut in_time = 0;
    let mut worst = Duration::ZERO;
    let requests = while_busy(port, |_| {
        for round in 0..kills {
            let mut child = start_allgs(&["dump", &pid]);
            // Moments all over its run: the golden ratio spreads them.
            std::thread::sleep(whole.mul_f64((round as f64 * 0.618_034).fract()));
            in_time += u64::from(child.try_wait().expect("wait").is_none());
            child.kill().expect("kill");
            child.wait().expect("wait");
            worst = worst.max(all_go_on(target.pid()));
        }
    });
    assert!(target.ended().is_none());
    assert!(in_time * 2 > kills, "most were over already: {in_time} of {kills}");
    println!("{kills} kills, {in_time} of them before the end: all threads went on within {worst:?}");
    println!("{requests} requests meanwhile, none failed");
}

#[test]
fn signals_to_end_let_the_target_go_and_leave_no_file() {
    use std::os::unix::process::ExitStatusExt;
    let rounds = many(3, 20);
    let (mut target, port) = server();
    let pid = target.pid().to_string();
    let start = Instant::now();
    allgs_ok(&["dump", &pid]);
    let whole = start.elapsed();
    let dir = folder();
    let file = dir.path().join("out");
    let mut worst = Duration::ZERO;
    let mut ended_by_it = 0;
    while_busy(port, |_| {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            for round in 0..rounds {
                let mut child = start_allgs(&["dump", &pid, "-o", file.to_str().expect("text")]);
                std::thread::sleep(whole.mul_f64(0.1 + 0.8 * (round as f64 * 0.618_034).fract()));
                let sent = Instant::now();
                kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).expect("signal");
                all_go_on(target.pid());
                worst = worst.max(sent.elapsed());
                let status = child.wait().expect("wait");
                let names: Vec<_> = fs::read_dir(dir.path()).expect("dir").flatten().collect();
                if status.success() {
                    assert_eq!(names.len(), 1, "complete: {names:?}");
                    fs::remove_file(&file).expect("the file is there");
                } else {
                    assert_eq!(status.signal(), Some(signal as i32));
                    assert!(names.is_empty(), "{signal}: {names:?}");
                    ended_by_it += 1;
                }
            }
        }
    });
    assert!(target.ended().is_none());
    assert!(ended_by_it > 0, "no signal came before the end");
    println!("{ended_by_it} of {} ended by the signal; the target went on within {worst:?}", 3 * rounds);
}

#[test]
fn a_closed_stdout_and_a_full_disk_let_the_target_go() {
    let (mut target, port) = server();
    let pid = target.pid().to_string();
    let exe = env!("CARGO_BIN_EXE_allgs");
    let closed =
        Command::new("sh").args(["-c", &format!("exec '{exe}' dump {pid} >&-")]).output().expect("sh");
    assert!(matches!(closed.status.code(), Some(0 | 2)), "{closed:?}");
    all_go_on(target.pid());
    let mut reader = Command::new(exe).args(["dump", &pid]).stdout(Stdio::piped()).spawn().expect("starts");
    drop(reader.stdout.take());
    assert_eq!(reader.wait().expect("wait").code(), Some(0), "a closed pipe is no error");
    all_go_on(target.pid());
    full_disk(&pid);
    all_go_on(target.pid());
    request(port, 1);
    assert!(target.ended().is_none());
}

/// A file system of 64 KiB, in a mount namespace of its own; where that can't be, a limit on files.
fn full_disk(pid: &str) {
    let dir = folder();
    let exe = env!("CARGO_BIN_EXE_allgs");
    let script = format!(
        "mount -t tmpfs -o size=64k none '{0}' && head -c 61440 /dev/zero > '{0}/fill' || exit 77
         '{exe}' dump --all --format json {pid} -o '{0}/out'; status=$?; ls -A '{0}'; exit $status",
        dir.path().display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare");
    if matches!(output.status.code(), Some(1 | 77)) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("cannot write") && err.contains("No space left"), "{err}");
    assert_eq!(out.trim(), "fill", "something is left of the file");
}

/// Not a test: what the targets of the tests do.
#[test]
#[ignore = "the program that the tests look into"]
fn role() {
    match std::env::var("ALLGS_TEST_ROLE").as_deref() {
        Ok("receiver") => receiver(),
        Ok("blocker") => blocking::all(),
        _ => {}
    }
}

fn in_role(name: &str) -> Target {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "role", "--nocapture", "--test-threads=1", "-q"]);
    command.env("ALLGS_TEST_ROLE", name);
    Target::spawn(command, folder())
}

/// A signal of which the kernel keeps each one that is sent.
fn queued() -> i32 {
    libc::SIGRTMIN() + 4
}

/// Counts signals, its own alarms among them; says how many on each line of stdin.
fn receiver() {
    static RECEIVED: AtomicU64 = AtomicU64::new(0);
    static ALARMS: AtomicU64 = AtomicU64::new(0);
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    let count = |signal: i32, counter: &'static AtomicU64| {
        // SAFETY: adding to an atomic number is all that the handler does.
        unsafe { signal_hook::low_level::register(signal, || add(counter)) }.expect("a handler");
    };
    count(queued(), &RECEIVED);
    count(libc::SIGALRM, &ALARMS);
    // SAFETY: the structure is plain data, and the call reads it only.
    unsafe {
        let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    println!("\nREADY");
    for line in std::io::stdin().lines() {
        line.expect("stdin");
        println!("\nCOUNT {} {}", RECEIVED.load(Ordering::Relaxed), ALARMS.load(Ordering::Relaxed));
    }
}

#[test]
fn a_thousand_signals_a_second_all_arrive() {
    let mut target = in_role("receiver");
    let pid = Pid(target.pid() as i32);
    let process = LiveProcess::open(pid).expect("a process of ours");
    let seconds = many(3, 30);
    let (done, mut sent) = (AtomicBool::new(false), 0u64);
    let stops = std::thread::scope(|scope| {
        let _end = AtTheEnd(&done);
        let stopping = scope.spawn(|| {
            let mut stops = 0u64;
            while !done.load(Ordering::Relaxed) {
                let mut tracer = process.tracer().expect("nobody else traces it");
                for _ in 0..10 {
                    tracer.stop(PATIENCE).expect("it stops");
                    tracer.resume().expect("it goes on");
                    stops += 1;
                }
            }
            stops
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) && !stopping.is_finished() {
            // SAFETY: the call takes numbers only.
            let result = unsafe { libc::kill(pid.0, queued()) };
            // The kernel refuses (EAGAIN) when too many wait; one refused was not sent.
            sent += u64::from(result == 0);
            std::thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::Relaxed);
        stopping.join().expect("stopping and letting go works")
    });
    assert!(stops > 0 && sent > 0);
    let mut alarms = 0;
    let mut received = 0;
    let start = Instant::now();
    while received < sent && start.elapsed() < PATIENCE {
        target.send("count");
        let line = target.wait_for("COUNT");
        let mut numbers = line.split(' ').skip(1).map(|n| n.parse::<u64>().expect("a number"));
        (received, alarms) = (numbers.next().expect("two"), numbers.next().expect("two"));
    }
    assert_eq!(received, sent);
    assert!(alarms > 0);
    println!("{stops} stops: {sent} signals sent, {received} received; {alarms} alarms of its own timer");
}

/// Calls of the kernel that wait, and what a stop does to them.
mod blocking {
    use super::libc;
    use nix::errno::Errno;
    use std::ffi::c_void;
    use std::mem::zeroed;
    use std::ptr::{null, null_mut};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Calls that end with EINTR when their thread is stopped by a tracer, no signal being there: the
    /// list of SECURITY.md.
    pub const DISTURBED: [&str; 10] = [
        "epoll_wait",
        "epoll_pwait",
        "recv with SO_RCVTIMEO",
        "accept with SO_RCVTIMEO",
        "send with SO_SNDTIMEO",
        "semop",
        "semtimedop",
        "sigtimedwait",
        "sigwaitinfo",
        "io_getevents",
    ];

    /// A call by its name: returns what the call does.
    type Call = (&'static str, fn(&Things) -> i64);

    /// What the calls wait for: nothing ever comes.
    pub struct Things {
        pipe: i32,
        epoll: i32,
        socket: i32,
        timed: i32,
        listening: i32,
        full: i32,
        semaphores: i32,
        queue: i32,
        inotify: i32,
        aio: u64,
        word: u32,
    }

    const SECONDS: libc::timespec = libc::timespec { tv_sec: 10_000, tv_nsec: 0 };

    impl Things {
        fn new() -> Things {
            // SAFETY: every call gets numbers, or places on this stack of the type that it wants.
            unsafe {
                let pair = |timeout: Option<i32>| {
                    let mut two = [0; 2];
                    libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, two.as_mut_ptr());
                    if let Some(which) = timeout {
                        limit(two[0], which);
                    }
                    two[0]
                };
                let mut pipe = [0; 2];
                libc::pipe(pipe.as_mut_ptr());
                let listening = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                libc::listen(listening, 1);
                limit(listening, libc::SO_RCVTIMEO);
                let full = pair(Some(libc::SO_SNDTIMEO));
                let junk = [0u8; 4096];
                while libc::send(full, junk.as_ptr().cast(), junk.len(), libc::MSG_DONTWAIT) > 0 {}
                let mut aio = 0u64;
                libc::syscall(libc::SYS_io_setup, 1, &raw mut aio);
                Things {
                    pipe: pipe[0],
                    epoll: libc::epoll_create1(0),
                    socket: pair(None),
                    timed: pair(Some(libc::SO_RCVTIMEO)),
                    listening,
                    full,
                    semaphores: libc::semget(libc::IPC_PRIVATE, 1, 0o600),
                    queue: libc::msgget(libc::IPC_PRIVATE, 0o600),
                    inotify: libc::inotify_init1(0),
                    aio,
                    word: 0,
                }
            }
        }
    }

    unsafe fn limit(socket: i32, which: i32) {
        let time = libc::timeval { tv_sec: 10_000, tv_usec: 0 };
        let len = size_of_val(&time) as u32;
        // SAFETY: the kernel reads one timeval.
        unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, which, (&raw const time).cast(), len) };
    }

    fn no_signals() -> libc::sigset_t {
        // SAFETY: a set of signals is plain data, which the call fills. SIGUSR2 is never sent.
        unsafe {
            let mut set = zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR2);
            set
        }
    }

    fn read(from: i32) -> i64 {
        let mut buf = [0u8; 64];
        // SAFETY: the kernel writes at most the size of the buffer.
        unsafe { libc::read(from, buf.as_mut_ptr().cast(), buf.len()) as i64 }
    }

    fn recv(from: i32) -> i64 {
        let mut buf = [0u8; 64];
        // SAFETY: the kernel writes at most the size of the buffer.
        unsafe { libc::recv(from, buf.as_mut_ptr().cast(), buf.len(), 0) as i64 }
    }

    fn take(semaphores: i32, until: *const libc::timespec) -> i64 {
        let mut operation = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        // SAFETY: one operation and a time, or none, which the kernel reads.
        unsafe { libc::syscall(libc::SYS_semtimedop, semaphores, &raw mut operation, 1, until) }
    }

    fn wait_for_signal(until: *const libc::timespec) -> i64 {
        // SAFETY: a set that the kernel reads, no place for what came.
        unsafe { i64::from(libc::sigtimedwait(&no_signals(), null_mut(), until)) }
    }

    fn epoll(events: &Things, mask: *const libc::sigset_t) -> i64 {
        // SAFETY: place for the one event that is asked for.
        unsafe {
            let mut event = zeroed();
            i64::from(libc::epoll_pwait(events.epoll, &mut event, 1, -1, mask))
        }
    }

    fn poll(from: i32, until: Option<&libc::timespec>) -> i64 {
        let mut entry = libc::pollfd { fd: from, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, and a time that the kernel reads.
        unsafe {
            match until {
                None => i64::from(libc::poll(&mut entry, 1, -1)),
                Some(time) => i64::from(libc::ppoll(&mut entry, 1, time, null())),
            }
        }
    }

    fn select(from: i32) -> i64 {
        // SAFETY: a set of descriptors is plain data; the number is small enough for it.
        unsafe {
            let mut set = zeroed();
            libc::FD_SET(from, &mut set);
            i64::from(libc::select(from + 1, &mut set, null_mut(), null_mut(), null_mut()))
        }
    }

    fn futex(word: &u32, until: *const libc::timespec) -> i64 {
        // SAFETY: the word outlives the call.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, until) }
    }

    fn sleep(clock: Option<i32>) -> i64 {
        // SAFETY: the kernel reads the time.
        unsafe {
            i64::from(match clock {
                None => libc::nanosleep(&SECONDS, null_mut()),
                Some(clock) => {
                    let error = libc::clock_nanosleep(clock, 0, &SECONDS, null_mut());
                    Errno::from_raw(error).set();
                    if error == 0 { 0 } else { -1 }
                }
            })
        }
    }

    fn message(queue: i32) -> i64 {
        let mut place = [0u64; 16];
        // SAFETY: place for a type and 64 bytes.
        unsafe { libc::msgrcv(queue, place.as_mut_ptr().cast::<c_void>(), 64, 0, 0) as i64 }
    }

    fn accept(from: i32) -> i64 {
        // SAFETY: nobody wants to know who connects.
        unsafe { i64::from(libc::accept(from, null_mut(), null_mut())) }
    }

    fn send(into: i32) -> i64 {
        // SAFETY: the kernel reads one byte.
        unsafe { libc::send(into, [0u8].as_ptr().cast(), 1, 0) as i64 }
    }

    fn events(context: u64) -> i64 {
        let mut place = [0u64; 4];
        // SAFETY: place for one event of 32 bytes.
        unsafe { libc::syscall(libc::SYS_io_getevents, context, 1, 1, place.as_mut_ptr(), null::<u8>()) }
    }

    pub const CALLS: [Call; 24] = [
        ("epoll_wait", |t| epoll(t, null())),
        ("epoll_pwait", |t| epoll(t, &no_signals())),
        ("recv with SO_RCVTIMEO", |t| recv(t.timed)),
        ("accept with SO_RCVTIMEO", |t| accept(t.listening)),
        ("send with SO_SNDTIMEO", |t| send(t.full)),
        ("semop", |t| take(t.semaphores, null())),
        ("semtimedop", |t| take(t.semaphores, &SECONDS)),
        ("sigtimedwait", |_| wait_for_signal(&SECONDS)),
        ("sigwaitinfo", |_| wait_for_signal(null())),
        ("io_getevents", |t| events(t.aio)),
        ("read of a pipe", |t| read(t.pipe)),
        ("read of a socket", |t| read(t.socket)),
        ("read of inotify", |t| read(t.inotify)),
        ("recv", |t| recv(t.socket)),
        ("nanosleep", |_| sleep(None)),
        ("clock_nanosleep", |_| sleep(Some(libc::CLOCK_MONOTONIC))),
        ("poll", |t| poll(t.pipe, None)),
        ("ppoll", |t| poll(t.pipe, Some(&SECONDS))),
        ("select", |t| select(t.pipe)),
        ("futex", |t| futex(&t.word, null())),
        ("futex with a time", |t| futex(&t.word, &SECONDS)),
        ("msgrcv", |t| message(t.queue)),
        ("pause", |_| {
            // SAFETY: no arguments.
            unsafe { i64::from(libc::pause()) }
        }),
        ("flock", |_| {
            let held = std::fs::File::open("/proc/self/exe").expect("this program");
            let other = std::fs::File::open("/proc/self/exe").expect("this program");
            use std::os::fd::AsRawFd;
            // SAFETY: open descriptors.
            unsafe {
                libc::flock(held.as_raw_fd(), libc::LOCK_EX);
                i64::from(libc::flock(other.as_raw_fd(), libc::LOCK_EX))
            }
        }),
    ];

    static INTERRUPTED: [AtomicU64; CALLS.len()] = [const { AtomicU64::new(0) }; CALLS.len()];

    /// One thread for each call, which counts how often it was interrupted. A call that ends otherwise
    /// is not to be had here: `refused`.
    pub fn all() {
        let things: &'static Things = Box::leak(Box::new(Things::new()));
        let refused: &'static [AtomicU64] = Box::leak(CALLS.map(|_| AtomicU64::new(0)).into());
        for (i, (name, call)) in CALLS.into_iter().enumerate() {
            std::thread::spawn(move || {
                // The name tells the tests which thread it is.
                let short: String = name.chars().take(15).collect();
                let _ = std::fs::write("/proc/thread-self/comm", short);
                while call(things) == -1 && Errno::last() == Errno::EINTR {
                    INTERRUPTED[i].fetch_add(1, Ordering::Relaxed);
                }
                refused[i].store(1, Ordering::Relaxed);
            });
        }
        println!("\nREADY");
        for line in std::io::stdin().lines() {
            line.expect("stdin");
            for (i, (name, _)) in CALLS.iter().enumerate() {
                let (n, ended) = (&INTERRUPTED[i], &refused[i]);
                let (n, ended) = (n.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
                println!("\nCALL {name}={n},{ended}");
            }
            println!("\nEND");
        }
    }
}

/// How often each call was interrupted; those that the machine does not have are said and left out.
fn interruptions(target: &mut Target) -> BTreeMap<String, u64> {
    target.send("counts");
    let mut found = BTreeMap::new();
    loop {
        let line = target.line();
        if line == "END" {
            return found;
        }
        let Some((name, numbers)) = line.strip_prefix("CALL ").and_then(|rest| rest.split_once('=')) else {
            continue;
        };
        match numbers.split_once(',').expect("two numbers") {
            (n, "0") => drop(found.insert(name.to_owned(), n.parse().expect("a number"))),
            _ => println!("skipped: {name} ends at once here"),
        }
    }
}

#[test]
fn the_calls_that_a_stop_disturbs_are_those_that_are_documented() {
    const STOPS: u64 = 30;
    let mut target = in_role("blocker");
    let process = LiveProcess::open(Pid(target.pid() as i32)).expect("a process of ours");
    // All but the thread that reads stdin have settled once the kernel shows them asleep.
    let asleep = || process.thread_activity().expect("threads").iter().all(|thread| thread.asleep);
    until("all calls wait", PATIENCE, asleep);
    let before = interruptions(&mut target);
    assert!(before.values().all(|n| *n == 0), "interrupted before any stop: {before:?}");
    let mut tracer = process.tracer().expect("nobody else traces it");
    for _ in 0..STOPS {
        until("all calls wait again", PATIENCE, asleep);
        tracer.stop(PATIENCE).expect("it stops");
        tracer.resume().expect("it goes on");
    }
    drop(tracer);
    until("all calls wait again", PATIENCE, asleep);
    let counts = interruptions(&mut target);
    for (name, n) in &counts {
        println!("{name}: interrupted {n} times by {STOPS} stops");
    }
    let disturbed: Vec<&str> =
        counts.iter().filter(|(_, n)| **n > 0).map(|(name, _)| name.as_str()).collect();
    let mut documented: Vec<&str> =
        blocking::DISTURBED.into_iter().filter(|name| counts.contains_key(*name)).collect();
    documented.sort_unstable();
    assert_eq!(disturbed, documented);
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).expect("SECURITY.md");
    for (name, _) in blocking::CALLS {
        assert!(text.contains(&format!("`{name}`")), "SECURITY.md does not speak of {name}");
    }
}
