//! Image, layout: where the members of the runtime's structures lie in a target. The one place that
//! knows Go releases.

pub mod field;
pub mod schema;
pub mod version;
