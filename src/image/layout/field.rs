//! Image, layout: the only decoder of the runtime's structures. A [`Field`] is an offset that was
//! settled when the target was opened; a [`StructView`] is the bytes of one structure, read once.

use crate::addr::{Addr, Nanotime};
use crate::memory::{Memory, ReadError, ReadFail, ReadResult};
use std::marker::PhantomData;

/// A little-endian value of fixed size.
pub trait Value: Sized {
    /// Its size in bytes.
    const SIZE: usize;
    /// Decodes it; `bytes` has at least `SIZE`.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($t:ty),*) => {$(
        impl Value for $t {
            const SIZE: usize = size_of::<$t>();
            fn decode(bytes: &[u8]) -> Option<$t> {
                bytes.first_chunk().map(|b| <$t>::from_le_bytes(*b))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i32, i64);

impl Value for Addr {
    const SIZE: usize = 8;
    fn decode(bytes: &[u8]) -> Option<Addr> {
        u64::decode(bytes).map(Addr::new)
    }
}

impl Value for Nanotime {
    const SIZE: usize = 8;
    fn decode(bytes: &[u8]) -> Option<Nanotime> {
        i64::decode(bytes).map(Nanotime)
    }
}

/// Where a member of type `T` lies in its structure.
#[derive(Debug)]
pub struct Field<T> {
    /// Bytes from the start of the structure.
    pub offset: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

impl<T> Field<T> {
    /// A member at `offset`.
    pub const fn at(offset: u32) -> Field<T> {
        Field { offset, kind: PhantomData }
    }
}

impl<T: Value> Field<T> {
    /// Reads this member alone of the structure at `base`.
    pub fn read(self, memory: &dyn Memory, base: Addr) -> ReadResult<T> {
        let mut buf = [0; 8];
        let at = base.offset(self.offset.into());
        let short = ReadError { at, len: T::SIZE as u64, why: ReadFail::Overflow };
        let bytes = buf.get_mut(..T::SIZE).ok_or(short)?;
        memory.read(at, bytes)?;
        T::decode(bytes).ok_or(short)
    }
}

/// The bytes of one structure of the target.
#[derive(Clone, Copy)]
pub struct StructView<'a> {
    bytes: &'a [u8],
    base: Addr,
}

impl<'a> StructView<'a> {
    /// `bytes` were read from `base`.
    pub const fn new(bytes: &'a [u8], base: Addr) -> StructView<'a> {
        StructView { bytes, base }
    }

    /// Where the structure lies.
    pub const fn base(self) -> Addr {
        self.base
    }

    /// A member; an error when the bytes end before it.
    pub fn get<T: Value>(self, field: Field<T>) -> ReadResult<T> {
        usize::try_from(field.offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .filter(|bytes| bytes.len() >= T::SIZE)
            .and_then(T::decode)
            .ok_or(ReadError {
                at: self.base.offset(field.offset.into()),
                len: T::SIZE as u64,
                why: ReadFail::Overflow,
            })
    }

    /// A member that not every release has.
    pub fn get_opt<T: Value>(self, field: Option<Field<T>>) -> ReadResult<Option<T>> {
        field.map(|f| self.get(f)).transpose()
    }
}
