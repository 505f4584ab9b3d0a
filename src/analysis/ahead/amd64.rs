//! Analysis, ahead: one x86-64 instruction. What is not modelled makes its results unknown, never
//! wrong; which registers and memory it writes is asked of the decoder.

use super::code::{After, Leads};
use super::flow::{Flow, Swap, Touch};
use super::value::{Flags, State, Value, View, truncate};
use iced_x86::{
    Code, ConditionCode, FlowControl, Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess,
    OpKind, Register,
};

const RSP: usize = 4;
const RAX: usize = 0;

fn gpr(register: Register) -> Option<(usize, usize)> {
    let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
    if high || !(register.is_gpr()) {
        return None;
    }
    Some((register.full_register().number(), register.size()))
}

/// The address that the memory operand names, if it is known.
fn address(ins: &Instruction, state: &State) -> Value {
    if ins.is_ip_rel_memory_operand() {
        return Value::known(ins.ip_rel_memory_address());
    }
    if !matches!(ins.segment_prefix(), Register::None) {
        return Value::UNKNOWN;
    }
    let part = |register: Register| match register {
        Register::None => Value::known(0),
        other => gpr(other).and_then(|(n, _)| state.registers.get(n).copied()).unwrap_or(Value::UNKNOWN),
    };
    let scaled = part(ins.memory_index()).map(|i| i.wrapping_mul(u64::from(ins.memory_index_scale())));
    let sum = part(ins.memory_base()).with(scaled, u64::wrapping_add);
    sum.map(|a| a.wrapping_add(ins.memory_displacement64()))
}

fn width(ins: &Instruction, operand: u32) -> usize {
    match ins.op_kind(operand) {
        OpKind::Register => ins.op_register(operand).size(),
        OpKind::Memory => ins.memory_size().size(),
        _ => 8,
    }
}

fn read(ins: &Instruction, operand: u32, state: &State, view: &View<'_>) -> Value {
    match ins.op_kind(operand) {
        OpKind::Register => match gpr(ins.op_register(operand)) {
            Some((n, size)) => {
                let value = state.registers.get(n).copied().unwrap_or(Value::UNKNOWN);
                value.map(|bits| truncate(bits, size))
            }
            None => Value::UNKNOWN,
        },
        OpKind::Memory => {
            let size = ins.memory_size().size();
            match address(ins, state).bits {
                Some(at) if size <= 8 && size > 0 => state.load(view, at, size),
                _ => Value::UNKNOWN,
            }
        }
        _ => ins.try_immediate(operand).map_or(Value::UNKNOWN, Value::known),
    }
}

fn set(state: &mut State, register: Register, value: Value) {
    let Some((n, size)) = gpr(register) else { return };
    state.set(n, value.map(|bits| truncate(bits, size)));
}

fn write(ins: &Instruction, operand: u32, value: Value, state: &mut State) {
    match ins.op_kind(operand) {
        OpKind::Register => set(state, ins.op_register(operand), value),
        OpKind::Memory => {
            let size = ins.memory_size().size();
            if let Some(at) = address(ins, state).bits {
                for i in 0..(size as u64).div_ceil(8).min(8) {
                    let value = if i == 0 { value } else { Value::UNKNOWN };
                    state.store(at.wrapping_add(i * 8), size.min(8), value);
                }
            }
        }
        _ => {}
    }
}

fn sign_extend(bits: u64, from: usize) -> u64 {
    match from {
        1 => bits as u8 as i8 as u64,
        2 => bits as u16 as i16 as u64,
        4 => bits as u32 as i32 as u64,
        _ => bits,
    }
}

/// Everything that the instruction writes becomes unknown; settled, if what it reads is.
fn unknown(ins: &Instruction, info: &mut InstructionInfoFactory, state: &mut State) {
    let info = info.info(ins);
    let writes = |access| {
        matches!(
            access,
            OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
        )
    };
    let reads = |access| !matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::None);
    let decided = |used: &iced_x86::UsedRegister| {
        reads(used.access()) && gpr(used.register()).is_some_and(|(n, _)| state.register(n).decided)
    };
    let flags = ins.rflags_read() != 0 && state.flags.decided();
    let decided = flags || info.used_registers().iter().any(decided);
    for used in info.used_registers().iter().filter(|used| writes(used.access())) {
        let register = used.register();
        if register.is_vector_register() {
            if let Some(slot) = state.vectors.get_mut(register.number()) {
                *slot = (Value::UNKNOWN, Value::UNKNOWN);
            }
        } else if register.is_gpr() {
            state.set(register.full_register().number(), Value::unknown_of(decided));
        }
    }
    for operand in 0..ins.op_count() {
        if ins.op_kind(operand) == OpKind::Memory && writes(info.op_access(operand)) {
            write(ins, operand, Value::unknown_of(decided), state);
        }
    }
    if ins.rflags_modified() != 0 {
        state.flags = if decided { Flags::Decided } else { Flags::Unknown };
    }
}

