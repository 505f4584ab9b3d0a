//! Image, layout: the built-in tables. One text file per minor release holds what was measured from
//! toolchains (`make layouts`) and the rules kept by hand; this reads them.
//!
//! A file is a sequence of blocks. `from 1.23.12` begins one that holds for that patch and all later
//! ones, `from 1.23.12 arm64` one that holds for one processor alone; each says only what differs
//! from the blocks before it. The lines of a block:
//!
//! ```text
//! measured 1.23.0 1.23.12      patches that were measured, before the first block
//! rule NAME VALUE              behaviour, see rules.rs
//! func NUMBER NAME             funcID of a special function
//! wait NUMBER TEXT             text of a wait reason
//! struct NAME SIZE             a structure of the runtime, its members follow
//!   MEMBER OFFSET
//! ```

use super::version::{GoVersion, Release};
use crate::arch::Arch;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Provenance;

/// A new minor release is one line here and one file.
const FILES: &[(u16, &str)] = &[
    (18, include_str!("baked/go1.18.layout")),
    (19, include_str!("baked/go1.19.layout")),
    (20, include_str!("baked/go1.20.layout")),
    (21, include_str!("baked/go1.21.layout")),
    (22, include_str!("baked/go1.22.layout")),
    (23, include_str!("baked/go1.23.layout")),
    (24, include_str!("baked/go1.24.layout")),
    (25, include_str!("baked/go1.25.layout")),
    (26, include_str!("baked/go1.26.layout")),
    (27, include_str!("baked/go1.27.layout")),
];

/// One structure of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableStruct {
    /// Go's name.
    pub name: &'static str,
    /// Size in bytes.
    pub size: u32,
    /// Dotted names of the members and their offsets.
    pub members: Vec<(&'static str, u32)>,
}

impl TableStruct {
    /// Offset of a member, if it is here.
    pub fn offset(&self, member: &str) -> Option<u32> {
        self.members.iter().find(|(name, _)| *name == member).map(|(_, offset)| *offset)
    }
}

/// Lines that hold from one patch on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Block {
    from: u16,
    arch: Option<Arch>,
    structs: Vec<TableStruct>,
    rules: Vec<(&'static str, &'static str)>,
    funcs: Vec<(u8, &'static str)>,
    waits: Vec<(u8, &'static str)>,
}

/// The table of one minor release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The minor release.
    pub minor: u16,
    measured: Vec<u16>,
    blocks: Vec<Block>,
}

impl Table {
    /// The built-in table of a minor release.
    pub fn of(minor: u16) -> Option<Result<Table>> {
        FILES.iter().find(|(m, _)| *m == minor).map(|(minor, text)| Table::parse(*minor, text))
    }

    /// Reads the text of a table.
    pub fn parse(minor: u16, text: &'static str) -> Result<Table> {
        let mut table = Table { minor, measured: Vec::new(), blocks: vec![Block::default()] };
        for (number, line) in text.lines().enumerate() {
            if table.line(line).is_none() {
                let text = format!("table of go1.{minor}, line {}: {line:?}", number + 1);
                return Err(Error::new(ErrorKind::Layout, text));
            }
        }
        Ok(table)
    }

    fn line(&mut self, line: &'static str) -> Option<()> {
        let (key, rest) = line.trim_start().split_once(' ').unwrap_or((line.trim(), ""));
        if key.is_empty() || key.starts_with('#') {
            return Some(());
        }
        let block = self.blocks.last_mut()?;
        let pair = || rest.split_once(' ').unwrap_or((rest, ""));
        let numbered = || pair().0.parse().ok().map(|n: u8| (n, pair().1));
        match key {
            "measured" => {
                for text in rest.split(' ') {
                    self.measured.push(patch(self.minor, text)?);
                }
            }
            "from" => {
                let from = patch(self.minor, pair().0)?;
                let arch = match pair().1 {
                    "" => None,
                    "amd64" => Some(Arch::Amd64),
                    "arm64" => Some(Arch::Arm64),
                    _ => return None,
                };
                self.blocks.push(Block { from, arch, ..Block::default() });
            }
            "rule" => block.rules.push(pair()),
            "func" => block.funcs.push(numbered()?),
            "wait" => block.waits.push(numbered()?),
            "struct" => {
                let (name, size) = (pair().0, pair().1.parse().ok()?);
                block.structs.push(TableStruct { name, size, members: Vec::new() });
            }
            member => block.structs.last_mut()?.members.push((member, rest.parse().ok()?)),
        }
        Some(())
    }

