//! Report, the runtime's own text: what is printed at one address, made once and used for all frames
//! that are there.

use super::names::{Shown, printed};
use crate::addr::Addr;
use crate::image::layout::rules::{FuncKind, LivenessPc, Rules};
use crate::image::pclntab::Func;
use crate::unwind::args::{Args, write_hex};
use crate::unwind::code::Code;
use crate::unwind::symbolize::lookup_pc;

/// The calls at one address.
pub(super) struct Site {
    /// Inlined calls first, the physical function last.
    pub(super) calls: Vec<Call>,
    /// The physical function's arguments; absent when nothing is known of them.
    pub(super) args: Option<Args>,
    /// What the physical function is.
    pub(super) kind: FuncKind,
}

/// One call of source code.
pub(super) struct Call {
    /// Whether it appears.
    pub(super) shown: Shown,
    /// What it is.
    pub(super) kind: FuncKind,
    /// Whether it was inlined; its arguments are not known then.
    pub(super) inlined: bool,
    /// The name and `(`.
    pub(super) head: Vec<u8>,
    /// From `)` to the end of the second line, without what verbose text adds there.
    pub(super) tail: Vec<u8>,
}

impl Default for Site {
    /// No function is there.
    fn default() -> Site {
        Site { calls: Vec::new(), args: None, kind: FuncKind::Other }
    }
}

impl Site {
    /// What is at `pc`, which is a return address unless `exact`.
    pub(super) fn of(code: Code<'_>, func: Func<'_>, pc: Addr, exact: bool) -> Site {
        let lookup = lookup_pc(func, pc, exact);
        let mut outermost = lookup;
        let mut calls = Vec::new();
        for f in func.inline_at(code.memory, lookup) {
            outermost = f.pc_for_line;
            let kind = code.rules.func_kind(f.func_id);
            let mut tail = location(f.file, f.line);
            if !f.inlined {
                add_offset(&mut tail, func, pc);
            }
            calls.push(Call {
                shown: Shown::of(f.name, kind, code.rules),
                kind,
                inlined: f.inlined,
                head: head(f.name, code.rules),
                tail,
            });
        }
        let live_at = match code.rules.liveness_pc {
            LivenessPc::SymbolPc => lookup,
            LivenessPc::AfterInlineWalk => outermost,
        };
        let args = Args::of(code, func, live_at);
        Site { calls, args, kind: code.rules.func_kind(func.id()) }
    }
}

/// The name as it is printed, and `(`.
pub(super) fn head(name: &str, rules: &Rules) -> Vec<u8> {
    let mut head = printed(name, rules.brackets).into_owned().into_bytes();
    head.push(b'(');
    head
}

/// The end of the first line and `file:line` of the second.
pub(super) fn location(file: Option<&str>, line: u32) -> Vec<u8> {
    format!(")\n\t{}:{line}", file.unwrap_or("?")).into_bytes()
}

/// How far the address is into the function, unless it is at its entry.
pub(super) fn add_offset(out: &mut Vec<u8>, func: Func<'_>, pc: Addr) {
    if let Some(offset) = pc.above(func.entry()).filter(|offset| *offset > 0) {
        out.extend(b" +");
        write_hex(out, offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::unwind::fixture::{Function, Program, plain};

    /// Arguments whose register is current at 0x14, but not at 0x04, the address of the inlined call.
    const F: Function = Function {
        lines: &[(0x10, 10), (0x20, 30), (0x100, 11)],
        inline: &[(0x10, -1), (0x20, 0), (0x100, -1)],
        tree: &[("main.T[...].m", 0x04)],
        arg_info: &[0, 8, 0xff],
        live_info: &[0, 0, 1],
        live: &[(0x10, 1), (0x100, 2)],
        ..plain("main.f[go.shape.int]", &[(0x100, 0x10)])
    };

    fn text(version: &str, offset: u64, exact: bool) -> String {
        let mut p = Program::new(Arch::Amd64, version, &[F]);
        p.push(0x7000, &[Addr::new(5)]);
        let pc = p.at("main.f[go.shape.int]", offset);
        let site = Site::of(p.code(), p.code().modules.find(pc).unwrap(), pc, exact);
        let mut out = Vec::new();
        for call in &site.calls {
            out.extend(&call.head);
            match &site.args {
                Some(args) if !call.inlined => args.write(&mut out, Addr::new(0x7000), &p.memory),
                _ => {}
            }
            out.extend(&call.tail);
            out.push(b'\n');
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn two_lines_for_each_call() {
        let new = "main.T[...].m()\n\tmain.go:30\nmain.f[...](0x5)\n\tmain.go:10 +0x14\n";
        assert_eq!(text("go1.21.0", 0x14, false), new);
        // Until 1.20 the liveness is looked up where the inlined call is.
        let old = "main.T[...].m()\n\tmain.go:30\nmain.f[go.shape.int](0x5?)\n\tmain.go:10 +0x14\n";
        assert_eq!(text("go1.20.14", 0x14, false), old);
    }

    #[test]
    fn exact_addresses_and_entries_are_taken_as_they_are() {
        assert_eq!(text("go1.21.0", 0x20, true), "main.f[...](0x5)\n\tmain.go:11 +0x20\n");
        let before = "main.T[...].m()\n\tmain.go:30\nmain.f[...](0x5)\n\tmain.go:10 +0x20\n";
        assert_eq!(text("go1.21.0", 0x20, false), before);
        assert_eq!(text("go1.21.0", 0, false), "main.f[...](0x5?)\n\tmain.go:10\n");
    }
}
