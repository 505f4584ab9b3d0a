//! Report: frames of C code that are missing from a stack, and why.

use super::clean::clean;
use super::model::Hex;
use crate::addr::Addr;
use crate::unwind::Missing;
use serde::Serialize;

/// One entry of a goroutine's or thread's `gaps`.
#[derive(Serialize)]
pub struct GapModel {
    /// How many of the shown frames lie further in.
    after_frames: usize,
    /// A stable word.
    kind: &'static str,
    /// For people.
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Hex>,
}

impl GapModel {
    /// A gap that comes after so many of the frames that are shown.
    pub fn of(after_frames: usize, why: &Missing) -> GapModel {
        let (kind, at) = word(why);
        GapModel { after_frames, kind, why: text(why), at: at.map(Hex) }
    }
}

fn word(why: &Missing) -> (&'static str, Option<Addr>) {
    match why {
        Missing::NoRegisters => ("no_registers", None),
        Missing::NoFile { pc } => ("no_file", Some(*pc)),
        Missing::UnknownFile { pc, .. } => ("unknown_file", Some(*pc)),
        Missing::NoTable { pc, .. } => ("no_table", Some(*pc)),
        Missing::Damaged { pc, .. } => ("damaged_table", Some(*pc)),
        Missing::Register { pc, .. } => ("unknown_register", Some(*pc)),
        Missing::Stack { at } => ("unreadable_stack", Some(*at)),
        Missing::Astray { pc } => ("astray", Some(*pc)),
        Missing::Unsupported => ("unsupported", None),
        Missing::Limit => ("limit", None),
    }
}

/// Why, in words.
pub fn text(why: &Missing) -> String {
    match why {
        Missing::NoRegisters => "the registers of its thread are unknown".to_owned(),
        Missing::NoFile { pc } => format!("{pc} is in no mapped file"),
        Missing::UnknownFile { pc, file } => format!("{} at {pc} is not at hand", clean(file)),
        Missing::NoTable { pc, file } => format!("{} has no unwinding table for {pc}", clean(file)),
        Missing::Damaged { pc, file } => format!("the unwinding table of {} is wrong for {pc}", clean(file)),
        Missing::Register { pc, file } => {
            format!("to unwind {pc} in {} takes a register that a sleeping thread does not show", clean(file))
        }
        Missing::Stack { at } => format!("the stack at {at} was not read"),
        Missing::Astray { pc } => format!("they do not lead back to Go, at {pc}"),
        Missing::Unsupported => "calls from C into Go are not followed on this processor".to_owned(),
        Missing::Limit => "there are too many".to_owned(),
    }
}
