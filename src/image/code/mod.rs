//! Image, code reading: where the runtime's globals lie in a stripped program. The function tables name
//! small functions of the runtime; what data their instructions refer to gives the globals away
//! ([`rules`]). Reading is one pass without following branches: enough, since each rule is a set of
//! references that must all be there, and whoever uses a result checks it against memory.

mod amd64;
mod arm64;
pub mod rules;

use super::pclntab::{Func, Modules};
use crate::addr::{Addr, Span};
use crate::arch::Arch;
use crate::memory::Memory;

/// What an instruction does with a global.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    /// Takes its address.
    Address,
    /// Reads it.
    Load,
    /// Writes it, or both reads and writes it.
    Store,
}

/// One instruction's reference to a global.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reference {
    target: Addr,
    access: Access,
}

/// What one function refers to, in the order of its code.
#[derive(Default, Debug)]
struct Reading {
    references: Vec<Reference>,
    /// Targets of direct calls.
    calls: Vec<Addr>,
    /// Numbers that registers are compared with.
    compared: Vec<u64>,
}

impl Reading {
    /// Distinct targets, in the order of their first reference.
    fn targets(&self) -> Vec<Addr> {
        let mut targets = Vec::new();
        for r in &self.references {
            if !targets.contains(&r.target) {
                targets.push(r.target);
            }
        }
        targets
    }

    fn refers(&self, target: Addr) -> bool {
        self.references.iter().any(|r| r.target == target)
    }

    fn loads(&self, target: Addr) -> bool {
        self.references.iter().any(|r| r.target == target && r.access == Access::Load)
    }

    /// Whether the address of `target` is taken and neither read nor written here.
    fn only_address(&self, target: Addr) -> bool {
        self.refers(target)
            && self.references.iter().all(|r| r.target != target || r.access == Access::Address)
    }
}

/// Longest function that is read, in bytes.
const CODE: u64 = 1 << 16;

/// Reads one function. Only references to writable data of the modules are kept.
fn read(memory: &dyn Memory, modules: &Modules, arch: Arch, func: Func<'_>) -> Option<Reading> {
    let code = memory.read_span(Span::between(func.entry(), func.end()), CODE).ok()?;
    let mut reader = Reader { memory, modules, registers: [None; 32], reading: Reading::default() };
    match arch {
        Arch::Amd64 => amd64::read(&mut reader, &code, func.entry()),
        Arch::Arm64 => arm64::read(&mut reader, &code, func.entry()),
    }
    Some(reader.reading)
}

/// State of one pass: the addresses that registers are known to hold, and what was found.
struct Reader<'a> {
    memory: &'a dyn Memory,
    modules: &'a Modules,
    registers: [Option<Addr>; 32],
    reading: Reading,
}

impl Reader<'_> {
    fn is_global(&self, at: Addr) -> bool {
        self.modules.modules().iter().any(|m| m.info.globals.contains(at))
    }

    /// Notes that an instruction refers to `target`.
    fn refer(&mut self, target: Addr, access: Access) {
        if self.is_global(target) {
            self.reading.references.push(Reference { target, access });
        }
    }

    fn known(&self, register: usize) -> Option<Addr> {
        self.registers.get(register).copied().flatten()
    }

    fn set(&mut self, register: usize, value: Option<Addr>) {
        if let Some(slot) = self.registers.get_mut(register) {
            *slot = value;
        }
    }

    fn forget_all(&mut self) {
        self.registers = [None; 32];
    }

    /// `register` takes the address `value`.
    fn take_address(&mut self, register: usize, value: Addr) {
        self.refer(value, Access::Address);
        self.set(register, Some(value));
    }

    /// `register` is loaded with the word at `from`. Code that several modules share finds globals by
    /// a table of addresses, which the loader has filled in: such a load takes an address.
    fn load_word(&mut self, register: usize, from: Addr) {
        self.refer(from, Access::Load);
        self.set(register, None);
        if self.is_global(from) {
            return;
        }
        if let Ok(value) = self.memory.read_addr(from)
            && self.is_global(value)
        {
            self.take_address(register, value);
        }
    }
}
