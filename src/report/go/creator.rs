//! Report, the runtime's own text: what made a goroutine, and with GODEBUG=tracebackancestors the
//! stacks of its ancestors at that moment (`printcreatedby`, `printAncestorTraceback`).

use super::names::Shown;
use super::site::{add_offset, head, location};
use super::{Level, Printer};
use crate::addr::{Addr, Span};
use crate::image::layout::rules::FuncKind;
use crate::image::pclntab::Func;
use crate::memory::{Memory, read_slice};
use crate::runtime::{G, GoId};

/// Ancestors that are printed. There are as many as the user asked for by GODEBUG.
const ANCESTORS: u64 = 10_000;

/// Size of a `runtime.ancestorInfo` in bytes: `pcs []uintptr`, `goid`, `gopc`.
const ANCESTOR: u64 = 40;

/// The main goroutine, which no go statement made.
const MAIN: GoId = GoId(1);

impl Printer<'_> {
    /// Prints the go statement that made `g`.
    pub(super) fn creator(&mut self, g: &G, verbose: bool) {
        let parent = g.parent.filter(|_| self.rules().created_in_goroutine);
        self.created_by(g.id, g.gopc, parent, verbose);
    }

    fn created_by(&mut self, id: GoId, gopc: Addr, parent: Option<GoId>, all: bool) {
        let Some(func) = self.unwinder.code().modules.find(gopc) else { return };
        if id == MAIN || !(all || self.appears(func.name(), func.id(), false)) {
            return;
        }
        self.out.extend(b"created by ");
        let mut name = head(func.name(), self.rules());
        name.pop();
        self.out.extend(name);
        if let Some(parent) = parent {
            self.out.extend(format!(" in goroutine {}", parent.0).bytes());
        }
        let quantum = self.image().arch.pc_quantum();
        let lookup = if gopc > func.entry() { gopc.back(quantum) } else { gopc };
        self.place(func, lookup, gopc);
    }

    /// The second line of two, with the end of the first.
    fn place(&mut self, func: Func<'_>, lookup: Addr, pc: Addr) {
        let (file, line) = func.file_line(lookup);
        // No parenthesis was opened.
        self.out.extend(location(file, line).iter().skip(1));
        add_offset(&mut self.out, func, pc);
        self.out.push(b'\n');
    }

    fn appears(&self, name: &str, id: u8, first: bool) -> bool {
        let rules = self.rules();
        let kind = match rules.func_kind(id) {
            FuncKind::Wrapper if rules.wrappers_in_ancestors => FuncKind::Normal,
            kind => kind,
        };
        let shown = Shown::of(name, kind, rules);
        self.level == Level::System || shown.appears(first, FuncKind::Normal)
    }

    /// Prints the ancestors of `g`, if the runtime keeps them.
    pub(super) fn ancestors(&mut self, g: &G) {
        let memory = self.unwinder.memory();
        if g.ancestors.is_null() {
            return;
        }
        let Ok(list) = read_slice(memory, g.ancestors) else { return };
        for n in 0..list.len.min(ANCESTORS) {
            if self.ancestor(memory, list.array.offset(n * ANCESTOR)).is_none() {
                return;
            }
        }
    }

    fn ancestor(&mut self, memory: &dyn Memory, at: Addr) -> Option<()> {
        let pcs = read_slice(memory, at).ok()?;
        let id = GoId(memory.read_u64(at.offset(24)).ok()?);
        let gopc = memory.read_addr(at.offset(32)).ok()?;
        let limit = u64::from(self.rules().ancestors_limit);
        let span = Span { start: pcs.array, len: pcs.len.checked_mul(8)? };
        let bytes = memory.read_span(span, limit * 8).ok()?;
        self.out.extend(format!("[originating from goroutine {}]:\n", id.0).bytes());
        let (words, _) = bytes.as_chunks();
        for (n, word) in words.iter().enumerate() {
            self.ancestor_frame(Addr::new(u64::from_le_bytes(*word)), n == 0);
        }
        if pcs.len == limit {
            self.out.extend(b"...additional frames elided...\n");
        }
        self.created_by(id, gopc, None, self.level == Level::System);
        Some(())
    }

    /// The innermost call at `pc`, which is taken as it is; the function around it decides whether it
    /// appears.
    fn ancestor_frame(&mut self, pc: Addr, first: bool) {
        let code = self.unwinder.code();
        let Some(func) = code.modules.find(pc) else { return };
        if !self.appears(func.name(), func.id(), first) {
            return;
        }
        let Some(call) = func.inline_at(code.memory, pc).next() else { return };
        self.out.extend(head(call.name, code.rules));
        self.out.extend(b"...");
        self.out.extend(location(call.file, call.line));
        add_offset(&mut self.out, func, pc);
        self.out.push(b'\n');
    }
}
