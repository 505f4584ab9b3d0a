//! Runtime: pollDescs (`runtime/netpoll.go`), the network poller's side of a file descriptor.

use crate::addr::{Addr, Nanotime};
use crate::image::layout::schema;
use crate::memory::{Memory, ReadResult};

/// One pollDesc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollDesc {
    /// Where it lies.
    pub at: Addr,
    /// The file descriptor's number.
    pub fd: i32,
    /// Who waits to read: a g, or one of the small numbers that say nobody.
    pub reader: Addr,
    /// Who waits to write.
    pub writer: Addr,
    /// When reading ends with an error; `None` when there is no such time.
    pub read_deadline: Option<Deadline>,
    /// When writing ends with an error.
    pub write_deadline: Option<Deadline>,
}

/// When an operation on a descriptor ends with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// At this time of the target's monotonic clock.
    At(Nanotime),
    /// It is over already.
    Over,
}

impl Deadline {
    fn of(raw: Nanotime) -> Option<Deadline> {
        match raw.0 {
            0 => None,
            1.. => Some(Deadline::At(raw)),
            _ => Some(Deadline::Over),
        }
    }
}

/// Decodes the pollDesc at `at`; `None` when what lies there is none: a pollDesc points to itself.
pub fn poll_desc(memory: &dyn Memory, layout: &schema::PollDesc, at: Addr) -> ReadResult<Option<PollDesc>> {
    if layout.this.read(memory, at)? != at {
        return Ok(None);
    }
    let Ok(fd) = i32::try_from(layout.fd.read(memory, at)?) else { return Ok(None) };
    Ok(Some(PollDesc {
        at,
        fd,
        reader: layout.rg.read(memory, at)?,
        writer: layout.wg.read(memory, at)?,
        read_deadline: Deadline::of(layout.rd.read(memory, at)?),
        write_deadline: Deadline::of(layout.wd.read(memory, at)?),
    }))
}

/// The pollDesc in which the word at `slot` is the place of the reader or writer, and that holds `g`
/// there: what `netpollblock` has on its stack while it is parked.
pub fn with_waiter_at(
    memory: &dyn Memory,
    layout: &schema::PollDesc,
    slot: Addr,
    g: Addr,
) -> Option<PollDesc> {
    if memory.read_addr(slot).ok()? != g {
        return None;
    }
    [layout.rg.offset, layout.wg.offset].into_iter().find_map(|offset| {
        let found = poll_desc(memory, layout, slot.back(offset.into())).ok()??;
        (found.reader == g || found.writer == g).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::field::Field;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn a_slot_leads_to_the_poll_desc_only_if_it_holds_the_g() {
        let layout = schema::PollDesc {
            size: 296,
            link: Field::at(0),
            fd: Field::at(8),
            rg: Field::at(32),
            wg: Field::at(40),
            closing: Field::at(56),
            rd: Field::at(168),
            wd: Field::at(280),
            this: Field::at(288),
        };
        let mut memory = SparseMemory::new();
        let mut bytes = [0u8; 296];
        for (at, value) in [(8, 9u64), (40, 0xa0), (168, 77), (280, u64::MAX), (288, 0x1000)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        memory.put(Addr::new(0x1000), bytes);
        let find = |slot: u64, g: u64| with_waiter_at(&memory, &layout, Addr::new(slot), Addr::new(g));
        let found = find(0x1028, 0xa0).expect("found");
        assert_eq!((found.at.get(), found.fd), (0x1000, 9));
        assert_eq!(found.read_deadline, Some(Deadline::At(Nanotime(77))));
        assert_eq!(found.write_deadline, Some(Deadline::Over));
        assert_eq!([find(0x1020, 0xa0), find(0x1028, 0xb0), find(0x1000, 0)], [None, None, None]);
    }
}
