//! Unwind: what a walk needs to know of the target's code, and nothing else; so that walks are tested
//! on tables made by hand.

use crate::arch::Arch;
use crate::image::layout::rules::Rules;
use crate::image::pclntab::Modules;
use crate::memory::Memory;

/// The code of a target and a memory to read.
#[derive(Clone, Copy)]
pub struct Code<'a> {
    /// Processor.
    pub arch: Arch,
    /// Function tables of all modules.
    pub modules: &'a Modules,
    /// What differs by release.
    pub rules: &'a Rules,
    /// Stacks of the instant of the capture, and the read-only data of the executables.
    pub memory: &'a dyn Memory,
}
