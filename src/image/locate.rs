//! Image, locating: which files of this host are those that the target ran, and the proof of it. A
//! live process hands out its own files. For a core they are searched where they were, next to the
//! core and in the folders that are ordered by build id; each one is compared with what the core
//! holds of it, because a program that was built anew since has other addresses.

use crate::addr::{Addr, Bias, Span};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::image::buildinfo::BuildInfo;
use crate::image::elf::ElfFile;
use crate::memory::Memory;
use crate::source::core::open_regular;
use crate::source::{Mapping, Origin, Source};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A file that was found.
#[derive(Debug)]
pub struct Located {
    /// Opened for reading.
    pub file: File,
    /// Its name.
    pub path: PathBuf,
    /// How it is known to be the right one.
    pub proof: Proof,
    /// Why there is no file, when `file` is only what the core holds of its beginning.
    pub missing: Option<Error>,
}

/// How a file is known to be the one that the target ran; the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Proof {
    /// The kernel says so: a live process handed it out.
    Same,
    /// The GNU build ids are equal.
    BuildId,
    /// Go's build ids are equal.
    GoBuildId,
    /// Parts that never change are the same bytes.
    Contents,
    /// The versions of Go and of all modules are equal.
    BuildInfo,
    /// The target's memory holds nothing to compare with.
    Nothing,
}

impl Located {
    /// Says what is weak about this file.
    pub fn report(&self, to: &mut Diagnostics) {
        let path = self.path.display();
        if let Some(error) = &self.missing {
            to.warn(error, "what the core file itself holds of it is used");
        } else if self.proof == Proof::Nothing {
            let what = format!("nothing in the core file tells whether it ran this {path}");
            to.warn(what, "if it ran another build, names and lines are wrong");
        } else if self.proof == Proof::BuildInfo {
            let what = format!("{path} has no build id that the core file holds");
            to.note(what, "only the versions of Go and of all modules were compared");
        }
    }
}

/// Opens the executable of a target: `wanted` if given, else the one that a live process runs, else
/// the one that is found for a core. `build_id` is the GNU build id that it must have, for a caller
/// who knows it. A file that is proved to be another one is an error.
///
/// For a core whose executable is not found, its first bytes come from the core, if it holds them:
/// then [`Located::missing`] says which file to bring.
pub fn executable(source: &dyn Source, wanted: Option<&Path>, build_id: Option<&[u8]>) -> Result<Located> {
    let mut program = Program::of_executable(source);
    if let Some(id) = build_id {
        program.ids.gnu = Some(id.to_vec());
    }
    if let Some(path) = wanted {
        return program.named(path);
    }
    if let Origin::Live { .. } = source.origin() {
        let path = source.executable_path().unwrap_or(Path::new("the executable")).to_owned();
        let file = source.open_executable()?;
        return Ok(Located { file, path, proof: Proof::Same, missing: None });
    }
    program.search(&Places::of_host()).or_else(|missing| program.beginning_in_core(missing))
}

/// Opens a file that is mapped into a target, such as a shared library; of a core, the file is
/// searched and compared like the executable.
pub fn open_mapped(source: &dyn Source, mapping: &Mapping) -> Result<Located> {
    let path = mapping.path.clone().unwrap_or_default();
    if let Origin::Live { .. } = source.origin() {
        let file = source.open_mapped(mapping)?;
        return Ok(Located { file, path, proof: Proof::Same, missing: None });
    }
    Program::of_mapped(source, path).search(&Places::of_host())
}

/// Bytes of a program's beginning that are read from memory: program headers and notes are there.
const BEGINNING: u64 = 1 << 16;
/// They are read in pieces of this size: what a kernel keeps of a file is its first page.
const PAGE: u64 = 4096;
/// Mappings in which the program is searched when nothing says where it is.
const SEARCHED: usize = 10_000;
/// Pages of each part that are compared.
const COMPARED: u64 = 64;

/// What tells one build from another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ids {
    gnu: Option<Vec<u8>>,
    go: Option<String>,
}

impl Ids {
    fn of(elf: &ElfFile) -> Ids {
        Ids { gnu: elf.build_id(), go: elf.go_build_id() }
    }

