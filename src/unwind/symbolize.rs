//! Unwind: from addresses to functions and lines. Each inlined call becomes a frame of its own. Tells
//! the truth in all releases; what the runtime prints instead is up to the report that copies it.

use super::code::Code;
use super::{Frame, FrameKind, Trust, Unwinder};
use crate::addr::Addr;
use crate::image::native::Place;
use crate::image::pclntab::Func;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The address to ask the tables for: the call itself, not what it returns to (`unwinder.symPC`).
/// `exact` says that `pc` is not a return address.
pub(crate) fn lookup_pc(func: Func<'_>, pc: Addr, exact: bool) -> Addr {
    if exact || pc <= func.entry() { pc } else { pc.back(1) }
}

/// Names that are kept once, however many frames have them.
#[derive(Default)]
pub(super) struct Names<'a>(FxHashMap<&'a str, Arc<str>>);

impl<'a> Names<'a> {
    fn one(&mut self, name: &'a str) -> Arc<str> {
        Arc::clone(self.0.entry(name).or_insert_with(|| name.into()))
    }
}

/// A frame whose names are still in the tables.
pub(super) struct Bare<'a> {
    function: &'a str,
    file: Option<&'a str>,
    line: u32,
    pc: Addr,
    entry: Addr,
    inlined: bool,
}

impl<'a> Bare<'a> {
    /// With names of its own.
    pub(super) fn named(&self, names: &mut Names<'a>) -> Frame {
        Frame {
            function: names.one(self.function),
            file: self.file.map(|file| names.one(file)),
            line: self.line,
            pc: self.pc,
            entry: self.entry,
            inlined: self.inlined,
            kind: FrameKind::Go,
            trust: Trust::Exact,
        }
    }
}

impl Unwinder<'_> {
    /// The frames of C code at one address, innermost first; at least one.
    pub(super) fn native_frames(&self, pc: Addr, exact: bool, trust: Trust) -> Vec<Frame> {
        let object = self.native.and_then(|native| native.object_at(pc).ok());
        let unnamed =
            || vec![Place { function: pc.to_string(), file: None, line: 0, entry: pc, inlined: false }];
        let places = object.map_or_else(unnamed, |object| object.places(pc, exact));
        let frame = |place: Place| Frame {
            function: place.function.into(),
            file: place.file.map(Into::into),
            line: place.line,
            pc,
            entry: place.entry,
            inlined: place.inlined,
            kind: FrameKind::C,
            trust,
        };
        places.into_iter().map(frame).collect()
    }
}

/// The frames at one address, innermost first; none if it is in no function.
pub(super) fn frames_at<'a>(code: Code<'a>, pc: Addr, exact: bool) -> Vec<Bare<'a>> {
    let Some(func) = code.modules.find(pc) else { return Vec::new() };
    func.inline_at(code.memory, lookup_pc(func, pc, exact))
        .map(|f| Bare {
            function: f.name,
            file: f.file,
            line: f.line,
            pc,
            entry: func.entry(),
            inlined: f.inlined,
        })
        .collect()
}
