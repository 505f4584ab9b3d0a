//! Unwind: from one pc and sp to all callers, frame by frame, as `runtime/traceback.go` does it
//! (`unwinder.resolveInternal` and `unwinder.next`; `gentraceback` until 1.20).

use super::code::Code;
use super::native::Gap;
use super::stack::StackReader;
use super::{StackEnd, Trust};
use crate::addr::{Addr, Span};
use crate::image::layout::rules::FuncKind;
use crate::memory::{ReadError, ReadFail};
use crate::runtime::GoBuf;
use rustc_hash::FxHashMap;

/// One frame as it lies on the stack; inlined calls are not told apart yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Physical {
    /// The next instruction, or the return address of the call that it waits for.
    pub pc: Addr,
    /// Stack pointer there.
    pub sp: Addr,
    /// Stack pointer of the caller once this frame is gone.
    pub fp: Addr,
    /// Whether `pc` is the next instruction and not a return address: the thread stood there, or a
    /// signal came in there.
    pub trap: bool,
    /// How it was found.
    pub trust: Trust,
}

/// All frames of one stack, innermost first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The frames.
    pub frames: Vec<Physical>,
    /// Why there are no more.
    pub end: StackEnd,
    /// Where frames of C code are missing, innermost first.
    pub gaps: Vec<Gap>,
}

impl Walk {
    /// A stack of which nothing is known but why.
    pub(super) fn nothing(end: StackEnd) -> Walk {
        Walk { frames: Vec::new(), end, gaps: Vec::new() }
    }
}

/// Where a walk begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Start {
    /// Next instruction or return address.
    pub pc: Addr,
    /// Stack pointer.
    pub sp: Addr,
    /// Link register; null where there is none.
    pub lr: Addr,
    /// Where the registers come from.
    pub by: By,
    /// The stack that `sp` lies on.
    pub stack: Span,
    /// On a system stack: where the goroutine's own one goes on.
    pub onward: Option<Onward>,
}

/// Where the registers that a walk begins with come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// `g.sched` or the like: pc is a return address.
    Saved,
    /// `g.syscallpc` and `g.syscallsp`.
    Syscall,
    /// A thread, or the frame of a signal: pc is the next instruction.
    Thread,
    /// A thread on its system stack, of which nothing else is asked.
    System,
}

/// Where a goroutine's own stack goes on when the system stack is exhausted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Onward {
    /// `g.sched`.
    pub sched: GoBuf,
    /// The goroutine's stack.
    pub stack: Span,
}

/// Frames of one stack before it is given up. The runtime's largest stack, 1 GB, holds more, but not
/// what anybody reads.
const FRAMES: usize = 1_000_000;

/// Addresses whose step is remembered.
const SITES: usize = 1 << 16;

/// What the tables say of one address.
#[derive(Clone, Copy)]
struct Site {
    /// Bytes from SP to its value at the entry; absent in foreign assembly.
    depth: Option<u64>,
    kind: FuncKind,
    top: bool,
    sp_write: bool,
}

/// A place on a stack.
struct Cursor {
    pc: Addr,
    sp: Addr,
    lr: Addr,
    trap: bool,
    innermost: bool,
    /// SP writes of this function are known not to have happened.
    sp_kept: bool,
    /// The thread is on this stack: functions that switch to another one have not yet done so, or
    /// have switched back, and SP is what the tables say. On a system stack they align SP.
    own_stack: bool,
    onward: Option<Onward>,
}

