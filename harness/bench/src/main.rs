//! `kmesh-bench`: see `kmesh-bench help`.

use kmesh_bench::{commands, exit};
use std::process::ExitCode;

fn main() -> ExitCode {
    kmesh_cli::main("kmesh-bench", exit::of_error, commands::dispatch)
}
