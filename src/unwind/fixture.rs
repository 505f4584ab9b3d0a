//! Programs made by hand for the tests of this layer and of the text that is made from it: function
//! tables as the linker writes them, in a memory that tests add stacks to.

use super::code::Code;
use crate::addr::Addr;
use crate::arch::Arch;
use crate::image::blob::FromMemory;
use crate::image::layout::rules::Rules;
use crate::image::layout::schema::{Binder, FieldDecl, Moduledata, StructDecl};
use crate::image::layout::table::Chosen;
use crate::image::layout::version::GoVersion;
use crate::image::pclntab::Modules;
use crate::memory::sparse::SparseMemory;

const TEXT: u64 = 0x40_0000;
const TABLES: u64 = 0x50_0000;
const GOFUNC: u64 = 0x60_0000;
const MODULEDATA: u64 = 0x70_0000;

/// Kinds by the numbers of 1.25 to 1.27.
pub(crate) mod id {
    pub(crate) const ASYNC_PREEMPT: u8 = 3;
    pub(crate) const MCALL: u8 = 12;
    pub(crate) const MORESTACK: u8 = 13;
    pub(crate) const SIGPANIC: u8 = 20;
    pub(crate) const SYSTEMSTACK: u8 = 21;
}

/// `_func.flag` of functions that end a stack, and of those that switch stacks.
pub(crate) const TOP: u8 = 1;
pub(crate) const SP_WRITE: u8 = 2;

/// Pairs of the offset in the code at which a value ends, and the value.
pub(crate) type Values = &'static [(u32, i32)];

/// One function. All are 0x100 bytes long.
#[derive(Clone, Copy, Default)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) id: u8,
    pub(crate) flags: u8,
    /// Depth of the stack.
    pub(crate) depth: Values,
    pub(crate) lines: Values,
    /// Index in `tree`.
    pub(crate) inline: Values,
    /// Name of each inlined call, and the offset in the code that stands for its caller.
    pub(crate) tree: &'static [(&'static str, u32)],
    pub(crate) arg_info: &'static [u8],
    pub(crate) live_info: &'static [u8],
    /// Offset in `live_info`.
    pub(crate) live: Values,
}

/// A function of one depth.
pub(crate) const fn plain(name: &'static str, depth: Values) -> Function {
    special(name, 0, 0, depth)
}

/// A function that the unwinder treats in its own way.
pub(crate) const fn special(name: &'static str, id: u8, flags: u8, depth: Values) -> Function {
    Function {
        name,
        id,
        flags,
        depth,
        lines: &[(0x100, 7)],
        inline: &[],
        tree: &[],
        arg_info: &[],
        live_info: &[],
        live: &[],
    }
}

/// Bytes of each function.
const SIZE: u32 = 0x100;

/// A program and its memory.
pub(crate) struct Program {
    pub(crate) arch: Arch,
    pub(crate) memory: SparseMemory,
    modules: Modules,
    rules: Rules,
    functions: Vec<Function>,
}

impl Program {
    pub(crate) fn new(arch: Arch, version: &str, functions: &[Function]) -> Program {
        let mut linker = Linker { quantum: u32::try_from(arch.pc_quantum()).unwrap(), ..Linker::default() };
        let mut memory = SparseMemory::new();
        linker.link(functions, &mut memory);
        let layout = Moduledata::bind(&mut Spread).unwrap();
        let modules =
            Modules::load(&memory, &FromMemory(&memory), Addr::new(MODULEDATA), &layout, arch).unwrap();
        let rules = Rules::of(&Chosen::of(&GoVersion::parse(version)).unwrap()).unwrap();
        Program { arch, memory, modules, rules, functions: functions.to_vec() }
    }

    /// An address in a function.
    pub(crate) fn at(&self, name: &str, offset: u64) -> Addr {
        let index = self.functions.iter().position(|f| f.name == name).unwrap();
        Addr::new(TEXT + u64::try_from(index).unwrap() * u64::from(SIZE) + offset)
    }

    /// Puts words on a stack, from `sp` up.
    pub(crate) fn push(&mut self, sp: u64, words: &[Addr]) {
        for (at, word) in (sp..).step_by(8).zip(words) {
            self.memory.put_u64(Addr::new(at), word.get());
        }
    }

    pub(crate) fn code(&self) -> Code<'_> {
        Code { arch: self.arch, modules: &self.modules, rules: &self.rules, memory: &self.memory }
    }
}

/// Each member where the one before it can't reach: slices are three words.
struct Spread;

impl Binder for Spread {
    fn offset(&mut self, of: &StructDecl, field: &FieldDecl) -> Option<u32> {
        let index = of.fields.iter().position(|f| f.name == field.name)?;
        u32::try_from(index * 24).ok()
    }

    fn size(&mut self, of: &StructDecl) -> Option<u32> {
        u32::try_from(of.fields.len() * 24).ok()
    }
}