/// Executes one instruction. `touch` is told of atomic operations on watched addresses.
pub fn step(
    ins: &Instruction,
    info: &mut InstructionInfoFactory,
    state: &mut State,
    view: &View<'_>,
    touch: &mut dyn Touch,
) -> Flow {
    match ins.flow_control() {
        FlowControl::Next if ins.mnemonic() == Mnemonic::Cmpxchg => swap(ins, state),
        FlowControl::Next => {
            data(ins, info, state, view, touch);
            Flow::Next
        }
        FlowControl::UnconditionalBranch => Flow::Jump(ins.near_branch_target()),
        FlowControl::ConditionalBranch => branch(ins, state),
        FlowControl::Call => Flow::Call(Some(ins.near_branch_target())),
        FlowControl::IndirectCall => Flow::Call(read(ins, 0, state, view).bits),
        FlowControl::IndirectBranch => indirect(ins, state, view),
        FlowControl::Return => Flow::Return,
        _ => Flow::Stop,
    }
}

/// Where an instruction leads, without running it. Jump tables stay in their function.
pub fn leads(ins: &Instruction) -> Leads {
    let swaps = ins.mnemonic() == Mnemonic::Xchg && ins.op_kind(0) == OpKind::Memory;
    match ins.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call => {
            Leads::To(ins.near_branch_target())
        }
        FlowControl::IndirectCall => Leads::Anywhere,
        _ if ins.has_lock_prefix() || swaps => Leads::Anywhere,
        _ => Leads::Nowhere,
    }
}

/// What may be run after an instruction.
pub fn after(ins: &Instruction) -> After {
    match ins.flow_control() {
        FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => After::Next,
        FlowControl::UnconditionalBranch => After::Only(ins.near_branch_target()),
        FlowControl::ConditionalBranch => After::Also(ins.near_branch_target()),
        FlowControl::IndirectBranch => After::Any,
        _ => After::Nothing,
    }
}

fn indirect(ins: &Instruction, state: &State, view: &View<'_>) -> Flow {
    if let Some(target) = read(ins, 0, state, view).bits {
        return Flow::Jump(target);
    }
    let base = gpr(ins.memory_base()).and_then(|(n, _)| state.registers.get(n)?.bits);
    match base {
        Some(base) if ins.op_kind(0) == OpKind::Memory => {
            Flow::Table(base.wrapping_add(ins.memory_displacement64()))
        }
        _ => Flow::Lost,
    }
}

fn branch(ins: &Instruction, state: &State) -> Flow {
    let target = ins.near_branch_target();
    match outcome(ins.condition_code(), state.flags) {
        Some(true) => Flow::Jump(target),
        Some(false) => Flow::Next,
        None => Flow::Either {
            target,
            decided: state.flags.decided(),
            equal: match ins.condition_code() {
                ConditionCode::e => Some(true),
                ConditionCode::ne => Some(false),
                _ => None,
            },
        },
    }
}

/// `cmpxchg [mem], reg`: compares with RAX, and what RAX and the word hold afterwards is not known.
fn swap(ins: &Instruction, state: &mut State) -> Flow {
    let at = address(ins, state).bits.filter(|_| ins.op_kind(0) == OpKind::Memory);
    let new = match gpr(ins.op_register(1)) {
        Some((n, size)) => state.register(n).map(|bits| truncate(bits, size)),
        None => Value::UNKNOWN,
    };
    let from_constant = state.register(RAX).sure().is_some();
    write(ins, 0, Value::UNKNOWN, state);
    state.set(RAX, Value::UNKNOWN);
    Flow::Swap(Swap { at, new, from_constant, compared_next: false })
}