    /// Blocks that hold for a patch, the last one first.
    fn holding(&self, patch: u16, arch: Option<Arch>) -> impl Iterator<Item = &Block> {
        let fits = move |b: &&Block| b.from <= patch && (b.arch.is_none() || b.arch == arch);
        self.blocks.iter().rev().filter(fits)
    }

    /// A structure as it is in a patch.
    pub fn structure(&self, name: &str, patch: u16, arch: Arch) -> Option<&TableStruct> {
        self.holding(patch, Some(arch)).find_map(|b| b.structs.iter().find(|s| s.name == name))
    }

    /// Whether a structure of a patch is known by measurement: the patch itself was measured, or
    /// the nearest measured ones on both sides agree.
    pub fn is_exact(&self, name: &str, patch: u16, arch: Arch) -> bool {
        let below = self.measured.iter().rev().find(|m| **m <= patch);
        let above = self.measured.iter().find(|m| **m >= patch);
        match (below, above) {
            (Some(a), Some(b)) => a == b || self.structure(name, *a, arch) == self.structure(name, *b, arch),
            _ => false,
        }
    }

    /// Patches that were measured, ascending.
    pub fn measured(&self) -> &[u16] {
        &self.measured
    }

    /// The value of a rule.
    pub(super) fn rule(&self, name: &str, patch: u16) -> Option<&'static str> {
        self.holding(patch, None).find_map(|b| b.rules.iter().find(|(n, _)| *n == name)).map(|r| r.1)
    }

    /// All funcIDs with a name.
    pub(super) fn funcs(&self, patch: u16) -> impl Iterator<Item = (u8, &'static str)> {
        self.holding(patch, None).flat_map(|b| b.funcs.iter().copied())
    }

    /// Texts of the wait reasons by number.
    pub fn wait_reasons(&self, patch: u16) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let blocks: Vec<_> = self.holding(patch, None).collect();
        for (number, text) in blocks.iter().rev().flat_map(|b| &b.waits) {
            let index = usize::from(*number);
            if texts.len() <= index {
                texts.resize(index.saturating_add(1), String::new());
            }
            if let Some(slot) = texts.get_mut(index) {
                *slot = (*text).to_owned();
            }
        }
        texts
    }
}

/// `1.23.12` or `1.23`, of the table's own minor release.
fn patch(minor: u16, text: &str) -> Option<u16> {
    let mut parts = text.strip_prefix("1.")?.split('.');
    (parts.next()?.parse::<u16>().ok()? == minor).then_some(())?;
    parts.next().map_or(Some(0), |p| p.parse().ok())
}

/// The table that serves a release, and how well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The table.
    pub table: Table,
    /// The patch to look up in it.
    pub patch: u16,
    /// The minor release of the target as far as known, else that of the table.
    pub minor: u16,
    /// Whether the table is of this minor release and the version text has no additions.
    pub own: bool,
}

impl Chosen {
    /// The wait reasons of the chosen patch, by number.
    pub fn wait_reasons(&self) -> Vec<String> {
        self.table.wait_reasons(self.patch)
    }

    /// The release that the table is of, as `go1.24`.
    pub fn table_name(&self) -> String {
        format!("go1.{}", self.table.minor)
    }

