//! Image: the calls that the compiler inlined at an address (`runtime/symtabinl.go`). The tree lies in
//! the target's read-only data; each entry names a function and an address that belongs to its caller.

use super::pclntab::{Func, funcdata, pcdata, u32_at};
use crate::addr::Addr;
use crate::memory::Memory;

/// One call of source code: inlined, or the physical function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InlineFrame<'a> {
    /// The function's name; `?` when its entry could not be read.
    pub name: &'a str,
    /// Its kind, by the numbers of its release.
    pub func_id: u8,
    /// The address that stands for it: file and line belong to this one.
    pub pc_for_line: Addr,
    /// Source file; absent when unknown.
    pub file: Option<&'a str>,
    /// Source line; 0 when unknown.
    pub line: u32,
    /// Whether it was inlined; the physical function is not.
    pub inlined: bool,
}

/// Calls inlined in one another at one address before a cycle is supposed; the compiler's budget ends
/// them far earlier.
const DEPTH: u32 = 1000;

/// The frames at one address, innermost first.
pub struct InlineFrames<'a> {
    func: Func<'a>,
    memory: &'a dyn Memory,
    tree: Option<Addr>,
    depth: u32,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// The next frame is the one at this address.
    At(Addr),
    /// The way from the last address to the physical function is lost; only the latter is known.
    Lost(Addr),
    Done,
}

/// One entry of the tree.
struct InlinedCall<'a> {
    name: &'a str,
    func_id: u8,
    caller: Addr,
}

