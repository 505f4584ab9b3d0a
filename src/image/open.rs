//! Image, opening: from a source to all that is known of its program. Runs before any stop and only
//! reads. Each step takes the most direct way that works and remembers which it was.

use super::buildinfo::BuildInfo;
use super::dwarf::{self, DwarfFacts};
use super::elf::{ElfFile, ElfKind};
use super::layout::Layouts;
use super::layout::rules::Rules;
use super::layout::schema;
use super::layout::table::Chosen;
use super::layout::version::GoVersion;
use super::pclntab::Modules;
use super::search::{SearchSpace, find_moduledata};
use super::statics::{ImageMemory, Statics};
use super::{Executable, Found, Image, OpenOptions, Provenance, globals, locate, unlabelled};
use crate::addr::{Addr, Bias, Span};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Memory, read_string};
use crate::source::{Mapping, Source};
use std::path::{Path, PathBuf};

/// Files of one target that are opened to look for Go in them.
const FILES: usize = 1000;
/// Bytes at the start of the function table's section that hold its header.
const TABLE_HEADER: u64 = 64;
/// Longest version text, in bytes.
const VERSION: u64 = 4096;

/// A file of the target and where it was loaded.
pub struct LoadedFile {
    /// Name under which the target knows it.
    pub path: PathBuf,
    /// The file.
    pub elf: ElfFile,
    /// How far the loader moved it.
    pub bias: Bias,
    /// Why `elf` is only what a core holds of the file's beginning, if it is.
    pub missing: Option<Error>,
    /// Whether it is the program itself, not a file that it loaded.
    pub is_program: bool,
    /// Whether `elf` is all of the file.
    pub is_whole: bool,
}

impl LoadedFile {
    fn span(&self, section: &str) -> Option<Span> {
        let section = self.elf.section(section).filter(|s| s.va.0 != 0 && s.size > 0)?;
        Some(Span { start: self.bias.to_runtime(section.va), len: section.size })
    }

    fn segments(&self, writable_only: bool) -> Vec<Span> {
        let loads = self.elf.loads().filter(|s| s.writable || !writable_only);
        loads.map(|s| Span { start: self.bias.to_runtime(s.va), len: s.mem_size }).collect()
    }

    /// Where the first module data is: in the sections made for it, whose beginnings suffice, else in
    /// any segment.
    pub(super) fn moduledata(
        &self,
        memory: &ImageMemory<'_>,
        layout: &schema::Moduledata,
        arch: Arch,
    ) -> Vec<Addr> {
        let within = |tables: &[Span], data: &[Span]| {
            find_moduledata(memory, memory, &SearchSpace { tables, data }, layout, arch)
        };
        let section = |names: [&str; 2]| names.iter().find_map(|name| self.span(name));
        let table = section([".gopclntab", ".data.rel.ro.gopclntab"]);
        let data = section([".go.module", ".noptrdata"]);
        if let (Some(table), Some(data)) = (table, data) {
            let beginning = Span { len: table.len.min(TABLE_HEADER), ..table };
            let found = within(&[beginning], &[data]);
            if !found.is_empty() {
                return found;
            }
        }
        within(&self.segments(false), &self.segments(true))
    }
}

/// Opens the image of a source. Without the executable of a core, what the core holds may do; if not,
/// the error says which file to bring.
pub(super) fn open(source: &dyn Source, options: &OpenOptions) -> Result<Image> {
    let mut diagnostics = Diagnostics::default();
    let (mut file, identity) = go_file(source, options, &mut diagnostics)?;
    let missing = file.missing.take();
    open_file(source, file, identity.clone(), diagnostics.clone())
        .or_else(|e| open_shared(source, &identity, &diagnostics).ok_or(e))
        .map_err(|e| match missing {
            Some(missing) => missing.because(e),
            None => e,
        })
}