    /// Chooses for a version. Releases before the first table are an `Unsupported` error; for later
    /// ones than the last, and for unknown ones, the last table serves.
    pub fn of(version: &GoVersion) -> Result<Chosen> {
        let (Some((first, _)), Some((last, _))) = (FILES.first(), FILES.last()) else {
            return Err(Error::new(ErrorKind::Layout, "no built-in tables"));
        };
        let release = version.release.unwrap_or(Release::new(*last, u16::MAX));
        if release.minor < *first {
            let text = format!("built with {version}; allgs reads 1.{first} and later");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let minor = release.minor.min(*last);
        let table = Table::of(minor)
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Layout, "a built-in table is missing")))?;
        let known = minor == release.minor;
        let patch = if known { release.patch } else { u16::MAX };
        Ok(Chosen { table, patch, minor: release.minor, own: known && version.plain })
    }

    /// The last patch of each release that has a table.
    pub fn newest_first() -> impl Iterator<Item = Chosen> {
        let last = |minor| GoVersion { release: Some(Release::new(minor, u16::MAX)), ..GoVersion::parse("") };
        FILES.iter().rev().filter_map(move |(minor, _)| Chosen::of(&last(*minor)).ok())
    }

    /// A structure and how well it is known.
    pub fn structure(&self, name: &str, arch: Arch) -> Option<(&TableStruct, Provenance)> {
        let found = self.table.structure(name, self.patch, arch)?;
        let exact = self.own && self.table.is_exact(name, self.patch, arch);
        Some((found, if exact { Provenance::Builtin } else { Provenance::Nearest }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nmeasured 1.23.0 1.23.2 1.23.5\n\nrule brackets dots\nwait 0\n\
        wait 1 IO wait\nfrom 1.23.0\nstruct runtime.g 8\n  goid 0\n  sched.pc 4\n\
        from 1.23.0 arm64\nstruct runtime.m 9\n  id 1\nfrom 1.23.4\nstruct runtime.g 16\n  goid 8\n\
        wait 2 chan receive (nil chan)\n";

    #[test]
    fn later_blocks_hold_from_their_patch_on() {
        let table = Table::parse(23, TEXT).unwrap();
        let goid = |patch| table.structure("runtime.g", patch, Arch::Amd64)?.offset("goid");
        assert_eq!((goid(0), goid(3), goid(4), goid(99)), (Some(0), Some(0), Some(8), Some(8)));
        assert!(table.structure("runtime.m", 1, Arch::Amd64).is_none());
        assert_eq!(table.structure("runtime.m", 1, Arch::Arm64).map(|m| m.size), Some(9));
        assert_eq!(table.wait_reasons(3), ["", "IO wait"]);
        assert_eq!(table.wait_reasons(4), ["", "IO wait", "chan receive (nil chan)"]);
    }

    #[test]
    fn between_two_that_differ_nothing_is_exact() {
        let table = Table::parse(23, TEXT).unwrap();
        let exact = |patch| table.is_exact("runtime.g", patch, Arch::Amd64);
        assert_eq!([0, 1, 2].map(exact), [true; 3]);
        assert_eq!([3, 4, 5, 6].map(exact), [false, false, true, false]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["member 1", "struct g x", "from 1.22.0", "wait x y", "from 1.23.0 mips"] {
            let text: &'static str = Box::leak(format!("# x\n{bad}\n").into_boxed_str());
            let error = Table::parse(23, text).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn versions_choose_their_table() {
        let choose = |text: &str| Chosen::of(&GoVersion::parse(text));
        let simple = |text: &str| choose(text).map(|c| (c.table.minor, c.minor, c.own)).ok();
        assert_eq!(simple("go1.18"), Some((18, 18, true)));
        assert_eq!(simple("go1.26.1 X:nogreenteagc"), Some((26, 26, false)));
        assert_eq!(simple("go1.99.1"), Some((27, 99, false)));
        assert_eq!(simple("devel +abc"), Some((27, 27, false)));
        let old = choose("go1.16.3").unwrap_err();
        assert_eq!(old.kind(), ErrorKind::Unsupported);
        assert_eq!(old.to_string(), "built with go1.16.3; allgs reads 1.18 and later");
    }
}
