//! Unwind: which words of a stack the garbage collector takes for pointers, by the maps that the
//! compiler wrote (`getStackMap` in `runtime/stkframe.go`, `stack.go` until 1.20). What no map speaks of
//! counts as a pointer.

use super::code::Code;
use super::walk::Physical;
use crate::addr::{Addr, Span};
use crate::image::pclntab::{Func, funcdata, pcdata};

/// Bytes of a `stackObjectRecord` (`runtime/stack.go`): offset, size, and two words for the collector.
const RECORD: u64 = 16;

/// Most objects of one frame that are read.
const MOST_OBJECTS: u64 = 1 << 16;

/// One map: a bit for each word from `start` on.
struct Map {
    at: Addr,
    start: Addr,
    words: u64,
}

impl Map {
    /// The map of the table `which` at `pc`, whose words end at `end` or begin there.
    fn of(code: Code<'_>, func: Func<'_>, which: u32, pc: Addr) -> Option<Map> {
        let table = func.funcdata(which)?;
        // Before the first instruction that can be interrupted, the first map holds.
        let index = u64::try_from(func.pcdata(pcdata::STACK_MAP_INDEX, pc)).unwrap_or(0);
        let count = u64::from(code.memory.read_u32(table).ok()?);
        let words = u64::from(code.memory.read_u32(table.offset(4)).ok()?);
        let bytes = words.div_ceil(8);
        let at = table.offset(8).offset(index.checked_mul(bytes)?);
        (index < count).then_some(Map { at, start: Addr::NULL, words })
    }

    fn span(&self) -> Span {
        Span { start: self.start, len: self.words.saturating_mul(8) }
    }

    /// Whether the word at `slot` is a pointer; `None` when the map does not speak of it.
    fn marks(&self, code: Code<'_>, slot: Addr) -> Option<bool> {
        let n = slot.above(self.start)? / 8;
        self.span().contains(slot).then_some(())?;
        let bits = code.memory.read_u8(self.at.offset(n / 8)).ok()?;
        Some(bits >> (n % 8) & 1 == 1)
    }
}

/// Whether the word at `slot`, on the stack of `frames`, may be a pointer that is still needed.
pub(super) fn may_be_live(code: Code<'_>, frames: &[Physical], slot: Addr) -> bool {
    let around = |frame: &Physical| Span::between(frame.sp, frame.fp).contains(slot);
    let Some(nth) = frames.iter().position(around) else { return true };
    let (inner, rest) = frames.split_at(nth);
    let Some(frame) = rest.first() else { return true };
    // Where a signal came in, registers and any slot may hold what is needed next.
    if frame.trap || inner.last().is_some_and(|f| f.trap || is_preempted(code, f)) {
        return true;
    }
    let passed = inner.last().is_some_and(|callee| is_passed(code, callee, slot));
    passed || locals(code, frame, slot).unwrap_or(true)
}

/// Whether the frame is where a goroutine was made to stop in the middle of its code.
fn is_preempted(code: Code<'_>, frame: &Physical) -> bool {
    code.modules.find(frame.pc).is_some_and(|f| f.name().starts_with("runtime.asyncPreempt"))
}

/// The address at which the tables are asked: a return address belongs to the call before it.
fn asked(frame: &Physical) -> Addr {
    frame.pc.back(u64::from(!frame.trap))
}

/// Whether the word may be a pointer among the arguments of a frame, which lie in its caller's. A function
/// that takes arguments and has no map may take any: those that package reflect makes are so.
fn is_passed(code: Code<'_>, frame: &Physical, slot: Addr) -> bool {
    let Some(func) = code.modules.find(asked(frame)) else { return true };
    match Map::of(code, func, funcdata::ARGS_POINTER_MAPS, asked(frame)) {
        Some(map) => {
            let start = frame.fp.offset(code.arch.min_frame_size());
            Map { start, ..map }.marks(code, slot) == Some(true)
        }
        None => func.args() != 0,
    }
}

/// Whether a frame's own map or one of its objects has the word; `None` where there is no map.
fn locals(code: Code<'_>, frame: &Physical, slot: Addr) -> Option<bool> {
    let func = code.modules.find(asked(frame))?;
    let map = Map::of(code, func, funcdata::LOCALS_POINTER_MAPS, asked(frame))?;
    let varp = frame.fp.back(8).back(code.arch.pushed_return());
    let map = Map { start: varp.back(map.words.checked_mul(8)?), ..map };
    match map.marks(code, slot) {
        Some(true) => Some(true),
        _ => Some(in_object(code, func, frame, varp, slot)?),
    }
}

