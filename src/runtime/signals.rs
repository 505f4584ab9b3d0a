//! Runtime: channels that package os/signal passes signals on to (os/signal/signal.go, all releases).

use super::gomap;
use crate::addr::Addr;
use crate::image::Image;
use crate::image::layout::rules::MapForm;
use crate::memory::Memory;
use rustc_hash::FxHashSet;

/// Words of four bytes in `handler.mask`, a bit for each of 65 signals.
const MASK: u64 = 3;

/// The channels that are registered now, each for one signal at least. Empty where that can't be proved.
pub fn registered(image: &Image, memory: &dyn Memory) -> FxHashSet<Addr> {
    let channels = || {
        let handlers = image.signal_handlers(memory)?;
        let form = if handlers.buckets { MapForm::Buckets } else { image.rules.map_form };
        let entries = gomap::entries(memory, form, memory.read_addr(handlers.map).ok()?)?;
        Some(entries.into_iter().filter(|(_, handler)| wants_any(memory, *handler)).map(|(c, _)| c).collect())
    };
    channels().unwrap_or_default()
}

fn wants_any(memory: &dyn Memory, handler: Addr) -> bool {
    (0..MASK).any(|word| memory.read_u32(handler.offset(4 * word)).is_ok_and(|mask| mask != 0))
}
