//! Runtime: pprof labels of a goroutine, `g.labels` (runtime/pprof/label.go). Until 1.23 a Go map,
//! since 1.24 a slice of pairs; the layout's rules say which.

use super::G;
use crate::addr::Addr;
use crate::image::Image;
use crate::image::layout::rules::LabelsForm;
use crate::memory::{Memory, ReadResult, read_slice, read_string};

/// Most labels that are read of one goroutine.
const MOST_LABELS: u64 = 1000;

/// Most bytes that are read of one key or value.
const MOST_TEXT: u64 = 64 << 10;

/// The labels of `g`, sorted by key. Empty when it has none.
pub fn labels(g: &G, image: &Image, memory: &dyn Memory) -> ReadResult<Vec<(String, String)>> {
    if g.labels.is_null() {
        return Ok(Vec::new());
    }
    let mut labels = match image.rules.labels_form {
        LabelsForm::Map => from_map(memory, memory.read_addr(g.labels)?)?,
        LabelsForm::Slice => from_slice(memory, g.labels)?,
    };
    labels.sort();
    Ok(labels)
}

fn text(memory: &dyn Memory, at: Addr) -> ReadResult<String> {
    read_string(memory, at, MOST_TEXT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn from_slice(memory: &dyn Memory, at: Addr) -> ReadResult<Vec<(String, String)>> {
    let list = read_slice(memory, at)?;
    (0..list.len.min(MOST_LABELS))
        .map(|i| {
            let pair = list.array.offset(32 * i);
            Ok((text(memory, pair)?, text(memory, pair.offset(16))?))
        })
        .collect()
}

/// Slots of one bucket, `bucketCnt` (runtime/map.go until 1.23).
const BUCKET_SLOTS: u64 = 8;

/// Size of a bucket of a `map[string]string`: 8 bytes of tophash, 8 keys, 8 values, `overflow`.
const BUCKET: u64 = 8 + BUCKET_SLOTS * 32 + 8;

/// Smallest tophash of a slot in use, `minTopHash`.
const MIN_TOP_HASH: u8 = 5;

/// Reads a `map[string]string` with `hmap{count int, flags u8, B u8, .., buckets @16, oldbuckets @24}`.
/// Old buckets that were evacuated carry marks below `MIN_TOP_HASH`, so both sets can be read.
fn from_map(memory: &dyn Memory, map: Addr) -> ReadResult<Vec<(String, String)>> {
    let mut labels = Vec::new();
    if map.is_null() {
        return Ok(labels);
    }
    let bits = u32::from(memory.read_u8(map.offset(9))?).min(16);
    for (array, buckets) in [(16, 1u64 << bits), (24, 1u64 << bits.saturating_sub(1))] {
        let first = memory.read_addr(map.offset(array))?;
        if first.is_null() {
            continue;
        }
        for i in 0..buckets {
            from_chain(memory, first.offset(BUCKET * i), &mut labels)?;
        }
    }
    Ok(labels)
}

fn from_chain(memory: &dyn Memory, first: Addr, labels: &mut Vec<(String, String)>) -> ReadResult<()> {
    let mut bucket = first;
    let mut left = MOST_LABELS;
    while !bucket.is_null() && left > 0 && (labels.len() as u64) < MOST_LABELS {
        for slot in 0..BUCKET_SLOTS {
            if memory.read_u8(bucket.offset(slot))? >= MIN_TOP_HASH {
                let key = bucket.offset(8 + 16 * slot);
                labels.push((text(memory, key)?, text(memory, key.offset(16 * BUCKET_SLOTS))?));
            }
        }
        bucket = memory.read_addr(bucket.offset(BUCKET - 8))?;
        left -= 1;
    }
    Ok(())
}
