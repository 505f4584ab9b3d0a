//! Offsets of the runtime's structures as literal numbers, on purpose not taken from the declarations
//! and built-in tables that they check.

use allgs::image::layout::schema::{Binder, FieldDecl, Moduledata, Sched, StructDecl};

/// A member's name and offset.
type Member = (&'static str, u32);

/// Members of `runtime.moduledata` that no release moved.
const ALWAYS: &[Member] = &[
    ("pcHeader", 0),
    ("funcnametab", 8),
    ("cutab", 32),
    ("filetab", 56),
    ("pctab", 80),
    ("pclntable", 104),
    ("ftab", 128),
    ("minpc", 160),
    ("maxpc", 168),
    ("text", 176),
    ("etext", 184),
    ("noptrdata", 192),
    ("enoptrdata", 200),
    ("data", 208),
    ("edata", 216),
    ("bss", 224),
    ("ebss", 232),
    ("noptrbss", 240),
    ("enoptrbss", 248),
];

/// Names of the others, in the order of the numbers below.
const OTHERS: [&str; 9] =
    ["types", "etypes", "rodata", "gofunc", "textsectmap", "pluginpath", "modulename", "bad", "next"];

/// Size and the others of `runtime.moduledata`, from this minor release on.
const MODULEDATA: [(u16, u32, [u32; 9]); 6] = [
    (18, 552, [280, 288, 296, 304, 312, 408, 448, 536, 544]),
    (20, 568, [296, 304, 312, 320, 328, 424, 464, 552, 560]),
    (21, 592, [296, 304, 312, 320, 328, 424, 488, 576, 584]),
    (25, 584, [296, 304, 312, 320, 328, 424, 488, 529, 576]),
    (26, 592, [296, 304, 312, 320, 336, 432, 496, 537, 584]),
    (27, 568, [296, 312, 336, 344, 360, 408, 472, 513, 560]),
];

struct Literal {
    size: u32,
    members: Vec<Member>,
}

impl Binder for Literal {
    fn offset(&mut self, _: &StructDecl, field: &FieldDecl) -> Option<u32> {
        field.paths.iter().find_map(|path| self.members.iter().find(|(name, _)| name == path).map(|m| m.1))
    }

    fn size(&mut self, _: &StructDecl) -> Option<u32> {
        Some(self.size)
    }
}

/// `runtime.moduledata` of a minor release.
pub fn moduledata(minor: u16) -> Moduledata {
    let (_, size, others) = MODULEDATA.iter().rfind(|(from, ..)| *from <= minor).unwrap();
    let members = ALWAYS.iter().copied().chain(OTHERS.into_iter().zip(*others)).collect();
    Moduledata::bind(&mut Literal { size: *size, members }).unwrap()
}

/// `runtime.schedt` of a minor release: `lock` and `mnext` are right, all else is 0.
pub fn sched(minor: u16) -> Sched {
    let lock = if minor < 25 { 24 } else { 32 };
    let mnext = if minor < 25 {
        48
    } else if minor == 25 {
        56
    } else {
        72
    };
    let others = Sched::DECL.fields.iter().flat_map(|f| f.paths).map(|path| (*path, 0));
    let members = [("lock", lock), ("mnext", mnext)].into_iter().chain(others).collect();
    Sched::bind(&mut Literal { size: 8192, members }).unwrap()
}
