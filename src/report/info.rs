//! Report: what was found of a target and how, and what is missing: the answer to "why can't it tell".

use super::clean::clean;
use super::describe;
use super::json::{Each, write_value};
use super::model::{self, Hex, Target, Word};
use super::style::{Palette, paint};
use super::text::crash_text;
use super::units::counted;
use crate::diag::{Diagnostics, Severity};
use crate::image::buildinfo::Module;
use crate::image::{Image, Provenance};
use serde::Serialize;
use std::io::{self, Write};

/// The name and major version of the document.
pub const SCHEMA: &str = "allgs.info/1";

/// All that is known of a target without looking at its goroutines.
#[derive(Serialize)]
pub struct Info<'a> {
    schema: &'static str,
    target: &'a Target,
    executable: Executable,
    go_version_by: Word,
    main_package: Option<&'a str>,
    modules: Vec<ModuleModel<'a>>,
    code: Vec<Code>,
    located: Vec<Located>,
    layouts: Vec<Layout>,
    wait_reasons: WaitReasons,
}

#[derive(Serialize)]
struct Executable {
    kind: &'static str,
    stripped: bool,
    dwarf: bool,
    load_bias: String,
}

#[derive(Serialize)]
struct ModuleModel<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<Box<ModuleModel<'a>>>,
}

/// One module of the runtime: the program itself, a plugin or a shared library.
#[derive(Serialize)]
struct Code {
    functions: u64,
    first: Hex,
    end: Hex,
}

#[derive(Serialize)]
struct Located {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Word>,
}

#[derive(Serialize)]
struct Layout {
    structure: &'static str,
    by: Word,
}

#[derive(Serialize)]
struct WaitReasons {
    count: u64,
    by: Word,
}

impl<'a> Info<'a> {
    /// What is known of `image`.
    pub fn of(target: &'a Target, image: &'a Image) -> Info<'a> {
        let exe = &image.exe;
        let layouts = crate::image::layout::schema::ALL.iter().filter_map(|decl| {
            let by = image.layouts.provenance_of(decl.go_name)?;
            Some(Layout { structure: decl.go_name, by: Word(by) })
        });
        Info {
            schema: SCHEMA,
            target,
            executable: Executable {
                kind: exe.kind.as_str(),
                stripped: exe.stripped,
                dwarf: exe.has_dwarf,
                load_bias: format!("{:#x}", exe.bias.0),
            },
            go_version_by: Word(image.go_by),
            main_package: image.build.path.as_deref(),
            modules: image.build.deps.iter().map(module).collect(),
            code: image
                .modules
                .modules()
                .iter()
                .map(|m| Code { functions: m.len() as u64, first: Hex(m.info.minpc), end: Hex(m.info.maxpc) })
                .collect(),
            located: located(image),
            layouts: layouts.collect(),
            wait_reasons: WaitReasons {
                count: image.wait_reasons.len() as u64,
                by: Word(image.wait_reasons_by),
            },
        }
    }
}

fn module(module: &Module) -> ModuleModel<'_> {
    ModuleModel {
        path: &module.path,
        version: &module.version,
        replaced_by: module.replaced_by.as_deref().map(|by| Box::new(self::module(by))),
    }
}

fn located(image: &Image) -> Vec<Located> {
    let moduledata = Located { name: "moduledata", address: None, by: Some(Word(image.modules_by)) };
    let globals = describe::globals(&image.globals).into_iter().map(|(name, found)| Located {
        name,
        address: found.map(|(at, _)| at),
        by: found.map(|(_, by)| Word(by)),
    });
    std::iter::once(moduledata).chain(globals).collect()
}

#[derive(Serialize)]
struct Document<'a, D: Serialize> {
    #[serde(flatten)]
    info: &'a Info<'a>,
    diagnostics: D,
}

/// Writes it as JSON, `allgs.info/1`.
pub fn json(out: &mut dyn Write, info: &Info<'_>, diagnostics: &Diagnostics) -> io::Result<()> {
    write_value(out, &Document { info, diagnostics: Each(|| model::diagnostics(diagnostics)) })
}

