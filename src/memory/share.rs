//! Memory: bulk work shared between threads. Who does the work is a value: a reader that must not take
//! processor time from the target works otherwise than one for which the target stands still.

use rayon::prelude::*;

/// Threads that work off a list together.
pub trait Share {
    /// Does `work` with each of `items`; the results come in the order of the items.
    fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R>;
}

/// Up to that many items are not worth waking other threads.
const ALONE: usize = 4;

/// All cores, at once.
#[derive(Clone, Copy, Debug)]
pub struct AllCores;

impl Share for AllCores {
    fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        if items.len() <= ALONE {
            return ThisThread.map(items, work);
        }
        items.into_par_iter().with_max_len(1).map(&work).collect()
    }
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug)]
pub struct ThisThread;

impl Share for ThisThread {
    fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        items.into_iter().map(work).collect()
    }
}