impl<'a> InlineFrames<'a> {
    pub(super) fn new(func: Func<'a>, memory: &'a dyn Memory, pc: Addr) -> InlineFrames<'a> {
        InlineFrames { func, memory, tree: func.funcdata(funcdata::INL_TREE), depth: 0, state: State::At(pc) }
    }

    /// Entry `index` of the tree at `tree`.
    fn entry(&self, tree: Addr, index: u32) -> Option<InlinedCall<'a>> {
        let format = self.func.module.format;
        let mut buf = [0; 20];
        let bytes = buf.get_mut(..format.inline_size)?;
        self.memory.read(tree.offset(u64::from(index) * bytes.len() as u64), bytes).ok()?;
        let parent = u32_at(bytes, format.inline_parent)?;
        Some(InlinedCall {
            name: self.func.module.name(u32_at(bytes, format.inline_name)?),
            func_id: bytes.get(format.inline_id).copied()?,
            caller: self.func.entry().offset(parent.into()),
        })
    }

    fn physical(&self, pc: Addr, (file, line): (Option<&'a str>, u32)) -> InlineFrame<'a> {
        let (name, func_id) = (self.func.name(), self.func.id());
        InlineFrame { name, func_id, pc_for_line: pc, file, line, inlined: false }
    }
}

impl<'a> Iterator for InlineFrames<'a> {
    type Item = InlineFrame<'a>;

    fn next(&mut self) -> Option<InlineFrame<'a>> {
        let pc = match self.state {
            State::At(pc) => pc,
            State::Lost(pc) => {
                self.state = State::Done;
                return Some(self.physical(pc, (None, 0)));
            }
            State::Done => return None,
        };
        let place = self.func.file_line(pc);
        let index = u32::try_from(self.func.pcdata(pcdata::INL_TREE_INDEX, pc)).ok();
        let (Some(tree), Some(index)) = (self.tree, index) else {
            self.state = State::Done;
            return Some(self.physical(pc, place));
        };
        self.depth = self.depth.saturating_add(1);
        let call = self.entry(tree, index);
        self.state = match &call {
            Some(call) if self.depth < DEPTH => State::At(call.caller),
            _ => State::Lost(pc),
        };
        let (name, func_id) = call.map_or(("?", 0), |call| (call.name, call.func_id));
        let (file, line) = place;
        Some(InlineFrame { name, func_id, pc_for_line: pc, file, line, inlined: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::image::blob::FromMemory;
    use crate::image::pclntab::Modules;
    use crate::image::testing::{Built, FuncSpec, GOFUNC, MODULEDATA, Spec, TEXT, layout};

    /// A function of which bytes 0x10 to 0x1f are `inner`, called by `outer`, both inlined.
    fn build(magic: u32) -> (Built, Modules) {
        let func = FuncSpec {
            name: "main.f",
            id: 7,
            pcfile: &[(0, 0x40)],
            pcln: &[(10, 0x10), (50, 0x10), (11, 8), (30, 8), (12, 0x10)],
            pcdata: vec![&[], &[], &[(-1, 0x10), (1, 0x10), (-1, 8), (0, 8), (-1, 0x10)]],
            funcdata: vec![u32::MAX, u32::MAX, u32::MAX, 0x100],
            ..FuncSpec::default()
        };
        let spec = Spec {
            magic,
            quantum: 1,
            funcs: vec![func],
            end: 0x40,
            files: vec!["/f.go"],
            names: vec!["main.outer", "main.inner"],
        };
        let mut built = spec.build();
        let tree: Vec<u8> =
            [(0, 1u8, 0x20), (1, 2, 0x28)].into_iter().flat_map(|entry| entry_bytes(&built, entry)).collect();
        built.memory.put(Addr::new(GOFUNC + 0x100), tree);
        let memory = &built.memory;
        let first = Addr::new(MODULEDATA);
        let modules = Modules::load(memory, &FromMemory(memory), first, &layout(), Arch::Amd64).unwrap();
        (built, modules)
    }

    /// One entry in the format of the table's magic number.
    fn entry_bytes(built: &Built, (name, id, parent): (usize, u8, u32)) -> Vec<u8> {
        let name = built.names[name].to_le_bytes();
        let parent = parent.to_le_bytes();
        if built.table.starts_with(&[0xf0]) {
            [&[0xff, 0xff, id, 0][..], &[9; 8], &name, &parent].concat()
        } else {
            [&[id, 0, 0, 0][..], &name, &parent, &[9; 4]].concat()
        }
    }

    fn frames<'a>(built: &'a Built, modules: &'a Modules, offset: u64) -> Vec<(&'a str, u8, u32, bool)> {
        let pc = Addr::new(TEXT + offset);
        let func = modules.find(pc).unwrap();
        func.inline_at(&built.memory, pc).map(|f| (f.name, f.func_id, f.line, f.inlined)).collect()
    }

    #[test]
    fn calls_come_innermost_first_in_both_formats() {
        for magic in [0xffff_fff0, 0xffff_fff1] {
            let (built, modules) = build(magic);
            assert_eq!(frames(&built, &modules, 0), [("main.f", 7, 10, false)]);
            let whole = [("main.inner", 2, 50, true), ("main.outer", 1, 30, true), ("main.f", 7, 11, false)];
            assert_eq!(frames(&built, &modules, 0x1f), whole);
            assert_eq!(frames(&built, &modules, 0x28), whole[1..]);
        }
    }

    #[test]
    fn an_unreadable_tree_leaves_the_function_without_a_line() {
        let (mut built, modules) = build(0xffff_fff1);
        built.memory.put(Addr::new(GOFUNC + 0x100), [0; 4]);
        assert_eq!(frames(&built, &modules, 0x10), [("?", 0, 50, true), ("main.f", 7, 0, false)]);
    }

    #[test]
    fn a_call_that_is_its_own_caller_ends() {
        let (mut built, modules) = build(0xffff_fff1);
        let cycle: Vec<u8> =
            [(0, 1u8, 0x20), (1, 2, 0x10)].into_iter().flat_map(|entry| entry_bytes(&built, entry)).collect();
        built.memory.put(Addr::new(GOFUNC + 0x100), cycle);
        let all = frames(&built, &modules, 0x10);
        assert_eq!(all.len(), 1001);
        assert_eq!(all.last(), Some(&("main.f", 7, 0, false)));
    }
}
