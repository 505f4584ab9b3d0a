//! Programs that nobody here wrote, stripped as their makers ship them, started as a user would and
//! given some traffic: each goroutine has a complete stack and a known reason to wait, and where the
//! program serves its own dump, each one that is in it before and after is the same, byte for byte.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use support::crashed::parked;
use support::{Tally, allgs_ok, blocks, equal_by_id, tally_all};

/// Longest wait for a program to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a goroutine that differs from the program's own dump is compared again.
const ROUNDS: usize = 5;

/// A program and what is done with it. `PORT`, `PEER` and `HOME` in `args` are replaced.
struct Program {
    name: &'static str,
    /// Below the folder of `setup.sh programs`.
    path: &'static str,
    args: &'static [&'static str],
    /// What is asked of it before it is looked at.
    asked: &'static [&'static str],
    /// Path of its own dump.
    dump: Option<&'static str>,
}

const DUMP: Option<&str> = Some("/debug/pprof/goroutine?debug=2");

const PROGRAMS: &[Program] = &[
    Program {
        name: "caddy",
        path: "debian/usr/bin/caddy",
        // Its configuration says where it listens.
        args: &["run", "--config", "HOME/caddy.json"],
        asked: &["/config/", "/metrics", "/nothing"],
        dump: DUMP,
    },
    Program {
        name: "etcd",
        path: "debian/usr/bin/etcd",
        args: &[
            "--data-dir=HOME/data",
            "--enable-pprof",
            "--listen-client-urls=http://127.0.0.1:PORT",
            "--advertise-client-urls=http://127.0.0.1:PORT",
            "--listen-peer-urls=http://127.0.0.1:PEER",
        ],
        asked: &["/health", "/version", "/metrics"],
        dump: DUMP,
    },
    Program {
        name: "node-exporter",
        path: "debian/usr/bin/prometheus-node-exporter",
        args: &["--web.listen-address=127.0.0.1:PORT"],
        asked: &["/metrics", "/", "/metrics"],
        dump: DUMP,
    },
    Program {
        name: "rclone",
        path: "debian/usr/bin/rclone",
        args: &["rcd", "--rc-no-auth", "--rc-addr=127.0.0.1:PORT"],
        asked: &["/", "/core/stats"],
        dump: DUMP,
    },
    Program {
        name: "syncthing",
        path: "debian/usr/bin/syncthing",
        args: &["serve", "--no-browser", "--no-restart", "--home=HOME", "--gui-address=127.0.0.1:PORT"],
        asked: &["/", "/rest/noauth/health"],
        dump: None,
    },
    Program {
        name: "esbuild",
        path: "esbuild/bin/esbuild",
        args: &["--serve=127.0.0.1:PORT", "--servedir=HOME"],
        asked: &["/", "/nothing"],
        dump: None,
    },
    Program {
        name: "hugo",
        path: "hugo/hugo/binaries/hugo",
        args: &["server", "--source=HOME", "--bind=127.0.0.1", "--port=PORT"],
        asked: &["/", "/nothing"],
        dump: None,
    },
    Program {
        name: "tsgo",
        path: "tsgo/lib/tsgo",
        // It talks over its stdin, which stays open.
        args: &["--lsp", "--stdio"],
        asked: &[],
        dump: None,
    },
];

