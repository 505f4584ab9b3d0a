//! Runtime, capture: the list of all goroutines, `runtime.allgs` (runtime/proc.go). What it claims is
//! believed as far as there is room for it: of pointers by its own `cap`, of gs by the memory of the target.

use crate::addr::Addr;
use crate::diag::Diagnostics;
use crate::error::Result;
use crate::image::{Globals, Image};
use crate::memory::{Memory, read_slice};
use crate::source::{Origin, Source};

/// Pointers that are read at a time.
const POINTERS_AT_ONCE: u64 = 8192;

/// Most gs that are taken: more than any process can hold on this hardware.
const MOST_GS: u64 = 100_000_000;

/// Gs that may be there beyond those for which a live target had memory when it was opened.
const GROWN: u64 = 1_000_000;

/// Where the list is and how long it can be.
pub struct List<'a> {
    memory: &'a dyn Memory,
    globals: Globals,
    most: u64,
}

impl<'a> List<'a> {
    /// The list of a target.
    pub fn of(source: &'a dyn Source, image: &Image) -> List<'a> {
        let most = most(source, image.layouts.g.size);
        List { memory: source.memory(), globals: image.globals.clone(), most }
    }

    /// The pointers. A running target may append meanwhile: `allglen` is read before `allgptr`, as the
    /// runtime's own readers do (runtime/proc.go, atomicAllG).
    pub fn read(&self, diagnostics: &mut Diagnostics) -> Result<Vec<Addr>> {
        let (array, claimed) = self.locate()?;
        let len = claimed.min(self.room());
        if len < claimed {
            diagnostics.warn(
                format!("the list of goroutines is damaged: it claims {claimed} and has room for {len}"),
                "goroutines may be missing, or shown that are none",
            );
        }
        let mut order = self.pointers(array, 0, len);
        let missing = len.saturating_sub(order.len() as u64);
        if missing > 0 {
            diagnostics.warn(
                format!(
                    "the list of goroutines can be read only in part: {missing} of {len} pointers are missing"
                ),
                "those goroutines are not shown",
            );
        }
        order.retain(|g| !g.is_null());
        Ok(order)
    }

    /// The pointers that were added after the first `known`.
    pub fn read_from(&self, known: usize) -> Result<Vec<Addr>> {
        let (array, len) = self.locate()?;
        let mut order = self.pointers(array, known as u64, len.min(self.room()));
        order.retain(|g| !g.is_null());
        Ok(order)
    }

    fn pointers(&self, array: Addr, from: u64, len: u64) -> Vec<Addr> {
        let mut order = Vec::new();
        let mut done = from;
        while done < len {
            let now = POINTERS_AT_ONCE.min(len - done);
            let mut bytes = vec![0; (now * 8) as usize];
            let at = array.offset(done * 8);
            if self.memory.read(at, &mut bytes).is_err() {
                let rest = (0..now).map_while(|i| self.memory.read_addr(at.offset(i * 8)).ok());
                order.extend(rest);
                break;
            }
            order.extend(bytes.as_chunks::<8>().0.iter().map(|b| Addr::new(u64::from_le_bytes(*b))));
            done += now;
        }
        order
    }

    /// For how many pointers there is room. `cap` only grows, and does so before `allglen` does: read
    /// after that, it is never too small.
    fn room(&self) -> u64 {
        read_slice(self.memory, self.globals.allgs.value).map_or(self.most, |slice| slice.cap.min(self.most))
    }

    fn locate(&self) -> Result<(Addr, u64)> {
        if let (Some(len), Some(ptr)) = (self.globals.allglen, self.globals.allgptr) {
            let len = self.memory.read_u64(len.value)?;
            return Ok((self.memory.read_addr(ptr.value)?, len));
        }
        let slice = read_slice(self.memory, self.globals.allgs.value)?;
        Ok((slice.array, slice.len))
    }
}

/// How many gs of `size` bytes the memory of a target can hold: each has bytes of its own.
fn most(source: &dyn Source, size: u32) -> u64 {
    let mapped = source.mappings().iter().fold(0u64, |sum, m| sum.saturating_add(m.span.len));
    let fit = mapped.checked_div(size.into()).unwrap_or(MOST_GS);
    let most = match source.origin() {
        Origin::Core { .. } => fit,
        // It may have got more memory since.
        Origin::Live { .. } => fit.saturating_mul(2).saturating_add(GROWN),
    };
    most.min(MOST_GS)
}
