//! Image, native: from a frame of C code to its caller, by call frame information (`.eh_frame`,
//! `.debug_frame`). What the tables leave open stays unknown: a register that nobody saved is not guessed,
//! and a table that asks for it ends the walk.

use super::Object;
use crate::addr::{Addr, FileVa};
use crate::arch::Arch;
use crate::image::elf::ElfFile;
use crate::memory::Memory;
use crate::source::General;
use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult,
    FrameDescriptionEntry, LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, Value,
};
use std::sync::OnceLock;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A place in C code and the registers there, as far as they are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// The next instruction, or the return address of the call that it waits for.
    pub pc: Addr,
    /// Whether `pc` is the next instruction.
    pub exact: bool,
    /// The registers, with the stack pointer.
    pub general: General,
}

impl State {
    /// The stack pointer.
    pub fn sp(&self, arch: Arch) -> Option<Addr> {
        self.general.get(numbers(arch).sp).map(Addr::new)
    }

    /// A place of which only pc and SP are known.
    pub fn at(pc: Addr, sp: Addr, exact: bool, arch: Arch) -> State {
        let mut general = General::default();
        general.set(numbers(arch).sp, Some(sp.get()));
        State { pc, exact, general }
    }
}

/// By which rule a caller was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Call frame information.
    Cfi,
    /// The frame pointer, in a function without a table whose code sets one up.
    FramePointer,
}

/// The caller of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Where it goes on.
    pub state: State,
    /// How it was found.
    pub rule: Rule,
}

/// The caller; `None` of the outermost frame.
pub type Step = Result<Option<Caller>, Stuck>;

/// Why the caller of a frame can't be told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stuck {
    /// No table covers the code.
    NoTable,
    /// The table makes no sense.
    Damaged,
    /// The table needs a register that is not known.
    Register(u16),
    /// The stack there could not be read.
    Stack(Addr),
}

/// What registers are called in DWARF.
struct Numbers {
    sp: u16,
    bp: u16,
    /// Those that a function must leave as they were.
    kept: &'static [u16],
}

/// System V ABI, AMD64 supplement: rbx, rbp, r12 to r15.
const AMD64: Numbers = Numbers { sp: 7, bp: 6, kept: &[3, 6, 12, 13, 14, 15] };
/// Procedure call standard for AArch64: x19 to x29; x30 holds the return address until it is saved.
const ARM64: Numbers = Numbers { sp: 31, bp: 29, kept: &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30] };

fn numbers(arch: Arch) -> &'static Numbers {
    match arch {
        Arch::Amd64 => &AMD64,
        Arch::Arm64 => &ARM64,
    }
}

/// The tables of one file that must be made ready before they can be searched.
#[derive(Default)]
pub(super) struct Tables {
    debug_frame: OnceLock<Vec<u8>>,
    eh_index: OnceLock<Vec<Covered>>,
    debug_index: OnceLock<Vec<Covered>>,
}

/// Code from `start` to `end`, and where its entry lies in the section.
struct Covered {
    start: u64,
    end: u64,
    entry: usize,
}

/// Entries of one table that are indexed: those of the largest programs known are a tenth of it.
const ENTRIES: usize = 10_000_000;

/// From a frame to its caller.
pub(super) fn step(object: &Object, state: &State, arch: Arch, memory: &dyn Memory) -> Step {
    let lookup = if state.exact { state.pc } else { state.pc.back(1) };
    let va = object.bias.to_file(lookup);
    let here = Here { va, bias: object.bias.0, state, arch, memory };
    by_header(object, &here)
        .or_else(|| by_eh_frame(object, &here))
        .or_else(|| by_debug_frame(object, &here))
        .unwrap_or_else(|| by_frame_pointer(object, &here))
}

/// A frame in the making.
struct Here<'a> {
    va: FileVa,
    bias: u64,
    state: &'a State,
    arch: Arch,
    memory: &'a dyn Memory,
}

/// By the binary search table `.eh_frame_hdr`, which is loaded, so it is there in stripped files too.
fn by_header(object: &Object, here: &Here<'_>) -> Option<Step> {
    let (at, bytes) = object.elf.eh_frame_header()?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(at.0);
    let header = EhFrameHdr::new(bytes, LittleEndian).parse(&bases, 8).ok()?;
    let gimli::Pointer::Direct(eh_at) = header.eh_frame_ptr() else { return None };
    let frame = EhFrame::new(object.elf.loaded_from(FileVa(eh_at))?, LittleEndian);
    let bases = eh_bases(&object.elf, eh_at).set_eh_frame_hdr(at.0);
    let fde = header.table()?.fde_for_address(&frame, &bases, here.va.0, EhFrame::cie_from_offset).ok()?;
    fde.contains(here.va.0).then(|| here.caller(&frame, &bases, &fde))
}