/// Walks stacks, one after the other; remembers what the tables say of the addresses it met.
pub struct Walker<'a> {
    code: Code<'a>,
    sites: FxHashMap<Addr, Option<Site>>,
    stack: StackReader<'a>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(code: Code<'a>) -> Walker<'a> {
        Walker { code, sites: FxHashMap::default(), stack: StackReader::new(code.memory) }
    }

    /// Walks one stack.
    pub(super) fn walk(&mut self, start: &Start) -> Walk {
        let mut frames = Vec::new();
        self.stack.turn_to(start.stack);
        let end = match self.begin(start) {
            Ok(mut at) => loop {
                if frames.len() >= FRAMES {
                    break StackEnd::Limit;
                }
                match (self.one(&mut at, &mut frames), at.onward) {
                    (Ok(()), _) => {}
                    (Err(_), Some(onward)) => self.go_on(&mut at, onward),
                    (Err(end), None) => break end,
                }
            },
            Err(end) => end,
        };
        Walk { frames, end, gaps: Vec::new() }
    }

    /// The innermost place. A null pc is a call of a nil function: its caller is known.
    fn begin(&mut self, start: &Start) -> Result<Cursor, StackEnd> {
        let on_thread = start.by == By::Thread;
        let exact = matches!(start.by, By::Thread | By::System);
        let mut at = Cursor {
            pc: start.pc,
            sp: start.sp,
            lr: start.lr,
            trap: exact,
            innermost: true,
            sp_kept: start.by == By::Syscall || on_thread && start.onward.is_none(),
            own_stack: on_thread && start.onward.is_none(),
            onward: start.onward,
        };
        if at.pc.is_null() {
            at.trap = false;
            at.pc = if at.lr.is_null() { self.word(at.sp)? } else { at.lr };
            at.lr = Addr::NULL;
            if !self.code.arch.has_link_register() {
                at.sp = at.sp.offset(8);
            }
        }
        Ok(at)
    }

    /// Takes the frame at the cursor and moves on to its caller.
    fn one(&mut self, at: &mut Cursor, frames: &mut Vec<Physical>) -> Result<(), StackEnd> {
        let (site, depth) = self.known(at.pc)?;
        if let Some(onward) = at.onward {
            match site.kind {
                FuncKind::Morestack => {
                    self.go_on(at, onward);
                    return Ok(());
                }
                // Where a link register is used and the frame isn't there yet, nor is the switch.
                FuncKind::Systemstack if self.code.arch.has_link_register() && depth == 0 => {
                    at.sp_kept = true;
                }
                FuncKind::Systemstack => {
                    at.sp = onward.sched.sp;
                    at.onward = None;
                    at.sp_kept = true;
                    self.stack.turn_to(onward.stack);
                }
                _ => {}
            }
        }
        let fp = at.sp.offset(depth).offset(self.code.arch.pushed_return());
        let frame = Physical { pc: at.pc, sp: at.sp, fp, trap: at.trap, trust: Trust::Exact };
        if fp < at.sp {
            return Err(StackEnd::OutOfStack { sp: at.sp });
        }
        frames.push(frame);
        let caller = self.caller(at, site, frame)?;
        self.step(at, site.kind, frame, caller)
    }

    /// The address that the frame returns to.
    fn caller(&mut self, at: &Cursor, site: Site, frame: Physical) -> Result<Addr, StackEnd> {
        if site.top {
            return Err(StackEnd::Complete);
        }
        // `cgocallback` switches stacks, but has a valid frame on both.
        if site.sp_write && !at.sp_kept && site.kind != FuncKind::Cgocallback {
            return Err(StackEnd::Switched { pc: at.pc });
        }
        if !self.code.arch.has_link_register() {
            return self.word(frame.fp.back(8));
        }
        let saved = at.innermost && frame.sp < frame.fp || at.lr.is_null();
        if saved { self.word(frame.sp) } else { Ok(at.lr) }
    }

    /// Moves the cursor to the caller.
    fn step(
        &mut self,
        at: &mut Cursor,
        kind: FuncKind,
        frame: Physical,
        caller: Addr,
    ) -> Result<(), StackEnd> {
        let stuck = caller == frame.pc && frame.sp == frame.fp;
        if stuck || self.site(caller).is_none() {
            return Err(StackEnd::UnknownCode { pc: caller });
        }
        let injected = is_injected(kind);
        *at = Cursor {
            pc: caller,
            sp: frame.fp,
            lr: Addr::NULL,
            trap: injected,
            innermost: false,
            sp_kept: at.own_stack,
            own_stack: at.own_stack,
            onward: at.onward,
        };
        if injected && self.code.arch.has_link_register() {
            // The signal handler pushed the interrupted LR before it faked the call.
            let interrupted = self.word(at.sp)?;
            at.sp = at.sp.offset(PUSHED_LR);
            if self.site(caller).is_some_and(|site| site.depth == Some(0)) {
                at.lr = interrupted;
            }
        }
        Ok(())
    }

    /// Goes on where the goroutine left its own stack.
    fn go_on(&mut self, at: &mut Cursor, onward: Onward) {
        *at = Cursor {
            pc: onward.sched.pc,
            sp: onward.sched.sp,
            lr: if self.code.arch.has_link_register() { onward.sched.lr } else { Addr::NULL },
            trap: false,
            innermost: true,
            sp_kept: false,
            own_stack: false,
            onward: None,
        };
        self.stack.turn_to(onward.stack);
    }

    fn word(&mut self, at: Addr) -> Result<Addr, StackEnd> {
        self.stack.word(at).map_err(|ReadError { at, why, .. }| match why {
            ReadFail::Overflow => StackEnd::OutOfStack { sp: at },
            _ => StackEnd::Unreadable { at },
        })
    }

    fn known(&mut self, pc: Addr) -> Result<(Site, u64), StackEnd> {
        let unknown = StackEnd::UnknownCode { pc };
        let site = self.site(pc).ok_or(unknown.clone())?;
        Ok((site, site.depth.ok_or(unknown)?))
    }

    fn site(&mut self, pc: Addr) -> Option<Site> {
        if let Some(known) = self.sites.get(&pc) {
            return *known;
        }
        let found = self.look_up(pc);
        if self.sites.len() >= SITES {
            self.sites.clear();
        }
        self.sites.insert(pc, found);
        found
    }

    fn look_up(&self, pc: Addr) -> Option<Site> {
        let func = self.code.modules.find(pc)?;
        Some(Site {
            depth: func.pcsp(pc).and_then(|depth| u64::try_from(depth).ok()),
            kind: self.code.rules.func_kind(func.id()),
            top: func.top_frame(),
            sp_write: func.sp_write(),
        })
    }
}