/// A program that runs until this is dropped.
struct Running {
    child: Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Next port that is tried. Below those that the kernel gives to whoever connects (32,768 and up): a
/// client that tries such a port while nobody listens can be connected to itself.
static NEXT: AtomicU16 = AtomicU16::new(20_000);

fn free_port() -> u16 {
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_768, "no port is free");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts a program and waits until it listens; `None` if it is not there.
fn start(program: &Program) -> Option<Running> {
    let kept = PathBuf::from(std::env::var_os("ALLGS_CACHE").expect("started by setup.sh run"));
    let path = kept.join("programs").join(program.path);
    if !path.is_file() {
        println!("{}: 1 skipped: setup.sh programs could not get it here", program.name);
        return None;
    }
    let home = support::folder();
    let (port, peer) = (free_port(), free_port());
    let config = format!("{{\"admin\":{{\"listen\":\"127.0.0.1:{port}\"}}}}");
    std::fs::write(home.path().join("caddy.json"), config).expect("configuration");
    std::fs::write(home.path().join("hugo.toml"), "title = \"x\"\n").expect("configuration");
    let place = |arg: &&str| {
        let home = home.path().to_str().expect("a path of text");
        arg.replace("PORT", &port.to_string()).replace("PEER", &peer.to_string()).replace("HOME", home)
    };
    let child = Command::new(path)
        .args(program.args.iter().map(place))
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect(program.name);
    let mut running = Running { child, port, _home: home };
    if !program.asked.is_empty() {
        running.connect(program.name);
    } else {
        running.greet();
    }
    Some(running)
}

impl Running {
    /// Connects; not every program listens at once, or all the time while it starts.
    fn connect(&mut self, name: &str) -> TcpStream {
        let begin = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => return stream,
                Err(e) => assert!(begin.elapsed() < PATIENCE, "{name} does not listen: {e}"),
            }
            assert!(self.child.try_wait().expect("wait").is_none(), "{name} ended");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Begins a conversation of the language server protocol and waits for the answer.
    fn greet(&mut self) {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"processId":null,"rootUri":null,"capabilities":{}}}"#;
        let stdin = self.child.stdin.as_mut().expect("stdin");
        write!(stdin, "Content-Length: {}\r\n\r\n{body}", body.len()).expect("it reads");
    }

    /// What it answers to a GET; "" if it answers nothing.
    fn get(&mut self, name: &str, path: &str) -> String {
        let mut stream = self.connect(name);
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port).expect("it reads");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

/// What every goroutine of a real program must have.
fn whole(name: &str, document: &Value) -> usize {
    let goroutines = document["goroutines"].as_array().expect("goroutines");
    for g in goroutines {
        let known = |text: &Value| text.as_str().is_none_or(|text| !text.contains("unknown"));
        assert!(known(&g["status"]) && known(&g["wait_reason"]), "{name}: {g:#}");
        assert_eq!(g["stack_end"], "complete", "{name}: {g:#}");
        assert!(g["frames"].as_array().is_some_and(|frames| !frames.is_empty()), "{name}: {g:#}");
    }
    goroutines.len()
}

/// Compares with the program's own dump, asked for before and after. What is the same in both can still
/// have done something in between and be back (etcd writes to its disk ten times a second), so what
/// differs is looked at again: it must be equal in one of a few rounds.
fn its_own_dump(running: &mut Running, name: &str, dump: &str) -> Tally {
    let pid = running.child.id().to_string();
    let mut found: BTreeMap<u64, bool> = BTreeMap::new();
    for round in 0..ROUNDS {
        let before = running.get(name, dump);
        let got = allgs_ok(&["dump", "--format", "go", &pid]);
        let after = blocks(&running.get(name, dump));
        // What is in both and the same did not move in between, as far as can be seen.
        let stood = |block: &str| parked(block) && after.iter().any(|(_, other)| other == block);
        let now: BTreeMap<u64, bool> = equal_by_id(name, &before, &got, stood).into_iter().collect();
        match round {
            0 => found = now,
            _ => found.iter_mut().for_each(|(id, equal)| *equal |= now.get(id) == Some(&true)),
        }
        assert!(!found.is_empty(), "{name}: nothing stood still in\n{before}");
        let differ = found.values().filter(|equal| !**equal).count();
        if differ == 0 {
            break;
        }
        println!("{name}: {differ} of {} differ in round {round}", found.len());
    }
    Tally { compared: found.len(), equal: found.values().filter(|equal| **equal).count() }
}

fn judge(program: &Program) -> Tally {
    let Some(mut running) = start(program) else { return Tally::default() };
    for path in program.asked {
        running.get(program.name, path);
    }
    let pid = running.child.id().to_string();
    let text = allgs_ok(&["dump", "--all", "--format", "json", &pid]);
    let seen = whole(program.name, &serde_json::from_str(&text).expect("JSON"));
    let mut tally = Tally { compared: seen, equal: seen };
    if let Some(dump) = program.dump {
        let own = its_own_dump(&mut running, program.name, dump);
        println!("{}: of its own dump compared: {}, equal: {}", program.name, own.compared, own.equal);
        tally.add(own);
    }
    let info: Value = serde_json::from_str(&allgs_ok(&["info", "--format", "json", &pid])).expect("JSON");
    println!("{}: {}, {seen} goroutines, all complete", program.name, info["target"]["go_version"]);
    tally
}

#[test]
fn real_programs_show_every_goroutine_whole() {
    let tally = tally_all(PROGRAMS, judge);
    println!("real programs: compared: {}, equal: {}", tally.compared, tally.equal);
    assert_eq!(tally.compared, tally.equal);
    assert!(tally.compared > 100, "hardly a program could be started");
}
