//! Analysis: questions asked of a snapshot and its stacks. Pure functions of owned data: nothing here
//! reads a target, a file or a clock. A [`survey::Survey`] joins what the layers below found of each
//! goroutine; [`select`] and [`group`] work on it, and every report prints from it.

pub mod ahead;
pub mod blocked;
pub mod by_code;
#[cfg(test)]
pub(crate) mod fixture;
pub mod frames;
pub mod graph;
pub mod group;
pub mod names;
pub mod reach;
pub mod select;
pub mod situations;
pub mod survey;
pub mod threads;
pub mod wakers;
pub mod why;
