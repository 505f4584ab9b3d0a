//! Runtime: maps from pointers to pointers, in both forms. The layouts are those of `runtime/map.go` until
//! 1.23 (`map_noswiss.go` in 1.24 and 1.25), and of `internal/runtime/maps` since 1.24. A map that is
//! written meanwhile, or is damaged, does not have as many entries as it says: it is refused.

use crate::addr::Addr;
use crate::image::layout::rules::MapForm;
use crate::memory::Memory;
use rustc_hash::FxHashSet;

/// Slots of one bucket or group.
const SLOTS: u64 = 8;

/// Buckets or groups that are read of one map.
const MOST: u64 = 1 << 14;

/// All entries of the map at `map`, the value of the program's variable; `None` when it can't be read whole.
pub fn entries(memory: &dyn Memory, form: MapForm, map: Addr) -> Option<Vec<(Addr, Addr)>> {
    if map.is_null() {
        return Some(Vec::new());
    }
    let mut reader = Reader { memory, left: MOST, entries: Vec::new() };
    match form {
        MapForm::Buckets => reader.buckets(map)?,
        MapForm::Swiss => reader.swiss(map)?,
    }
    // Both forms count their entries in the first word.
    let count = memory.read_u64(map).ok()?;
    let sound = |at: Addr| !at.is_null() && at.is_aligned(4);
    let whole = reader.entries.len() as u64 == count
        && reader.entries.iter().all(|(key, value)| sound(*key) && sound(*value));
    whole.then_some(reader.entries)
}

struct Reader<'a> {
    memory: &'a dyn Memory,
    left: u64,
    entries: Vec<(Addr, Addr)>,
}

/// `hmap`: `flags` with the bit `sameSizeGrow`, `B`, `buckets`, `oldbuckets`.
mod hmap {
    pub const FLAGS: u64 = 8;
    pub const SAME_SIZE: u8 = 8;
    pub const BITS: u64 = 9;
    pub const BUCKETS: u64 = 16;
    pub const OLD: u64 = 24;
    /// `bmap`: a byte for each slot, keys, values, the address of the next bucket.
    pub const VALUES: u64 = 8 + 8 * super::SLOTS;
    pub const OVERFLOW: u64 = VALUES + 8 * super::SLOTS;
    pub const SIZE: u64 = OVERFLOW + 8;
    /// The smallest byte of a slot in use. Those of a bucket whose entries were moved are below.
    pub const MIN_TOP_HASH: u8 = 5;
}

/// `maps.Map`: `dirPtr`, `dirLen`; `maps.table`: `groups.data`, `groups.lengthMask`.
mod swiss {
    pub const DIRECTORY: u64 = 16;
    pub const LENGTH: u64 = 24;
    pub const GROUPS: u64 = 16;
    pub const MASK: u64 = 24;
    /// A group: a byte for each slot, then slots of a key and a value.
    pub const SLOT: u64 = 16;
    pub const SIZE: u64 = 8 + SLOT * super::SLOTS;
    /// The bit of the byte of a slot that is empty, or was deleted.
    pub const FREE: u8 = 0x80;
}

