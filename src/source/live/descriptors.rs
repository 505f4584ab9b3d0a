//! Source, live: what the kernel says of file descriptors and of system calls in progress. Both can have
//! changed since the snapshot; who asks makes sure that the goroutine has not.

use super::proc::ProcDir;
use super::threads::{TaskDir, own_tid};
use crate::addr::Tid;
use crate::source::descriptors::{
    Descriptor, Socket, SystemCall, not_a_socket, parse_inet, parse_system_call, parse_unix, socket_of,
};
use std::collections::HashMap;

/// Longest table of sockets that is read, in bytes: a quarter of a million sockets.
const TABLE: u64 = 64 << 20;

/// The tables of sockets, by the name of the file and of what it lists.
const TABLES: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];

/// What the descriptors `wanted` refer to; those that are not open any more are left out.
pub(super) fn describe(dir: &ProcDir, wanted: &[i32]) -> Vec<Descriptor> {
    let links: Vec<(i32, String)> = wanted
        .iter()
        .filter_map(|number| Some((*number, dir.link(&format!("fd/{number}")).ok()?)))
        .map(|(number, link)| (number, link.to_string_lossy().into_owned()))
        .collect();
    let any_socket = links.iter().any(|(_, link)| socket_of(link).is_some());
    let sockets = if any_socket { sockets(dir) } else { HashMap::new() };
    let describe = |(number, link): (i32, String)| match socket_of(&link) {
        None => not_a_socket(number, &link),
        Some(inode) => match sockets.get(&inode) {
            Some(found) => Descriptor { number, ..found.clone() },
            None => Descriptor::plain(number, "socket"),
        },
    };
    links.into_iter().map(describe).collect()
}

/// All sockets of the target's network namespace by their inodes.
fn sockets(dir: &ProcDir) -> HashMap<u64, Descriptor> {
    let read = |name: &str| dir.read(&format!("net/{name}"), TABLE).unwrap_or_default();
    let inet = TABLES.iter().flat_map(|name| parse_inet(&read(name), name.trim_end_matches('6')));
    inet.chain(parse_unix(&read("unix"))).map(|Socket { inode, is }| (inode, is)).collect()
}

/// The system call in which a thread is blocked; `thread` is its number in the target's own namespace.
pub(super) fn system_call(dir: &ProcDir, thread: Tid) -> Option<SystemCall> {
    let tid = host_number(dir, thread)?;
    parse_system_call(&dir.read(&format!("task/{tid}/syscall"), 4096).ok()?)
}

/// Our number of the thread that has the number `thread` in the target's own namespace.
pub(super) fn host_number(dir: &ProcDir, thread: Tid) -> Option<i32> {
    let is_it = |tid: &i32| own_tid(dir, *tid) == Some(thread);
    Some(thread.0).filter(is_it).or_else(|| {
        let mut all = Vec::new();
        TaskDir::open(dir).ok()?.list(&mut all).ok()?;
        all.into_iter().find(is_it)
    })
}
