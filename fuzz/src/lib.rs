//! What the fuzz targets share. `change` turns the fuzzer's bytes into changes of a real target, `base`
//! opens that target, `changed` is the target with the changes, `words` is its
//! memory, `answer` asks all that can be asked.

pub mod answer;
pub mod base;
pub mod change;
pub mod changed;
pub mod words;
