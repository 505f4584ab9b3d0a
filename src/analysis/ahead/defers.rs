//! Analysis, ahead: deferred calls that are pending in parked frames. Open-coded ones lie in slots of
//! the frame, the others on the chain `g._defer` (runtime/panic.go).

use crate::addr::Addr;
use crate::image::Image;
use crate::image::pclntab::{Func, funcdata};
use crate::memory::Memory;
use crate::runtime::G;
use crate::unwind::{Physical, Walk};
use rustc_hash::{FxHashMap, FxHashSet};

/// A pending deferred call.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// The closure that will be called.
    pub closure: u64,
}

/// Records that are followed along one chain.
const MOST_RECORDS: usize = 10_000;

/// Open-coded defers of one function, at most (cmd/compile: 8).
const MOST_OPEN_CODED: u64 = 8;

/// Pending deferred calls by the stack pointer of their frame, last deferred first.
pub fn pending(image: &Image, memory: &dyn Memory, g: &G, walk: &Walk) -> FxHashMap<Addr, Vec<Pending>> {
    let mut all: FxHashMap<Addr, Vec<Pending>> = FxHashMap::default();
    for frame in &walk.frames {
        let Some(func) = image.modules.find(frame.pc.back(u64::from(!frame.trap))) else { continue };
        let found = open_coded(image, memory, func, frame).unwrap_or_default();
        if !found.is_empty() {
            all.entry(frame.sp).or_default().extend(found);
        }
    }
    // A record belongs to the frame whose stack pointer it holds.
    for (sp, closure) in records(image, memory, g.deferred) {
        all.entry(sp).or_default().push(Pending { closure });
    }
    all
}

fn uvarint(memory: &dyn Memory, at: &mut Addr) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = memory.read_u8(*at).ok()?;
        *at = at.offset(1);
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Reads FUNCDATA_OpenCodedDeferInfo: the offset of the byte of bits below varp, then that of the
/// slots (one array since 1.22, one offset each before).
fn open_coded(image: &Image, memory: &dyn Memory, func: Func<'_>, frame: &Physical) -> Option<Vec<Pending>> {
    let statics = image.memory(memory);
    let mut at = func.funcdata(funcdata::OPEN_CODED_DEFER_INFO)?;
    let varp = frame.fp.back(2 * image.arch.pushed_return()).back(8 - image.arch.pushed_return());
    let bits = memory.read_u8(varp.back(uvarint(&statics, &mut at)?)).ok()?;
    let mut slots = Vec::new();
    if image.rules.defer_slots {
        let base = varp.back(uvarint(&statics, &mut at)?);
        slots.extend((0..MOST_OPEN_CODED).map(|i| base.offset(8 * i)));
    } else {
        let count = uvarint(&statics, &mut at)?.min(MOST_OPEN_CODED);
        for _ in 0..count {
            slots.push(varp.back(uvarint(&statics, &mut at)?));
        }
        slots.reverse();
    }
    let set = slots.iter().enumerate().filter(|(i, _)| bits & (1u8.checked_shl(*i as u32).unwrap_or(0)) != 0);
    let mut closures: Vec<Pending> =
        set.filter_map(|(_, slot)| memory.read_u64(*slot).ok()).map(|closure| Pending { closure }).collect();
    closures.reverse();
    Some(closures)
}

/// Follows `g._defer`: stack pointer of the frame and closure of each record.
fn records(image: &Image, memory: &dyn Memory, first: Addr) -> Vec<(Addr, u64)> {
    let l = &image.layouts.defer;
    let mut found = Vec::new();
    let mut seen = FxHashSet::default();
    let mut next = first;
    while !next.is_null() && seen.insert(next) && seen.len() < MOST_RECORDS {
        let (Ok(sp), Ok(closure)) = (l.sp.read(memory, next), l.func.read(memory, next)) else { break };
        let ranged = l.rangefunc.is_some_and(|f| f.read(memory, next).unwrap_or(0) != 0);
        let open = l.open_defer.is_some_and(|f| f.read(memory, next).unwrap_or(0) != 0);
        if ranged {
            let mut inner = l.head.and_then(|f| f.read(memory, next).ok()).unwrap_or(Addr::NULL);
            while inner.get() > 1 && seen.insert(inner) && seen.len() < MOST_RECORDS {
                found.extend(l.func.read(memory, inner).ok().map(|closure| (sp, closure.get())));
                inner = l.link.read(memory, inner).unwrap_or(Addr::NULL);
            }
        } else if !open && !closure.is_null() {
            found.push((sp, closure.get()));
        }
        next = l.link.read(memory, next).unwrap_or(Addr::NULL);
    }
    found
}