/// Bytes that a signal handler takes for the interrupted LR: `MinFrameSize` in steps of the stack's
/// alignment (arm64).
const PUSHED_LR: u64 = 16;

/// Calls that a signal handler put in: where they return to is where the signal came in.
fn is_injected(kind: FuncKind) -> bool {
    matches!(kind, FuncKind::Sigpanic | FuncKind::AsyncPreempt | FuncKind::DebugCall)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Program, SP_WRITE, TOP, id, plain, special};
    use super::super::symbolize::{Names, frames_at};
    use super::*;
    use crate::arch::Arch::{Amd64, Arm64};

    const STACK: Span = Span { start: Addr::new(0x7000), len: 0x1000 };
    const SYSTEM: Span = Span { start: Addr::new(0x9000), len: 0x1000 };

    fn start(pc: Addr, sp: u64, by: By) -> Start {
        Start { pc, sp: Addr::new(sp), lr: Addr::NULL, by, stack: STACK, onward: None }
    }

    /// Names of the frames, those whose pc is exact with `!`, and the end.
    fn walked(program: &Program, start: &Start) -> (String, StackEnd) {
        let walk = Walker::new(program.code()).walk(start);
        let name = |f: &Physical| {
            let name = program.code().modules.find(f.pc).unwrap().name();
            if f.trap { format!("{name}!") } else { name.to_owned() }
        };
        (walk.frames.iter().map(name).collect::<Vec<_>>().join(" "), walk.end)
    }

    /// A leaf that takes 0x20 bytes after its prologue, its caller, and the end of the stack.
    fn program(arch: crate::arch::Arch) -> Program {
        Program::new(
            arch,
            "go1.27.0",
            &[
                plain("main.leaf", &[(0x10, 0), (0xf0, 0x20), (0x100, 0)]),
                plain("main.f", &[(0x100, 0x10)]),
                special("runtime.goexit", 8, TOP, &[(0x100, 0)]),
                special("runtime.asyncPreempt", id::ASYNC_PREEMPT, 0, &[(0x100, 0x30)]),
                special("runtime.sigpanic", id::SIGPANIC, 0, &[(0x100, 0x30)]),
                special("runtime.systemstack", id::SYSTEMSTACK, SP_WRITE, &[(8, 0), (0x100, 8)]),
                special("runtime.morestack", id::MORESTACK, SP_WRITE, &[(0x100, 0)]),
                special("runtime.mcall", id::MCALL, SP_WRITE, &[(0x100, 0)]),
                plain("foreign", &[]),
            ],
        )
    }

    #[test]
    fn amd64_return_addresses_lie_below_the_callers_frame() {
        let mut p = program(Amd64);
        let (f, exit) = (p.at("main.f", 5), p.at("runtime.goexit", 1));
        p.push(0x7100, &[Addr::NULL, Addr::NULL, Addr::NULL, Addr::NULL, f]);
        p.push(0x7128, &[Addr::NULL, Addr::NULL, exit]);
        let walk = Walker::new(p.code()).walk(&start(p.at("main.leaf", 0x20), 0x7100, By::Saved));
        let frame = |pc, sp, fp| Physical {
            pc,
            sp: Addr::new(sp),
            fp: Addr::new(fp),
            trap: false,
            trust: Trust::Exact,
        };
        let leaf = p.at("main.leaf", 0x20);
        assert_eq!(
            walk.frames,
            [frame(leaf, 0x7100, 0x7128), frame(f, 0x7128, 0x7140), frame(exit, 0x7140, 0x7148)]
        );
        assert_eq!(walk.end, StackEnd::Complete);
        // In the prologue the return address is on top.
        p.push(0x7120, &[f]);
        let prologue = start(p.at("main.leaf", 3), 0x7120, By::Thread);
        assert_eq!(walked(&p, &prologue).0, "main.leaf! main.f runtime.goexit");
    }

    #[test]
    fn arm64_links_lie_at_the_bottom_or_in_the_register() {
        let mut p = program(Arm64);
        let (f, exit) = (p.at("main.f", 8), p.at("runtime.goexit", 4));
        p.push(0x7100, &[f]);
        p.push(0x7120, &[exit]);
        let all = "main.leaf main.f runtime.goexit".to_owned();
        // A parked one: the register is null, the frame has it.
        let parked = start(p.at("main.leaf", 0x20), 0x7100, By::Saved);
        assert_eq!(walked(&p, &parked), (all.clone(), StackEnd::Complete));
        // With a frame, a stale register does not count.
        let framed = Start { lr: p.at("main.leaf", 0x44), ..parked };
        assert_eq!(walked(&p, &framed), (all.clone(), StackEnd::Complete));
        // Without one it does.
        let prologue = Start { pc: p.at("main.leaf", 4), sp: Addr::new(0x7120), lr: f, ..parked };
        assert_eq!(walked(&p, &prologue), (all, StackEnd::Complete));
    }

    #[test]
    fn arm64_handlers_push_the_link_of_what_they_interrupt() {
        let mut p = program(Arm64);
        let (leaf, f, exit) = (p.at("main.leaf", 4), p.at("main.f", 8), p.at("runtime.goexit", 4));
        for injected in ["runtime.asyncPreempt", "runtime.sigpanic"] {
            // The injected call returns to the leaf's prologue; the leaf's own link was pushed.
            p.push(
                0x7100,
                &[leaf, Addr::NULL, Addr::NULL, Addr::NULL, Addr::NULL, Addr::NULL, f, Addr::NULL],
            );
            p.push(0x7140, &[exit]);
            let at = start(p.at(injected, 8), 0x7100, By::Saved);
            let names = format!("{injected} main.leaf! main.f runtime.goexit");
            assert_eq!(walked(&p, &at), (names, StackEnd::Complete));
        }
    }

    #[test]
    fn a_system_stack_leads_to_the_goroutines_own() {
        let mut p = program(Amd64);
        let (f, exit) = (p.at("main.f", 5), p.at("runtime.goexit", 1));
        p.push(0x7128, &[Addr::NULL, Addr::NULL, exit]);
        // Where systemstack was called from, with its own frame below.
        p.push(0x7120, &[f]);
        let sched = |pc, sp| GoBuf { pc, sp: Addr::new(sp), ..GoBuf::default() };
        for (switch, sched, names) in [
            ("runtime.systemstack", sched(f, 0x7118), "main.leaf! runtime.systemstack main.f runtime.goexit"),
            (
                "runtime.morestack",
                sched(p.at("main.leaf", 2), 0x7120),
                "main.leaf! main.leaf main.f runtime.goexit",
            ),
            ("runtime.mcall", sched(f, 0x7128), "main.leaf! runtime.mcall main.f runtime.goexit"),
        ] {
            let back = p.at(switch, 0x20);
            p.push(0x9120, &[back]);
            let onward = Some(Onward { sched, stack: STACK });
            let at = Start { stack: SYSTEM, onward, ..start(p.at("main.leaf", 0x20), 0x9100, By::Thread) };
            assert_eq!(walked(&p, &at), (names.to_owned(), StackEnd::Complete), "{switch}");
            let lost = Start { onward: None, by: By::Saved, ..at };
            assert_eq!(walked(&p, &lost).1, StackEnd::Switched { pc: back }, "{switch}");
        }
    }

    #[test]
    fn functions_that_switch_are_followed_where_they_have_not() {
        let mut p = program(Amd64);
        let (f, exit) = (p.at("main.f", 5), p.at("runtime.goexit", 1));
        p.push(0x7120, &[f, Addr::NULL, Addr::NULL, exit]);
        let mcall = p.at("runtime.mcall", 9);
        let names = "runtime.mcall! main.f runtime.goexit".to_owned();
        assert_eq!(walked(&p, &start(mcall, 0x7120, By::Thread)), (names, StackEnd::Complete));
        let saved = walked(&p, &start(mcall, 0x7120, By::Saved));
        assert_eq!(saved, ("runtime.mcall".to_owned(), StackEnd::Switched { pc: mcall }));
        // What such a function calls before it switches is on the same stack.
        p.push(0x7118, &[mcall, f, Addr::NULL, Addr::NULL, exit]);
        let called = start(p.at("main.leaf", 3), 0x7118, By::Thread);
        let names = "main.leaf! runtime.mcall main.f runtime.goexit".to_owned();
        assert_eq!(walked(&p, &called), (names, StackEnd::Complete));
        let names = "runtime.mcall main.f runtime.goexit".to_owned();
        assert_eq!(walked(&p, &start(mcall, 0x7120, By::Syscall)), (names, StackEnd::Complete));
    }

    #[test]
    fn a_call_of_a_nil_function_begins_at_its_caller() {
        let mut p = program(Amd64);
        let (f, exit) = (p.at("main.f", 5), p.at("runtime.goexit", 1));
        p.push(0x7120, &[f, Addr::NULL, Addr::NULL, exit]);
        assert_eq!(walked(&p, &start(Addr::NULL, 0x7120, By::Thread)).0, "main.f runtime.goexit");
        let mut p = program(Arm64);
        let (f, exit) = (p.at("main.f", 8), p.at("runtime.goexit", 4));
        p.push(0x7120, &[exit]);
        let at = Start { lr: f, ..start(Addr::NULL, 0x7120, By::Thread) };
        assert_eq!(walked(&p, &at).0, "main.f runtime.goexit");
    }

    #[test]
    fn damaged_stacks_end_and_say_where() {
        let mut p = program(Amd64);
        let leaf = p.at("main.leaf", 0x20);
        let end = |p: &Program, at: Start| walked(p, &at).1;
        let at = start(leaf, 0x7100, By::Saved);
        assert_eq!(end(&p, at), StackEnd::Unreadable { at: Addr::new(0x7120) });
        p.push(0x7120, &[Addr::new(0x1234)]);
        assert_eq!(end(&p, at), StackEnd::UnknownCode { pc: Addr::new(0x1234) });
        assert_eq!(walked(&p, &at).0, "main.leaf");
        let outside = start(leaf, 0x7ff0, By::Saved);
        assert_eq!(end(&p, outside), StackEnd::OutOfStack { sp: Addr::new(0x8010) });
        let wrapping = start(leaf, u64::MAX - 3, By::Saved);
        assert_eq!(end(&p, wrapping), StackEnd::OutOfStack { sp: Addr::new(u64::MAX - 3) });
        let foreign = p.at("foreign", 1);
        assert_eq!(end(&p, start(foreign, 0x7100, By::Saved)), StackEnd::UnknownCode { pc: foreign });
        // On arm64 a frame may have no size: it must not lead to itself.
        let mut p = program(Arm64);
        let leaf = p.at("main.leaf", 4);
        p.push(0x7100, &[leaf]);
        assert_eq!(end(&p, start(leaf, 0x7100, By::Saved)), StackEnd::UnknownCode { pc: leaf });
    }

    #[test]
    fn inlined_calls_are_frames_of_their_own() {
        const TREE: super::super::fixture::Function = super::super::fixture::Function {
            lines: &[(0x10, 10), (0x18, 30), (0x20, 20), (0x100, 11)],
            inline: &[(0x10, -1), (0x18, 1), (0x20, 0), (0x100, -1)],
            tree: &[("main.outer", 0x0f), ("main.inner", 0x1a)],
            ..plain("main.f", &[(0x100, 0)])
        };
        let p = Program::new(Amd64, "go1.27.0", &[TREE]);
        let at = |offset, exact| {
            let mut names = Names::default();
            let frames: Vec<_> = frames_at(p.code(), p.at("main.f", offset), exact)
                .iter()
                .map(|f| f.named(&mut names))
                .map(|f| (f.function.to_string(), f.line, f.inlined))
                .collect();
            frames
        };
        let frame = |name: &str, line, inlined| (name.to_owned(), line, inlined);
        let inner =
            [frame("main.inner", 30, true), frame("main.outer", 20, true), frame("main.f", 10, false)];
        // A return address belongs to the call before it; a trap to itself.
        assert_eq!(at(0x18, false), inner);
        assert_eq!(at(0x18, true), [frame("main.outer", 20, true), frame("main.f", 10, false)]);
        assert_eq!(at(0x40, false), [frame("main.f", 11, false)]);
        assert_eq!(at(0, false), [frame("main.f", 10, false)]);
    }
}
