//! Image, build information: which Go made the program and from what modules, as the linker wrote it
//! into `.go.buildinfo` (`debug/buildinfo`, `runtime/debug/mod.go`). Read from the file or from the
//! memory of the target.

use crate::addr::{Addr, Bias, Span};
use crate::image::elf::ElfFile;
use crate::memory::{Memory, read_string};

/// A module of the program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Module {
    /// Its import path.
    pub path: String,
    /// Its version, `(devel)` for a tree.
    pub version: String,
    /// What it was replaced by.
    pub replaced_by: Option<Box<Module>>,
}

/// What the linker recorded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BuildInfo {
    /// Version text of the toolchain, e.g. `go1.24.3 X:nogreenteagc`.
    pub go_version: String,
    /// Path of the main package.
    pub path: Option<String>,
    /// Path of the main module.
    pub main_module: Option<String>,
    /// Version of the main module.
    pub main_version: Option<String>,
    /// The other modules.
    pub deps: Vec<Module>,
    /// Settings such as `-ldflags` and `vcs.revision`, in the order written.
    pub settings: Vec<(String, String)>,
}

/// `debug/buildinfo`: the header begins with this and is aligned to 16 bytes.
const MAGIC: &[u8] = b"\xff Go buildinf:";
const HEADER: u64 = 32;
/// The module text is wrapped in this many bytes on each side.
const FRAMING: usize = 16;
/// Longest texts that are read, in bytes.
const VERSION_LIMIT: u64 = 4096;
const MODULES_LIMIT: u64 = 16 << 20;
/// Bytes of data that are searched for the header, in all segments together.
const SCAN_LIMIT: u64 = 256 << 20;
const SCAN_STEP: u64 = 1 << 16;

impl BuildInfo {
    /// Reads it from an executable file; `None` when the file holds none.
    pub fn of_file(elf: &ElfFile) -> Option<BuildInfo> {
        let memory = elf.at_rest(Bias(0));
        if let Some(section) = elf.section(".go.buildinfo") {
            let at = Addr::new(section.va.0);
            let span = Span { start: at, len: section.size };
            if let Some(found) = BuildInfo::of_memory(&memory, &[span]) {
                return Some(found);
            }
        }
        let whole = elf.bytes().len() as u64;
        let data = elf.loads().filter(|s| s.writable);
        let spans = data.map(|s| Span { start: Addr::new(s.va.0), len: s.file_size.min(whole) });
        BuildInfo::of_memory(&memory, &spans.collect::<Vec<_>>())
    }

    /// Searches `spans` of the target's memory for it.
    pub fn of_memory(memory: &dyn Memory, spans: &[Span]) -> Option<BuildInfo> {
        let mut left = SCAN_LIMIT;
        spans.iter().find_map(|span| {
            let len = span.len.min(left);
            left = left.saturating_sub(len.max(SCAN_STEP));
            scan(memory, Span { len, ..*span })
        })
    }

    /// Takes over the texts of the module information.
    fn read_modules(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, rest)) = line.split_once('\t') else { continue };
            let mut parts = rest.split('\t').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            match key {
                "path" => self.path = Some(next()),
                "mod" => {
                    self.main_module = Some(next());
                    self.main_version = Some(next()).filter(|v| !v.is_empty());
                }
                "dep" => {
                    self.deps.push(Module { path: next(), version: next(), replaced_by: None });
                }
                "=>" => {
                    let by = Module { path: next(), version: next(), replaced_by: None };
                    if let Some(last) = self.deps.last_mut() {
                        last.replaced_by = Some(Box::new(by));
                    }
                }
                "build" => self.settings.extend(setting(rest)),
                _ => {}
            }
        }
    }
}

