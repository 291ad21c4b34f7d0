//! `completions SHELL` and `man DIR`, for every program.

use crate::exit::Failure;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use std::path::PathBuf;

/// The commands that are the same in every program.
pub(crate) fn commands() -> [Command; 2] {
    [
        Command::new("completions")
            .about("Print the completion script of a shell")
            .after_help(crate::exit::TABLE)
            .arg(
                Arg::new("shell")
                    .required(true)
                    .value_parser(value_parser!(Shell))
                    .help("The shell"),
            ),
        Command::new("man")
            .about("Write the man pages into a folder, which is made if it is not there")
            .after_help(crate::exit::TABLE)
            .arg(
                Arg::new("dir")
                    .required(true)
                    .value_name("DIR")
                    .value_parser(value_parser!(PathBuf))
                    .help("The folder"),
            ),
    ]
}

/// Whether a command is one of ours.
pub(crate) fn is_own(name: &str) -> bool {
    commands().iter().any(|command| command.get_name() == name)
}

/// Runs one of them.
pub(crate) fn run(mut command: Command, matches: &ArgMatches) -> anyhow::Result<()> {
    let program = command.get_name().to_owned();
    let own = matches.subcommand().map(|(_, own)| own);
    if let Some(shell) = own.and_then(|own| own.try_get_one::<Shell>("shell").ok().flatten()) {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command, program, &mut script);
        return crate::say(&String::from_utf8_lossy(&script));
    }
    if let Some(dir) = own.and_then(|own| own.try_get_one::<PathBuf>("dir").ok().flatten()) {
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(command, dir))
            .map_err(|error| {
                Failure::output(format!("{}: cannot be written: {error}", dir.display()))
            })?;
    }
    Ok(())
}
