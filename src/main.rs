//! The program `allgs`; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    allgs::cli::run(std::env::args_os())
}
