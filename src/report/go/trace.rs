//! Report, the runtime's own text: the frames of one goroutine and which of them are left out
//! (`traceback1` and `traceback2`; `gentraceback` until 1.20).

use super::Printer;
use super::plan::{Line, plan};
use super::site::{Call, Site};
use crate::image::layout::rules::{FuncKind, TrapCalls};
use crate::runtime::{G, Status};
use crate::unwind::StackEnd;
use crate::unwind::args::write_hex;
use crate::unwind::walk::{Physical, Walk};
use std::rc::Rc;

impl Printer<'_> {
    /// Prints the frames of `g`.
    pub(super) fn stack(&mut self, g: &G, verbose: bool) {
        let mut walk = self.unwinder.walk_own(&mut self.walker, g);
        if g.status == Status::Running {
            self.leave_out_death(&mut walk);
        }
        if walk.end == StackEnd::NoRegisters && g.status == Status::Running {
            self.out.extend(b"\tgoroutine running on other thread; stack unavailable\n");
            return;
        }
        let sites: Vec<Rc<Site>> = (0..walk.frames.len()).map(|n| self.site(&walk, n)).collect();
        let limit = self.rules().frame_limit;
        let mut lines = plan(&sites, limit, verbose);
        if lines.is_empty() {
            // When nothing is left, all is printed.
            lines = plan(&sites, limit, true);
        }
        for line in lines {
            self.line(line, &sites, &walk, verbose);
        }
        self.end(g, &walk);
    }

    /// Takes away how the runtime gave up, when it did: it prints what came before that.
    fn leave_out_death(&self, walk: &mut Walk) {
        let code = self.unwinder.code();
        let is_death = |f: &Physical| {
            let func = code.modules.find(f.pc);
            func.is_some_and(|f| matches!(f.name(), "runtime.fatalpanic" | "runtime.fatalthrow"))
        };
        if let Some(at) = walk.frames.iter().position(is_death) {
            walk.frames.drain(..=at);
        }
    }

    fn line(&mut self, line: Line, sites: &[Rc<Site>], walk: &Walk, verbose: bool) {
        match line {
            Line::Call { frame, call } => {
                let (Some(site), Some(frame)) = (sites.get(frame), walk.frames.get(frame)) else { return };
                if let Some(call) = site.calls.get(call) {
                    self.call(call, site, frame, verbose);
                }
            }
            Line::Elided(n) => self.out.extend(format!("...{n} frames elided...\n").bytes()),
            Line::More => self.out.extend(b"...additional frames elided...\n"),
        }
    }

    /// Prints one call.
    fn call(&mut self, call: &Call, site: &Site, frame: &Physical, verbose: bool) {
        self.out.extend(&call.head);
        if call.inlined {
            self.out.extend(b"...");
        } else if let Some(args) = &site.args {
            let first = frame.fp.offset(self.image().arch.min_frame_size());
            args.write(&mut self.out, first, self.unwinder.memory());
        }
        self.out.extend(&call.tail);
        if verbose && !call.inlined {
            for (what, value) in [(" fp=", frame.fp), (" sp=", frame.sp), (" pc=", frame.pc)] {
                self.out.extend(what.bytes());
                write_hex(&mut self.out, value.get());
            }
        }
        self.out.push(b'\n');
    }

    /// What is at the frame with number `index`.
    fn site(&mut self, walk: &Walk, index: usize) -> Rc<Site> {
        let Some(frame) = walk.frames.get(index) else { return Rc::default() };
        let exact = frame.trap && self.runtime_knows_trap(walk, index);
        if let Some(site) = self.sites.get(&(frame.pc, exact)) {
            return Rc::clone(site);
        }
        let code = self.unwinder.code();
        let func = code.modules.find(frame.pc);
        let site = Rc::new(func.map(|func| Site::of(code, func, frame.pc, exact)).unwrap_or_default());
        self.sites.insert((frame.pc, exact), Rc::clone(&site));
        site
    }

    /// Whether the runtime knows that the address of this frame is no return address. Until 1.20 it
    /// does not below `asyncPreempt`, and names the line before.
    fn runtime_knows_trap(&self, walk: &Walk, index: usize) -> bool {
        let Some(callee) = index.checked_sub(1).and_then(|callee| walk.frames.get(callee)) else {
            return true;
        };
        match self.rules().trap_calls {
            TrapCalls::All => true,
            TrapCalls::Sigpanic => {
                let code = self.unwinder.code();
                let callee = code.modules.find(callee.pc);
                callee.is_some_and(|f| code.rules.func_kind(f.id()) == FuncKind::Sigpanic)
            }
        }
    }

    /// Says where a stack breaks off.
    fn end(&mut self, g: &G, walk: &Walk) {
        let id = g.id.0;
        let code = self.unwinder.code();
        let outermost = walk.frames.last().and_then(|f| code.modules.find(f.pc));
        let line = match (&walk.end, outermost) {
            (StackEnd::Complete | StackEnd::NoRegisters | StackEnd::Switched { .. }, _) => return,
            (StackEnd::UnknownCode { pc }, None) => format!("unknown pc {pc}"),
            (StackEnd::UnknownCode { pc }, Some(f)) => {
                format!("unexpected return pc for {} called from {pc}", f.name())
            }
            (StackEnd::Unreadable { at }, _) => format!("stack not readable at {at}"),
            (StackEnd::OutOfStack { sp }, _) => format!("frame outside of the stack at {sp}"),
            (StackEnd::Limit, _) => "too many frames".to_owned(),
        };
        self.out.extend(format!("runtime: g {id}: {line}\n").bytes());
    }
}