/// Writes the tables in the format since 1.20.
#[derive(Default)]
struct Linker {
    quantum: u32,
    names: Vec<u8>,
    values: Vec<u8>,
    /// The data of functions, at `GOFUNC`.
    data: Vec<u8>,
}

impl Linker {
    fn link(&mut self, functions: &[Function], memory: &mut SparseMemory) {
        self.values.push(0);
        let count = u32::try_from(functions.len()).unwrap();
        let mut list: Vec<u8> = Vec::new();
        let mut bodies: Vec<u8> = Vec::new();
        let first_body = 8 * count + 8;
        for (entry, f) in (0..).step_by(SIZE as usize).zip(functions) {
            put(&mut list, &[entry, first_body + u32::try_from(bodies.len()).unwrap()]);
            bodies.extend(self.body(entry, f));
        }
        put(&mut list, &[count * SIZE, 0]);
        list.extend(bodies);
        let cutab = [0_u32; 1];
        let filetab = b"main.go\0".to_vec();
        let mut tables = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, u8::try_from(self.quantum).unwrap(), 8];
        tables.resize(72, 0);
        let mut module = vec![0_u8; Moduledata::DECL.fields.len() * 24];
        let mut cut = Vec::new();
        put(&mut cut, &cutab);
        let parts = [
            ("funcnametab", &self.names, 1),
            ("cutab", &cut, 4),
            ("filetab", &filetab, 1),
            ("pctab", &self.values, 1),
            ("pclntable", &list, 1),
        ];
        set(&mut module, "pcHeader", &[TABLES]);
        for (name, bytes, element) in parts {
            let at = TABLES + tables.len() as u64;
            set(&mut module, name, &[at, bytes.len() as u64 / element]);
            if name == "pclntable" {
                set(&mut module, "ftab", &[at, u64::from(count) + 1]);
            }
            tables.extend(bytes);
        }
        let end = TEXT + u64::from(count * SIZE);
        for (name, value) in
            [("minpc", TEXT), ("maxpc", end), ("text", TEXT), ("etext", end), ("gofunc", GOFUNC)]
        {
            set(&mut module, name, &[value]);
        }
        memory.put(Addr::new(TABLES), tables);
        memory.put(Addr::new(GOFUNC), self.data.clone());
        memory.put(Addr::new(MODULEDATA), module);
    }

    /// A `_func` and what follows it.
    fn body(&mut self, entry: u32, f: &Function) -> Vec<u8> {
        let tree = self.tree(f.tree);
        let [inline, live] = [self.table(f.inline), self.table(f.live)];
        let mut body = Vec::new();
        let name = self.name(f.name);
        let file = self.table(&[(SIZE, 0)]);
        let [depth, lines] = [self.table(f.depth), self.table(f.lines)];
        put(&mut body, &[entry, name, 0, 0, depth, file, lines, 4, 0, 1]);
        body.extend([f.id, f.flags, 0, 7]);
        put(&mut body, &[0, 0, inline, live]);
        let [args, live] = [self.blob(f.arg_info), self.blob(f.live_info)];
        put(&mut body, &[u32::MAX, u32::MAX, u32::MAX, tree, u32::MAX, args, live]);
        body
    }

    fn name(&mut self, name: &str) -> u32 {
        let at = self.names.len();
        self.names.extend(name.bytes());
        self.names.push(0);
        u32::try_from(at).unwrap()
    }

    fn tree(&mut self, tree: &[(&str, u32)]) -> u32 {
        let mut bytes = Vec::new();
        for (name, parent) in tree {
            bytes.extend([0; 4]);
            let name = self.name(name);
            put(&mut bytes, &[name, *parent, 1]);
        }
        self.blob(&bytes)
    }

    /// Where the bytes lie in the data; all ones when there are none.
    fn blob(&mut self, bytes: &[u8]) -> u32 {
        if bytes.is_empty() {
            return u32::MAX;
        }
        let at = self.data.len();
        self.data.extend(bytes);
        u32::try_from(at).unwrap()
    }

    /// A table of values by address; 0 when there is none.
    fn table(&mut self, values: &[(u32, i32)]) -> u32 {
        if values.is_empty() {
            return 0;
        }
        let at = self.values.len();
        let (mut reached, mut last) = (0, -1_i32);
        for (end, value) in values {
            let change = value - last;
            varint(&mut self.values, (change << 1 ^ change >> 31).cast_unsigned());
            varint(&mut self.values, (end - reached) / self.quantum);
            (reached, last) = (*end, *value);
        }
        self.values.push(0);
        u32::try_from(at).unwrap()
    }
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// Sets a member of the moduledata.
fn set(module: &mut [u8], member: &str, words: &[u64]) {
    let index = Moduledata::DECL.fields.iter().position(|f| f.paths.contains(&member)).unwrap();
    for (n, word) in words.iter().enumerate() {
        let at = index * 24 + n * 8;
        module[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}