/// Steps through `span` and reads the first build information in it.
fn scan(memory: &dyn Memory, span: Span) -> Option<BuildInfo> {
    let mut buf = vec![0; SCAN_STEP as usize];
    let mut at = Addr::new(span.start.get().checked_next_multiple_of(16)?);
    let end = span.end();
    while let Some(left) = end.above(at).filter(|left| *left >= HEADER) {
        let step = left.min(SCAN_STEP);
        let piece = buf.get_mut(..usize::try_from(step).ok()?)?;
        if memory.read(at, piece).is_ok() {
            for (index, header) in piece.chunks_exact(16).enumerate() {
                if header.starts_with(MAGIC) {
                    let header_at = at.offset((index as u64).wrapping_mul(16));
                    if let Some(found) = read_header(memory, header_at) {
                        return Some(found);
                    }
                }
            }
        }
        at = at.offset(step.next_multiple_of(16));
    }
    None
}

/// Reads the build information whose header is at `at`.
fn read_header(memory: &dyn Memory, at: Addr) -> Option<BuildInfo> {
    let flags = memory.read_u8(at.offset(15)).ok()?;
    let (version, modules) = if flags & 2 != 0 {
        // Since 1.18 the texts follow the header.
        let (version, after) = inline_text(memory, at.offset(HEADER), VERSION_LIMIT)?;
        let modules = inline_text(memory, after, MODULES_LIMIT).map(|(text, _)| text);
        (version, modules)
    } else {
        if flags & 1 != 0 || memory.read_u8(at.offset(14)).ok()? != 8 {
            return None;
        }
        let text = |slot: u64, limit| {
            let header = memory.read_addr(at.offset(slot)).ok()?;
            read_string(memory, header, limit).ok()
        };
        (text(16, VERSION_LIMIT)?, text(24, MODULES_LIMIT))
    };
    let go_version = String::from_utf8(version).ok().filter(|v| !v.is_empty())?;
    let mut info = BuildInfo { go_version, ..BuildInfo::default() };
    if let Some(modules) = modules {
        let end = modules.len().saturating_sub(FRAMING);
        if let Some(text) = modules.get(FRAMING..end) {
            info.read_modules(&String::from_utf8_lossy(text));
        }
    }
    Some(info)
}

/// A text with its length as a varint before it, and the address after it.
fn inline_text(memory: &dyn Memory, at: Addr, limit: u64) -> Option<(Vec<u8>, Addr)> {
    let mut len = 0u64;
    let mut start = at;
    for shift in (0..63).step_by(7) {
        let byte = memory.read_u8(start).ok()?;
        start = start.offset(1);
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let text = memory.read_span(Span { start, len }, limit).ok()?;
            return Some((text, start.offset(len)));
        }
    }
    None
}

/// `KEY=VALUE`, each quoted as Go does when it has special characters.
fn setting(text: &str) -> Option<(String, String)> {
    let (key, rest) = unquote(text, '=')?;
    let (value, _) = unquote(rest.strip_prefix('=')?, '\n')?;
    Some((key, value))
}