fn outcome(condition: ConditionCode, flags: Flags) -> Option<bool> {
    let (a, b, bytes) = match flags {
        Flags::Compare(a, b, bytes) => (a.sure()?, b.sure()?, bytes),
        Flags::Result(value, bytes) => (value.sure()?, 0, bytes),
        Flags::Unknown | Flags::Decided => return None,
    };
    let (a, b) = (truncate(a, bytes), truncate(b, bytes));
    let (sa, sb) = (sign_extend(a, bytes) as i64, sign_extend(b, bytes) as i64);
    Some(match condition {
        ConditionCode::e => a == b,
        ConditionCode::ne => a != b,
        ConditionCode::b => a < b,
        ConditionCode::ae => a >= b,
        ConditionCode::be => a <= b,
        ConditionCode::a => a > b,
        ConditionCode::l => sa < sb,
        ConditionCode::ge => sa >= sb,
        ConditionCode::le => sa <= sb,
        ConditionCode::g => sa > sb,
        ConditionCode::s => (sa.wrapping_sub(sb)) < 0,
        ConditionCode::ns => (sa.wrapping_sub(sb)) >= 0,
        _ => return None,
    })
}

fn data(
    ins: &Instruction,
    info: &mut InstructionInfoFactory,
    state: &mut State,
    view: &View<'_>,
    touch: &mut dyn Touch,
) {
    use Mnemonic as M;
    match ins.mnemonic() {
        M::Nop | M::Endbr64 | M::Prefetcht0 | M::Prefetchnta | M::Pause => {}
        M::Mov | M::Movzx => {
            let value = read(ins, 1, state, view);
            write(ins, 0, value, state);
        }
        M::Movsx | M::Movsxd | M::Cdqe => {
            if ins.op_count() < 2 {
                return unknown(ins, info, state);
            }
            let from = width(ins, 1);
            let value = read(ins, 1, state, view).map(|bits| sign_extend(bits, from));
            write(ins, 0, value, state);
        }
        M::Lea => {
            let value = address(ins, state);
            write(ins, 0, value, state);
        }
        M::Add | M::Sub | M::And | M::Or | M::Xor => arithmetic(ins, state, view, touch),
        M::Cmp => {
            let size = width(ins, 0);
            state.flags = Flags::Compare(read(ins, 0, state, view), read(ins, 1, state, view), size);
        }
        M::Test => {
            let value = read(ins, 0, state, view).with(read(ins, 1, state, view), |a, b| a & b);
            state.flags = Flags::Result(value, width(ins, 0));
        }
        M::Inc | M::Dec => {
            let step = if ins.mnemonic() == M::Inc { 1 } else { u64::MAX };
            let value = read(ins, 0, state, view).map(|bits| bits.wrapping_add(step));
            write(ins, 0, value, state);
            state.flags = Flags::Result(value, width(ins, 0));
        }
        M::Shl | M::Shr => {
            let count = read(ins, 1, state, view);
            let left = ins.mnemonic() == M::Shl;
            let value = read(ins, 0, state, view).with(count, |a, n| {
                let n = (n & 63) as u32;
                if left { a << n } else { a >> n }
            });
            write(ins, 0, value, state);
            state.flags = Flags::Result(value, width(ins, 0));
        }
        M::Push => {
            let value = read(ins, 0, state, view);
            push(state, value);
        }
        M::Pop => {
            let value = pop(state, view);
            write(ins, 0, value, state);
        }
        M::Xadd => xadd(ins, state, view, touch),
        M::Sete
        | M::Setne
        | M::Setb
        | M::Setae
        | M::Setbe
        | M::Seta
        | M::Setl
        | M::Setge
        | M::Setle
        | M::Setg
        | M::Sets
        | M::Setns => match outcome(ins.condition_code(), state.flags) {
            Some(answer) => write(ins, 0, Value::known(answer.into()), state),
            None => unknown(ins, info, state),
        },
        M::Xchg if ins.op_kind(0) == OpKind::Register && ins.op_kind(1) == OpKind::Register => {
            let (a, b) = (read(ins, 0, state, view), read(ins, 1, state, view));
            write(ins, 0, b, state);
            write(ins, 1, a, state);
        }
        M::Movups | M::Movdqu | M::Movupd | M::Movaps | M::Movdqa | M::Vmovdqu | M::Vmovups => {
            vector(ins, info, state, view);
        }
        M::Xorps | M::Pxor | M::Vpxor | M::Vxorps => zero(ins, info, state),
        _ => unknown(ins, info, state),
    }
}

