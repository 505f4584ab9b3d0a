//! Builds core files by hand. All offsets are literals, taken from the ELF specification and the
//! headers of Linux and not from the reader, so that a wrong one there is caught.

pub const AMD64: u16 = 62;
pub const ARM64: u16 = 183;

/// A segment to be: `bytes` are in the file, `size` is in memory.
struct Load {
    at: u64,
    size: u64,
    flags: u32,
    bytes: Vec<u8>,
}

/// A core file to be.
pub struct Core {
    machine: u16,
    loads: Vec<Load>,
    pub notes: Vec<u8>,
    pub count_in_section: bool,
}

impl Core {
    pub fn new(machine: u16) -> Core {
        Core { machine, loads: Vec::new(), notes: Vec::new(), count_in_section: false }
    }

    /// Adds memory that is all in the file, readable and writable.
    pub fn load(self, at: u64, bytes: impl Into<Vec<u8>>) -> Core {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        self.partial(at, size, 6, bytes)
    }

    /// Adds memory of `size` bytes of which only `bytes` are in the file.
    pub fn partial(mut self, at: u64, size: u64, flags: u32, bytes: impl Into<Vec<u8>>) -> Core {
        self.loads.push(Load { at, size, flags, bytes: bytes.into() });
        self
    }

    pub fn note(mut self, owner: &[u8], kind: u32, body: &[u8]) -> Core {
        let mut name = owner.to_vec();
        if !name.is_empty() {
            name.push(0);
        }
        self.notes.extend((name.len() as u32).to_le_bytes());
        self.notes.extend((body.len() as u32).to_le_bytes());
        self.notes.extend(kind.to_le_bytes());
        for part in [&name[..], body] {
            self.notes.extend(part);
            self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        }
        self
    }

    /// `NT_PRSTATUS` of x86-64 (336 bytes) or AArch64 (392 bytes). All registers hold their number
    /// in `pr_reg` plus `base`.
    pub fn thread(self, tid: i32, signal: u16, base: u64) -> Core {
        let (len, registers) = if self.machine == AMD64 { (336, 27) } else { (392, 34) };
        let mut body = vec![0; len];
        body[12..14].copy_from_slice(&signal.to_le_bytes());
        body[32..36].copy_from_slice(&tid.to_le_bytes());
        for i in 0..registers {
            body[112 + i * 8..120 + i * 8].copy_from_slice(&(base + i as u64).to_le_bytes());
        }
        self.note(b"CORE", 1, &body)
    }

    pub fn siginfo(self, signal: i32, code: i32, address: u64) -> Core {
        let mut body = vec![0; 128];
        body[0..4].copy_from_slice(&signal.to_le_bytes());
        body[8..12].copy_from_slice(&code.to_le_bytes());
        body[16..24].copy_from_slice(&address.to_le_bytes());
        self.note(b"CORE", 0x53494749, &body)
    }

    pub fn process(self, pid: i32, name: &[u8], arguments: &[u8]) -> Core {
        let mut body = vec![0; 136];
        body[24..28].copy_from_slice(&pid.to_le_bytes());
        body[40..40 + name.len()].copy_from_slice(name);
        body[56..56 + arguments.len()].copy_from_slice(arguments);
        self.note(b"CORE", 3, &body)
    }

    pub fn auxv(self, pairs: &[(u64, u64)]) -> Core {
        let words = pairs.iter().flat_map(|(key, value)| [*key, *value]).chain([0, 0]);
        let body: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        self.note(b"CORE", 6, &body)
    }

    /// `(start, end, offset in pages of 4096, name)`.
    pub fn files(self, files: &[(u64, u64, u64, &str)]) -> Core {
        let mut words = vec![files.len() as u64, 4096];
        words.extend(files.iter().flat_map(|f| [f.0, f.1, f.2]));
        let mut body: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        for f in files {
            body.extend(f.3.as_bytes());
            body.push(0);
        }
        self.note(b"CORE", 0x46494c45, &body)
    }

    /// The file: header, program headers, notes, memory, and section 0 at the very end, as the
    /// kernel writes it.
    pub fn build(&self) -> Vec<u8> {
        let count = self.loads.len() + 1;
        let mut file = vec![0; 64];
        file[0..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
        file[16..18].copy_from_slice(&4u16.to_le_bytes());
        file[18..20].copy_from_slice(&self.machine.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        let stated = if self.count_in_section { 0xffff } else { count as u16 };
        file[56..58].copy_from_slice(&stated.to_le_bytes());
        let mut offset = 64 + 56 * count as u64;
        header(&mut file, 4, 0, offset, 0, self.notes.len() as u64, 0);
        offset += self.notes.len() as u64;
        for load in &self.loads {
            header(&mut file, 1, load.flags, offset, load.at, load.bytes.len() as u64, load.size);
            offset += load.bytes.len() as u64;
        }
        file.extend(&self.notes);
        for load in &self.loads {
            file.extend(&load.bytes);
        }
        if self.count_in_section {
            let section = file.len() as u64;
            file[40..48].copy_from_slice(&section.to_le_bytes());
            file.extend([0; 64]);
            let info = file.len() - 64 + 44;
            file[info..info + 4].copy_from_slice(&(count as u32).to_le_bytes());
        }
        file
    }
}

fn header(file: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, at: u64, in_file: u64, in_memory: u64) {
    file.extend(kind.to_le_bytes());
    file.extend(flags.to_le_bytes());
    for word in [offset, at, 0, in_file, in_memory, 4] {
        file.extend(word.to_le_bytes());
    }
}