/// Opens the image of a program whose runtime is in a library of Go packages (`-linkshared`): all of it but
/// the program's own packages is there.
fn open_shared(source: &dyn Source, identity: &Identity, diagnostics: &Diagnostics) -> Option<Image> {
    candidates(source)
        .filter(|file| has_function_table(&file.elf) || BuildInfo::of_file(&file.elf).is_some())
        .find_map(|file| open_file(source, file, identity.clone(), diagnostics.clone()).ok())
}

/// Opens the image of a file that is Go.
fn open_file(
    source: &dyn Source,
    file: LoadedFile,
    identity: Identity,
    mut diagnostics: Diagnostics,
) -> Result<Image> {
    let memory = source.memory();
    let Identity { build, go, go_by } = identity;
    let arch = file_arch(&file.elf, source.arch())?;
    let chosen = Chosen::of(&go)?;
    let rules = Rules::of(&chosen)?;
    let facts = read_dwarf(&file, &mut diagnostics);
    let layouts = Layouts::bind(facts.as_ref(), &chosen, arch, &mut diagnostics)?;

    let mut statics = Statics::default();
    statics.add(&file.elf, file.bias);
    let opening = Opening { source, file: &file, facts: facts.as_ref(), layouts: &layouts, arch };
    let modules = opening.modules(&mut statics)?;
    diagnostics.merge(modules.value.losses().clone());

    let whole = ImageMemory { statics: &statics, lower: memory };
    let finder = globals::Finder {
        file: &file,
        facts: facts.as_ref(),
        modules: &modules.value,
        memory: &whole,
        layouts: &layouts,
        arch,
    };
    let globals = finder.find(&mut diagnostics)?;
    let (wait_reasons, wait_reasons_by) = globals::wait_reasons(&whole, &globals, &chosen, &mut diagnostics);
    Ok(Image {
        arch,
        go,
        go_by,
        build,
        exe: executable(&file, facts.as_ref()),
        modules_by: modules.by,
        modules: modules.value,
        layouts,
        rules,
        globals,
        wait_reasons,
        wait_reasons_by,
        diagnostics,
        statics,
        file,
    })
}

fn executable(file: &LoadedFile, facts: Option<&DwarfFacts>) -> Executable {
    Executable {
        path: file.path.clone(),
        build_id: file.elf.build_id(),
        go_build_id: file.elf.go_build_id(),
        kind: file.elf.kind(),
        stripped: file.elf.is_stripped(),
        has_dwarf: facts.is_some(),
        bias: file.bias,
    }
}

fn file_arch(elf: &ElfFile, source: Arch) -> Result<Arch> {
    match elf.arch() {
        Some(arch) if arch == source => Ok(arch),
        Some(arch) => {
            let text = format!("the executable is for {arch}, the target ran on {source}");
            Err(Error::new(ErrorKind::BadExecutable, text))
        }
        None => {
            let text = format!("processor {} is not decoded", elf.machine());
            Err(Error::new(ErrorKind::Unsupported, text))
        }
    }
}

/// What says which Go made a program.
#[derive(Clone)]
struct Identity {
    build: BuildInfo,
    go: GoVersion,
    go_by: Provenance,
}

impl Identity {
    fn new(build: BuildInfo, by: Provenance) -> Identity {
        Identity { go: GoVersion::parse(&build.go_version), go_by: by, build }
    }

