//! Base: the numbers that must not be mixed up. An address of the target, an address that an ELF
//! file states, a place in a file and a time of the target's clock are four types; each conversion
//! is a named function.

use std::fmt;

/// An address in the target's memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(u64);

impl Addr {
    /// The null address.
    pub const NULL: Addr = Addr(0);

    /// Wraps a raw address.
    pub const fn new(raw: u64) -> Addr {
        Addr(raw)
    }

    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this is the null address.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further. Wraps round as the hardware does: a hostile pointer near the end
    /// of memory yields an address whose read fails, never a panic.
    pub const fn offset(self, bytes: u64) -> Addr {
        Addr(self.0.wrapping_add(bytes))
    }

    /// The address `bytes` before. Wraps like [`Addr::offset`].
    pub const fn back(self, bytes: u64) -> Addr {
        Addr(self.0.wrapping_sub(bytes))
    }

    /// How many bytes this lies above `base`; `None` when it lies below.
    pub const fn above(self, base: Addr) -> Option<u64> {
        self.0.checked_sub(base.0)
    }

    /// Whether the address is a multiple of `align`, a power of two.
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & (align.wrapping_sub(1)) == 0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// An address as an ELF file states it, before the loader moved the file by its [`Bias`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FileVa(pub u64);

/// How far the loader moved an ELF file: runtime address = stated address + bias (mod 2^64).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bias(pub u64);

impl Bias {
    /// The bias that brings `stated` to `runtime`.
    pub const fn between(stated: FileVa, runtime: Addr) -> Bias {
        Bias(runtime.get().wrapping_sub(stated.0))
    }

    /// Where a stated address lies in the target.
    pub const fn to_runtime(self, stated: FileVa) -> Addr {
        Addr(stated.0.wrapping_add(self.0))
    }

    /// What the file states for an address of the target.
    pub const fn to_file(self, at: Addr) -> FileVa {
        FileVa(at.0.wrapping_sub(self.0))
    }
}

/// A place in a file, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FileOffset(pub u64);

/// A range of the target's memory: `start`, inclusive, and its length in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First address.
    pub start: Addr,
    /// Length in bytes.
    pub len: u64,
}

impl Span {
    /// The span from `start` (inclusive) to `end` (exclusive); empty when `end` lies below.
    pub const fn between(start: Addr, end: Addr) -> Span {
        Span { start, len: end.0.saturating_sub(start.0) }
    }

    /// First address after the span (saturating).
    pub const fn end(self) -> Addr {
        Addr(self.start.0.saturating_add(self.len))
    }

    /// Whether `at` lies inside.
    pub const fn contains(self, at: Addr) -> bool {
        at.0 >= self.start.0 && at.0 - self.start.0 < self.len
    }

    /// Whether the whole of `[at, at+len)` lies inside.
    pub const fn contains_range(self, at: Addr, len: u64) -> bool {
        match at.above(self.start) {
            Some(offset) => offset <= self.len && len <= self.len - offset,
            None => false,
        }
    }
}

/// The one of `sorted` that has `at` in its span. The items are in the order of addresses and do not overlap.
pub fn around<T>(sorted: &[T], at: Addr, span: impl Fn(&T) -> Span) -> Option<&T> {
    let after = sorted.partition_point(|item| span(item).start <= at);
    sorted.get(after.checked_sub(1)?).filter(|item| span(item).contains(at))
}

/// A moment of the target's monotonic clock (`runtime.nanotime`), in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Nanotime(pub i64);

impl Nanotime {
    /// Time that went by from `earlier` to this moment; `None` if `earlier` is later.
    pub fn since(self, earlier: Nanotime) -> Option<std::time::Duration> {
        let ns = self.0.checked_sub(earlier.0)?;
        u64::try_from(ns).ok().map(std::time::Duration::from_nanos)
    }
}

/// A process number of the kernel, in our own PID namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A thread number of the kernel. Which PID namespace counts is said where it is used: `m.procid`
/// is the target's own, everything that `/proc` lists is ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tid(pub i32);

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_do_not_wrap_round() {
        let span = Span { start: Addr::new(0x1000), len: 0x10 };
        assert!(span.contains_range(Addr::new(0x1008), 8));
        assert!(!span.contains_range(Addr::new(0x1008), 9));
        assert!(!span.contains_range(Addr::new(0x1008), u64::MAX));
        assert!(!span.contains(Addr::new(0xfff)));
        assert!(!Span::between(Addr::new(5), Addr::new(3)).contains(Addr::new(5)));
    }

    #[test]
    fn a_bias_goes_both_ways_and_may_be_negative() {
        let bias = Bias::between(FileVa(0x40_0000), Addr::new(0x1000));
        assert_eq!(bias.to_runtime(FileVa(0x40_0010)), Addr::new(0x1010));
        assert_eq!(bias.to_file(Addr::new(0x1010)), FileVa(0x40_0010));
    }
}
