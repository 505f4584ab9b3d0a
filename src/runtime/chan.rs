//! Runtime: channels (`runtime/chan.go`) with the goroutines that queue at both ends.

use super::sudog::{Queue, queue};
use crate::addr::Addr;
use crate::image::layout::schema;
use crate::memory::{Memory, ReadResult};

/// One channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// Where its hchan lies: the value of the program's variable.
    pub at: Addr,
    /// Values in the buffer.
    pub len: u64,
    /// Values that the buffer takes.
    pub capacity: u64,
    /// Whether it was closed.
    pub closed: bool,
    /// The type of its elements, an `abi.Type`.
    pub element: Addr,
    /// The timer that sends on it; null for most, and in all releases until 1.22.
    pub timer: Addr,
    /// Who waits to receive, first in line first.
    pub receivers: Queue,
    /// Who waits to send, first in line first.
    pub senders: Queue,
}

/// Decodes the channel at `at`. `None` when what lies there is no channel.
pub fn channel(
    memory: &dyn Memory,
    layout: &schema::Hchan,
    sudogs: &schema::Sudog,
    at: Addr,
) -> ReadResult<Option<Channel>> {
    let (len, capacity) = (layout.qcount.read(memory, at)?, layout.dataqsiz.read(memory, at)?);
    let closed = layout.closed.read(memory, at)?;
    if len > capacity || closed > 1 {
        return Ok(None);
    }
    let line = |first| queue(memory, sudogs, first, sudogs.next);
    Ok(Some(Channel {
        at,
        len,
        capacity,
        closed: closed == 1,
        element: layout.elemtype.read(memory, at)?,
        timer: layout.timer.map(|f| f.read(memory, at)).transpose()?.unwrap_or_default(),
        receivers: line(layout.recvq_first.read(memory, at)?),
        senders: line(layout.sendq_first.read(memory, at)?),
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::layout::field::Field;
    use crate::memory::sparse::SparseMemory;
    use crate::runtime::sudog::tests as sudogs;

    pub(crate) fn layout() -> schema::Hchan {
        schema::Hchan {
            size: 112,
            qcount: Field::at(0),
            dataqsiz: Field::at(8),
            buf: Field::at(16),
            elemsize: Field::at(24),
            closed: Field::at(28),
            elemtype: Field::at(40),
            recvq_first: Field::at(64),
            recvq_last: Field::at(72),
            sendq_first: Field::at(80),
            sendq_last: Field::at(88),
            timer: Some(Field::at(32)),
        }
    }

    #[test]
    fn a_channel_has_its_queues_and_what_is_none_is_told_from_one() {
        let mut memory = SparseMemory::new();
        let mut bytes = [0u8; 112];
        bytes[8] = 2;
        bytes[64..72].copy_from_slice(&0x1000u64.to_le_bytes());
        memory.put(Addr::new(0x5000), bytes);
        sudogs::put(&mut memory, 0x1000, 0xa0, &[]);
        let read = |memory: &SparseMemory| {
            channel(memory, &layout(), &sudogs::layout(), Addr::new(0x5000)).expect("readable")
        };
        let found = read(&memory).expect("a channel");
        assert_eq!((found.len, found.capacity, found.closed), (0, 2, false));
        assert_eq!((found.receivers.tickets.len(), found.senders.tickets.len()), (1, 0));
        bytes[0] = 3;
        memory.put(Addr::new(0x5000), bytes);
        assert_eq!(read(&memory), None);
    }
}