/// One text, quoted or up to `end`, and what follows it.
fn unquote(text: &str, end: char) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        return raw.split_once('`').map(|(inside, rest)| (inside.to_owned(), rest));
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let at = text.find(end).unwrap_or(text.len());
        let (inside, rest) = text.split_at_checked(at)?;
        return Some((inside.to_owned(), rest));
    };
    let mut inside = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((inside, chars.as_str())),
            '\\' => match chars.next()? {
                'n' => inside.push('\n'),
                't' => inside.push('\t'),
                'r' => inside.push('\r'),
                'x' => inside.push(hex(&mut chars, 2)?),
                'u' => inside.push(hex(&mut chars, 4)?),
                'U' => inside.push(hex(&mut chars, 8)?),
                other => inside.push(other),
            },
            other => inside.push(other),
        }
    }
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut value = 0u32;
    for _ in 0..digits {
        value = value.checked_mul(16)?.checked_add(chars.next()?.to_digit(16)?)?;
    }
    char::from_u32(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sparse::SparseMemory;

    const TEXT: &str = "path\texample.com/app/cmd\nmod\texample.com/app\t(devel)\t\n\
        dep\tgolang.org/x/sys\tv0.1.0\th1:abc=\n=>\t./fork\tv0.2.0\t\n\
        build\t-ldflags=\"-s -w\"\nbuild\tCGO_ENABLED=1\nbuild\t`odd key`=\"a\\tb\\u00e9\"\n";

    fn inline(version: &str, modules: &str) -> Vec<u8> {
        let mut data = MAGIC.to_vec();
        data.extend([8, 2]);
        data.resize(32, 0);
        data.push(version.len() as u8);
        data.extend(version.bytes());
        let framed = format!("{0}{modules}{0}", "0123456789abcdef");
        data.extend([framed.len() as u8 | 0x80, (framed.len() >> 7) as u8]);
        data.extend(framed.bytes());
        data
    }

    #[test]
    fn reads_texts_that_follow_the_header() {
        let mut memory = SparseMemory::new();
        let mut data = vec![0; 48];
        data.extend(inline("go1.24.3 X:nogreenteagc", TEXT));
        let span = Span { start: Addr::new(0x1000), len: data.len() as u64 };
        memory.put(span.start, data);
        let info = BuildInfo::of_memory(&memory, &[span]).unwrap();
        assert_eq!(info.go_version, "go1.24.3 X:nogreenteagc");
        assert_eq!(info.path.as_deref(), Some("example.com/app/cmd"));
        assert_eq!(info.main_module.as_deref(), Some("example.com/app"));
        assert_eq!(info.main_version.as_deref(), Some("(devel)"));
        let [dep] = info.deps.as_slice() else { panic!("{:?}", info.deps) };
        assert_eq!((dep.path.as_str(), dep.version.as_str()), ("golang.org/x/sys", "v0.1.0"));
        assert_eq!(dep.replaced_by.as_ref().map(|m| m.path.as_str()), Some("./fork"));
        let settings = [("-ldflags", "-s -w"), ("CGO_ENABLED", "1"), ("odd key", "a\tbé")];
        assert_eq!(info.settings, settings.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn reads_texts_behind_pointers() {
        let mut memory = SparseMemory::new();
        let mut data = MAGIC.to_vec();
        data.extend([8, 0]);
        data.extend(0x2000u64.to_le_bytes());
        data.extend(0x2010u64.to_le_bytes());
        memory.put(Addr::new(0x1000), data);
        let mut strings = Vec::new();
        for word in [0x3000u64, 8, 0, 0] {
            strings.extend(word.to_le_bytes());
        }
        memory.put(Addr::new(0x2000), strings);
        memory.put(Addr::new(0x3000), *b"go1.16.3");
        let span = Span { start: Addr::new(0x1000), len: 32 };
        let info = BuildInfo::of_memory(&memory, &[span]).unwrap();
        assert_eq!(info.go_version, "go1.16.3");
        assert_eq!(info.main_module, None);
    }

    #[test]
    fn cut_data_yields_nothing() {
        let whole = inline("go1.24.3", "");
        for len in 0..41 {
            let mut memory = SparseMemory::new();
            memory.put(Addr::new(0x1000), whole.get(..len).unwrap());
            let span = Span { start: Addr::new(0x1000), len: len as u64 };
            assert_eq!(BuildInfo::of_memory(&memory, &[span]), None, "{len}");
        }
    }

    /// Found by fuzzing: segments that all claim the same bytes took time without bound.
    #[test]
    fn however_much_is_claimed_the_search_ends() {
        struct Counting(std::sync::atomic::AtomicU64);
        impl Memory for Counting {
            fn read(&self, _: Addr, buf: &mut [u8]) -> crate::memory::ReadResult<()> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                buf.fill(0);
                Ok(())
            }
        }
        let memory = Counting(0.into());
        let span = Span { start: Addr::new(0x1000), len: 1 << 40 };
        assert_eq!(BuildInfo::of_memory(&memory, &[span; 10_000]), None);
        assert!(memory.0.into_inner() <= SCAN_LIMIT / SCAN_STEP);
    }
}