    /// For people; empty when there is none.
    fn text(&self) -> String {
        let gnu = self.gnu.as_ref().map(|id| format!("GNU build id {}", hex(id)));
        let go = self.go.as_ref().map(|id| format!("Go build id {id}"));
        let both: Vec<String> = gnu.into_iter().chain(go).collect();
        both.join(", ")
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a comparison of a file with the target's memory says.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Same(Proof),
    /// It is another file, for this reason.
    Other(String),
}

/// A program as the target ran it: executable or library.
struct Program<'a> {
    source: &'a dyn Source,
    /// The path that the target knew.
    path: PathBuf,
    /// Its first bytes in memory.
    beginning: Vec<u8>,
    ids: Ids,
}

impl<'a> Program<'a> {
    /// The executable: where its program headers lie, else where its file is mapped, else, when no
    /// file names are known, the program in memory that Go built.
    fn of_executable(source: &'a dyn Source) -> Program<'a> {
        let path = source.executable_path().map(Path::to_owned);
        let headers = source.auxv().program_headers().map(|at| Addr::new(at.get() & !(PAGE - 1)));
        let by_headers = headers.and_then(|at| beginning(source.memory(), at));
        let by_path = || beginning_of(source, path.as_deref()?);
        let unnamed = || source.mappings().iter().all(|m| m.path.is_none());
        let by_search = || if unnamed() { search_go(source) } else { None };
        let start = by_headers.or_else(by_path).or_else(by_search).unwrap_or_default();
        Program::new(source, path.unwrap_or_default(), start)
    }

    fn of_mapped(source: &'a dyn Source, path: PathBuf) -> Program<'a> {
        let start = beginning_of(source, &path).unwrap_or_default();
        Program::new(source, path, start)
    }

    fn new(source: &'a dyn Source, path: PathBuf, beginning: Vec<u8>) -> Program<'a> {
        let ids = ElfFile::parse(beginning.clone()).map(|elf| Ids::of(&elf)).unwrap_or_default();
        Program { source, path, beginning, ids }
    }

    /// The file that the user names.
    fn named(&self, path: &Path) -> Result<Located> {
        let file = open_regular(path).map_err(|e| {
            let text = format!("cannot open the executable {}: {e}", path.display());
            Error::new(ErrorKind::BadExecutable, text).hint("name the executable with --exe").because(e)
        })?;
        let elf = ElfFile::open(&file).map_err(|e| {
            let text = format!("{} is no executable: {e}", path.display());
            Error::new(ErrorKind::BadExecutable, text).hint("name the executable with --exe")
        })?;
        match self.compare(&elf) {
            Verdict::Same(proof) => Ok(Located { file, path: path.to_owned(), proof, missing: None }),
            Verdict::Other(why) => {
                let text = format!("{} is not what the target ran: {why}", path.display());
                Err(Error::new(ErrorKind::BadExecutable, text).hint(self.bring()))
            }
        }
    }

    /// The first file in all the places that is proved to be the right one, else the first that
    /// nothing speaks against.
    fn search(&self, places: &Places) -> Result<Located> {
        let mut unproved = None;
        let mut others = String::new();
        for path in self.candidates(places) {
            let Ok(file) = open_regular(&path) else { continue };
            let Ok(elf) = ElfFile::open(&file) else { continue };
            if !elf.loads().any(|s| s.executable && s.file_size > 0) {
                continue;
            }
            match self.compare(&elf) {
                Verdict::Same(Proof::Nothing) => unproved = unproved.or(Some((file, path))),
                Verdict::Same(proof) => return Ok(Located { file, path, proof, missing: None }),
                Verdict::Other(why) => {
                    let _ = write!(others, "; {} is another build ({why})", path.display());
                }
            }
        }
        if let Some((file, path)) = unproved {
            return Ok(Located { file, path, proof: Proof::Nothing, missing: None });
        }
        let text = format!("cannot find {}{others}", self.describe());
        Err(Error::new(ErrorKind::BadExecutable, text).hint(self.bring()))
    }

    /// What the core holds of the beginning of the executable, as a file.
    fn beginning_in_core(&self, missing: Error) -> Result<Located> {
        if self.beginning.is_empty() {
            return Err(missing);
        }
        let write = || -> std::io::Result<File> {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.beginning)?;
            Ok(file)
        };
        match write() {
            Ok(file) => {
                let path = self.path.clone();
                Ok(Located { file, path, proof: Proof::Same, missing: Some(missing) })
            }
            Err(e) => Err(missing.because(e)),
        }
    }

    /// What is looked for, for people.
    fn describe(&self) -> String {
        let name = if self.path.as_os_str().is_empty() {
            "the executable (the core file does not name it)".to_owned()
        } else {
            self.path.display().to_string()
        };
        match self.ids.text() {
            ids if ids.is_empty() => name,
            ids => format!("{name} ({ids})"),
        }
    }

    fn bring(&self) -> String {
        format!("bring {} and name it with --exe", self.describe())
    }

    /// Files that may be it, the likeliest first.
    fn candidates(&self, places: &Places) -> Vec<PathBuf> {
        let mut found = Vec::new();
        if self.path.is_absolute() {
            found.push(self.path.clone());
        }
        if let Origin::Core { path, .. } = self.source.origin()
            && let Some(name) = self.path.file_name()
        {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            found.push(folder.unwrap_or(Path::new(".")).join(name));
        }
        if let Some(id) = self.ids.gnu.as_deref().filter(|id| id.len() > 1) {
            places.by_build_id(id, &mut found);
        }
        found
    }

    /// Whether `elf` is this program.
    fn compare(&self, elf: &ElfFile) -> Verdict {
        if elf.arch() != Some(self.source.arch()) {
            let machine = elf.arch().map_or("another processor", Arch::name);
            return Verdict::Other(format!("it is for {machine}, the target ran on {}", self.source.arch()));
        }
        let file = Ids::of(elf);
        let other = |kind: &str, file: &str, target: &str| {
            Verdict::Other(format!("{kind} {file} in the file, {target} in the target"))
        };
        match (&file.gnu, &self.ids.gnu, &file.go, &self.ids.go) {
            (Some(a), Some(b), _, _) if a == b => Verdict::Same(Proof::BuildId),
            (Some(a), Some(b), _, _) => other("GNU build id", &hex(a), &hex(b)),
            (_, _, Some(a), Some(b)) if a == b => Verdict::Same(Proof::GoBuildId),
            (_, _, Some(a), Some(b)) => other("Go build id", a, b),
            _ => self.compare_bytes(elf, &file),
        }
    }

    /// The comparison where one side has no id: a core without the first page of the program, or a
    /// program that was linked without ids.
    fn compare_bytes(&self, elf: &ElfFile, file: &Ids) -> Verdict {
        let mappings = self.source.mappings().iter();
        let own: Vec<&Mapping> = mappings.filter(|m| m.path.as_ref() == Some(&self.path)).collect();
        let Some(bias) = elf.bias_of_program(self.source.auxv(), &own) else {
            return Verdict::Same(Proof::Nothing);
        };
        let memory = self.source.memory();
        let mut compared = 0u64;
        for (at, equal) in compare_unchanging(elf, bias, memory) {
            if !equal {
                let ids = if *file == Ids::default() { String::new() } else { format!(" ({})", file.text()) };
                return Verdict::Other(format!(
                    "the bytes at {at} differ between the file{ids} and the target"
                ));
            }
            compared = compared.saturating_add(1);
        }
        if compared > 0 {
            return Verdict::Same(Proof::Contents);
        }
        compare_build_info(elf, bias, memory)
    }
}

/// Compares pages of the read-only data, spread over each part, that the target's memory holds.
/// Code is left out, but for the page that has the headers: debuggers write breakpoints into it.
fn compare_unchanging(elf: &ElfFile, bias: Bias, memory: &dyn Memory) -> Vec<(Addr, bool)> {
    let mut compared = Vec::new();
    let at_rest = elf.at_rest(bias);
    let is_code = |at: Addr| {
        let va = bias.to_file(at);
        elf.loads().any(|s| s.executable && va.0.wrapping_sub(s.va.0) < s.mem_size)
    };
    for (span, offset) in elf.unchanging(bias) {
        let pages = if is_code(span.start) { u64::from(offset.0 == 0) } else { span.len / PAGE };
        let step = (pages / COMPARED).max(1);
        let Some(first) = span.start.get().checked_next_multiple_of(PAGE).map(Addr::new) else { continue };
        for i in 0..pages.min(COMPARED) {
            let at = first.offset(i.saturating_mul(step).saturating_mul(PAGE));
            let page = Span { start: at, len: PAGE };
            let (file, target) = (at_rest.read_span(page, PAGE), memory.read_span(page, PAGE));
            if let (Ok(file), Ok(target)) = (file, target) {
                compared.push((at, file == target));
            }
        }
    }
    compared
}

/// The weakest comparison: two builds of one state of the sources are equal in it.
fn compare_build_info(elf: &ElfFile, bias: Bias, memory: &dyn Memory) -> Verdict {
    let Some(file) = BuildInfo::of_file(elf) else { return Verdict::Same(Proof::Nothing) };
    let data = elf.loads().filter(|s| s.writable);
    let spans: Vec<Span> = data.map(|s| Span { start: bias.to_runtime(s.va), len: s.file_size }).collect();
    match BuildInfo::of_memory(memory, &spans) {
        Some(target) if target == file => Verdict::Same(Proof::BuildInfo),
        Some(target) => {
            let main = |b: &BuildInfo| {
                let version = b.main_version.as_deref().unwrap_or("");
                format!("{} {version} built by {}", b.path.as_deref().unwrap_or("?"), b.go_version)
            };
            Verdict::Other(format!("the file is {}, the target {}", main(&file), main(&target)))
        }
        None => Verdict::Same(Proof::Nothing),
    }
}

/// The first bytes of the program at `at`, if one is there.
fn beginning(memory: &dyn Memory, at: Addr) -> Option<Vec<u8>> {
    let mut magic = [0; 4];
    memory.read(at, &mut magic).ok()?;
    if &magic != b"\x7fELF" {
        return None;
    }
    let mut bytes = Vec::new();
    for page in (0..BEGINNING / PAGE).map(|i| at.offset(i.saturating_mul(PAGE))) {
        let Ok(more) = memory.read_span(Span { start: page, len: PAGE }, PAGE) else { break };
        bytes.extend(more);
    }
    Some(bytes)
}

/// The first bytes of the file that was mapped from `path`.
fn beginning_of(source: &dyn Source, path: &Path) -> Option<Vec<u8>> {
    let mut own = source.mappings().iter().filter(|m| m.path.as_deref() == Some(path));
    own.find(|m| m.offset.0 == 0).and_then(|m| beginning(source.memory(), m.span.start))
}

/// The first bytes of the program that has a build id of Go's.
fn search_go(source: &dyn Source) -> Option<Vec<u8>> {
    let mut all = source.mappings().iter().take(SEARCHED);
    all.find_map(|m| {
        let bytes = beginning(source.memory(), m.span.start)?;
        ElfFile::parse(bytes.clone()).ok()?.go_build_id().map(|_| bytes)
    })
}

/// The first bytes of programs that are in memory without a file of their own: a packer's loader
/// unpacks them there.
pub(super) fn unpacked(source: &dyn Source) -> impl Iterator<Item = (Addr, Vec<u8>)> + '_ {
    let hidden = |m: &&Mapping| {
        let name = m.path.as_deref().map(|path| path.as_os_str().as_encoded_bytes());
        m.readable && name.is_none_or(|name| name.starts_with(b"/memfd:"))
    };
    let all = source.mappings().iter().filter(hidden).take(SEARCHED);
    all.filter_map(|m| Some((m.span.start, beginning(source.memory(), m.span.start)?)))
}

/// Folders of the host in which files are ordered by their GNU build ids.
struct Places {
    /// `xx/yyyy` below, the files themselves or links to them; `xx/yyyy.debug` for those of symbols.
    build_ids: PathBuf,
    /// `ID/executable` below, what debuginfod downloaded.
    debuginfod: Vec<PathBuf>,
}

impl Places {
    /// Those of this host.
    fn of_host() -> Places {
        let of = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
        let named = of("DEBUGINFOD_CACHE_PATH");
        let cache = of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache")));
        let debuginfod = named.into_iter().chain(cache.map(|c| c.join("debuginfod_client")));
        Places { build_ids: PathBuf::from("/usr/lib/debug/.build-id"), debuginfod: debuginfod.collect() }
    }

