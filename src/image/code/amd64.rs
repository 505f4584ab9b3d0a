//! Image, code reading: x86-64. Globals are reached relative to RIP, or through a register that took
//! such an address just before.

use super::{Access, Reader};
use crate::addr::Addr;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Reads the function whose `code` begins at `entry`.
pub(super) fn read(reader: &mut Reader<'_>, code: &[u8], entry: Addr) {
    let mut decoder = Decoder::with_ip(64, code, entry.get(), DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.code() == Code::INVALID {
            reader.forget_all();
            continue;
        }
        step(reader, &instruction);
    }
}

fn step(reader: &mut Reader<'_>, i: &Instruction) {
    match i.flow_control() {
        FlowControl::Next | FlowControl::ConditionalBranch => {}
        FlowControl::Call => {
            reader.reading.calls.push(Addr::new(i.near_branch_target()));
            reader.forget_all();
            return;
        }
        _ => {
            refer_to_operand(reader, i);
            reader.forget_all();
            return;
        }
    }
    if i.mnemonic() == Mnemonic::Cmp
        && i.op0_kind() == OpKind::Register
        && let Ok(number) = i.try_immediate(1)
    {
        reader.reading.compared.push(number);
    }
    let written = written(i);
    match (i.mnemonic(), written, operand(reader, i)) {
        (Mnemonic::Lea, Some(register), Some(target)) => return reader.take_address(register, target),
        (Mnemonic::Mov, Some(register), Some(from)) if i.op0_register().is_gpr64() => {
            return reader.load_word(register, from);
        }
        (Mnemonic::Mov, Some(register), None) => {
            let copied = i.op1_kind() == OpKind::Register && i.op1_register().is_gpr64();
            let value = number_of(i.op1_register()).and_then(|from| reader.known(from));
            return reader.set(register, value.filter(|_| copied));
        }
        _ => refer_to_operand(reader, i),
    }
    forget_written(reader, i, written);
}

/// The address of the memory operand, if it can be told.
fn operand(reader: &Reader<'_>, i: &Instruction) -> Option<Addr> {
    if i.is_ip_rel_memory_operand() {
        return Some(Addr::new(i.ip_rel_memory_address()));
    }
    let plain = i.memory_index() == Register::None && i.segment_prefix() == Register::None;
    let base = number_of(i.memory_base()).filter(|_| plain)?;
    Some(reader.known(base)?.offset(i.memory_displacement64()))
}

/// Notes a read or write of memory.
fn refer_to_operand(reader: &mut Reader<'_>, i: &Instruction) {
    // Padding looks like an access.
    if i.mnemonic() == Mnemonic::Nop {
        return;
    }
    let Some(target) = operand(reader, i) else { return };
    let writes = i.op0_kind() == OpKind::Memory && !matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
    let exchanges = matches!(i.mnemonic(), Mnemonic::Xchg | Mnemonic::Xadd);
    let access = match i.mnemonic() {
        Mnemonic::Lea => Access::Address,
        _ if writes || exchanges => Access::Store,
        _ => Access::Load,
    };
    reader.refer(target, access);
}

/// The number of the general register that the first operand names, if the instruction writes it.
fn written(i: &Instruction) -> Option<usize> {
    let only_reads = matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push);
    number_of(i.op0_register()).filter(|_| i.op0_kind() == OpKind::Register && !only_reads)
}

/// What is known of registers that the instruction writes holds no longer.
fn forget_written(reader: &mut Reader<'_>, i: &Instruction, written: Option<usize>) {
    if let Some(register) = written {
        reader.set(register, None);
    }
    let others: &[Register] = match i.mnemonic() {
        Mnemonic::Xchg | Mnemonic::Xadd => &[i.op1_register()],
        Mnemonic::Cmpxchg => &[Register::RAX],
        Mnemonic::Mul | Mnemonic::Imul | Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Cqo | Mnemonic::Cdq => {
            &[Register::RAX, Register::RDX]
        }
        Mnemonic::Cpuid | Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Xgetbv => {
            &[Register::RAX, Register::RBX, Register::RCX, Register::RDX]
        }
        Mnemonic::Stosb | Mnemonic::Stosq | Mnemonic::Movsb | Mnemonic::Movsq => {
            &[Register::RCX, Register::RSI, Register::RDI]
        }
        _ => &[],
    };
    for register in others.iter().filter_map(|r| number_of(*r)) {
        reader.set(register, None);
    }
}

/// The number of a general register of any width: 0 to 15.
fn number_of(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}
