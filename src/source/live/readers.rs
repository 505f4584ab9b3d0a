//! Source, live: threads that read while the target runs. They take only processor time that nobody
//! else wants (`SCHED_IDLE`), so that the target does not feel them. On a machine that has none to spare
//! they would never finish: then threads of ordinary priority join in.

use super::sys;
use crate::memory::share::Share;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most threads: more get in one another's way at the locks of one address space.
const MOST: usize = 4;

/// How long work may take before others join in: this, and as much more for each item.
const PATIENCE: Duration = Duration::from_millis(20);
const PATIENCE_PER_ITEM: Duration = Duration::from_millis(2);

/// Readers that stay out of the target's way.
#[derive(Debug)]
pub struct Readers {
    threads: usize,
    /// The machine had no time to spare: ordinary priority from the beginning.
    hurry: AtomicBool,
}

impl Readers {
    /// As many as there are cores, within reason. No thread is started before there is work.
    pub fn new() -> Readers {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Readers { threads: cores.min(MOST), hurry: AtomicBool::new(false) }
    }
}

impl Default for Readers {
    fn default() -> Readers {
        Readers::new()
    }
}

/// Items that nobody has taken yet, with their places.
type Queue<T> = Mutex<std::iter::Enumerate<std::vec::IntoIter<T>>>;

/// Works off the queue until it is empty.
fn drain<T, R>(queue: &Queue<T>, work: &impl Fn(T) -> R) -> Vec<(usize, R)> {
    let mut done = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        match next {
            Some((place, item)) => done.push((place, work(item))),
            None => return done,
        }
    }
}

impl Share for Readers {
    fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        if items.len() <= 1 {
            return items.into_iter().map(work).collect();
        }
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let deadline = Instant::now() + PATIENCE + PATIENCE_PER_ITEM.saturating_mul(count);
        let queue: Queue<T> = Mutex::new(items.into_iter().enumerate());
        let (queue, work, hurry) = (&queue, &work, self.hurry.load(Ordering::Relaxed));
        let mut done = thread::scope(|scope| {
            let (send, results) = mpsc::channel();
            for _ in 0..self.threads {
                let send = send.clone();
                scope.spawn(move || {
                    if !hurry {
                        // Refused only where a sandbox forbids it: then at ordinary priority.
                        let _ = sys::be_idle();
                    }
                    // The receiver waits for all.
                    let _ = send.send(drain(queue, work));
                });
            }
            drop(send);
            let mut done: Vec<(usize, R)> = Vec::with_capacity(count as usize);
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match results.recv_timeout(left) {
                    Ok(part) => done.extend(part),
                    Err(RecvTimeoutError::Disconnected) => return done,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            self.hurry.store(true, Ordering::Relaxed);
            done.extend(drain(queue, work));
            done.extend(results.iter().flatten());
            done
        });
        done.sort_unstable_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let readers = Readers::new();
        let squares = readers.map((0..1000u64).collect(), |n| n * n);
        assert_eq!(squares, (0..1000u64).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!(readers.map(vec![7], |n| n + 1), [8]);
        assert_eq!(readers.map(Vec::<u8>::new(), |n| n), Vec::<u8>::new());
    }

    #[test]
    fn those_who_wait_in_vain_join_in() {
        // The idle threads are held until the one who waits did an item itself.
        let readers = Readers { threads: 2, hurry: AtomicBool::new(false) };
        let waiting = thread::current().id();
        let joined = AtomicBool::new(false);
        let names = readers.map((0..3).collect(), |_| {
            let own = thread::current().id();
            joined.fetch_or(own == waiting, Ordering::SeqCst);
            while !joined.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            own
        });
        assert!(names.contains(&waiting));
        assert!(readers.hurry.load(Ordering::Relaxed));
    }
}
