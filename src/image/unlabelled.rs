//! Image: which Go made a program that does not say so: one without build information and without
//! symbols. The runtime has the text in a variable, and where that lies only its code tells; to find
//! code, the layout of the module data must be known, which depends on the release. So each release's
//! layout is tried, and the one is believed under which the program names this release.

use super::code::rules::build_version;
use super::layout::Layouts;
use super::layout::table::Chosen;
use super::layout::version::GoVersion;
use super::open::LoadedFile;
use super::pclntab::Modules;
use super::statics::{ImageMemory, Statics};
use crate::arch::Arch;
use crate::diag::Diagnostics;
use crate::memory::Memory;

/// The text of `runtime.buildVersion`, read from `memory`, of a program whose `file` has no names.
pub(super) fn version(file: &LoadedFile, memory: &dyn Memory) -> Option<String> {
    let arch = file.elf.arch()?;
    let mut statics = Statics::default();
    statics.add(&file.elf, file.bias);
    let whole = ImageMemory { statics: &statics, lower: memory };
    Chosen::newest_first().find_map(|table| {
        let text = version_under(&table, file, &whole, arch)?;
        let named = Chosen::of(&GoVersion::parse(&text)).ok()?;
        (named.table_name() == table.table_name()).then_some(text)
    })
}

/// What the program names as its version when it is read by one release's layouts.
fn version_under(table: &Chosen, file: &LoadedFile, memory: &ImageMemory<'_>, arch: Arch) -> Option<String> {
    let layout = Layouts::bind(None, table, arch, &mut Diagnostics::default()).ok()?.moduledata;
    let first = file.moduledata(memory, &layout, arch).first().copied()?;
    let modules = Modules::load(memory, memory, first, &layout, arch).ok()?;
    build_version(&modules, memory, arch)
}
