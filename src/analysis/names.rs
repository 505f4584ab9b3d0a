//! Analysis: the names behind the addresses in a g, looked up in the tables of its image.

use super::survey::{Labels, Lookup, Site};
use crate::diag::Diagnostics;
use crate::image::Image;
use crate::image::layout::rules::FuncKind;
use crate::memory::Memory;
use crate::runtime::{G, GoId, labels};
use crate::unwind::stacks::Stack;
use crate::unwind::{Frame, StackEnd};
use std::cell::RefCell;
use std::sync::Arc;

/// The goroutine that runs `main.main`; no go statement made it.
const MAIN: GoId = GoId(1);

/// Looks names up in an image and in memory of the instant of the capture.
pub struct ImageNames<'a> {
    image: &'a Image,
    memory: &'a dyn Memory,
    losses: RefCell<Diagnostics>,
}

impl<'a> ImageNames<'a> {
    /// Names of the target of `image`.
    pub fn new(image: &'a Image, memory: &'a dyn Memory) -> ImageNames<'a> {
        ImageNames { image, memory, losses: RefCell::default() }
    }

    /// What could not be looked up.
    pub fn losses(self) -> Diagnostics {
        self.losses.into_inner()
    }
}

impl Lookup for ImageNames<'_> {
    fn wait_reason(&self, number: u8) -> Option<String> {
        match self.image.wait_reasons.get(usize::from(number)) {
            Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            None => Some(format!("unknown({number})")),
        }
    }

    /// As `printcreatedby` does (runtime/traceback.go): the function around the go statement, and the
    /// line of the call, which lies before the return address.
    fn created_by(&self, g: &G) -> Option<Site> {
        if g.gopc.is_null() || g.id == MAIN {
            return None;
        }
        let function = self.image.modules.find(g.gopc)?;
        let quantum = self.image.arch.pc_quantum();
        let call = if g.gopc > function.entry() { g.gopc.back(quantum) } else { g.gopc };
        let (file, line) = function.file_line(call);
        Some(Site { function: function.name().into(), file: file.map(Into::into), line })
    }

    /// For `go f(x)` the compiler writes a function that calls `f`, and it is that one's entry that the
    /// g has. The frame that it called is `f`; without one nothing is known.
    fn start(&self, g: &G, stack: &Stack) -> Option<Arc<str>> {
        let function = self.image.modules.find(g.startpc)?;
        if self.image.rules.func_kind(function.id()) != FuncKind::Wrapper {
            return Some(function.name().into());
        }
        if stack.end != StackEnd::Complete {
            return None;
        }
        let wrapper = stack.frames.iter().rposition(|f| f.entry == function.entry() && !f.inlined)?;
        let called = stack.frames.get(wrapper.checked_sub(1)?)?;
        Some(called.function.clone())
    }

    fn is_wrapper(&self, frame: &Frame) -> bool {
        let function = self.image.modules.find(frame.entry).filter(|_| !frame.inlined);
        function.is_some_and(|f| self.image.rules.func_kind(f.id()) == FuncKind::Wrapper)
    }

    fn labels(&self, g: &G) -> Labels {
        labels::labels(g, self.image, self.memory).unwrap_or_else(|_| {
            self.losses.borrow_mut().warn("labels could not be read", "goroutines are shown without them");
            Labels::new()
        })
    }

    fn main_module(&self) -> Option<&str> {
        self.image.build.main_module.as_deref()
    }
}