/// Writes it as text.
pub fn text(out: &mut dyn Write, info: &Info<'_>, diagnostics: &Diagnostics, p: &Palette) -> io::Result<()> {
    let mut section = Section { out, p };
    identity(&mut section, info)?;
    section.title("How it was built")?;
    for (key, value) in &info.target.build_settings {
        section.line(&clean(key), &clean(value))?;
    }
    if !info.modules.is_empty() {
        section.title("Modules it is made of")?;
        for module in &info.modules {
            section.line(&clean(module.path), &module_text(module))?;
        }
    }
    section.title("Where the runtime's data is, and how it was found")?;
    for Located { name, address, by } in &info.located {
        let address = address.map_or_else(String::new, |at| format!("{}, ", at.0));
        let found = by.map_or("not found".to_owned(), |by| format!("{address}{}", way(by.0)));
        section.line(name, &found)?;
    }
    for Layout { structure, by } in &info.layouts {
        section.line(structure, way(by.0))?;
    }
    let reasons = &info.wait_reasons;
    section.line("wait reasons", &format!("{}, {}", counted(reasons.count, "text"), way(reasons.by.0)))?;
    for code in &info.code {
        let range = format!("{}..{}", code.first.0, code.end.0);
        section.line("code", &format!("{range}, {}", counted(code.functions, "function")))?;
    }
    losses(&mut section, diagnostics)
}

fn identity(section: &mut Section<'_>, info: &Info<'_>) -> io::Result<()> {
    let target = info.target;
    section.optional("process", target.pid.map(|pid| pid.to_string()))?;
    section.optional("core file", target.core.clone())?;
    section.optional("end", target.crash.as_ref().map(crash_text))?;
    section.optional("executable", target.exe.clone())?;
    let exe = &info.executable;
    let symbols = if exe.stripped { "stripped" } else { "symbols" };
    let dwarf = if exe.dwarf { "debug information" } else { "no debug information" };
    section.line("kind", &format!("{}, {symbols}, {dwarf}, loaded at +{}", exe.kind, exe.load_bias))?;
    let go = format!("{}, {}", clean(&target.go_version), way(info.go_version_by.0));
    section.line("Go", &go)?;
    section.line("processor", target.arch)?;
    let version = target.main_version.as_deref().map_or_else(String::new, |v| format!(" {v}"));
    section.optional("main module", target.main_module.as_ref().map(|m| format!("{m}{version}")))?;
    section.optional("main package", info.main_package.map(str::to_owned))?;
    section.optional("build id", target.build_id.clone())?;
    section.optional("Go build id", target.go_build_id.clone())
}

fn module_text(module: &ModuleModel<'_>) -> String {
    match &module.replaced_by {
        None => clean(module.version).into_owned(),
        Some(by) => {
            format!("{} replaced by {} {}", clean(module.version), clean(by.path), clean(by.version))
        }
    }
}

fn losses(section: &mut Section<'_>, diagnostics: &Diagnostics) -> io::Result<()> {
    section.title("What is missing")?;
    if diagnostics.entries().is_empty() {
        return section.line("nothing", "all of this target can be decoded");
    }
    for entry in diagnostics.entries() {
        let what = match entry.severity {
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        section.line(what, &format!("{}: {}", clean(&entry.what), clean(&entry.effect)))?;
    }
    Ok(())
}

/// How a thing was found, for people.
fn way(by: Provenance) -> &'static str {
    match by {
        Provenance::Dwarf => "from the debug information",
        Provenance::Symtab => "from the symbol table",
        Provenance::Section => "from a section of the executable",
        Provenance::Target => "from the target's own data",
        Provenance::Code => "by reading the runtime's code",
        Provenance::Builtin => "from the built-in table of this release",
        Provenance::Nearest => "from the built-in table of the nearest release",
        Provenance::Scan => "by searching memory",
    }
}

/// Widest column of keys.
const KEY: usize = 24;

/// Writes lines of key and value.
struct Section<'a> {
    out: &'a mut dyn Write,
    p: &'a Palette,
}

impl Section<'_> {
    fn title(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{}", paint(self.p.title, title))
    }

    fn line(&mut self, key: &str, value: &str) -> io::Result<()> {
        let space = " ".repeat(KEY.saturating_sub(key.chars().count()));
        writeln!(self.out, "{}{space} {value}", paint(self.p.name, key))
    }

    fn optional(&mut self, key: &str, value: Option<String>) -> io::Result<()> {
        value.map_or(Ok(()), |value| self.line(key, &clean(&value)))
    }
}