fn by_eh_frame(object: &Object, here: &Here<'_>) -> Option<Step> {
    let section = object.elf.section(".eh_frame").filter(|_| object.elf.eh_frame_header().is_none())?;
    let frame = EhFrame::new(object.elf.loaded_from(section.va)?, LittleEndian);
    let bases = eh_bases(&object.elf, section.va.0);
    let index = object.tables.eh_index.get_or_init(|| index(&frame, &bases));
    let entry = find(index, here.va)?;
    let fde = frame.fde_from_offset(&bases, entry.into(), EhFrame::cie_from_offset).ok()?;
    Some(here.caller(&frame, &bases, &fde))
}

fn by_debug_frame(object: &Object, here: &Here<'_>) -> Option<Step> {
    let bytes = object.tables.debug_frame.get_or_init(|| {
        let data = object.elf.debug_data("frame").and_then(Result::ok);
        data.and_then(|mut data| data.all().map(<[u8]>::to_vec).ok()).unwrap_or_default()
    });
    let mut frame = DebugFrame::new(bytes, LittleEndian);
    frame.set_address_size(8);
    let bases = BaseAddresses::default();
    let index = object.tables.debug_index.get_or_init(|| index(&frame, &bases));
    let entry = find(index, here.va)?;
    let fde = frame.fde_from_offset(&bases, entry.into(), DebugFrame::cie_from_offset).ok()?;
    Some(here.caller(&frame, &bases, &fde))
}

fn eh_bases(elf: &ElfFile, eh_frame: u64) -> BaseAddresses {
    let of = |name: &str| elf.section(name).map_or(0, |s| s.va.0);
    BaseAddresses::default().set_eh_frame(eh_frame).set_text(of(".text")).set_got(of(".got"))
}

fn index<'a, S>(section: &S, bases: &BaseAddresses) -> Vec<Covered>
where
    S: UnwindSection<Slice<'a>>,
{
    let mut all = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(S::cie_from_offset) else { continue };
        if all.len() >= ENTRIES {
            break;
        }
        let start = fde.initial_address();
        all.push(Covered { start, end: start.saturating_add(fde.len()), entry: fde.offset() });
    }
    all.sort_unstable_by_key(|c| (c.start, c.end));
    all
}

fn find(index: &[Covered], va: FileVa) -> Option<usize> {
    let after = index.partition_point(|c| c.start <= va.0);
    let found = index.get(after.checked_sub(1)?)?;
    (va.0 < found.end).then_some(found.entry)
}

impl Here<'_> {
    /// What the row of the table for this place says of the caller.
    fn caller<'a, S>(
        &self,
        section: &S,
        bases: &BaseAddresses,
        fde: &FrameDescriptionEntry<Slice<'a>>,
    ) -> Step
    where
        S: UnwindSection<Slice<'a>>,
    {
        let mut context = UnwindContext::new();
        let row = fde
            .unwind_info_for_address(section, bases, &mut context, self.va.0)
            .map_err(|_| Stuck::Damaged)?;
        let encoding = fde.cie().encoding();
        let eval = |expression: &UnwindExpression<usize>, cfa: Option<u64>| {
            let expression = expression.get(section).map_err(|_| Stuck::Damaged)?;
            self.evaluate(expression.evaluation(encoding), cfa)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.register(*register)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => eval(expression, None)?,
        };
        let value = |register: u16| -> Result<Option<u64>, Stuck> {
            let kept = || numbers(self.arch).kept.contains(&register);
            match row.register(Register(register)) {
                None if kept() => Ok(self.state.general.get(register)),
                None | Some(RegisterRule::Undefined) => Ok(None),
                Some(RegisterRule::SameValue) => Ok(self.state.general.get(register)),
                Some(RegisterRule::Offset(offset)) => self.word(cfa.wrapping_add_signed(offset)).map(Some),
                Some(RegisterRule::ValOffset(offset)) => Ok(Some(cfa.wrapping_add_signed(offset))),
                Some(RegisterRule::Register(other)) => Ok(self.state.general.get(other.0)),
                Some(RegisterRule::Expression(e)) => self.word(eval(&e, Some(cfa))?).map(Some),
                Some(RegisterRule::ValExpression(e)) => eval(&e, Some(cfa)).map(Some),
                Some(_) => Ok(None),
            }
        };
        let mut general = General::default();
        for number in 0..32 {
            // What can't be read is not known; whoever needs it says so.
            general.set(number, value(number).unwrap_or(None));
        }
        let sp = numbers(self.arch).sp;
        if row.register(Register(sp)).is_none() {
            general.set(sp, Some(cfa));
        }
        let column = fde.cie().return_address_register();
        if matches!(row.register(column), Some(RegisterRule::Undefined)) {
            return Ok(None);
        }
        let pc = value(column.0)?.ok_or(Stuck::Register(column.0))?;
        if pc == 0 {
            return Ok(None);
        }
        let state = State { pc: plain(self.arch, pc), exact: fde.is_signal_trampoline(), general };
        self.grown(state, fde.is_signal_trampoline())?;
        Ok(Some(Caller { state, rule: Rule::Cfi }))
    }

    /// A caller's frame lies further out; but a signal may have come in on another stack, and on arm64 a
    /// function may have no frame as long as it calls nobody.
    fn grown(&self, caller: State, signal: bool) -> Result<(), Stuck> {
        let (before, after) = (self.state.sp(self.arch), caller.sp(self.arch));
        let frameless = self.state.exact && self.arch.has_link_register();
        let grown = if frameless { after >= before } else { after > before };
        if grown || signal { Ok(()) } else { Err(Stuck::Damaged) }
    }

    fn register(&self, register: Register) -> Result<u64, Stuck> {
        // On amd64 the return address has a column of its own: the code's place.
        if self.arch == Arch::Amd64 && register.0 == 16 {
            return Ok(self.state.pc.get().wrapping_sub(self.bias));
        }
        self.state.general.get(register.0).ok_or(Stuck::Register(register.0))
    }

    fn word(&self, at: u64) -> Result<u64, Stuck> {
        self.memory.read_u64(Addr::new(at)).map_err(|_| Stuck::Stack(Addr::new(at)))
    }

    fn evaluate(&self, mut eval: gimli::Evaluation<Slice<'_>>, cfa: Option<u64>) -> Result<u64, Stuck> {
        eval.set_max_iterations(1000);
        if let Some(cfa) = cfa {
            eval.set_initial_value(cfa);
        }
        let mut result = eval.evaluate().map_err(|_| Stuck::Damaged)?;
        loop {
            let next = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    eval.resume_with_memory(Value::Generic(self.word(address)?))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    eval.resume_with_register(Value::Generic(self.register(register)?))
                }
                _ => return Err(Stuck::Damaged),
            };
            result = next.map_err(|_| Stuck::Damaged)?;
        }
        match eval.as_result().first().map(|piece| piece.location) {
            Some(Location::Address { address }) => Ok(address),
            _ => Err(Stuck::Damaged),
        }
    }
}