/// Whether the word lies in a variable whose address is taken: those are not in the maps. `None` when
/// their list can't be read.
fn in_object(code: Code<'_>, func: Func<'_>, frame: &Physical, varp: Addr, slot: Addr) -> Option<bool> {
    let Some(table) = func.funcdata(funcdata::STACK_OBJECTS) else { return Some(false) };
    let count = code.memory.read_u64(table).ok().filter(|count| *count <= MOST_OBJECTS)?;
    let argp = frame.fp.offset(code.arch.min_frame_size());
    for n in 0..count {
        let record = table.offset(8).offset(n.checked_mul(RECORD)?);
        let offset = code.memory.read_u32(record).ok()?.cast_signed();
        let len = u64::from(code.memory.read_u32(record.offset(4)).ok()?);
        let base = if offset < 0 { varp } else { argp };
        let start = base.offset(i64::from(offset).cast_unsigned());
        if (Span { start, len }).contains(slot) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::image::blob::FromMemory;
    use crate::image::layout::rules::Rules;
    use crate::image::layout::table::Chosen;
    use crate::image::layout::version::GoVersion;
    use crate::image::pclntab::Modules;
    use crate::image::testing::{FuncSpec, GOFUNC, MODULEDATA, Spec, TEXT, layout};
    use crate::unwind::Trust;

    /// Tables as the compiler writes them, after what they are offsets of.
    const ARGUMENTS: u32 = 0x100;
    const LOCALS: u32 = 0x200;
    const OBJECTS: u32 = 0x300;

    fn function(name: &'static str, entry: u32, args: i32, funcdata: Vec<u32>) -> FuncSpec {
        let pcdata: Vec<&[(i32, u32)]> = vec![&[], &[(0, 0x10), (1, 0x30)]];
        FuncSpec { name, entry, args, pcdata, funcdata, ..FuncSpec::default() }
    }

    fn frame(at: u64, sp: u64, fp: u64) -> Physical {
        let (pc, sp, fp) = (Addr::new(TEXT + at), Addr::new(sp), Addr::new(fp));
        Physical { pc, sp, fp, trap: false, trust: Trust::Exact }
    }

    /// Words of the frame of `main.f`, from 0x1000 to 0x1040, that may be live while `callee` runs.
    fn live(arch: Arch, at: u64, callee: Option<Physical>) -> Vec<u64> {
        let none = u32::MAX;
        let funcs = vec![
            function("main.f", 0, 0, vec![none, LOCALS, OBJECTS]),
            function("main.g", 0x40, 16, vec![ARGUMENTS]),
            function("reflect.makeFuncStub", 0x80, i32::MIN, vec![]),
            function("runtime.asyncPreempt", 0xc0, 0, vec![]),
        ];
        let spec = Spec { magic: 0xffff_fff1, quantum: 1, funcs, end: 0x100, files: vec![], names: vec![] };
        let mut memory = spec.build().memory;
        let mut put = |offset: u32, bytes: Vec<u8>| memory.put(Addr::new(GOFUNC + u64::from(offset)), bytes);
        let words = |all: &[u32]| all.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        put(ARGUMENTS, [words(&[2, 2]), vec![0b01, 0b10]].concat());
        put(LOCALS, [words(&[2, 3]), vec![0b111, 0b101]].concat());
        put(OBJECTS, words(&[1, 0, (-0x30i32).cast_unsigned(), 8, 8, 0]));
        let first = Addr::new(MODULEDATA);
        let modules = Modules::load(&memory, &FromMemory(&memory), first, &layout(), arch).unwrap();
        let rules = Rules::of(&Chosen::of(&GoVersion::parse("go1.27.1")).unwrap()).unwrap();
        let code = Code { arch, modules: &modules, rules: &rules, memory: &memory };
        let frames: Vec<Physical> = callee.into_iter().chain([frame(at, 0x1000, 0x1040)]).collect();
        (0x1000..0x1040).step_by(8).filter(|slot| may_be_live(code, &frames, Addr::new(*slot))).collect()
    }

    #[test]
    fn a_word_counts_that_a_map_or_a_variable_or_an_argument_has() {
        // The second map holds from 0x10 on; a variable lies at the bottom.
        assert_eq!(live(Arch::Amd64, 0x18, None), [0x1000, 0x1018, 0x1028]);
        assert_eq!(live(Arch::Amd64, 0x08, None), [0x1000, 0x1018, 0x1020, 0x1028]);
        let g = Some(frame(0x58, 0xfc0, 0x1000));
        assert_eq!(live(Arch::Amd64, 0x18, g), [0x1000, 0x1008, 0x1018, 0x1028]);
    }

    #[test]
    fn what_no_map_speaks_of_counts() {
        let all: Vec<u64> = (0x1000..0x1040).step_by(8).collect();
        for inside in [0x98, 0xd8] {
            assert_eq!(live(Arch::Amd64, 0x18, Some(frame(inside, 0xfc0, 0x1000))), all, "{inside:#x}");
        }
        let interrupted = Physical { trap: true, ..frame(0x58, 0xfc0, 0x1000) };
        assert_eq!(live(Arch::Amd64, 0x18, Some(interrupted)), all);
    }
}