fn arithmetic(ins: &Instruction, state: &mut State, view: &View<'_>, touch: &mut dyn Touch) {
    let (a, b) = (read(ins, 0, state, view), read(ins, 1, state, view));
    let size = width(ins, 0);
    let same = ins.op_kind(1) == OpKind::Register && ins.op0_register() == ins.op1_register();
    let value = match ins.mnemonic() {
        Mnemonic::Add => a.with(b, u64::wrapping_add),
        Mnemonic::Sub | Mnemonic::Xor if same => Value::known(0),
        Mnemonic::Sub => a.with(b, u64::wrapping_sub),
        Mnemonic::And => a.with(b, |a, b| a & b),
        Mnemonic::Or => a.with(b, |a, b| a | b),
        _ => a.with(b, |a, b| a ^ b),
    };
    if ins.has_lock_prefix()
        && ins.mnemonic() == Mnemonic::Add
        && let Some(step) = b.bits
    {
        let at = address(ins, state).bits;
        touch.add(at, sign_extend(truncate(step, size), size) as i64, ins.ip(), state);
    }
    write(ins, 0, value, state);
    state.flags = match ins.mnemonic() {
        Mnemonic::Sub => Flags::Compare(a, b, size),
        _ => Flags::Result(value, size),
    };
}

/// `lock xadd [mem], reg`: the inlined body of atomic.AddInt32 and its like.
fn xadd(ins: &Instruction, state: &mut State, view: &View<'_>, touch: &mut dyn Touch) {
    let size = width(ins, 0);
    let step = read(ins, 1, state, view);
    let at = address(ins, state).bits;
    if let Some(bits) = step.bits {
        touch.add(at, sign_extend(truncate(bits, size), size) as i64, ins.ip(), state);
    }
    if let Some(at) = at {
        state.store(at, size, Value::UNKNOWN);
    }
    set(state, ins.op_register(1), Value::UNKNOWN);
    state.flags = Flags::Unknown;
}

/// Pushes a word on the stack.
pub fn push(state: &mut State, value: Value) {
    let Some(sp) = state.registers.get_mut(RSP) else { return };
    *sp = sp.map(|bits| bits.wrapping_sub(8));
    if let Some(at) = sp.bits {
        state.store(at, 8, value);
    }
}

/// Pops a word off the stack.
pub fn pop(state: &mut State, view: &View<'_>) -> Value {
    let at = state.registers.get(RSP).and_then(|sp| sp.bits);
    let value = at.map_or(Value::UNKNOWN, |at| state.load(view, at, 8));
    if let Some(sp) = state.registers.get_mut(RSP) {
        *sp = sp.map(|bits| bits.wrapping_add(8));
    }
    value
}

/// Moves of 16 bytes between memory and a vector register.
fn vector(ins: &Instruction, info: &mut InstructionInfoFactory, state: &mut State, view: &View<'_>) {
    let sixteen = ins.memory_size().size() == 16 || ins.memory_size() == MemorySize::Unknown;
    match (ins.op_kind(0), ins.op_kind(1)) {
        (OpKind::Register, OpKind::Memory) if sixteen => {
            let at = address(ins, state).bits;
            let half =
                |offset| at.map_or(Value::UNKNOWN, |at: u64| state.load(view, at.wrapping_add(offset), 8));
            let pair = (half(0), half(8));
            if let Some(slot) = state.vectors.get_mut(ins.op0_register().number()) {
                *slot = pair;
            }
        }
        (OpKind::Memory, OpKind::Register) if sixteen => {
            let pair = state.vectors.get(ins.op1_register().number()).copied().unwrap_or_default();
            if let Some(at) = address(ins, state).bits {
                state.store(at, 8, pair.0);
                state.store(at.wrapping_add(8), 8, pair.1);
            }
        }
        (OpKind::Register, OpKind::Register) if ins.op0_register().is_xmm() => {
            let pair = state.vectors.get(ins.op1_register().number()).copied();
            if let (Some(slot), Some(pair)) = (state.vectors.get_mut(ins.op0_register().number()), pair) {
                *slot = pair;
            }
        }
        _ => unknown(ins, info, state),
    }
}

/// `xorps x, x` and its like.
fn zero(ins: &Instruction, info: &mut InstructionInfoFactory, state: &mut State) {
    let last = ins.op_register(ins.op_count().saturating_sub(1));
    let same = ins.op_register(ins.op_count().saturating_sub(2)) == last && ins.code() != Code::INVALID;
    unknown(ins, info, state);
    if same && let Some(slot) = state.vectors.get_mut(ins.op0_register().number()) {
        *slot = (Value::known(0), Value::known(0));
    }
}
