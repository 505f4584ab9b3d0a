//! Unwind: frames of C code. Above a goroutine in a cgo call they begin where its thread stands and end at
//! `runtime.asmcgocall`, which called C; between Go frames they begin at `runtime.cgocallback`, by which C
//! called back. What cannot be walked is a gap that says why, never a frame that was guessed.

use super::walk::Physical;
use super::{Part, Trust, Unwinder, Walk, Walker};
use crate::addr::Addr;
use crate::arch::Arch;
use crate::image::layout::rules::FuncKind;
use crate::image::native::{Caller, NoObject, Rule, State, Stuck};
use crate::memory::Memory;
use crate::runtime::{G, M};
use crate::source::{General, Thread};
use std::sync::Arc;

/// Why frames of C code are missing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Missing {
    /// The registers of the thread are not known.
    NoRegisters,
    /// An address is in no mapped file.
    NoFile {
        /// The address.
        pc: Addr,
    },
    /// The file could not be opened, or is not the one that the target ran.
    UnknownFile {
        /// An address in it.
        pc: Addr,
        /// Its name without folders.
        file: Arc<str>,
    },
    /// No unwinding table covers the code.
    NoTable {
        /// The address.
        pc: Addr,
        /// The file's name without folders.
        file: Arc<str>,
    },
    /// The unwinding table for the code makes no sense there.
    Damaged {
        /// The address.
        pc: Addr,
        /// The file's name without folders.
        file: Arc<str>,
    },
    /// The unwinding table needs a register whose value is not known, as of a thread that sleeps.
    Register {
        /// The address.
        pc: Addr,
        /// The file's name without folders.
        file: Arc<str>,
    },
    /// The stack was not copied there, or could not be read.
    Stack {
        /// Where.
        at: Addr,
    },
    /// The frames end in Go code that calls no C, or not in Go at all.
    Astray {
        /// The last address.
        pc: Addr,
    },
    /// Calls from C into Go are not followed on this processor.
    Unsupported,
    /// More frames than the limit.
    Limit,
}

/// A place in a stack where frames are missing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gap {
    /// How many frames lie further in.
    pub after: usize,
    /// Why.
    pub why: Missing,
}

/// Frames of C code on one stack before it is given up.
const FRAMES: usize = 10_000;

/// Calls from C into Go that are followed in one goroutine.
const CALLBACKS: usize = 1_000;

/// Frames of C code, and what lies outside of them.
pub(super) struct Segment {
    pub frames: Vec<Physical>,
    pub end: End,
}

/// Where frames of C code end.
pub(super) enum End {
    /// At a call from Go: the return address, and SP there.
    Go(Box<State>),
    /// At the beginning of a thread.
    Outermost,
    /// Before that.
    Lost(Missing),
}

impl<'a> Unwinder<'a> {
    /// All frames of a goroutine, those of C code too.
    pub(super) fn walk_mixed(&self, walker: &mut Walker<'_>, g: &G) -> Walk {
        let mut walk = self.walk_part(walker, g, Part::Whole);
        if self.native.is_none() {
            return walk;
        }
        if !g.lockedm.is_null() {
            self.insert_callers(g, &mut walk);
        }
        if let Some(m) = self.snapshot.m_of(g).filter(|m| m.incgo && m.curg == g.at) {
            self.put_called(walker, g, m, &mut walk);
        }
        walk
    }

    /// Puts the C code that a goroutine's thread runs before its own frames.
    fn put_called(&self, walker: &mut Walker<'_>, g: &G, m: &M, walk: &mut Walk) {
        let (frames, why) = match self.thread_state(walker, m) {
            None => (Vec::new(), Some(Missing::NoRegisters)),
            // About to call C, or back from it.
            Some(state) if self.is_go(state.pc) => return,
            Some(state)
                if state.sp(self.image.arch).is_some_and(|sp| sp >= g.stack_lo && sp < g.stack_hi) =>
            {
                (Vec::new(), Some(Missing::Astray { pc: state.pc }))
            }
            Some(state) => self.called(state),
        };
        let count = frames.len();
        walk.frames.splice(0..0, frames);
        walk.gaps.iter_mut().for_each(|gap| gap.after += count);
        walk.gaps.splice(0..0, why.map(|why| Gap { after: count, why }));
    }

