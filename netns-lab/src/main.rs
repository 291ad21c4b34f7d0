//! `netns-lab`: brings labs up from the command line, runs programs in their pods, and finds leftovers.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    kmesh_cli::main("netns-lab", cli::code_of, cli::Arguments::run)
}
