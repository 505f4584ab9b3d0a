//! Runtime: names of types, from the type descriptors of the target (`internal/abi/type.go`; the members
//! read here lie alike in all releases 1.18 to 1.27).

use crate::addr::Addr;
use crate::image::pclntab::Modules;
use crate::memory::Memory;

/// `abi.Type.TFlag`.
const TFLAG: u64 = 20;

/// `TFlagExtraStar`: the name is stored with a star in front that does not belong to it.
const EXTRA_STAR: u8 = 1 << 1;

/// `abi.Type.Str`, an offset from the start of the module's types.
const STR: u64 = 40;

/// Longest name that is read, in bytes.
const LONGEST: usize = 4096;

/// The name of the type at `at` as the program's source writes it, e.g. `map[string]*http.Request`;
/// `None` for types that were made by reflection, and for what is no type.
pub fn type_name(modules: &Modules, memory: &dyn Memory, at: Addr) -> Option<String> {
    let module = modules.modules().iter().find(|m| m.info.types <= at && at < m.info.etypes)?;
    let flags = memory.read_u8(at.offset(TFLAG)).ok()?;
    let offset = memory.read_u32(at.offset(STR)).ok()?;
    let name = module.info.types.offset(offset.into());
    if offset == 0 || name >= module.info.etypes {
        return None;
    }
    let text = stored_name(memory, name)?;
    let text = String::from_utf8(text).ok()?;
    match flags & EXTRA_STAR {
        0 => Some(text),
        _ => text.strip_prefix('*').map(str::to_owned),
    }
}

/// The bytes of an `abi.Name`: flags, the length in groups of seven bits, the text.
fn stored_name(memory: &dyn Memory, at: Addr) -> Option<Vec<u8>> {
    let (mut len, mut next) = (0usize, at.offset(1));
    for shift in [0, 7, 14] {
        let byte = memory.read_u8(next).ok()?;
        next = next.offset(1);
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let mut text = vec![0; (1..=LONGEST).contains(&len).then_some(len)?];
            memory.read(next, &mut text).ok()?;
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn lengths_of_one_and_two_bytes_and_hostile_ones() {
        let mut memory = SparseMemory::new();
        memory.put(Addr::new(0x100), *b"\x01\x03int...");
        let mut long = vec![0, 0x80 | 0x48, 0x01];
        long.extend(vec![b'x'; 200]);
        memory.put(Addr::new(0x1000), long);
        memory.put(Addr::new(0x2000), [0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(stored_name(&memory, Addr::new(0x100)).as_deref(), Some(b"int".as_slice()));
        assert_eq!(stored_name(&memory, Addr::new(0x1000)).map(|n| n.len()), Some(200));
        assert_eq!(stored_name(&memory, Addr::new(0x2000)), None);
        assert_eq!(stored_name(&memory, Addr::new(0x9000)), None);
    }
}
