//! Image: large read-only tables. They are borrowed from the mapped executable where the loader left
//! them as they are in the file, and copied from the target's memory everywhere else.

use crate::addr::Span;
use crate::memory::{Memory, ReadResult};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes that stay the same as long as they are held.
#[derive(Clone)]
pub enum Blob {
    /// A range of a mapped file.
    Mapped(Arc<dyn Deref<Target = [u8]> + Send + Sync>, Range<usize>),
    /// A copy.
    Owned(Arc<[u8]>),
}

impl Blob {
    /// The bytes. Empty when a mapped range lies outside its file.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Blob::Mapped(file, range) => file.get(range.clone()).unwrap_or_default(),
            Blob::Owned(bytes) => bytes,
        }
    }
}

/// Where large tables come from.
pub trait Regions {
    /// The bytes at `span` as the target has them.
    fn blob(&self, span: Span) -> ReadResult<Blob>;
}

/// No larger table is copied, in bytes: the largest Go programs known stay below a quarter of it.
const COPIED: u64 = 1 << 30;

/// All tables are copied from memory.
pub struct FromMemory<'a>(pub &'a dyn Memory);

impl Regions for FromMemory<'_> {
    fn blob(&self, span: Span) -> ReadResult<Blob> {
        Ok(Blob::Owned(self.0.read_span(span, COPIED)?.into()))
    }
}