    /// By the file's build information, else that in memory, else `runtime.buildVersion`, which a
    /// symbol names or the runtime's code.
    fn of(file: &LoadedFile, memory: &dyn Memory) -> Option<Identity> {
        if let Some(build) = BuildInfo::of_file(&file.elf) {
            let named = file.elf.section(".go.buildinfo").is_some();
            let by = if named { Provenance::Section } else { Provenance::Scan };
            return Some(Identity::new(build, by));
        }
        let [symbol, runtime] = file.elf.symbols(["runtime.buildVersion", "runtime.firstmoduledata"]);
        let no_names = symbol.is_none() && runtime.is_none();
        let tells = file.missing.is_none() && file.elf.sections().iter().any(|s| !s.name.is_empty());
        if no_names && tells && !has_function_table(&file.elf) {
            return None;
        }
        if let Some(build) = BuildInfo::of_memory(memory, &file.segments(true)) {
            return Some(Identity::new(build, Provenance::Scan));
        }
        let (go_version, by) = match symbol {
            Some(symbol) => {
                let text = read_string(memory, file.bias.to_runtime(symbol.va), VERSION).ok()?;
                (String::from_utf8(text).ok()?, Provenance::Symtab)
            }
            None => (unlabelled::version(file, memory)?, Provenance::Code),
        };
        Some(Identity::new(BuildInfo { go_version, ..BuildInfo::default() }, by))
    }
}

fn has_function_table(elf: &ElfFile) -> bool {
    elf.sections().iter().any(|s| s.name.ends_with(".gopclntab"))
}

/// The file of the target that holds the Go runtime: the executable, else a library that a program
/// of another language loaded.
fn go_file(
    source: &dyn Source,
    options: &OpenOptions,
    diagnostics: &mut Diagnostics,
) -> Result<(LoadedFile, Identity)> {
    let program = program(source, options, diagnostics);
    if program.is_err() && options.exe.is_some() {
        return program.and_then(not_go);
    }
    if let Ok(file) = &program
        && let Some(identity) = Identity::of(file, source.memory())
    {
        return program.map(|file| (file, identity));
    }
    let others = candidates(source).chain(unpacked(source));
    for file in others {
        if let Some(identity) = Identity::of(&file, source.memory()) {
            return Ok((file, identity));
        }
    }
    program.and_then(not_go)
}

/// Programs that a packer's loader unpacked: all that is read of them is in memory.
fn unpacked(source: &dyn Source) -> impl Iterator<Item = LoadedFile> + '_ {
    locate::unpacked(source).filter_map(|(at, beginning)| {
        let elf = ElfFile::parse(beginning).ok()?;
        let bias = elf.bias_of_start(at)?;
        let path = source.executable_path().unwrap_or(Path::new("a packed program")).to_owned();
        Some(LoadedFile { path, elf, bias, missing: None, is_program: false, is_whole: false })
    })
}

fn not_go<T>(program: LoadedFile) -> Result<T> {
    if let Some(missing) = program.missing {
        return Err(missing);
    }
    let text = format!("{} is not a Go program, and no library of it is", program.path.display());
    Err(Error::new(ErrorKind::NotGo, text))
}

/// The executable of a target and where it was loaded.
fn program(source: &dyn Source, options: &OpenOptions, diagnostics: &mut Diagnostics) -> Result<LoadedFile> {
    let located = locate::executable(source, options.exe.as_deref(), None)?;
    located.report(diagnostics);
    let elf = ElfFile::open(&located.file)?;
    let known = source.executable_path().unwrap_or(&located.path);
    let own = mappings_of(source, known);
    let bias = elf.bias_of_program(source.auxv(), &own).ok_or_else(|| {
        let text = format!("where {} was loaded is unknown", located.path.display());
        Error::new(ErrorKind::BadExecutable, text)
    })?;
    let is_whole = located.missing.is_none();
    Ok(LoadedFile { path: located.path, elf, bias, missing: located.missing, is_program: true, is_whole })
}

fn mappings_of<'a>(source: &'a dyn Source, path: &Path) -> Vec<&'a Mapping> {
    source.mappings().iter().filter(|m| m.path.as_deref() == Some(path)).collect()
}

/// Files other than the executable whose code is mapped, as far as they can be opened.
pub(super) fn candidates(source: &dyn Source) -> impl Iterator<Item = LoadedFile> + '_ {
    let mut seen: Vec<&Path> = source.executable_path().into_iter().collect();
    let code = source.mappings().iter().filter(|m| m.executable);
    let new = code.filter(move |m| match m.path.as_deref() {
        Some(path) if path.is_absolute() && !seen.contains(&path) => {
            seen.push(path);
            true
        }
        _ => false,
    });
    new.take(FILES).filter_map(|mapping| mapped(source, mapping).ok().map(|(file, _)| file))
}

