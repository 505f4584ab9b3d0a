//! A server under load, with a hundred snapshots in a row and without: what its clients feel.

use crate::Outcome;
use crate::target::{Target, build};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Snapshots in a row, and about as long without any.
const SNAPSHOTS: usize = 100;

/// Clients, each with a request every few milliseconds.
const CLIENTS: usize = 4;
const PERIOD: Duration = Duration::from_millis(2);

/// Prints the worst gap of the server's ticker and the clients' 99th percentile, with and without.
pub fn server(release: &Path) -> Outcome<()> {
    let program = build("load")?;
    println!("\n| 10,000 goroutines, server of lines | ticker's worst gap ms | p50 ms | p99 ms | requests |");
    println!("|---|---|---|---|---|");
    let mut target = Target::start(&program, &["-ticker", "-serve", "-n", "10000"])?;
    let address = target.ask("address")?;
    let pid = target.pid().to_string();
    target.gap()?;
    let begin = Instant::now();
    let with = clients(&address, || {
        for _ in 0..SNAPSHOTS {
            let mut allgs = Command::new(release.join("allgs"));
            let status = allgs.args(["list", "-q", &pid]).stdout(Stdio::null()).status()?;
            if !status.success() {
                return Err("allgs failed".into());
            }
        }
        Ok(())
    })?;
    print(&format!("{SNAPSHOTS} snapshots in a row"), target.gap()?, with);
    let span = begin.elapsed();
    let without = clients(&address, || {
        thread::sleep(span);
        Ok(())
    })?;
    print("none", target.gap()?, without);
    Ok(())
}

/// What requests took while `meanwhile` ran.
fn clients(address: &str, meanwhile: impl FnOnce() -> Outcome<()>) -> Outcome<Vec<Duration>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(address, &over))).collect();
        let done = meanwhile();
        over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client panicked")??);
        }
        done.map(|()| all)
    })
}

fn client(address: &str, over: &AtomicBool) -> std::io::Result<Vec<Duration>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut answers, mut requests) = (BufReader::new(stream.try_clone()?), stream);
    let (mut took, mut line) = (Vec::new(), String::new());
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        requests.write_all(b"hello\n")?;
        line.clear();
        answers.read_line(&mut line)?;
        took.push(begin.elapsed());
        thread::sleep(PERIOD);
    }
    Ok(took)
}

fn print(name: &str, gap: Option<u64>, mut took: Vec<Duration>) {
    took.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |t| t.as_secs_f64() * 1e3);
    println!(
        "| {name} | {:.1} | {:.2} | {:.2} | {} |",
        gap.unwrap_or(0) as f64 / 1e6,
        ms(took.get(took.len() / 2)),
        ms(took.get(took.len() * 99 / 100)),
        took.len()
    );
}
