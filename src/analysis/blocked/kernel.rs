//! Analysis, blocked: what the kernel knows of a live target: the files behind descriptors and the system
//! calls in which threads are. Asked once for all goroutines; a core has no kernel.

use super::objects::Found;
use super::{Inputs, Kind, Operation, call_text};
use crate::runtime::{Snapshot, syscall};
use crate::source::descriptors::{Descriptor, SystemCall};
use crate::unwind::Frame;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

/// Adds descriptors and system calls to what was found.
pub(super) fn describe(inputs: &Inputs<'_>, found: &mut Found) {
    let calls = calls(inputs, found);
    let mut fds: Vec<(usize, i32)> = found.polls.iter().map(|(index, poll)| (*index, poll.fd)).collect();
    for (index, call) in &calls {
        let Some(on) = found.blocked.of.get_mut(*index).and_then(Option::as_mut) else { continue };
        match call {
            Some(call) => {
                on.call = Some(call_text(inputs.image, call));
                let [first, ..] = call.arguments;
                let takes = syscall::takes_descriptor(inputs.image.arch, call.number);
                // The kernel prints 64 bits, of which it uses 32.
                fds.extend(takes.then_some((*index, first as u32 as i32)));
            }
            None => on.call = named_by(inputs.frames(*index)),
        }
        on.operation = on.call.as_deref().map_or(Operation::Call, operation);
    }
    let mut numbers: Vec<i32> = fds.iter().map(|(_, fd)| *fd).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let known: FxHashMap<i32, Descriptor> =
        inputs.source.descriptors(&numbers).into_iter().map(|d| (d.number, d)).collect();
    for (index, fd) in fds {
        if let Some(on) = found.blocked.of.get_mut(index).and_then(Option::as_mut) {
            let descriptor = known.get(&fd).cloned();
            on.fd = Some(Box::new(descriptor.unwrap_or_else(|| Descriptor::plain(fd, "unknown"))));
        }
    }
}

/// The system call of each goroutine that is in one: from the kernel, if it can be had.
fn calls(inputs: &Inputs<'_>, found: &Found) -> Vec<(usize, Option<SystemCall>)> {
    let in_calls: Vec<usize> = found
        .blocked
        .of
        .iter()
        .enumerate()
        .filter(|(_, on)| on.as_ref().is_some_and(|on| on.kind == Kind::Syscall))
        .map(|(index, _)| index)
        .collect();
    in_calls.into_par_iter().map(|index| (index, call_of(inputs, inputs.snapshot, index))).collect()
}

fn call_of(inputs: &Inputs<'_>, snapshot: &Snapshot<'_>, index: usize) -> Option<SystemCall> {
    let m = snapshot.m_of(inputs.g(index)?)?;
    if m.incgo {
        return None;
    }
    inputs.source.system_call(m.procid?)
}

/// Functions that make system calls for others.
const CARRIERS: [&str; 5] =
    ["runtime.", "syscall.", "internal/runtime/syscall.", "runtime/internal/syscall.", "internal/runtime/"];

/// The system call by the name of the function that makes it: `syscall.read` -> `read`.
fn named_by(frames: &[Frame]) -> Option<Box<str>> {
    let carried = |name: &str| CARRIERS.iter().any(|prefix| name.starts_with(prefix));
    let generic = |name: &str| name.contains("yscall") && !name.contains('(');
    let inner = frames.iter().map(|f| &*f.function).take_while(|name| carried(name));
    let mut named = inner.filter_map(|name| name.strip_prefix("syscall."));
    let name = named.find(|name| !generic(name) && !name.starts_with("runtime_"))?;
    Some(name.to_ascii_lowercase().into())
}

/// What a system call does with its descriptor.
fn operation(call: &str) -> Operation {
    match call {
        "read" | "pread64" | "readv" | "preadv" | "recvfrom" | "recvmsg" | "recvmmsg" | "pread" => {
            Operation::Read
        }
        "write" | "pwrite64" | "writev" | "pwritev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile"
        | "pwrite" => Operation::Write,
        "accept" | "accept4" => Operation::Accept,
        "connect" => Operation::Connect,
        "close" => Operation::Close,
        _ => Operation::Call,
    }
}

#[cfg(test)]
mod tests {
    use super::super::act::tests::frames;
    use super::*;

    #[test]
    fn a_call_is_named_by_the_function_that_makes_it() {
        let name = |functions: &[&str]| named_by(&frames(functions)).map(String::from);
        let read =
            ["internal/runtime/syscall.Syscall6", "syscall.RawSyscall6", "syscall.Syscall", "syscall.read"];
        assert_eq!(
            name(&[&read[..], &["syscall.Read", "os.(*File).Read"]].concat()).as_deref(),
            Some("read")
        );
        assert_eq!(name(&["syscall.Syscall", "main.main", "syscall.read"]), None);
        assert_eq!(operation("accept4"), Operation::Accept);
        assert_eq!(operation("futex"), Operation::Call);
    }
}
