//! Source, live: memory of the process by `process_vm_readv`; by `/proc/PID/mem` where a seccomp filter
//! or an old kernel refuses that. Many pieces go into one call: the cost is per piece and call, not
//! per byte.

use super::proc::ProcDir;
use crate::addr::{Addr, Pid};
use crate::memory::{Memory, Piece, ReadError, ReadFail, ReadResult};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use std::borrow::BorrowMut;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Pieces per call: `UIO_MAXIOV` of the kernel.
const PIECES: usize = 1024;

/// The memory of a process.
#[derive(Debug)]
pub(super) struct LiveMemory {
    pid: nix::unistd::Pid,
    /// `/proc/PID/mem`: bound to the address space, not to the number. It reads as ended once the
    /// process exits or executes another program.
    mem: Option<File>,
    /// An address that was mapped at opening, to ask `mem` whether the address space is still there.
    probe: Addr,
    /// `process_vm_readv` was refused: it will be again. It asks the main thread, so without one it is.
    refused: AtomicBool,
}

impl LiveMemory {
    /// Gets ready to read; `probe` is any address that is readable now. Fails with the kernel's refusal
    /// when neither way is open.
    pub(super) fn open(dir: &ProcDir, pid: Pid, probe: Addr) -> Result<LiveMemory, Errno> {
        let (mem, refusal) = match dir.file("mem") {
            Ok(file) => (Some(file), None),
            Err(e) => (None, Some(e)),
        };
        let pid = nix::unistd::Pid::from_raw(pid.0);
        let memory = LiveMemory { pid, mem, probe, refused: AtomicBool::new(dir.orphaned()) };
        match memory.read(probe, &mut [0]) {
            Err(ReadError { why: ReadFail::Denied, .. }) => Err(refusal.unwrap_or(Errno::EPERM)),
            Err(ReadError { why: ReadFail::Gone, .. }) => Err(Errno::ESRCH),
            _ => Ok(memory),
        }
    }

    /// Whether the address space that was opened is still the process's.
    pub(super) fn alive(&self) -> bool {
        match &self.mem {
            Some(mem) => !matches!(mem.read_at(&mut [0], self.probe.get()), Ok(0)),
            None => !matches!(self.read(self.probe, &mut [0]), Err(ReadError { why: ReadFail::Gone, .. })),
        }
    }