/// The file behind a mapping, where it was loaded, and how it is known to be the right one.
pub(super) fn mapped(source: &dyn Source, mapping: &Mapping) -> Result<(LoadedFile, locate::Proof)> {
    let path = mapping.path.clone().unwrap_or_default();
    let located = locate::open_mapped(source, mapping)?;
    let elf = ElfFile::open(&located.file)?;
    let bias = match elf.kind() {
        ElfKind::Exe => Some(Bias(0)),
        _ => elf.bias_of_mapped(&mappings_of(source, &path)),
    };
    let bias = bias.ok_or_else(|| {
        let text = format!("where {} was loaded is unknown", path.display());
        Error::new(ErrorKind::BadExecutable, text)
    })?;
    let file = LoadedFile { path, elf, bias, missing: None, is_program: false, is_whole: true };
    Ok((file, located.proof))
}

/// DWARF of the file; a damaged one counts as none.
fn read_dwarf(file: &LoadedFile, diagnostics: &mut Diagnostics) -> Option<DwarfFacts> {
    dwarf::read(&file.elf, schema::ALL, globals::NAMES).unwrap_or_else(|e| {
        diagnostics.warn(e, "built-in layouts are used");
        None
    })
}

/// What the search for the modules needs.
struct Opening<'a> {
    source: &'a dyn Source,
    file: &'a LoadedFile,
    facts: Option<&'a DwarfFacts>,
    layouts: &'a Layouts,
    arch: Arch,
}

impl Opening<'_> {
    /// Loads all modules, by the first one's variable, else by a search for it. A target of several
    /// modules has them in several files, whose unchanging parts are added to the statics.
    fn modules(&self, statics: &mut Statics) -> Result<Found<Modules>> {
        if let Some(first) = self.first_by_name() {
            self.add_files_of_others(first.value, statics);
            if let Ok(value) = self.load(first.value, statics) {
                return Ok(Found { value, by: first.by });
            }
        }
        let found = self.search(statics);
        let first = found.first().copied().ok_or_else(|| {
            let text = format!("{}: the runtime's module data was not found", self.file.path.display());
            Error::new(ErrorKind::BadExecutable, text)
        })?;
        self.add_files_of_others(first, statics);
        Ok(Found { value: self.load(first, statics)?, by: Provenance::Scan })
    }

    fn load(&self, first: Addr, statics: &Statics) -> Result<Modules> {
        let memory = ImageMemory { statics, lower: self.source.memory() };
        Modules::load(&memory, &memory, first, &self.layouts.moduledata, self.arch)
    }

    fn first_by_name(&self) -> Option<Found<Addr>> {
        let name = "runtime.firstmoduledata";
        let by_dwarf = self.facts.and_then(|f| f.variables.get(name)).copied();
        let found = match by_dwarf {
            Some(va) => (va, Provenance::Dwarf),
            None => {
                let [symbol] = self.file.elf.symbols([name]);
                (symbol?.va, Provenance::Symtab)
            }
        };
        Some(Found { value: self.file.bias.to_runtime(found.0), by: found.1 })
    }

    fn search(&self, statics: &Statics) -> Vec<Addr> {
        let memory = ImageMemory { statics, lower: self.source.memory() };
        self.file.moduledata(&memory, &self.layouts.moduledata, self.arch)
    }

    fn add_files_of_others(&self, first: Addr, statics: &mut Statics) {
        let next = self.layouts.moduledata.next.read(self.source.memory(), first);
        if next.is_ok_and(|next| !next.is_null()) {
            for other in candidates(self.source) {
                statics.add(&other.elf, other.bias);
            }
        }
    }
}
