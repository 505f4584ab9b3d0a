//! Encodings below are what `go tool objdump` shows of code by the Go compiler.

use super::*;
use crate::memory::sparse::SparseMemory;

#[derive(Default)]
struct Adds(Vec<(u64, i64)>);

impl Touch for Adds {
    fn add(&mut self, at: Option<u64>, step: i64, _pc: u64, _state: &mut State) {
        self.0.extend(at.map(|at| (at, step)));
    }
}

/// Runs straight code from 0x10000; what flows on at its end, and additions.
fn run(words: &[u32], state: &mut State, memory: &SparseMemory) -> (Flow, Vec<(u64, i64)>) {
    let view = View { memory, stack: (0x8000, 0x9000), floor: 0x8000, past: None };
    let mut adds = Adds::default();
    let mut last = Flow::Next;
    for place in 0..words.len() {
        last = step(words, 0x10000, place, state, &view, &mut adds);
        if !matches!(last, Flow::Next) {
            break;
        }
    }
    (last, adds.0)
}

fn ran(words: &[u32]) -> State {
    let mut state = State::blank();
    state.set(SP, Value::known(0x8800));
    let (flow, _) = run(words, &mut state, &SparseMemory::new());
    assert!(matches!(flow, Flow::Next));
    state
}

fn sure(state: &State, register: usize) -> Option<u64> {
    state.register(register).sure()
}

#[test]
fn numbers_and_addresses() {
    // MOVD $-1, R0; MOVW $-1, R1; MOVD $0x12345, R2 (MOVZ, MOVK); ORR $1, ZR, R3.
    let state = ran(&[0x9280_0000, 0x1280_0001, 0xd284_68a2, 0xf2a0_0022, 0xb240_03e3]);
    let got = [0, 1, 2, 3].map(|n| sure(&state, n));
    assert_eq!(got, [Some(u64::MAX), Some(0xffff_ffff), Some(0x12345), Some(1)]);
    // ADRP 1(pages), R0; ADD $8, R0, R0; SUB $16, RSP, R20; MOVD R20, RSP.
    let state = ran(&[0xb000_0000, 0x9100_2000, 0xd100_43f4, 0x9100_029f]);
    assert_eq!((sure(&state, 0), sure(&state, SP)), (Some(0x11008), Some(0x87f0)));
    // LSL $3, R0 of 5; UXTB; SXTW of 0xffffffff.
    let state = ran(&[0xd280_00a0, 0xd37d_f001, 0x1280_0002, 0xd340_1c43, 0x9340_7c44]);
    assert_eq!([1, 3, 4].map(|n| sure(&state, n)), [Some(40), Some(0xff), Some(u64::MAX)]);
}

#[test]
fn what_is_stored_is_loaded_again() {
    // MOVD $7, R0; MOVD.W R0, -32(RSP); STP (R0, R0), 8(RSP); LDP 8(RSP), (R3, R4); MOVD.P 32(RSP), R5.
    let words = [0xd280_00e0, 0xf81e_0fe0, 0xa900_83e0, 0xa940_93e3, 0xf842_07e5];
    let state = ran(&words);
    let got = [3, 4, 5, SP].map(|n| sure(&state, n));
    assert_eq!(got, [Some(7), Some(7), Some(7), Some(0x8800)]);
}

#[test]
fn branches_on_known_values_are_decided() {
    let memory = SparseMemory::new();
    let mut state = State::blank();
    state.set(0, Value::known(0));
    let (flow, _) = run(&[0xb400_0040], &mut state, &memory);
    assert!(matches!(flow, Flow::Jump(0x10008)), "CBZ R0, 2(PC)");
    let (flow, _) = run(&[0x3700_0040], &mut state, &memory);
    assert!(matches!(flow, Flow::Next), "TBNZ $0, R0, 2(PC)");
    state.set(1, Value::DECIDED);
    let (flow, _) = run(&[0xf100_043f, 0x5400_0040], &mut state, &memory);
    let settled = matches!(flow, Flow::Either { target: 0x1000c, decided: true, equal: Some(true) });
    assert!(settled, "CMP $1, R1; BEQ 2(PC)");
}

#[test]
fn both_kinds_of_atomic_operations_are_seen() {
    let memory = SparseMemory::new();
    let mut state = State::blank();
    state.set(0, Value::known(0x4000));
    state.set(1, Value::known(0xffff_ffff));
    // LDADDALW R1, (R0), R2.
    let (_, adds) = run(&[0xb8e1_0002], &mut state, &memory);
    assert_eq!(adds, [(0x4000, -1)]);
    // LDAXRW (R0), R2; ADDW R1, R2; STLXRW R2, (R0), R3.
    let (_, adds) = run(&[0x885f_fc02, 0x0b01_0042, 0x8803_fc02], &mut state, &memory);
    assert_eq!(adds, [(0x4000, -1)]);
    // CASALW R4, (R0), R5, where R4 is zero.
    state.set(4, Value::known(0));
    state.set(5, Value::known(1));
    let (flow, _) = run(&[0x88e4_fc05], &mut state, &memory);
    let Flow::Swap(swap) = flow else { panic!("CASALW swaps") };
    assert_eq!((swap.at, swap.new.bits, swap.from_constant), (Some(0x4000), Some(1), true));
    // LDAXRW (R0), R2; CMPW R4, R2; BNE 3(PC); STLXRW R5, (R0), R2.
    state.set(4, Value::known(0));
    let words = [0x885f_fc02, 0x6b04_005f, 0x5400_0061, 0x8802_fc05];
    let (flow, _) = run(&words[..3], &mut state, &memory);
    assert!(matches!(flow, Flow::Either { equal: Some(false), .. }));
    let view = View { memory: &memory, stack: (0, 0), floor: 0, past: None };
    let flow = step(&words, 0x10000, 3, &mut state, &view, &mut Adds::default());
    let Flow::Swap(swap) = flow else { panic!("the loop swaps") };
    assert_eq!((swap.at, swap.new.bits, swap.from_constant), (Some(0x4000), Some(1), true));
    assert_eq!(state.register(2).sure(), Some(0), "the store has succeeded");
}
