//! The target goes on as if nobody had looked: its ticks, its requests and its signals.

mod support;

use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Target, allgs_ok, build};

/// Longest wait for one signal to be counted.
const PATIENCE: Duration = Duration::from_secs(120);

fn port(ready: &str) -> u16 {
    let word = ready.split_whitespace().find_map(|w| w.strip_prefix("port=")).expect("port= in READY");
    word.parse().expect("a port")
}

fn stats(target: &mut Target) -> serde_json::Value {
    target.send("stats");
    serde_json::from_str(&target.line()).expect("stats are JSON")
}

/// Sends requests until told to stop; each must come back whole.
fn client(port: u16, stop: &AtomicBool, done: &AtomicU64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    let request = b"0123456789abcdef";
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(request).expect("the request is taken");
        let mut answer = [0; 16];
        stream.read_exact(&mut answer).expect("the answer comes");
        assert_eq!(&answer, request);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn requests_ticks_and_signals_go_on_while_allgs_looks_and_after() {
    let program = build("1.27.4", "default", "alive");
    let mut target = Target::start(&program, &[], &[]);
    let pid = target.pid().to_string();
    let port = port(&target.ready);
    let (stop, requests, looks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut signals = 0u64;
    std::thread::scope(|scope| {
        scope.spawn(|| client(port, &stop, &requests));
        let looker = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let text = allgs_ok(&["dump", "--format", "go", &pid]);
                assert!(text.contains("main.countTicks"), "the ticking goroutine is missing:\n{text}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Each signal is sent when the one before was counted: equal signals that wait are one for the
        // kernel, so a faster sender could not tell a lost one.
        while !looker.is_finished() && (looks.load(Ordering::Relaxed) < 25 || signals < 200) {
            target.signal(Signal::SIGUSR1);
            signals += 1;
            let begin = Instant::now();
            while stats(&mut target)["signals"].as_u64() != Some(signals) {
                if begin.elapsed() > PATIENCE {
                    stop.store(true, Ordering::Relaxed);
                    panic!("signal {signals} was lost");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let before = stats(&mut target)["ticks"].as_u64().expect("ticks");
    let begin = Instant::now();
    while stats(&mut target)["ticks"].as_u64().expect("ticks") <= before + 3 {
        assert!(begin.elapsed() < PATIENCE, "the target ticks no more");
    }
    assert!(target.ended().is_none());
    let (requests, looks) = (requests.into_inner(), looks.into_inner());
    println!("{looks} looks, {requests} requests, {signals} signals: none lost");
    assert!(requests > 0);
}
