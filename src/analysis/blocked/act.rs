//! Analysis, blocked: what the innermost frames say a parked goroutine is doing. Inlined frames count, so
//! the names are the same in all build kinds. Since 1.24 the mutex lives in `internal/sync`.

use super::Operation;
use crate::unwind::Frame;

/// What a goroutine was doing when it parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// `Mutex.Lock`.
    Mutex,
    /// `RWMutex.Lock`, waiting for the readers.
    RwLock,
    /// `RWMutex.Lock`, waiting for another writer.
    RwLockAsNext,
    /// `RWMutex.RLock`.
    RwRLock,
    /// `Once.Do` while another goroutine is in it.
    Once,
    /// `WaitGroup.Wait`.
    WaitGroup,
    /// `Cond.Wait`.
    Cond,
    /// Takes the lock of an `internal/poll.FD`, to read or to write.
    Descriptor(Operation),
    /// `internal/poll.FD.Close`, waiting for those who use it.
    DescriptorClose,
    /// Waits for the network poller.
    Poll(Operation),
    /// In the loop of package os/signal.
    Signal,
    /// Wants to stop the world.
    StopTheWorld,
    /// Waits for the garbage collector.
    Gc,
    /// Something else.
    Other,
}

/// What `frames`, innermost first, say.
pub fn act(frames: &[Frame]) -> Act {
    let mut names = frames.iter().map(|frame| plain(&frame.function)).peekable();
    let mut runtime = None;
    while let Some(name) = names.next_if(|name| carries(name)) {
        runtime = runtime.or_else(|| of_runtime(name));
    }
    if let Some(act) = runtime {
        return act;
    }
    let name = names.next().unwrap_or_default();
    match name {
        "sync.(*Mutex).lockSlow" | "sync.(*Mutex).Lock" => {
            while names.next_if(|n| n.starts_with("sync.(*Mutex).")).is_some() {}
            match names.next() {
                Some("sync.(*RWMutex).Lock") => Act::RwLockAsNext,
                Some("sync.(*Once).doSlow" | "sync.(*Once).Do") => Act::Once,
                _ => Act::Mutex,
            }
        }
        "sync.(*RWMutex).Lock" => Act::RwLock,
        "sync.(*RWMutex).RLock" | "sync.(*rlocker).Lock" => Act::RwRLock,
        "sync.(*WaitGroup).Wait" => Act::WaitGroup,
        "sync.(*Cond).Wait" => Act::Cond,
        "internal/poll.(*fdMutex).rwlock" => descriptor_lock(names.next().unwrap_or_default()),
        _ if name.starts_with("internal/poll.(*pollDesc).") => {
            names.find_map(|n| n.strip_prefix("internal/poll.(*FD).")).map_or(Act::Other, polled)
        }
        "internal/poll.(*FD).Close" => Act::DescriptorClose,
        "os/signal.loop" => Act::Signal,
        _ => Act::Other,
    }
}

/// The name without `internal/` before `sync`.
fn plain(name: &str) -> &str {
    match name.strip_prefix("internal/") {
        Some(rest) if rest.starts_with("sync.") => rest,
        _ => name,
    }
}

/// Frames between the parked pc and the function of the source: the runtime's own, and its functions
/// that other packages know by a name of their own (`sync.runtime_Semacquire`).
fn carries(name: &str) -> bool {
    name.starts_with("runtime.")
        || name.starts_with("sync.runtime_")
        || name.starts_with("internal/poll.runtime_")
        || name == "os/signal.signal_recv"
}

fn of_runtime(name: &str) -> Option<Act> {
    match name {
        "os/signal.signal_recv" => Some(Act::Signal),
        "runtime.GC" | "runtime.gcStart" | "runtime.gcWaitOnMark" => Some(Act::Gc),
        _ if name.starts_with("runtime.stopTheWorld") => Some(Act::StopTheWorld),
        _ => None,
    }
}

fn descriptor_lock(caller: &str) -> Act {
    match caller {
        "internal/poll.(*FD).readLock" => Act::Descriptor(Operation::Read),
        "internal/poll.(*FD).writeLock" => Act::Descriptor(Operation::Write),
        _ => Act::Other,
    }
}

/// What a method of `internal/poll.FD` that waits for the poller is for.
fn polled(method: &str) -> Act {
    Act::Poll(match method {
        "Accept" => Operation::Accept,
        "WaitWrite" => Operation::Connect,
        _ if method.starts_with("Read") || method == "Pread" || method == "RawRead" => Operation::Read,
        _ => Operation::Write,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::unwind::{FrameKind, Trust};

    pub(crate) fn frames(functions: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| Frame {
            function: (*name).into(),
            file: Some("/src/app.go".into()),
            line: 7,
            pc: Addr::NULL,
            entry: Addr::NULL,
            inlined: false,
            kind: FrameKind::Go,
            trust: Trust::Exact,
        };
        functions.iter().map(frame).collect()
    }

    const PARK: [&str; 3] = ["runtime.gopark", "runtime.semacquire1", "sync.runtime_SemacquireMutex"];

    fn parked(rest: &[&str]) -> Act {
        act(&frames(&[&PARK, rest].concat()))
    }

    #[test]
    fn a_mutex_is_told_from_what_holds_one() {
        let lock = ["internal/sync.(*Mutex).lockSlow", "internal/sync.(*Mutex).Lock", "sync.(*Mutex).Lock"];
        let with = |outer: &str| parked(&[&lock[..], &[outer]].concat());
        assert_eq!(with("main.main"), Act::Mutex);
        assert_eq!(with("sync.(*RWMutex).Lock"), Act::RwLockAsNext);
        assert_eq!(with("sync.(*Once).doSlow"), Act::Once);
        // A lock inside the function that a Once runs is the user's.
        assert_eq!(parked(&["sync.(*Mutex).lockSlow", "main.f", "sync.(*Once).doSlow"]), Act::Mutex);
        assert_eq!(parked(&["sync.(*RWMutex).Lock", "main.f"]), Act::RwLock);
        assert_eq!(parked(&["sync.(*RWMutex).RLock"]), Act::RwRLock);
        assert_eq!(parked(&["main.f"]), Act::Other);
    }

    #[test]
    fn poller_and_runtime() {
        let poll = ["runtime.gopark", "runtime.netpollblock", "internal/poll.runtime_pollWait"];
        let with = |method: &str| {
            act(&frames(&[&poll[..], &["internal/poll.(*pollDesc).wait", method, "net.x"]].concat()))
        };
        assert_eq!(with("internal/poll.(*FD).ReadFromInet4"), Act::Poll(Operation::Read));
        assert_eq!(with("internal/poll.(*FD).Accept"), Act::Poll(Operation::Accept));
        assert_eq!(with("internal/poll.(*FD).WaitWrite"), Act::Poll(Operation::Connect));
        assert_eq!(with("internal/poll.(*FD).Writev"), Act::Poll(Operation::Write));
        assert_eq!(parked(&["runtime.stopTheWorldGC", "main.f"]), Act::StopTheWorld);
        assert_eq!(act(&[]), Act::Other);
    }
}