    /// One call of `process_vm_readv`: how many bytes it read.
    fn vm_read(&self, into: &mut [IoSliceMut<'_>], from: &[RemoteIoVec]) -> Result<usize, ReadFail> {
        match process_vm_readv(self.pid, into, from) {
            Ok(n) => Ok(n),
            // The main thread, which the number names, may have ended before the others.
            Err(Errno::ESRCH) if self.mem.is_none() || !self.alive() => Err(ReadFail::Gone),
            Err(Errno::ESRCH | Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => {
                self.refused.store(true, Ordering::Relaxed);
                Err(ReadFail::Denied)
            }
            Err(_) => Err(ReadFail::Unmapped),
        }
    }

    /// Reads what one call gives of `[at, at + buf.len())`; at least one byte.
    fn read_some(&self, at: Addr, buf: &mut [u8]) -> Result<usize, ReadFail> {
        if !self.refused.load(Ordering::Relaxed) {
            let from = [remote(at, buf.len()).ok_or(ReadFail::Overflow)?];
            match self.vm_read(&mut [IoSliceMut::new(buf)], &from) {
                Ok(0) => return Err(ReadFail::Unmapped),
                Err(ReadFail::Denied) => {}
                other => return other,
            }
        }
        let mem = self.mem.as_ref().ok_or(ReadFail::Denied)?;
        match mem.read_at(buf, at.get()) {
            Ok(0) => Err(ReadFail::Gone),
            Ok(n) => Ok(n),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Err(ReadFail::Denied),
            Err(_) => Err(ReadFail::Unmapped),
        }
    }

    /// Reads pieces in the order given, as many per call as the kernel takes.
    fn read_in_order<'p, P: BorrowMut<Piece<'p>>>(&self, pieces: &mut [P]) {
        let mut rest = pieces;
        while !rest.is_empty() {
            let n = rest.len().min(PIECES);
            let Some(batch) = rest.get_mut(..n) else { return };
            let done = if self.refused.load(Ordering::Relaxed) { 0 } else { self.read_batch(batch) };
            // The piece at which the call ended: read alone, to tell a hole from a call cut short.
            let Some(stuck) = batch.get_mut(done) else {
                rest = rest.get_mut(n..).unwrap_or_default();
                continue;
            };
            let stuck: &mut Piece<'_> = stuck.borrow_mut();
            stuck.ok = self.read(stuck.at, stuck.into).is_ok();
            rest = rest.get_mut(done.saturating_add(1)..).unwrap_or_default();
        }
    }

    /// Reads at most [`PIECES`] pieces by one call; returns how many from the first were filled.
    fn read_batch<'p, P: BorrowMut<Piece<'p>>>(&self, batch: &mut [P]) -> usize {
        let mut into = Vec::with_capacity(batch.len());
        let mut from: Vec<RemoteIoVec> = Vec::with_capacity(batch.len());
        for piece in batch.iter_mut() {
            let piece: &mut Piece<'_> = piece.borrow_mut();
            let Some(next) = remote(piece.at, piece.into.len()) else { break };
            match from.last_mut() {
                // Neighbours: one look at the target's page tables for both.
                Some(last) if last.base.checked_add(last.len) == Some(next.base) => {
                    last.len = last.len.saturating_add(next.len);
                }
                _ => from.push(next),
            }
            into.push(IoSliceMut::new(piece.into));
        }
        let mut read = match self.vm_read(&mut into, &from) {
            Ok(n) => n,
            Err(_) => return 0,
        };
        drop(into);
        let mut done = 0usize;
        for piece in batch {
            let piece: &mut Piece<'_> = piece.borrow_mut();
            match read.checked_sub(piece.into.len()) {
                Some(rest) => read = rest,
                None => break,
            }
            piece.ok = true;
            done = done.saturating_add(1);
        }
        done
    }
}

/// The range as the kernel takes it; `None` when it goes past the end of the address space.
fn remote(at: Addr, len: usize) -> Option<RemoteIoVec> {
    let base = usize::try_from(at.get()).ok()?;
    base.checked_add(len)?;
    Some(RemoteIoVec { base, len })
}

impl Memory for LiveMemory {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let (start, len) = (at, buf.len() as u64);
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let n = self.read_some(at, rest).map_err(|why| ReadError { at: start, len, why })?;
            at = at.offset(n as u64);
            rest = rest.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }

    fn read_pieces(&self, pieces: &mut [Piece<'_>]) {
        for piece in pieces.iter_mut() {
            piece.ok = false;
        }
        if pieces.is_sorted_by_key(|p| p.at) {
            self.read_in_order(pieces);
        } else {
            let mut sorted: Vec<&mut Piece<'_>> = pieces.iter_mut().collect();
            sorted.sort_unstable_by_key(|p| p.at);
            self.read_in_order(&mut sorted);
        }
        // Meanwhile the process may have ended and its number may be another's, or it may run
        // another program: then these bytes are not its own.
        if !self.alive() {
            for piece in pieces {
                piece.ok = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Our own memory stands in for that of a target.
    fn own() -> LiveMemory {
        let pid = Pid(i32::try_from(std::process::id()).unwrap());
        static MAPPED: u64 = 7;
        LiveMemory::open(&ProcDir::open(pid).unwrap(), pid, Addr::new(&raw const MAPPED as u64)).unwrap()
    }

    fn address(bytes: &[u8]) -> Addr {
        Addr::new(bytes.as_ptr() as u64)
    }

    fn read_all(memory: &LiveMemory, wanted: &[(Addr, usize)]) -> Vec<Option<Vec<u8>>> {
        let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|(_, n)| vec![0; *n]).collect();
        let mut pieces: Vec<Piece<'_>> = wanted
            .iter()
            .zip(&mut buffers)
            .map(|((at, _), into)| Piece { at: *at, into: into.as_mut_slice(), ok: true })
            .collect();
        memory.read_pieces(&mut pieces);
        let ok: Vec<bool> = pieces.iter().map(|p| p.ok).collect();
        buffers.into_iter().zip(ok).map(|(b, ok)| ok.then_some(b)).collect()
    }

    /// Both ways of reading must agree.
    fn by_both_ways(check: impl Fn(&LiveMemory)) {
        let memory = own();
        check(&memory);
        assert!(!memory.refused.load(Ordering::Relaxed), "process_vm_readv works here");
        memory.refused.store(true, Ordering::Relaxed);
        check(&memory);
    }

    #[test]
    fn unsorted_adjacent_and_unreadable_pieces_in_one_call() {
        let bytes: Vec<u8> = (0..=255).collect();
        let at = address(&bytes);
        by_both_ways(|memory| {
            let hole = Addr::new(0x10);
            let wanted = [
                (at.offset(8), 8),
                (hole, 4),
                (at, 8),
                (at.offset(16), 1),
                (Addr::new(u64::MAX), 9),
                (at, 0),
            ];
            let read = read_all(memory, &wanted);
            let expected =
                [Some(&bytes[8..16]), None, Some(&bytes[..8]), Some(&bytes[16..17]), None, Some(&bytes[..0])];
            assert_eq!(read.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        });
    }

    #[test]
    fn more_pieces_than_one_call_takes_with_holes_among_them() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        let at = address(&bytes);
        by_both_ways(|memory| {
            let wanted: Vec<_> = (0..5000u64)
                .map(|n| if n % 1000 == 7 { (Addr::new(n), 1) } else { (at.offset(n), 1) })
                .collect();
            for (n, got) in read_all(memory, &wanted).into_iter().enumerate() {
                let expected = (n % 1000 != 7).then(|| vec![bytes[n]]);
                assert_eq!(got, expected, "piece {n}");
            }
        });
    }

    #[test]
    fn a_range_that_runs_into_a_hole_fails_whole() {
        let page = 4096u64;
        let map = memmap2::MmapMut::map_anon(4 * page as usize).unwrap();
        let at = address(&map);
        by_both_ways(|memory| {
            let mut buf = vec![0; 8];
            assert_eq!(memory.read(Addr::new(0x10), &mut buf).map_err(|e| e.why), Err(ReadFail::Unmapped));
            assert_eq!(memory.read(at.offset(4 * page - 8), &mut buf), Ok(()));
            let end = Addr::new(u64::MAX - 3);
            assert!(memory.read(end, &mut buf).is_err());
            assert_eq!(memory.read(end, &mut []), Ok(()));
        });
    }

    #[test]
    fn a_process_that_ended_is_gone_not_unmapped() {
        // It ends with its input, so also if this test fails.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid(i32::try_from(child.id()).unwrap());
        let dir = ProcDir::open(pid).unwrap();
        let maps = crate::source::maps::parse_maps(&dir.read("maps", 1 << 20).unwrap());
        let probe = maps.iter().find(|m| m.readable).unwrap().span.start;
        let memory = LiveMemory::open(&dir, pid, probe).unwrap();
        assert!(memory.alive());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!memory.alive());
        assert_eq!(memory.read(probe, &mut [0]).map_err(|e| e.why), Err(ReadFail::Gone));
        memory.refused.store(true, Ordering::Relaxed);
        assert_eq!(memory.read(probe, &mut [0]).map_err(|e| e.why), Err(ReadFail::Gone));
        assert_eq!(read_all(&memory, &[(probe, 1)]), [None]);
    }
}
