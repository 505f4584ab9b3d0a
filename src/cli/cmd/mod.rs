//! Cli: one file per command.

pub mod dump;
pub mod generate;
pub mod info;
pub mod list;
pub mod ps;
pub mod why;