    /// Files that may have this id.
    fn by_build_id(&self, id: &[u8], to: &mut Vec<PathBuf>) {
        let text = hex(id);
        let (first, rest) = text.split_at_checked(2).unwrap_or_default();
        let folder = self.build_ids.join(first);
        to.push(folder.join(rest));
        to.extend(self.debuginfod.iter().map(|cache| cache.join(&text).join("executable")));
        to.push(folder.join(format!("{rest}.debug")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::core::CoreFile;
    use crate::source::core::tests::synth::{AMD64, Core};

    /// Where the program is loaded, and its read-only data in the third page.
    const BASE: u64 = 0x40_0000;
    const DATA: u64 = BASE + 0x2000;

    /// An executable of three pages, by literals of the ELF specification: headers and notes in a
    /// code segment of two pages, then a page of read-only data.
    fn program(gnu: Option<&[u8]>, go: Option<&str>, data: u8) -> Vec<u8> {
        let mut file = vec![0; 0x3000];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
        put(32, &64u64.to_le_bytes());
        put(54, &[56, 0, 3, 0]);
        let mut notes = Vec::new();
        let go = go.map(str::as_bytes);
        for (name, kind, id) in [(b"GNU\0", 3u32, gnu), (b"Go\0\0", 4, go)] {
            let Some(id) = id else { continue };
            notes.extend([4, id.len() as u32, kind].iter().flat_map(|n| n.to_le_bytes()));
            notes.extend(name);
            notes.extend(id);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        put(0x800, &notes);
        let headers = [
            (1u32, 5u32, 0u64, BASE, 0x2000u64),
            (1, 4, 0x2000, DATA, 0x1000),
            (4, 4, 0x800, BASE + 0x800, notes.len() as u64),
        ];
        for (i, (kind, flags, offset, va, size)) in headers.into_iter().enumerate() {
            let at = 64 + i * 56;
            put(at, &kind.to_le_bytes());
            put(at + 4, &flags.to_le_bytes());
            for (k, word) in [offset, va, va, size, size, 4096].into_iter().enumerate() {
                put(at + 8 + k * 8, &word.to_le_bytes());
            }
        }
        put(0x2000, &[data; 0x1000]);
        file
    }

    /// A folder with `app` and a core that names `app` elsewhere.
    struct Scene {
        folder: tempfile::TempDir,
        core: CoreFile,
    }

    impl Scene {
        /// The core holds `code` and `data` bytes of the program.
        fn new(ran: &[u8], code: usize, data: usize) -> Scene {
            let folder = tempfile::tempdir().unwrap();
            let core = Core::new(AMD64)
                .thread(1, 6, 0)
                .auxv(&[(6, 4096), (3, BASE + 64)])
                .files(&[
                    (BASE, BASE + 0x2000, 0, "/nonexistent/app"),
                    (DATA, DATA + 0x1000, 2, "/nonexistent/app"),
                ])
                .partial(BASE, 0x2000, 5, &ran[..code])
                .partial(DATA, 0x1000, 4, &ran[0x2000..0x2000 + data])
                .load(0xc000_0000, [1; 16]);
            let path = folder.path().join("core");
            std::fs::write(&path, core.build()).unwrap();
            Scene { core: CoreFile::open(&path).unwrap(), folder }
        }

        fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        }

        fn search(&self) -> Result<Located> {
            let cache = self.folder.path().join("cache");
            let places = Places { build_ids: self.folder.path().join("ids"), debuginfod: vec![cache] };
            Program::of_executable(&self.core).search(&places)
        }
    }

    const ID: &[u8] = &[0xab, 0xcd, 0xef];

    #[test]
    fn the_file_next_to_the_core_is_found_and_proved() {
        for (gnu, go, code, data, proof) in [
            (Some(ID), Some("a/b"), 0x1000, 0, Proof::BuildId),
            (None, Some("a/b"), 0x1000, 0, Proof::GoBuildId),
            (None, None, 0x1000, 0, Proof::Contents),
            (Some(ID), Some("a/b"), 0, 0x1000, Proof::Contents),
            (Some(ID), Some("a/b"), 0, 0, Proof::Nothing),
        ] {
            let ran = program(gnu, go, 7);
            let scene = Scene::new(&ran, code, data);
            let path = scene.put("app", &ran);
            let located = scene.search().unwrap();
            assert_eq!((located.proof, located.path), (proof, path.clone()));
            let located = executable(&scene.core, Some(&path), None).unwrap();
            assert_eq!(located.proof, proof);
        }
    }

    #[test]
    fn another_build_is_refused_and_both_ids_are_shown() {
        let ran = program(Some(ID), Some("a/b"), 7);
        let scene = Scene::new(&ran, 0x1000, 0);
        let path = scene.put("app", &program(Some(&[1, 2, 3]), Some("a/b"), 7));
        let e = executable(&scene.core, Some(&path), None).unwrap_err();
        let expected = "is not what the target ran: GNU build id 010203 in the file, abcdef in the target";
        assert!(e.to_string().contains(expected), "{e}");
        assert_eq!(e.kind(), ErrorKind::BadExecutable);
        let e = scene.search().unwrap_err().to_string();
        assert!(
            e.starts_with("cannot find /nonexistent/app (GNU build id abcdef, Go build id a/b); "),
            "{e}"
        );
        assert!(e.contains("app is another build (GNU build id 010203 in the file, abcdef in"), "{e}");

        let scene = Scene::new(&program(None, Some("a/b"), 7), 0x1000, 0);
        let path = scene.put("app", &program(Some(ID), Some("a/c"), 7));
        let e = executable(&scene.core, Some(&path), None).unwrap_err().to_string();
        assert!(e.contains("Go build id a/c in the file, a/b in the target"), "{e}");

        let scene = Scene::new(&ran, 0, 0x1000);
        let path = scene.put("app", &program(Some(ID), None, 8));
        let e = executable(&scene.core, Some(&path), None).unwrap_err().to_string();
        assert!(e.contains("the bytes at 0x402000 differ between the file (GNU build id abcdef)"), "{e}");
    }

    #[test]
    fn the_id_that_a_caller_knows_counts() {
        let ran = program(Some(ID), None, 7);
        let scene = Scene::new(&ran, 0x1000, 0);
        let path = scene.put("app", &ran);
        assert!(executable(&scene.core, Some(&path), Some(ID)).is_ok());
        assert!(executable(&scene.core, Some(&path), Some(&[9])).is_err());
    }

    #[test]
    fn a_file_of_another_processor_or_no_program_is_refused() {
        let mut ran = program(Some(ID), None, 7);
        let scene = Scene::new(&ran, 0x1000, 0);
        ran[18] = 183;
        let path = scene.put("app", &ran);
        let e = executable(&scene.core, Some(&path), None).unwrap_err().to_string();
        assert!(e.contains("it is for arm64, the target ran on amd64"), "{e}");
        let path = scene.put("script", b"#!/bin/sh\n");
        let e = executable(&scene.core, Some(&path), None).unwrap_err().to_string();
        assert!(e.contains("script is no executable"), "{e}");
        let e = executable(&scene.core, Some(Path::new("/dev/null")), None).unwrap_err().to_string();
        assert!(e.contains("not a regular file"), "{e}");
    }

    #[test]
    fn folders_that_are_ordered_by_build_id_are_searched() {
        let ran = program(Some(ID), None, 7);
        for place in ["ids/ab/cdef", "ids/ab/cdef.debug", "cache/abcdef/executable"] {
            let scene = Scene::new(&ran, 0x1000, 0);
            let path = scene.put(place, &ran);
            scene.put("app", &program(Some(&[1]), None, 7));
            assert_eq!(scene.search().unwrap().path, path);
        }
    }

    #[test]
    fn without_the_file_the_core_gives_its_beginning_and_says_what_to_bring() {
        let ran = program(Some(ID), Some("a/b"), 7);
        let scene = Scene::new(&ran, 0x1000, 0);
        let located = executable(&scene.core, None, None).unwrap();
        let elf = ElfFile::open(&located.file).unwrap();
        assert_eq!((elf.build_id().as_deref(), elf.loads().count()), (Some(ID), 2));
        let missing = located.missing.unwrap();
        let bring = "bring /nonexistent/app (GNU build id abcdef, Go build id a/b) and name it with --exe";
        assert_eq!(missing.hint_text(), Some(bring));

        let bare = Scene::new(&ran, 0, 0);
        let e = executable(&bare.core, None, None).unwrap_err();
        assert_eq!(e.to_string(), "cannot find /nonexistent/app");
    }

    #[test]
    fn a_mapped_file_is_compared_too() {
        let ran = program(Some(ID), None, 7);
        let scene = Scene::new(&ran, 0x1000, 0);
        let mapping = scene.core.mappings().first().unwrap();
        let path = scene.put("app", &ran);
        assert_eq!(open_mapped(&scene.core, mapping).unwrap().path, path);
        scene.put("app", &program(Some(&[1]), None, 7));
        assert!(open_mapped(&scene.core, mapping).is_err());
    }
}
