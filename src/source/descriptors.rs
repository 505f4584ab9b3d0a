//! Source: what the file descriptors of a process refer to, and the tables of sockets that the kernel
//! keeps in `/proc/PID/net`. Only their text is understood here; it is hostile like everything else.

use super::Place;
use crate::addr::Addr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What one file descriptor refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// `tcp`, `udp`, `unix`, `pipe`, `file`, `device`, `folder`, `eventfd`, ... as the kernel names it.
    pub kind: String,
    /// Own address of a socket; name of a file or of a unix socket.
    pub local: Option<String>,
    /// Address of the other end of a socket.
    pub remote: Option<String>,
    /// State of a socket, by the kernel's names (`ESTABLISHED`, `CLOSE_WAIT`, `LISTEN`).
    pub state: Option<&'static str>,
    /// Bytes that arrived and were not read yet.
    pub unread: Option<u64>,
}

impl Descriptor {
    /// A descriptor of which no more is known than what it is.
    pub fn plain(number: i32, kind: &str) -> Descriptor {
        Descriptor { number, kind: kind.to_owned(), local: None, remote: None, state: None, unread: None }
    }
}

/// A system call in which a thread is blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemCall {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Where it was called.
    pub place: Place,
}

/// Understands `/proc/PID/task/TID/syscall`: `NUMBER ARG*6 SP PC`. `None` for a thread that runs, and
/// for one that is blocked outside of a system call (-1).
pub fn parse_system_call(text: &[u8]) -> Option<SystemCall> {
    let text = str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = hex(words.next()?)?;
    }
    let (sp, pc) = (Addr::new(hex(words.next()?)?), Addr::new(hex(words.next()?)?));
    Some(SystemCall { number, arguments, place: Place { pc, sp } })
}

fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// The number of a socket in the target of a link in `/proc/PID/fd`: `socket:[123]`.
pub fn socket_of(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// What the target of a link in `/proc/PID/fd` says of something that is no socket.
pub fn not_a_socket(number: i32, link: &str) -> Descriptor {
    if link.starts_with("pipe:") {
        return Descriptor::plain(number, "pipe");
    }
    if let Some(kind) = link.strip_prefix("anon_inode:") {
        return Descriptor::plain(number, kind.trim_matches(['[', ']']));
    }
    let kind = if link.starts_with("/dev/") { "device" } else { "file" };
    Descriptor { local: Some(link.to_owned()), ..Descriptor::plain(number, kind) }
}

/// One line of a table of sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socket {
    /// The number by which links in `/proc/PID/fd` name it.
    pub inode: u64,
    /// All but the number of the descriptor.
    pub is: Descriptor,
}

/// TCP's states by number from 1 (`include/net/tcp_states.h`).
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSED",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// Understands `/proc/PID/net/tcp`, `tcp6`, `udp` or `udp6`; `kind` is what the sockets are called.
pub fn parse_inet(text: &[u8], kind: &str) -> Vec<Socket> {
    let text = String::from_utf8_lossy(text);
    text.lines().skip(1).filter_map(|line| inet_line(line, kind)).collect()
}

fn inet_line(line: &str, kind: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let local = address(words.get(1)?)?;
    let remote = address(words.get(2)?)?;
    let state = usize::from_str_radix(words.get(3)?, 16).ok()?;
    let (_, received) = words.get(4)?.split_once(':')?;
    let state = state.checked_sub(1).and_then(|i| STATES.get(i).copied());
    let tcp = kind.starts_with("tcp");
    let is = Descriptor {
        number: -1,
        kind: kind.to_owned(),
        local: Some(local.to_string()),
        remote: (!remote.ip().is_unspecified() || remote.port() != 0).then(|| remote.to_string()),
        // Of UDP the kernel prints TCP's words, which say nothing.
        state: state.filter(|_| tcp),
        unread: u64::from_str_radix(received, 16).ok().filter(|_| state != Some("LISTEN")),
    };
    Some(Socket { inode: words.get(9)?.parse().ok()?, is })
}

