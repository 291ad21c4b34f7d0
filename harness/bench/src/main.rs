//! `kmesh-bench`: see `kmesh-bench help`.

use clap::Parser as _;
use kmesh_bench::cli::Cli;
use kmesh_bench::{commands, exit};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let help = !error.use_stderr();
            // Nothing to say if even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(if help { 0 } else { exit::USAGE });
        }
    };
    match commands::dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("kmesh-bench: {error:#}");
            ExitCode::from(exit::of_error(&error))
        }
    }
}
