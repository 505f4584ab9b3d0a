//! Unwind: where the walk of a goroutine begins. A parked one says so itself; one that runs is found
//! by the registers of its thread, which may be on the goroutine's stack, on the thread's system
//! stack, in a signal handler, in the vDSO or in C.
//!
//! A walk of C code (`native`) begins with the registers that [`Unwinder::registers`] gives.

use super::walk::{By, Onward, Start, Walker};
use super::{StackEnd, Unwinder};
use crate::addr::{Addr, Span};
use crate::arch::Arch;
use crate::image::layout::rules::FuncKind;
use crate::memory::{Memory, ReadResult};
use crate::runtime::{G, GoBuf, M, Status};
use crate::source::{General, Registers};

/// How much of a goroutine's frames are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All: what its thread does for it on the system stack, too.
    Whole,
    /// Those on its own stack, as the runtime prints a goroutine.
    Own,
}

/// Signal handlers that may interrupt each other before a cycle is supposed.
const NESTED_SIGNALS: usize = 16;

impl<'a> Unwinder<'a> {
    /// Where the walk of `g` begins.
    pub(super) fn start(&self, walker: &mut Walker<'_>, g: &G, part: Part) -> Result<Start, StackEnd> {
        let own = Span::between(g.stack_lo, g.stack_hi);
        if own.len == 0 || matches!(g.status, Status::Dead | Status::DeadExtra | Status::Idle) {
            return Err(StackEnd::NoRegisters);
        }
        let m = self.snapshot.m_of(g).filter(|m| m.curg == g.at);
        if let Some(m) = m.filter(|m| own.contains(m.vdso_sp)) {
            return Ok(saved(m.vdso_pc, m.vdso_sp, own));
        }
        if !g.syscallsp.is_null() {
            return Ok(Start { by: By::Syscall, ..saved(g.syscallpc, g.syscallsp, own) });
        }
        if g.status != Status::Running {
            return Ok(resume(g.sched, own));
        }
        let m = m.ok_or(StackEnd::NoRegisters)?;
        let registers = self.registers(walker, m).ok_or(StackEnd::NoRegisters)?;
        if own.contains(registers.sp) {
            return Ok(self.on_own_stack(g, own, &registers));
        }
        let onward = own.contains(g.sched.sp).then_some(Onward { sched: g.sched, stack: own });
        match part {
            Part::Whole => self.on_system_stack(m, &registers, onward),
            Part::Own => onward
                .map(|onward| resume(onward.sched, own))
                .ok_or(StackEnd::UnknownCode { pc: registers.pc }),
        }
    }

    /// The thread runs the goroutine's own code.
    fn on_own_stack(&self, g: &G, own: Span, registers: &Registers) -> Start {
        // Between the switch of SP and the jump, the function that switches has no frame.
        if matches!(self.name_at(registers.pc), Some("gogo" | "runtime.gogo")) {
            return Start { lr: g.sched.lr, ..saved(g.sched.pc, registers.sp, own) };
        }
        on_thread(registers, own, None)
    }

    /// The thread is on its system stack, or in C.
    fn on_system_stack(
        &self,
        m: &M,
        registers: &Registers,
        onward: Option<Onward>,
    ) -> Result<Start, StackEnd> {
        let system = self.stack_of(m.g0).unwrap_or_default();
        if system.contains(registers.sp) && self.kind_at(registers.pc).is_some() {
            return Ok(on_thread(registers, system, onward));
        }
        if system.contains(m.vdso_sp) {
            return Ok(Start { onward, ..saved(m.vdso_pc, m.vdso_sp, system) });
        }
        let onward = onward.ok_or(StackEnd::UnknownCode { pc: registers.pc })?;
        Ok(resume(onward.sched, onward.stack))
    }

    /// The registers of a thread, without the signal handlers that it may be in: those of the code
    /// that the first signal interrupted.
    pub(super) fn registers(&self, walker: &mut Walker<'_>, m: &M) -> Option<Registers> {
        let mut registers = self.snapshot.thread_of(m)?.registers?;
        let signals = self.stack_of(m.gsignal).unwrap_or_default();
        for _ in 0..NESTED_SIGNALS {
            if !signals.contains(registers.sp) {
                break;
            }
            registers = self.interrupted(walker, &registers, signals)?;
        }
        (!signals.contains(registers.sp)).then_some(registers)
    }

    /// The registers that the signal handler on this stack will go back to.
    fn interrupted(
        &self,
        walker: &mut Walker<'_>,
        registers: &Registers,
        signals: Span,
    ) -> Option<Registers> {
        let handler = walker.walk(&on_thread(registers, signals, None));
        let frame = handler.frames.iter().find_map(|f| match self.name_at(f.pc)? {
            "runtime.sigtramp" | "runtime.cgoSigtramp" => Some(f.fp),
            // After the handler, on the way back: nothing but the context is left.
            "runtime.sigreturn" | "runtime.sigreturn__sigaction" => Some(f.sp),
            _ => None,
        })?;
        signal_frame(self.image.arch, &self.memory, frame).ok()
    }