/// An address as the kernel prints it: words in the order of the machine's bytes, `0100007F:1F90`.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |i: usize| u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_le_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let v6 = Ipv6Addr::from(*bytes.first_chunk::<16>()?);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Understands `/proc/PID/net/unix`.
pub fn parse_unix(text: &[u8]) -> Vec<Socket> {
    let text = String::from_utf8_lossy(text);
    text.lines().skip(1).filter_map(unix_line).collect()
}

/// The flag of a unix socket that listens, `__SO_ACCEPTCON`.
const LISTENS: u32 = 1 << 16;

fn unix_line(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(3);
    let flags = u32::from_str_radix(words.next()?, 16).ok()?;
    let state = words.nth(1)?;
    let state = match state {
        _ if flags & LISTENS != 0 => Some("LISTEN"),
        "01" => Some("UNCONNECTED"),
        "02" => Some("CONNECTING"),
        "03" => Some("CONNECTED"),
        "04" => Some("DISCONNECTING"),
        _ => None,
    };
    let inode = words.next()?.parse().ok()?;
    let local = words.next().map(str::to_owned);
    Some(Socket { inode, is: Descriptor { local, state, ..Descriptor::plain(-1, "unix") } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 41 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F91 0500000A:1538 08 00000000:00000010 00:00000000 00000000     0        0 42 1 0000000000000000 100 0 0 10 0
   2: nonsense
";

    #[test]
    fn tcp_sockets_have_addresses_and_states() {
        let found = parse_inet(TCP.as_bytes(), "tcp");
        let [listens, waits] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(listens.is.state, Some("LISTEN"));
        assert_eq!((listens.inode, listens.is.remote.as_deref()), (41, None));
        assert_eq!(waits.is.local.as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(waits.is.remote.as_deref(), Some("10.0.0.5:5432"));
        assert_eq!((waits.is.state, waits.is.unread), (Some("CLOSE_WAIT"), Some(16)));
    }

    #[test]
    fn addresses_of_both_families() {
        let text = |t: &str| address(t).map(|a| a.to_string());
        assert_eq!(text("00000000000000000000000001000000:0050").as_deref(), Some("[::1]:80"));
        assert_eq!(text("0000000000000000FFFF00000100007F:0050").as_deref(), Some("127.0.0.1:80"));
        assert_eq!((text("0100007F"), text("01:50"), text("é100007:50")), (None, None, None));
    }

    #[test]
    fn unix_sockets_with_and_without_a_name() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 77 /run/x.sock
0000000000000000: 00000003 00000000 00000000 0001 03 78
";
        let found = parse_unix(text.as_bytes());
        let of = |i: usize| found.get(i).map(|s| (s.inode, s.is.state, s.is.local.as_deref()));
        assert_eq!(of(0), Some((77, Some("LISTEN"), Some("/run/x.sock"))));
        assert_eq!(of(1), Some((78, Some("CONNECTED"), None)));
    }

    #[test]
    fn links_and_system_calls() {
        assert_eq!((socket_of("socket:[12]"), socket_of("pipe:[12]")), (Some(12), None));
        assert_eq!(not_a_socket(3, "anon_inode:[eventfd]").kind, "eventfd");
        assert_eq!(not_a_socket(3, "pipe:[9]").kind, "pipe");
        assert_eq!(not_a_socket(3, "/dev/null").kind, "device");
        let call = parse_system_call(b"0 0x7 0x1 0x2 0x0 0x0 0x0 0x7ffe 0x47\n");
        assert_eq!(call.map(|c| (c.number, c.arguments[0])), Some((0, 7)));
        assert_eq!(call.map(|c| c.place), Some(Place { pc: Addr::new(0x47), sp: Addr::new(0x7ffe) }));
        assert_eq!((parse_system_call(b"running\n"), parse_system_call(b"-1 0x7 0x8\n")), (None, None));
    }
}
