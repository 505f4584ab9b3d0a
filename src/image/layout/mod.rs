//! Image, layout: where the members of the runtime's structures lie in a target, and how its release
//! of the runtime behaves. The one place that knows Go releases.
//!
//! What is declared in [`schema`] is settled once, when a target is opened: by the target's own
//! DWARF, else by the built-in table of exactly its release ([`table`]), else by that of the nearest
//! patch or release. What a release must have and nobody knows is an error that names all of it.

pub mod field;
pub mod rules;
pub mod schema;
pub mod table;
pub mod version;

use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Provenance;
use crate::image::dwarf::{DwarfFacts, StructFacts};
use schema::{Binder, FieldDecl, StructDecl};
use table::{Chosen, TableStruct};

macro_rules! layouts {
    ($($(#[$doc:meta])* $field:ident: $Type:ident,)*) => {
        /// All layouts of one target.
        #[derive(Debug, Clone)]
        pub struct Layouts {
            $($(#[$doc])* pub $field: schema::$Type,)*
            /// The weakest way in which one of them was found.
            pub by: Provenance,
            each: Vec<(&'static str, Provenance)>,
        }

        impl Layouts {
            fn settle(settler: &mut Settler<'_>) -> Option<Layouts> {
                $(let $field = schema::$Type::bind(settler);)*
                let by = settler.used.iter().map(|(_, by)| *by).max()?;
                let each = std::mem::take(&mut settler.used);
                Some(Layouts { $($field: $field?,)* by, each })
            }
        }
    };
}

layouts! {
    /// A goroutine.
    g: G,
    /// A thread.
    m: M,
    /// A processor of the scheduler.
    p: P,
    /// The scheduler.
    sched: Sched,
    /// A module.
    moduledata: Moduledata,
    /// A goroutine in a queue.
    sudog: Sudog,
    /// A deferred call.
    defer: Defer,
    /// A channel.
    hchan: Hchan,
    /// A root of waiters at semaphores.
    sema_root: SemaRoot,
    /// The heap.
    mheap: Mheap,
    /// Pages of the heap that hold objects of one size.
    mspan: Mspan,
    /// What is kept of an object apart from it.
    special: Special,
    /// A file descriptor in the poller.
    poll_desc: PollDesc,
    /// A timer.
    timer: Timer,
}

impl Layouts {
    /// Settles all layouts; the error names every member that is missing.
    pub fn bind(
        dwarf: Option<&DwarfFacts>,
        chosen: &Chosen,
        arch: Arch,
        diagnostics: &mut Diagnostics,
    ) -> Result<Layouts> {
        let mut settler = Settler { dwarf, chosen, arch, missing: Vec::new(), used: Vec::new() };
        let layouts = Layouts::settle(&mut settler);
        let differs = settler.differing();
        match layouts {
            Some(layouts) if settler.missing.is_empty() => {
                layouts.report(&differs, diagnostics);
                Ok(layouts)
            }
            _ => {
                let text = format!("layout of the runtime: unknown: {}", settler.missing.join(", "));
                Err(Error::new(ErrorKind::Layout, text)
                    .hint("a newer allgs may know this release of Go; a program that is not stripped needs no table"))
            }
        }
    }

    /// How the layout of a structure was found.
    pub fn provenance_of(&self, go_name: &str) -> Option<Provenance> {
        self.each.iter().find(|(name, _)| *name == go_name).map(|(_, by)| *by)
    }

    fn report(&self, differs: &[&str], diagnostics: &mut Diagnostics) {
        let guessed: Vec<_> =
            self.each.iter().filter(|(_, by)| *by == Provenance::Nearest).map(|(n, _)| *n).collect();
        if !guessed.is_empty() {
            diagnostics.warn(
                format!("no layout of exactly this release for {}", guessed.join(", ")),
                "the layout of the nearest release is used",
            );
        }
        if !differs.is_empty() {
            diagnostics.note(
                format!("debug information and built-in table differ on {}", differs.join(", ")),
                "the debug information is used",
            );
        }
    }
}

/// Answers from DWARF, else from the table, structure by structure.
struct Settler<'a> {
    dwarf: Option<&'a DwarfFacts>,
    chosen: &'a Chosen,
    arch: Arch,
    missing: Vec<String>,
    used: Vec<(&'static str, Provenance)>,
}

enum Known<'a> {
    Dwarf(&'a StructFacts),
    Table(&'a TableStruct, Provenance),
}

impl<'a> Settler<'a> {
    fn known(&self, of: &StructDecl) -> Option<Known<'a>> {
        if let Some(facts) = self.dwarf.and_then(|d| d.structs.get(of.go_name)) {
            return Some(Known::Dwarf(facts));
        }
        let (found, by) = self.chosen.structure(of.go_name, self.arch)?;
        Some(Known::Table(found, by))
    }

    /// Structures of which the table of exactly this release says something else than DWARF.
    fn differing(&self) -> Vec<&'static str> {
        let Some(dwarf) = self.dwarf else { return Vec::new() };
        let differs = |decl: &&&StructDecl| {
            let table = self.chosen.structure(decl.go_name, self.arch);
            match (dwarf.structs.get(decl.go_name), table) {
                (Some(facts), Some((table, Provenance::Builtin))) => decl.fields.iter().any(|f| {
                    let in_dwarf = f.paths.iter().find_map(|p| facts.offsets.get(p).copied());
                    in_dwarf != f.paths.iter().find_map(|p| table.offset(p))
                }),
                _ => false,
            }
        };
        schema::ALL.iter().filter(differs).map(|decl| decl.go_name).collect()
    }
}

impl Binder for Settler<'_> {
    fn offset(&mut self, of: &StructDecl, field: &FieldDecl) -> Option<u32> {
        let found = match self.known(of)? {
            Known::Dwarf(facts) => field.paths.iter().find_map(|p| facts.offsets.get(p).copied()),
            Known::Table(table, _) => field.paths.iter().find_map(|p| table.offset(p)),
        };
        let (first, last) = field.needed;
        if found.is_none() && (first..=last).contains(&self.chosen.minor) {
            self.missing.push(format!("{}.{}", of.go_name, field.paths.join("|")));
        }
        found
    }

    fn size(&mut self, of: &StructDecl) -> Option<u32> {
        match self.known(of) {
            Some(Known::Dwarf(facts)) => {
                self.used.push((of.go_name, Provenance::Dwarf));
                Some(facts.size)
            }
            Some(Known::Table(table, by)) => {
                self.used.push((of.go_name, by));
                Some(table.size)
            }
            None => {
                self.missing.push(of.go_name.to_owned());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use version::GoVersion;

    fn bind(version: &str, dwarf: Option<&DwarfFacts>) -> (Result<Layouts>, Diagnostics) {
        let chosen = Chosen::of(&GoVersion::parse(version)).unwrap();
        let mut diagnostics = Diagnostics::default();
        (Layouts::bind(dwarf, &chosen, Arch::Amd64, &mut diagnostics), diagnostics)
    }

    #[test]
    fn tables_know_the_moves_inside_a_minor_release() {
        let alllink = |v: &str| bind(v, None).0.unwrap().m.alllink.offset;
        assert_eq!((alllink("go1.23.11"), alllink("go1.23.12")), (328, 352));
        assert_eq!((alllink("go1.24.5"), alllink("go1.24.6")), (328, 352));
        let layouts = bind("go1.26.3", None).0.unwrap();
        assert_eq!(layouts.by, Provenance::Builtin);
        assert_eq!(layouts.g.goid.offset, 152);
        assert_eq!(layouts.sudog.elem.offset, 32);
        assert_eq!(layouts.g.bubble.map(|f| f.offset), Some(392));
        assert!(bind("go1.18.1", None).0.unwrap().g.parent_goid.is_none());
    }

    #[test]
    fn an_unknown_release_is_served_by_the_nearest_and_says_so() {
        for version in ["go1.99.0", "go1.26.99", "go1.26.3 X:abc", "devel +abc"] {
            let (layouts, diagnostics) = bind(version, None);
            assert_eq!(layouts.unwrap().by, Provenance::Nearest, "{version}");
            assert_eq!(diagnostics.entries().len(), 1, "{version}");
        }
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let mut dwarf = DwarfFacts::default();
        for name in ["runtime.g", "runtime.m"] {
            dwarf.structs.insert(name, StructFacts::default());
        }
        let error = bind("go1.27.1", Some(&dwarf)).0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Layout);
        for member in ["runtime.g.goid", "runtime.g.parentGoid", "runtime.m.alllink"] {
            assert!(error.to_string().contains(member), "{error}");
        }
        assert!(!error.to_string().contains("runtime.p."), "{error}");
    }
}
