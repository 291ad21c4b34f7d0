//! `netns-lab`: brings labs up from the command line, runs programs in their pods, and finds leftovers.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Arguments::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("netns-lab: {error:#}");
            ExitCode::from(2)
        }
    }
}
