//! The fuzzer's bytes as changes of something real. Each change is a record of fixed size, so that the
//! fuzzer's own steps (a byte changed, a record doubled, two inputs joined) change one thing at a time.

/// Bytes of one record.
pub const RECORD: usize = 14;

/// Changes that one input can make.
const MOST: usize = 48;

/// One change: which thing, which word of it, and what becomes of the word.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The kind of thing.
    pub class: u8,
    /// Which of them.
    pub object: u16,
    /// Which word.
    pub word: u16,
    /// How the word is made.
    pub how: u8,
    /// What it is made of.
    pub value: u64,
}

impl Change {
    /// The changes that an input describes.
    pub fn all(input: &[u8]) -> impl Iterator<Item = Change> {
        input.chunks_exact(RECORD).take(MOST).map(|r| {
            let two = |at: usize| u16::from_le_bytes([r[at], r[at + 1]]);
            let value = u64::from_le_bytes(std::array::from_fn(|i| r[6 + i]));
            Change { class: r[0], how: r[1], object: two(2), word: two(4), value }
        })
    }

    /// Picks one of `count` by the change's own numbers; 0 when there is none.
    pub fn pick(self, count: u64) -> u64 {
        (u64::from(self.object) << 16 | u64::from(self.word)) % count.max(1)
    }

    /// What a word `old` at address `own` becomes. `other` is the address of another thing of the
    /// target, by number.
    pub fn apply(self, old: u64, own: u64, other: impl Fn(u64) -> u64) -> u64 {
        match self.how % 12 {
            0 => self.value,
            1 => other(self.value),
            2 => own,
            3 => own.wrapping_sub(own % 8).wrapping_add(self.value % 4096),
            4 => 1 << 60,
            5 => u64::MAX,
            6 => 0,
            7 => old ^ 1 << (self.value % 64),
            8 => old.wrapping_add(self.value as i16 as u64),
            9 => old & !0xff | self.value & 0xff,
            10 => old & 0xffff_ffff | self.value << 32,
            _ => old & !0xffff_ffff | self.value & 0xffff_ffff,
        }
    }
}
