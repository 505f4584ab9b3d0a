//! Memory: whole pages of another memory, read once. Decoding what goroutines wait for reads many small
//! structures that lie close together; each read of a live process costs a system call. What is kept is
//! as it was when its page was first touched.

use super::{Memory, ReadError, ReadFail, ReadResult};
use crate::addr::Addr;
use rustc_hash::FxHashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes of one page.
const PAGE: u64 = 4096;

/// Pages kept at most, 256 MB in all; what lies beyond is read each time.
const PAGES: usize = 1 << 16;

/// Independent parts, so that threads rarely wait for one another.
const SHARDS: usize = 64;

type Page = Box<[u8; PAGE as usize]>;

/// `lower`, read in pages that are kept.
pub struct PageCache<'a> {
    lower: &'a dyn Memory,
    shards: Vec<Mutex<FxHashMap<u64, Option<Page>>>>,
}

impl<'a> PageCache<'a> {
    /// An empty cache.
    pub fn new(lower: &'a dyn Memory) -> PageCache<'a> {
        PageCache { lower, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Fills `buf`, which does not leave the page `number`; `None` when the page is not kept.
    fn copy_page(&self, number: u64, skip: usize, buf: &mut [u8]) -> Option<()> {
        let shard = self.shards.get(usize::try_from(number % SHARDS as u64).ok()?)?;
        let mut pages = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if !pages.contains_key(&number) && pages.len() < PAGES / SHARDS {
            let mut page = Box::new([0; PAGE as usize]);
            let read = self.lower.read(Addr::new(number.wrapping_mul(PAGE)), page.as_mut_slice());
            pages.insert(number, read.is_ok().then_some(page));
        }
        let page = pages.get(&number)?.as_ref()?;
        buf.copy_from_slice(page.get(skip..)?.get(..buf.len())?);
        Some(())
    }
}

impl Memory for PageCache<'_> {
    fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
        let overflow = ReadError { at, len: buf.len() as u64, why: ReadFail::Overflow };
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let skip = usize::try_from(at.get() % PAGE).map_err(|_| overflow)?;
            let len = rest.len().min((PAGE as usize).saturating_sub(skip));
            let (now, later) = rest.split_at_mut(len);
            if self.copy_page(at.get() / PAGE, skip, now).is_none() {
                self.lower.read(at, now)?;
            }
            at = at.offset(len as u64);
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counting(SparseMemory, AtomicUsize);

    impl Memory for Counting {
        fn read(&self, at: Addr, buf: &mut [u8]) -> ReadResult<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read(at, buf)
        }
    }

    #[test]
    fn a_page_is_read_once_and_what_is_no_whole_page_is_read_as_asked() {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x1000), vec![7; 0x1000]);
        memory.put(Addr::new(0x2000), vec![8; 16]);
        let lower = Counting(memory, AtomicUsize::new(0));
        let cache = PageCache::new(&lower);
        for i in 0..100 {
            assert_eq!(cache.read_u8(Addr::new(0x1000 + i)), Ok(7));
        }
        assert_eq!(lower.1.load(Ordering::Relaxed), 1);
        assert_eq!(cache.read_u64(Addr::new(0x1ffc)), Ok(0x0808_0808_0707_0707));
        assert!(cache.read_u64(Addr::new(0x200c)).is_err());
        assert!(cache.read_u64(Addr::new(u64::MAX - 3)).is_err());
    }
}