/// A return address without the signature that arm64 may put into its upper bits.
fn plain(arch: Arch, pc: u64) -> Addr {
    Addr::new(match arch {
        Arch::Amd64 => pc,
        Arch::Arm64 => pc & 0x0000_ffff_ffff_ffff,
    })
}

/// The caller by the frame pointer, where the code shows that it is set up: else it may be that of any
/// function further out, and frames would be missing without a sign.
fn by_frame_pointer(object: &Object, here: &Here<'_>) -> Step {
    let arch = here.arch;
    let (start, _) = object.names.function(&object.elf, here.va).ok_or(Stuck::NoTable)?;
    let code = object.elf.loaded_from(start).ok_or(Stuck::NoTable)?;
    let done = sets_frame_pointer(arch, code).ok_or(Stuck::NoTable)?;
    let inside = here.va.0.checked_sub(start.0).ok_or(Stuck::NoTable)?;
    let leaving = usize::try_from(inside).ok().and_then(|at| code.get(at)) == Some(&RET);
    if inside < done || here.state.exact && (arch != Arch::Amd64 || leaving) {
        return Err(Stuck::NoTable);
    }
    let bp = here.register(Register(numbers(arch).bp))?;
    let mut general = General::default();
    general.set(numbers(arch).bp, Some(here.word(bp)?));
    general.set(numbers(arch).sp, Some(bp.wrapping_add(16)));
    let pc = here.word(bp.wrapping_add(8))?;
    let state = State { pc: plain(arch, pc), exact: false, general };
    here.grown(state, false)?;
    Ok(Some(Caller { state, rule: Rule::FramePointer }))
}

/// `ret`, before which amd64's frame pointer is the caller's again.
const RET: u8 = 0xc3;

/// If a function begins by setting up a frame pointer: after how many bytes that is done.
fn sets_frame_pointer(arch: Arch, code: &[u8]) -> Option<u64> {
    match arch {
        Arch::Amd64 => {
            let landing: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
            let (rest, skipped) = code.strip_prefix(landing).map_or((code, 0), |rest| (rest, 4));
            // push rbp; mov rbp, rsp in either encoding.
            let set = [[0x55, 0x48, 0x89, 0xe5], [0x55, 0x48, 0x8b, 0xec]];
            set.iter().any(|set| rest.starts_with(set)).then_some(skipped + 4)
        }
        Arch::Arm64 => {
            let words: Vec<u32> = code.as_chunks().0.iter().take(3).map(|w| u32::from_le_bytes(*w)).collect();
            // stp x29, x30, [sp, #-n]!; mov x29, sp, maybe after a landing pad or the signing of x30.
            let is = |pair: &[u32]| matches!(pair, [a, 0x9100_03fd] if a & 0xffc0_7fff == 0xa980_7bfd);
            words.windows(2).position(is).map(|at| 4 * (at as u64 + 2))
        }
    }
}
