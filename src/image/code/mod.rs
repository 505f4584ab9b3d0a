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
        self.modules.modules().iter().any(|m| m.info.is_global(at))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::blob::FromMemory;
    use crate::image::testing::{FuncSpec, MODULEDATA, Spec, layout};
    use crate::memory::sparse::SparseMemory;

    /// Where the table of addresses of a shared module would lie: outside of the globals.
    const GOT: u64 = 0x60_0000;

    /// Reads `code` as if it lay at `entry`; writable data is 0x700000 to 0x7fffff, and the word at
    /// `GOT` holds 0x700300.
    fn reading(arch: Arch, code: &[u8], entry: u64) -> Reading {
        let func = FuncSpec { name: "f", ..FuncSpec::default() };
        let quantum = arch.pc_quantum() as u8;
        let spec =
            Spec { magic: 0xffff_fff1, quantum, funcs: vec![func], end: 4, files: vec![], names: vec![] };
        let mut memory: SparseMemory = spec.build().memory;
        memory.put_u64(Addr::new(GOT), 0x70_0300);
        let first = Addr::new(MODULEDATA);
        let modules = Modules::load(&memory, &FromMemory(&memory), first, &layout(), arch).unwrap();
        let registers = [None; 32];
        let mut reader =
            Reader { memory: &memory, modules: &modules, registers, reading: Reading::default() };
        match arch {
            Arch::Amd64 => amd64::read(&mut reader, code, Addr::new(entry)),
            Arch::Arm64 => arm64::read(&mut reader, code, Addr::new(entry)),
        }
        reader.reading
    }

    /// The references as numbers.
    fn references(r: &Reading) -> Vec<(u64, Access)> {
        r.references.iter().map(|r| (r.target.get(), r.access)).collect()
    }

    use Access::{Address, Load, Store};

    #[test]
    fn amd64_registers_are_followed_until_a_call() {
        #[rustfmt::skip]
        let code = [
            0x48, 0x8d, 0x05, 0xf9, 0xff, 0x2f, 0x00, // lea rax, [0x700000]
            0x0f, 0x1f, 0x00,                         // nop dword [rax]
            0x48, 0x8b, 0x08,                         // mov rcx, [rax]
            0x48, 0x89, 0xc3,                         // mov rbx, rax
            0x31, 0xc0,                               // xor eax, eax
            0x48, 0x8b, 0x50, 0x08,                   // mov rdx, [rax+8]: rax is known no more
            0x48, 0x83, 0x43, 0x10, 0x01,             // add qword [rbx+16], 1
            0xe8, 0x00, 0x01, 0x00, 0x00,             // call
            0x48, 0x8b, 0x0b,                         // mov rcx, [rbx]
        ];
        let r = reading(Arch::Amd64, &code, 0x40_0000);
        assert_eq!(references(&r), [(0x70_0000, Address), (0x70_0000, Load), (0x70_0010, Store)]);
        assert_eq!(r.calls, [Addr::new(0x40_0120)]);
        assert!(r.compared.is_empty());
    }

    #[test]
    fn amd64_kinds_of_access() {
        #[rustfmt::skip]
        let code = [
            0x48, 0x39, 0x05, 0xf9, 0xff, 0x2f, 0x00, // cmp [0x700000], rax
            0x48, 0x87, 0x0d, 0xf9, 0xff, 0x2f, 0x00, // xchg [0x700007], rcx
            0x3c, 0x2f,                               // cmp al, 0x2f
            0x83, 0x3d, 0xf1, 0xff, 0x2f, 0x00, 0x05, // cmp dword [0x700008], 5
            0x48, 0x8d, 0x05, 0xf9, 0xff, 0x0f, 0x00, // lea rax, [0x500017]: not writable data
        ];
        let r = reading(Arch::Amd64, &code, 0x40_0000);
        assert_eq!(references(&r), [(0x70_0000, Load), (0x70_0007, Store), (0x70_0008, Load)]);
        assert_eq!(r.compared, [0x2f]);
    }

    #[test]
    fn amd64_addresses_may_come_from_a_table() {
        #[rustfmt::skip]
        let code = [
            0x4c, 0x8b, 0x3d, 0xf9, 0xff, 0x1f, 0x00, // mov r15, [0x600000]
            0x49, 0x8b, 0x47, 0x10,                   // mov rax, [r15+16]
        ];
        let r = reading(Arch::Amd64, &code, 0x40_0000);
        assert_eq!(references(&r), [(0x70_0300, Address), (0x70_0310, Load)]);
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// From `runtime.forEachG` of 1.18, moved up by 0x430000.
    #[test]
    fn arm64_page_and_offset_make_an_address() {
        #[rustfmt::skip]
        let code = words(&[
            0xb0001600, 0x912ec000, // ADRP, ADD: R0 = 0x739bb0
            0x97ff4a01,             // BL
            0xd000149b, 0x912d437b, // ADRP, ADD: R27 = 0x70ab50
            0xf9400361, 0xf90013e1, // LDR R1, [R27]; STR R1, [RSP, #32]
            0xd000149b, 0x912d637b, // ADRP, ADD: R27 = 0x70ab58
            0xf9400362,             // LDR R2, [R27]
            0x1400000b,             // B
            0xf9400363,             // LDR R3, [R27]: reached from elsewhere
        ]);
        let r = reading(Arch::Arm64, &code, 0x47_82e4);
        let found = [(0x73_9bb0, Address), (0x70_ab50, Address), (0x70_ab50, Load)];
        let after = [(0x70_ab58, Address), (0x70_ab58, Load)];
        assert_eq!(references(&r), [&found[..], &after].concat());
        assert_eq!(r.calls, [Addr::new(0x47_82ec - 0x2_d7fc)]);
    }

    /// From `runtime.allgadd` of 1.27, moved up by 0x320000.
    #[test]
    fn arm64_pairs_and_ordered_accesses() {
        #[rustfmt::skip]
        let code = words(&[
            0x90001c9b, 0x9136437b, // ADRP, ADD: R27 = 0x710d90
            0xa9400760,             // LDP R0, R1, [R27]
            0x91000421,             // ADD R1, R1, #1
            0x90001c9b, 0xf946d362, // ADRP; LDR R2, [R27, #3488]
            0xb24003e3,             // ORR R3, ZR, #1
            0xf906d362,             // STR R2, [R27, #3488]
            0x36000002,             // TBZ W2
            0x90001c82, 0x911ea042, // ADRP, ADD: R2 = 0x7107a8
            0xc89ffc41,             // STLR R1, [R2]
            0xc8dffc42,             // LDAR R2, [R2]
            0xf9400043,             // LDR R3, [R2]: R2 is known no more
            0x7100bc1f,             // CMP W0, #47
        ]);
        let r = reading(Arch::Arm64, &code, 0x38_0430);
        let slice = [(0x71_0d90, Address), (0x71_0d90, Load), (0x71_0d98, Load)];
        let capacity = [(0x71_0da0, Load), (0x71_0da0, Store)];
        let pointer = [(0x71_07a8, Address), (0x71_07a8, Store), (0x71_07a8, Load)];
        assert_eq!(references(&r), [&slice[..], &capacity, &pointer].concat());
        assert_eq!(r.compared, [47]);
    }

    #[test]
    fn arm64_other_widths_and_forms() {
        #[rustfmt::skip]
        let code = words(&[
            0x90001800,             // ADRP: R0 = 0x700000
            0x39400c01,             // LDRB W1, [R0, #3]
            0x79400c01,             // LDRH W1, [R0, #6]
            0xb9400c01,             // LDR W1, [R0, #12]
            0x3d800401,             // STR Q1, [R0, #16]
            0xf8408001,             // LDUR R1, [R0, #8]
            0xf81f8001,             // STUR R1, [R0, #-8]: below the data
            0xf8e18002,             // SWPAL R1, R2, [R0]
            0xaa0003e5,             // MOV R5, R0
            0xa9bf7ca1,             // STP R1, ZR, [R5, #-16]!
            0xf94000a1,             // LDR R1, [R5]: moved
            0xf8616801,             // LDR R1, [R0, R1]: an index
            0xf9400001,             // LDR R1, [R0]: forgotten after it, which costs nothing
        ]);
        let r = reading(Arch::Arm64, &code, 0x40_0000);
        let loads = [(0x70_0003, Load), (0x70_0006, Load), (0x70_000c, Load)];
        let rest = [(0x70_0010, Store), (0x70_0008, Load), (0x70_0000, Store)];
        assert_eq!(references(&r), [&loads[..], &rest].concat());
    }

    #[test]
    fn any_bytes_can_be_read() {
        let noise: Vec<u8> = (0u32..40_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for arch in [Arch::Amd64, Arch::Arm64] {
            for entry in [0x40_0000, u64::MAX - 0xfff] {
                reading(arch, &noise, entry);
            }
        }
    }
}