    /// Where a thread stands, outside of signal handlers.
    pub(super) fn thread_state(&self, walker: &mut Walker<'_>, m: &M) -> Option<State> {
        if let Some(registers) = self.registers(walker, m) {
            return Some(State { pc: registers.pc, exact: true, general: registers.general });
        }
        let thread = self.snapshot.thread_of(m).filter(|thread| thread.registers.is_none())?;
        state_of(thread, self.image.arch)
    }

    /// The frames of C code from `state` on, which must lead to the function of Go that calls C.
    fn called(&self, state: State) -> (Vec<Physical>, Option<Missing>) {
        let Segment { frames, end } = self.segment(state);
        let last = frames.last().map_or(state.pc, |frame| frame.pc);
        let why = match end {
            End::Go(at) if self.calls_c(at.pc) => None,
            End::Go(at) => Some(Missing::Astray { pc: at.pc }),
            End::Outermost => Some(Missing::Astray { pc: last }),
            End::Lost(why) => Some(why),
        };
        (frames, why)
    }

    /// Whether this is the function that switches to the system stack and calls C.
    pub(super) fn calls_c(&self, pc: Addr) -> bool {
        self.name_at(pc).is_some_and(|name| name.starts_with("runtime.asmcgocall"))
    }

    /// Walks C code until Go code called it.
    pub(super) fn segment(&self, mut state: State) -> Segment {
        let mut frames: Vec<Physical> = Vec::new();
        let mut trust = Trust::Exact;
        let end = loop {
            if self.is_go(state.pc) {
                break End::Go(Box::new(state));
            }
            if frames.len() >= FRAMES {
                break End::Lost(Missing::Limit);
            }
            let stepped = self.step(&state);
            let found = match &stepped {
                Ok(Some(caller)) => caller.state.sp(self.image.arch),
                _ => None,
            };
            let sp = state.sp(self.image.arch).unwrap_or_default();
            frames.push(Physical { pc: state.pc, sp, fp: found.unwrap_or(sp), trap: state.exact, trust });
            match stepped {
                Ok(Some(Caller { state: caller, rule })) => {
                    trust = match rule {
                        Rule::Cfi => Trust::Cfi,
                        Rule::FramePointer => Trust::FramePointer,
                    };
                    state = caller;
                }
                Ok(None) => break End::Outermost,
                Err(why) => {
                    // An address that is in no file is no frame, unless the thread itself stands there.
                    if matches!(why, Missing::NoFile { .. }) && frames.len() > 1 {
                        frames.pop();
                    }
                    break End::Lost(why);
                }
            }
        };
        Segment { frames, end }
    }

    fn step(&self, state: &State) -> Result<Option<Caller>, Missing> {
        let pc = state.pc;
        let native = self.native.ok_or(Missing::NoFile { pc })?;
        let object = native.object_at(pc).map_err(|why| match why {
            NoObject::Unmapped => Missing::NoFile { pc },
            NoObject::Unknown { file } => Missing::UnknownFile { pc, file },
        })?;
        let file = || Arc::clone(object.name());
        object.step(state, self.image.arch, &self.snapshot.memory.of_instant()).map_err(|stuck| match stuck {
            Stuck::NoTable => Missing::NoTable { pc, file: file() },
            Stuck::Damaged => Missing::Damaged { pc, file: file() },
            Stuck::Register(_) => Missing::Register { pc, file: file() },
            Stuck::Stack(at) => Missing::Stack { at },
        })
    }

    /// Puts the C code that called back into Go between the goroutine's own frames: outside of each
    /// `cgocallback`, whose frame on the system stack `m.g0.sched.sp` names.
    fn insert_callers(&self, g: &G, walk: &mut Walk) {
        let Some(m) = self.snapshot.m_of(g).or_else(|| self.snapshot.m_at(g.lockedm)) else { return };
        let callbacks: Vec<usize> = (0..walk.frames.len())
            .filter(|i| {
                walk.frames.get(*i).is_some_and(|f| self.kind_at(f.pc) == Some(FuncKind::Cgocallback))
            })
            .take(CALLBACKS)
            .collect();
        let stack = self.snapshot.memory.of_instant();
        let sched_sp = self.image.layouts.g.sched_sp;
        let mut sp = sched_sp.read(&stack, m.g0).ok();
        let mut found = Vec::new();
        for index in callbacks {
            let pc = walk.frames.get(index).map(|frame| frame.pc).unwrap_or_default();
            found.push((index, self.callers(sp, pc, &stack)));
            // `unwindm` (runtime/cgocall.go): the frame holds the one before it.
            sp = sp.and_then(|sp| stack.read_addr(sp.offset(saved_sp(self.image.arch))).ok());
        }
        for (index, (frames, why)) in found.into_iter().rev() {
            let (at, count) = (index + 1, frames.len());
            let after = at + count;
            walk.frames.splice(at..at, frames);
            walk.gaps.iter_mut().for_each(|gap| gap.after += count);
            walk.gaps.splice(0..0, why.map(|why| Gap { after, why }));
        }
    }

