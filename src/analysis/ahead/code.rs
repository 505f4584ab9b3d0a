//! Analysis, ahead: the code of one function, decoded once, on either processor.

use super::flow::{Flow, Touch};
use super::value::{State, Value, View};
use super::{amd64, arm64};
use crate::addr::Addr;
use crate::arch::Arch;
use crate::image::pclntab::{Func, funcdata};
use crate::memory::Memory;
use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory};
use rustc_hash::FxHashMap;

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
