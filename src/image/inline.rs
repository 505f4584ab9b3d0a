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
