//! Source, core files: numbers out of the bytes of a file. Offsets are u64, cores are larger than
//! 4 GB; whatever lies outside is `None`.

/// The `len` bytes at `offset`.
pub(super) fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// The little-endian u16 at `offset`.
pub(super) fn u16_at(bytes: &[u8], offset: u64) -> Option<u16> {
    slice(bytes, offset, 2)?.try_into().ok().map(u16::from_le_bytes)
}

/// The little-endian u32 at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    slice(bytes, offset, 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The little-endian i32 at `offset`.
pub(super) fn i32_at(bytes: &[u8], offset: u64) -> Option<i32> {
    slice(bytes, offset, 4)?.try_into().ok().map(i32::from_le_bytes)
}

/// The little-endian u64 at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: u64) -> Option<u64> {
    slice(bytes, offset, 8)?.try_into().ok().map(u64::from_le_bytes)
}
