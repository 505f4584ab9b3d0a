//! Analysis, ahead: the code of one function, decoded once, on either processor.

use super::flow::{Flow, Touch};
use super::value::{State, Value, View};
use super::{amd64, arm64};
use crate::addr::Addr;
use crate::arch::Arch;
use crate::image::pclntab::{Func, funcdata};
use crate::memory::Memory;
use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory};
use rustc_hash::{FxHashMap, FxHashSet};

/// Largest function that is decoded, in bytes.
const MOST_CODE: u64 = 1 << 20;

/// The code of one function.
pub struct Code {
    /// Its first instruction.
    pub entry: u64,
    /// The first address after it.
    pub end: u64,
    /// Whether it has open-coded defers.
    pub open_coded: bool,
    /// What it leads to.
    pub reach: Reach,
    instructions: Instructions,
}

/// What a function leads to, as far as its code shows without running it.
#[derive(Default, Debug)]
pub struct Reach {
    /// Functions that it calls or jumps to.
    pub calls: Vec<u64>,
    /// Whether it may do more than is in those: by an atomic operation, or by a call of something that
    /// only the run tells.
    pub open: bool,
}

enum Instructions {
    Amd64 { all: Vec<Instruction>, places: FxHashMap<u64, u32> },
    Arm64(Vec<u32>),
}

/// What an instruction needs to be executed.
pub struct Step<'s> {
    /// Which, by its number in the function.
    pub place: usize,
    /// Tells what an amd64 instruction reads and writes.
    pub info: &'s mut InstructionInfoFactory,
    /// Memory.
    pub view: &'s View<'s>,
    /// Is told of atomic operations.
    pub touch: &'s mut dyn Touch,
}