    /// The stack of a `runtime.g` that is in no list.
    pub(super) fn stack_of(&self, g: Addr) -> Option<Span> {
        let layout = &self.image.layouts.g;
        let at = |field: crate::image::layout::field::Field<Addr>| field.read(&self.memory, g).ok();
        (!g.is_null()).then_some(())?;
        Some(Span::between(at(layout.stack_lo)?, at(layout.stack_hi)?))
    }

    pub(super) fn kind_at(&self, pc: Addr) -> Option<FuncKind> {
        Some(self.image.rules.func_kind(self.image.modules.find(pc)?.id()))
    }

    pub(super) fn name_at(&self, pc: Addr) -> Option<&str> {
        Some(self.image.modules.find(pc)?.name())
    }
}

/// A place that was written down for later.
fn saved(pc: Addr, sp: Addr, stack: Span) -> Start {
    Start { pc, sp, lr: Addr::NULL, by: By::Saved, stack, onward: None }
}

/// The place where a goroutine goes on when it is scheduled again.
fn resume(sched: GoBuf, stack: Span) -> Start {
    Start { lr: sched.lr, ..saved(sched.pc, sched.sp, stack) }
}

/// The place where a thread stands.
fn on_thread(registers: &Registers, stack: Span, onward: Option<Onward>) -> Start {
    let Registers { pc, sp, lr, .. } = *registers;
    Start { pc, sp, lr: lr.unwrap_or(Addr::NULL), by: By::Thread, stack, onward }
}

/// Where amd64's `ucontext` has the general registers, as numbers of words, by DWARF's numbers: r8 to
/// r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
const UCONTEXT: [u64; 16] = [13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7];

/// Reads the registers that the kernel saved when it called a signal handler. `frame` is SP at the
/// handler's entry without the return address: on amd64 the ucontext (`sys/ucontext.h`,
/// `runtime/defs_linux_amd64.go`), on arm64 the siginfo before it (`runtime/defs_linux_arm64.go`).
fn signal_frame(arch: Arch, memory: &dyn Memory, frame: Addr) -> ReadResult<Registers> {
    let word = |offset: u64| memory.read_addr(frame.offset(offset));
    let mut general = General::default();
    let mut all = |base: u64, words: &[u64]| -> ReadResult<()> {
        for (number, at) in (0..).zip(words) {
            general.set(number, Some(word(base + 8 * at)?.get()));
        }
        Ok(())
    };
    match arch {
        Arch::Amd64 => all(40, &UCONTEXT)?,
        Arch::Arm64 => all(312, &std::array::from_fn::<u64, 32, _>(|n| n as u64))?,
    }
    let of = |number| general.get(number).map(Addr::new).unwrap_or_default();
    Ok(match arch {
        Arch::Amd64 => Registers { pc: word(168)?, sp: of(7), bp: of(6), lr: None, g: of(14), general },
        Arch::Arm64 => {
            Registers { pc: word(568)?, sp: of(31), bp: of(29), lr: Some(of(30)), g: of(28), general }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    #[test]
    fn a_signal_frame_of_each_processor() {
        let mut memory = SparseMemory::new();
        // Each word says its own offset.
        for offset in (0..600).step_by(8) {
            memory.put_u64(Addr::new(0x1000 + offset), offset);
        }
        let frame = Addr::new(0x1000);
        let amd64 = signal_frame(Arch::Amd64, &memory, frame).unwrap();
        // struct ucontext: flags 8, link 8, stack 24; then r8..r15, rdi, rsi, rbp, rbx, rdx, rax,
        // rcx, rsp, rip.
        let r = |n: u64| Addr::new(40 + 8 * n);
        let general = amd64.general;
        assert_eq!(amd64, Registers { pc: r(16), sp: r(15), bp: r(10), lr: None, g: r(6), general });
        // DWARF: rax is 0, rbx is 3, r8 is 8, r15 is 15.
        let by_dwarf = [(0, r(13)), (3, r(11)), (8, r(0)), (15, r(7))];
        assert!(by_dwarf.into_iter().all(|(n, at)| general.get(n) == Some(at.get())));
        let arm64 = signal_frame(Arch::Arm64, &memory, frame).unwrap();
        // siginfo 128, ucontext up to the registers 184; then x0..x30, sp, pc.
        let x = |n: u64| Addr::new(312 + 8 * n);
        let (lr, general) = (Some(x(30)), arm64.general);
        assert_eq!(arm64, Registers { pc: x(32), sp: x(31), bp: x(29), lr, g: x(28), general });
        assert!(signal_frame(Arch::Arm64, &memory, Addr::new(0x1100)).is_err());
    }
}
