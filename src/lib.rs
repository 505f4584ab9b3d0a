//! Shows every goroutine of a live, possibly hung Go process or of a core file, from outside.
//!
//! Data flows one way: `source` (live process or core file) -> `memory` -> `image` (executable,
//! function tables, layouts) -> `runtime` (goroutines, threads) -> `unwind` -> `analysis` ->
//! `report` -> `cli`. A layer uses only those before it; `tests/layers.rs` says so.
#![deny(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod addr;
pub mod analysis;
pub mod arch;
pub mod cli;
pub mod diag;
pub mod error;
pub mod image;
pub mod memory;
pub mod report;
pub mod runtime;
pub mod source;
pub mod unwind;