impl Code {
    /// Decodes a function. `statics` holds its code.
    pub fn read(func: &Func<'_>, arch: Arch, statics: &dyn Memory) -> Option<Code> {
        let len = func.end().above(func.entry()).filter(|len| *len <= MOST_CODE)?;
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        statics.read(func.entry(), &mut bytes).ok()?;
        let instructions = match arch {
            Arch::Amd64 => amd64(&bytes, func.entry()),
            Arch::Arm64 => {
                let (words, _) = bytes.as_chunks::<4>();
                Instructions::Arm64(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
            }
        };
        let open_coded = func.funcdata(funcdata::OPEN_CODED_DEFER_INFO).is_some();
        let reach = instructions.reach(func.entry().get(), func.end().get());
        Some(Code { entry: func.entry().get(), end: func.end().get(), open_coded, reach, instructions })
    }

    /// The number of the instruction at an address, if one is there.
    pub fn place(&self, pc: u64) -> Option<usize> {
        match &self.instructions {
            Instructions::Amd64 { places, .. } => places.get(&pc).map(|place| *place as usize),
            Instructions::Arm64(words) => {
                let place = usize::try_from(pc.checked_sub(self.entry)? / 4).ok()?;
                (place < words.len()).then_some(place)
            }
        }
    }

    /// Where an instruction is.
    pub fn address(&self, place: usize) -> Option<u64> {
        match &self.instructions {
            Instructions::Amd64 { all, .. } => all.get(place).map(Instruction::ip),
            Instructions::Arm64(words) => {
                (place < words.len()).then(|| self.entry.wrapping_add(4 * place as u64))
            }
        }
    }

    /// Addresses of the function from which its code may get to the call that comes back to `back_to`.
    pub fn ways_to(&self, back_to: u64) -> FxHashSet<u64> {
        let count = match &self.instructions {
            Instructions::Amd64 { all, .. } => all.len(),
            Instructions::Arm64(words) => words.len(),
        };
        let mut work = Vec::new();
        let mut before: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
        for place in 0..count {
            let mut leads_to = |target: usize| before.entry(target).or_default().push(place);
            match self.after(place) {
                After::Next => leads_to(place + 1),
                After::Only(target) => self.place(target).into_iter().for_each(&mut leads_to),
                After::Also(target) => self.place(target).into_iter().chain([place + 1]).for_each(leads_to),
                After::Any => work.push(place),
                After::Nothing => {}
            }
            if self.address(place + 1).unwrap_or(self.end) == back_to {
                work.push(place);
            }
        }
        let mut found = FxHashSet::default();
        while let Some(place) = work.pop() {
            if self.address(place).is_some_and(|at| found.insert(at)) {
                work.extend(before.get(&place).into_iter().flatten());
            }
        }
        found
    }

    fn after(&self, place: usize) -> After {
        match &self.instructions {
            Instructions::Amd64 { all, .. } => all.get(place).map_or(After::Nothing, amd64::after),
            Instructions::Arm64(words) => {
                let pc = self.entry.wrapping_add(4 * place as u64);
                words.get(place).map_or(After::Nothing, |word| arm64::after(*word, pc))
            }
        }
    }

    /// Executes one instruction.
    pub fn step(&self, step: Step<'_>, state: &mut State) -> Flow {
        match &self.instructions {
            Instructions::Amd64 { all, .. } => match all.get(step.place) {
                Some(ins) => amd64::step(ins, step.info, state, step.view, step.touch),
                None => Flow::Stop,
            },
            Instructions::Arm64(words) => {
                arm64::step(words, self.entry, step.place, state, step.view, step.touch)
            }
        }
    }

    /// What a call does to the state before the callee runs.
    pub fn calls(&self, state: &mut State, back_to: u64) {
        match &self.instructions {
            Instructions::Amd64 { .. } => amd64::push(state, Value::known(back_to)),
            Instructions::Arm64(_) => state.set(arm64::LINK, Value::known(back_to)),
        }
    }
}

impl Instructions {
    fn reach(&self, entry: u64, end: u64) -> Reach {
        let mut reach = Reach::default();
        let mut note = |leads: Leads| match leads {
            Leads::Nowhere => {}
            Leads::To(target) if (entry..end).contains(&target) => {}
            Leads::To(target) => reach.calls.push(target),
            Leads::Anywhere => reach.open = true,
        };
        match self {
            Instructions::Amd64 { all, .. } => all.iter().for_each(|ins| note(amd64::leads(ins))),
            Instructions::Arm64(words) => {
                (0u64..)
                    .zip(words)
                    .for_each(|(n, word)| note(arm64::leads(*word, entry.wrapping_add(4 * n))));
            }
        }
        reach.calls.sort_unstable();
        reach.calls.dedup();
        reach
    }
}

/// What may be run after one instruction, calls aside.
pub enum After {
    /// The next.
    Next,
    /// That at an address.
    Only(u64),
    /// That at an address, or the next.
    Also(u64),
    /// Any of the function.
    Any,
    /// None of the function.
    Nothing,
}

/// Where one instruction leads out of the straight way.
pub enum Leads {
    /// Nowhere.
    Nowhere,
    /// To an address.
    To(u64),
    /// To what is not known, or it changes a word atomically.
    Anywhere,
}

fn amd64(bytes: &[u8], entry: Addr) -> Instructions {
    let decoder = Decoder::with_ip(64, bytes, entry.get(), DecoderOptions::NONE);
    let all: Vec<Instruction> = decoder.into_iter().collect();
    let places = (0u32..).zip(&all).map(|(i, ins)| (ins.ip(), i)).collect();
    Instructions::Amd64 { all, places }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: u64 = 0x40_0000;

    fn ways(instructions: Instructions, end: u64, back_to: u64) -> Vec<u64> {
        let code =
            Code { entry: ENTRY, end: ENTRY + end, open_coded: false, reach: Reach::default(), instructions };
        let mut ways: Vec<u64> = code.ways_to(ENTRY + back_to).iter().map(|at| at - ENTRY).collect();
        ways.sort_unstable();
        ways
    }

    #[test]
    fn only_what_leads_to_the_call_is_on_the_way() {
        // test al, al; je 9; call; 9: ret; jmp 0.
        let bytes = [0x84, 0xc0, 0x74, 5, 0xe8, 0, 0, 0, 0, 0xc3, 0xeb, 0xf4];
        assert_eq!(ways(amd64(&bytes, Addr::new(ENTRY)), 12, 9), [0, 2, 4, 10]);
        // CBZ R0, 8; CALL; 8: RET; JMP 0.
        let words = vec![0xb400_0040, 0x9400_0000, 0xd65f_03c0, 0x17ff_fffd];
        assert_eq!(ways(Instructions::Arm64(words), 16, 8), [0, 4, 12]);
    }

    #[test]
    fn a_loop_leads_back_and_an_unknown_jump_may() {
        // call; jmp 0; jmp rax; ret.
        let bytes = [0xe8, 0, 0, 0, 0, 0xeb, 0xf9, 0xff, 0xe0, 0xc3];
        assert_eq!(ways(amd64(&bytes, Addr::new(ENTRY)), 10, 5), [0, 5, 7]);
    }
}
