//! Image, native: the code of a target that no Go compiler made. Each file of it is opened when an address
//! in it is first met, never before: a target without C frames costs nothing here.

mod frames;
mod names;

pub use frames::{Caller, Rule, State, Step, Stuck};
pub use names::Place;

use super::elf::ElfFile;
use super::locate::Proof;
use super::{Image, LoadedFile, open};
use crate::addr::{Addr, Bias, Span};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::memory::Memory;
use crate::source::{Mapping, Source};
use frames::Tables;
use names::Names;
use rustc_hash::FxHashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A file with code and where it was loaded.
pub struct Object {
    name: Arc<str>,
    elf: ElfFile,
    bias: Bias,
    tables: Tables,
    names: Names,
}

impl Object {
    fn new(name: &str, elf: ElfFile, bias: Bias) -> Object {
        Object { name: name.into(), elf, bias, tables: Tables::default(), names: Names::default() }
    }

    /// Its name without folders.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// From a frame to its caller.
    pub fn step(&self, state: &State, arch: Arch, memory: &dyn Memory) -> Step {
        frames::step(self, state, arch, memory)
    }

    /// What the code at `pc` is called, inlined calls first; at least one.
    pub fn places(&self, pc: Addr, exact: bool) -> Vec<Place> {
        names::places(self, pc, exact)
    }
}

/// Why the file behind an address is not to be had.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NoObject {
    /// No file with code is mapped there.
    Unmapped,
    /// The file could not be opened, or is not the one that the target ran.
    Unknown {
        /// Its name without folders.
        file: Arc<str>,
    },
}

/// The files of one target that have code, by the addresses of their mappings.
pub struct Native<'a> {
    source: &'a dyn Source,
    program: &'a LoadedFile,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    /// By the address of the mapping.
    objects: FxHashMap<Addr, Result<Arc<Object>, NoObject>>,
    losses: Diagnostics,
}

/// The largest vDSO that is read, in bytes; those of Linux have two pages.
const VDSO_LIMIT: u64 = 1 << 16;

impl<'a> Native<'a> {
    /// The files of the target of `source`, whose program `image` is. Opens none.
    pub fn new(source: &'a dyn Source, image: &'a Image) -> Native<'a> {
        Native { source, program: &image.file, opened: Mutex::default() }
    }

    /// The file behind an address.
    pub fn object_at(&self, pc: Addr) -> Result<Arc<Object>, NoObject> {
        let mapping =
            self.source.mappings().iter().find(|m| m.span.contains(pc)).ok_or(NoObject::Unmapped)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.objects.get(&mapping.span.start) {
            return known.clone();
        }
        let found = self.open(mapping, &mut opened.losses).map(Arc::new);
        opened.objects.insert(mapping.span.start, found.clone());
        found
    }

    /// Files that could not be opened.
    pub fn losses(&self) -> Diagnostics {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).losses.clone()
    }

    fn open(&self, mapping: &Mapping, losses: &mut Diagnostics) -> Result<Object, NoObject> {
        if self.source.auxv().vdso().is_some_and(|base| mapping.span.contains(base)) {
            return self.vdso(mapping.span).ok_or(NoObject::Unmapped);
        }
        let path = mapping.path.as_deref().filter(|path| path.is_absolute()).ok_or(NoObject::Unmapped)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.is_program(path) {
            let LoadedFile { elf, bias, .. } = self.program;
            return Ok(Object::new(&name, elf.clone(), *bias));
        }
        let unknown = NoObject::Unknown { file: name.as_str().into() };
        let effect = "frames of C code in it are not shown";
        match open::mapped(self.source, mapping) {
            Ok((_, Proof::Nothing)) => {
                let what = format!("nothing tells whether the target ran this {}", path.display());
                losses.warn(what, effect);
                Err(unknown)
            }
            Ok((file, _)) => Ok(Object::new(&name, file.elf, file.bias)),
            Err(error) => {
                losses.warn(error, effect);
                Err(unknown)
            }
        }
    }

    /// Whether the file at `path` is the one that the image was opened from, which may lie elsewhere.
    fn is_program(&self, path: &Path) -> bool {
        let of_executable = self.source.executable_path() == Some(path);
        self.program.is_whole && (path == self.program.path || of_executable && self.program.is_program)
    }

    /// The code that the kernel maps into each process.
    fn vdso(&self, span: Span) -> Option<Object> {
        let elf = ElfFile::parse(self.source.memory().read_span(span, VDSO_LIMIT).ok()?).ok()?;
        let bias = elf.bias_of_start(span.start)?;
        Some(Object::new("[vdso]", elf, bias))
    }
}