    /// The frames outside of a call of `cgocallback`, whose frame on the system stack begins at `sp` and
    /// which goes on at `pc`.
    fn callers(&self, sp: Option<Addr>, pc: Addr, stack: &dyn Memory) -> (Vec<Physical>, Option<Missing>) {
        if self.image.arch != Arch::Amd64 {
            return (Vec::new(), Some(Missing::Unsupported));
        }
        let Some(sp) = sp.filter(|sp| !sp.is_null()) else {
            return (Vec::new(), Some(Missing::NoRegisters));
        };
        let (crosscall, state) = match self.crosscall(sp, pc, stack) {
            Ok(found) => found,
            Err(why) => return (Vec::new(), Some(why)),
        };
        let Segment { mut frames, end } = self.segment(state);
        if let Some(first) = frames.first_mut() {
            first.trust = Trust::Cfi;
        }
        frames.insert(0, crosscall);
        let why = match end {
            // Called by Go in turn, or on a thread that C made.
            End::Go(at) if self.calls_c(at.pc) => None,
            End::Outermost => None,
            End::Go(at) => Some(Missing::Astray { pc: at.pc }),
            End::Lost(why) => Some(why),
        };
        (frames, why)
    }

    /// The frame of `crosscall2`, by which C code calls Go, and its caller. It saves the registers that C
    /// code expects to find again (runtime/cgo/abi_amd64.h, PUSH_REGS_HOST_TO_ABI0).
    fn crosscall(&self, sp: Addr, pc: Addr, stack: &dyn Memory) -> Result<(Physical, State), Missing> {
        let word = |at: Addr| stack.read_addr(at).map_err(|_| Missing::Stack { at });
        let above = |pc: Addr, sp: Addr| -> Result<Addr, Missing> {
            let depth = self.image.modules.find(pc).and_then(|func| func.pcsp(pc));
            let depth = depth.and_then(|depth| u64::try_from(depth).ok()).ok_or(Missing::Astray { pc })?;
            Ok(sp.offset(depth).offset(8))
        };
        let sp = above(pc, sp)?;
        let pc = word(sp.back(8))?;
        if self.name_at(pc) != Some("crosscall2") {
            return Err(Missing::Astray { pc });
        }
        let fp = above(pc, sp)?;
        let mut general = General::default();
        for (number, below) in SAVED_BY_CROSSCALL2 {
            general.set(number, Some(word(fp.back(below))?.get()));
        }
        let caller = State::at(word(fp.back(8))?, fp, false, self.image.arch);
        general.set(7, caller.general.get(7));
        let frame = Physical { pc, sp, fp, trap: false, trust: Trust::Exact };
        Ok((frame, State { general, ..caller }))
    }

    pub(super) fn is_go(&self, pc: Addr) -> bool {
        self.image.modules.find(pc).is_some()
    }
}

/// Registers by DWARF's numbers and how many bytes below the end of its frame `crosscall2` has them: rbp,
/// r15, r14, r13, r12, rbx.
const SAVED_BY_CROSSCALL2: [(u16, u64); 6] = [(6, 16), (15, 24), (14, 32), (13, 40), (12, 48), (3, 56)];

/// Where `cgocallback` keeps the `sched.sp` that it replaces, from its SP on (runtime/asm_*.s).
fn saved_sp(arch: Arch) -> u64 {
    match arch {
        Arch::Amd64 => 0,
        Arch::Arm64 => 16,
    }
}

/// Where a thread stands; of one that sleeps and was left alone the kernel tells pc and SP.
pub(super) fn state_of(thread: &Thread, arch: Arch) -> Option<State> {
    if let Some(registers) = thread.registers {
        return Some(State { pc: registers.pc, exact: true, general: registers.general });
    }
    let place = thread.asleep_at?;
    Some(State::at(place.pc, place.sp, true, arch))
}