impl Reader<'_> {
    fn word(&self, at: Addr) -> Option<u64> {
        self.memory.read_u64(at).ok()
    }

    fn addr(&self, at: Addr) -> Option<Addr> {
        self.memory.read_addr(at).ok()
    }

    /// Takes one bucket or group off what may still be read.
    fn spend(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        Some(())
    }

    fn buckets(&mut self, map: Addr) -> Option<()> {
        let flags = self.memory.read_u8(map.offset(hmap::FLAGS)).ok()?;
        let bits = u32::from(self.memory.read_u8(map.offset(hmap::BITS)).ok()?);
        let count = 1u64.checked_shl(bits)?;
        self.array(self.addr(map.offset(hmap::BUCKETS))?, count)?;
        let same = flags & hmap::SAME_SIZE != 0;
        self.array(self.addr(map.offset(hmap::OLD))?, if same { count } else { count / 2 })
    }

    fn array(&mut self, first: Addr, count: u64) -> Option<()> {
        if first.is_null() {
            return Some(());
        }
        for number in 0..count {
            let mut bucket = first.offset(number.checked_mul(hmap::SIZE)?);
            while !bucket.is_null() {
                self.spend()?;
                self.bucket(bucket)?;
                bucket = self.addr(bucket.offset(hmap::OVERFLOW))?;
            }
        }
        Some(())
    }

    fn bucket(&mut self, bucket: Addr) -> Option<()> {
        let marks = self.word(bucket)?.to_le_bytes();
        for (slot, mark) in (0..SLOTS).zip(marks) {
            if mark >= hmap::MIN_TOP_HASH {
                let key = bucket.offset(8 + 8 * slot);
                self.entries.push((self.addr(key)?, self.addr(bucket.offset(hmap::VALUES + 8 * slot))?));
            }
        }
        Some(())
    }

    /// A map of up to eight entries is one group; a larger one has a directory, in which a table may be in
    /// several places.
    fn swiss(&mut self, map: Addr) -> Option<()> {
        let directory = self.addr(map.offset(swiss::DIRECTORY))?;
        let length = self.word(map.offset(swiss::LENGTH))?;
        if length == 0 {
            return if directory.is_null() { Some(()) } else { self.group(directory) };
        }
        let mut seen = FxHashSet::default();
        for number in 0..length {
            self.spend()?;
            let table = self.addr(directory.offset(number.checked_mul(8)?))?;
            if seen.insert(table) {
                self.table(table)?;
            }
        }
        Some(())
    }

    fn table(&mut self, table: Addr) -> Option<()> {
        let first = self.addr(table.offset(swiss::GROUPS))?;
        for number in 0..=self.word(table.offset(swiss::MASK))? {
            self.group(first.offset(number.checked_mul(swiss::SIZE)?))?;
        }
        Some(())
    }

    fn group(&mut self, group: Addr) -> Option<()> {
        self.spend()?;
        let marks = self.word(group)?.to_le_bytes();
        for (slot, mark) in (0..SLOTS).zip(marks) {
            if mark & swiss::FREE == 0 {
                let key = group.offset(8 + swiss::SLOT * slot);
                self.entries.push((self.addr(key)?, self.addr(key.offset(8))?));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    const MAP: u64 = 0x1000;

    fn at(address: u64, words: &[u64], memory: &mut SparseMemory) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory.put(Addr::new(address), bytes);
    }

    /// A bucket: the mark of each slot that has one, keys 0x100 * mark, values one more word.
    fn bucket(marks: [u8; 8], overflow: u64) -> Vec<u64> {
        let keys = marks.map(|mark| 0x100 * u64::from(mark));
        let values = keys.map(|key| key + 8);
        [&[u64::from_le_bytes(marks)][..], &keys, &values, &[overflow]].concat()
    }

    fn group(marks: [u8; 8]) -> Vec<u64> {
        let slots = (1u64..).zip(marks).flat_map(|(n, mark)| [0x100 * (n + 8 * u64::from(mark)), 8]);
        [u64::from_le_bytes(marks)].into_iter().chain(slots).collect()
    }

    fn keys(memory: &SparseMemory, form: MapForm) -> Option<Vec<u64>> {
        let mut keys: Vec<u64> =
            entries(memory, form, Addr::new(MAP))?.iter().map(|(key, _)| key.get()).collect();
        keys.sort_unstable();
        Some(keys)
    }

    fn hmap(count: u64, flags: u8, bits: u8, old: u64) -> SparseMemory {
        let mut memory = SparseMemory::new();
        let second = u64::from(flags) | u64::from(bits) << 8;
        at(MAP, &[count, second, 0x2000, old, 0, 0], &mut memory);
        memory
    }

    #[test]
    fn buckets_and_what_flows_over() {
        let mut memory = hmap(3, 0, 1, 0);
        at(0x2000, &bucket([9, 1, 0, 0, 0, 0, 0, 0], 0x3000), &mut memory);
        at(0x2000 + hmap::SIZE, &bucket([0, 0, 0, 0, 0, 0, 0, 5], 0), &mut memory);
        at(0x3000, &bucket([7, 0, 0, 0, 0, 0, 0, 0], 0), &mut memory);
        assert_eq!(keys(&memory, MapForm::Buckets), Some(vec![0x500, 0x700, 0x900]));
    }

    #[test]
    fn old_buckets_count_until_they_are_moved() {
        for (flags, old) in [(0, 1), (hmap::SAME_SIZE, 2)] {
            let mut memory = hmap(2, flags, 1, 0x4000);
            at(0x2000, &bucket([9, 0, 0, 0, 0, 0, 0, 0], 0), &mut memory);
            at(0x2000 + hmap::SIZE, &bucket([0; 8], 0), &mut memory);
            // The first was moved where there are two.
            at(0x4000, &bucket([if old == 2 { 2 } else { 8 }, 4, 4, 4, 4, 4, 4, 4], 0), &mut memory);
            at(0x4000 + hmap::SIZE, &bucket([8, 0, 0, 0, 0, 0, 0, 0], 0), &mut memory);
            assert_eq!(keys(&memory, MapForm::Buckets), Some(vec![0x800, 0x900]), "{old}");
        }
    }

    #[test]
    fn one_group_and_a_directory_of_tables() {
        let mut memory = SparseMemory::new();
        at(MAP, &[2, 0, 0x2000, 0], &mut memory);
        at(0x2000, &group([1, 0x80, 0xfe, 2, 0x80, 0x80, 0x80, 0x80]), &mut memory);
        assert_eq!(keys(&memory, MapForm::Swiss), Some(vec![0x900, 0x1400]));

        let mut memory = SparseMemory::new();
        at(MAP, &[3, 0, 0x2000, 4], &mut memory);
        at(0x2000, &[0x3000, 0x3000, 0x3100, 0x3100], &mut memory);
        at(0x3000, &[0, 0, 0x5000, 1], &mut memory);
        at(0x3100, &[0, 0, 0x6000, 0], &mut memory);
        let one = |mark| group([mark, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]);
        at(0x5000, &one(1), &mut memory);
        at(0x5000 + swiss::SIZE, &one(2), &mut memory);
        at(0x6000, &one(3), &mut memory);
        assert_eq!(keys(&memory, MapForm::Swiss), Some(vec![0x900, 0x1100, 0x1900]));
    }

    #[test]
    fn no_map_has_no_entries_and_a_damaged_one_is_refused() {
        let nothing = SparseMemory::new();
        for form in [MapForm::Buckets, MapForm::Swiss] {
            assert_eq!(entries(&nothing, form, Addr::NULL), Some(Vec::new()));
            assert_eq!(entries(&nothing, form, Addr::new(MAP)), None);
        }
        // It says another number than it has, has far too many buckets, or goes round in a circle.
        let mut memory = hmap(2, 0, 0, 0);
        at(0x2000, &bucket([9, 0, 0, 0, 0, 0, 0, 0], 0), &mut memory);
        assert_eq!(keys(&memory, MapForm::Buckets), None);
        at(0x2000, &bucket([9, 0, 0, 0, 0, 0, 0, 0], 0x2000), &mut memory);
        assert_eq!(keys(&memory, MapForm::Buckets), None);
        for bits in [40, 200] {
            assert_eq!(keys(&hmap(2, 0, bits, 0), MapForm::Buckets), None);
        }
        let mut memory = SparseMemory::new();
        at(MAP, &[1, 0, 0x2000, u64::MAX], &mut memory);
        at(0x2000, &[0x3000; 4], &mut memory);
        at(0x3000, &[0, 0, 0x3000, u64::MAX], &mut memory);
        assert_eq!(keys(&memory, MapForm::Swiss), None);
    }
}
