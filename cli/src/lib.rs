//! What the command lines of `kmesh-bench`, `kmeshd`, `kmeshctl` and `netns-lab` share, so that they behave alike.
//!
//! [`main`] parses, runs and ends a program: `--version` with commit and compiler, the table of [`exit`] codes below every
//! `--help` and the ranges of numbers in it, an error in one line on stderr, `completions SHELL` and `man DIR`.
#![forbid(unsafe_code)]

pub mod exit;
mod line;
mod nearest;
mod papers;
mod range;

use clap::{ArgMatches, Command, Parser};
use exit::Failure;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

pub use line::{of_error, of_usage};
pub use nearest::{nearest, unknown};
pub use range::{Number, Within, within};

/// The commit that a release build was made from; empty in debug builds and outside of a checkout.
pub const COMMIT: &str = env!("KMESH_BUILT_COMMIT");

/// `VERSION (commit C, rustc R)`: what follows the program's name in `--version`.
pub const VERSION: &str = env!("KMESH_BUILT_VERSION");

/// Parses the command line, runs the program, and says how it ended.
///
/// `code_of` gives the code of the program's own error types; a [`Failure`] anywhere in the chain brings its own, and whatever
/// nobody knows is [`exit::UNFIT`]: something kept the program from its work.
pub fn main<A: Parser>(
    program: &'static str,
    code_of: impl Fn(&anyhow::Error) -> Option<u8>,
    run: impl FnOnce(A) -> anyhow::Result<u8>,
) -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let ended = match parse::<A>(program, &typed) {
        Ok(Asked::Program(arguments)) => run(arguments),
        Ok(Asked::Papers(matches)) => {
            papers::run(command::<A>(program), &matches).map(|()| exit::HELD)
        }
        Err(error) if !error.use_stderr() => say(&error.render().to_string()).map(|()| exit::HELD),
        Err(error) => {
            let command = deepest(&command::<A>(program), &typed);
            report(program, &of_usage(&error, &command));
            return ExitCode::from(exit::USAGE);
        }
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(program, &of_error(&error));
            let own = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<Failure>());
            let code = own.map(|failure| failure.code).or_else(|| code_of(&error));
            ExitCode::from(code.unwrap_or(exit::UNFIT))
        }
    }
}

/// Writes data to stdout. A reader that went away (`| head`) is no error.
///
/// # Errors
/// A [`Failure`] with [`exit::OUTPUT`].
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::output(format!("stdout cannot be written: {error}")).into())
        }
        _ => Ok(()),
    }
}

static QUIET: OnceLock<()> = OnceLock::new();

/// [`talk`] says nothing from now on.
pub fn be_quiet() {
    // A second time changes nothing.
    let _ = QUIET.set(());
}

/// Whether [`be_quiet`] was called.
pub fn is_quiet() -> bool {
    QUIET.get().is_some()
}

/// One line about what is going on, on stderr.
pub fn talk(line: &str) {
    if !is_quiet() {
        // Where stderr is closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Refuses to go on without root, before anything else is tried.
///
/// # Errors
/// A [`Failure`] with [`exit::UNFIT`].
pub fn need_root(what: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = nix::unistd::geteuid();
    Err(Failure::unfit(format!(
        "{what} needs root, and this is user {user}: run it with sudo"
    )))
}

fn report(program: &str, line: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{program}: {line}");
}

/// What was asked for.
enum Asked<A> {
    Program(A),
    Papers(ArgMatches),
}

/// The program's command with what all programs have.
fn command<A: Parser>(program: &'static str) -> Command {
    let every = |command: Command| command.after_help(exit::TABLE);
    range::show(A::command())
        .name(program)
        .bin_name(program)
        .version(VERSION)
        .mut_subcommands(move |sub| sub.mut_subcommands(every).after_help(exit::TABLE))
        .after_help(exit::TABLE)
        .subcommands(papers::commands())
}

/// The command that was typed, as far as it is one: `kmesh-bench verify streams`.
fn deepest(command: &Command, typed: &[OsString]) -> String {
    let mut at = command;
    let mut names = vec![command.get_name().to_owned()];
    for word in typed.iter().skip(1) {
        if let Some(below) = word.to_str().and_then(|word| at.find_subcommand(word)) {
            names.push(below.get_name().to_owned());
            at = below;
        }
    }
    names.join(" ")
}

fn parse<A: Parser>(program: &'static str, typed: &[OsString]) -> Result<Asked<A>, clap::Error> {
    let matches = command::<A>(program).try_get_matches_from(typed)?;
    if matches.subcommand_name().is_some_and(papers::is_own) {
        return Ok(Asked::Papers(matches));
    }
    let arguments = A::from_arg_matches(&matches)?;
    Ok(Asked::Program(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[command(subcommand)]
        action: Action,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Action {
        /// Goes.
        Go {
            /// How far.
            #[arg(long, value_parser = within(1_u32..=9))]
            far: u32,
        },
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn refused(line: &str) -> String {
        let typed = words(line);
        match parse::<Example>("example", &typed) {
            Err(error) => of_usage(&error, &deepest(&command::<Example>("example"), &typed)),
            Ok(_) => panic!("{line:?} was taken"),
        }
    }

    #[test]
    fn usage_errors_are_one_line_with_object_cause_and_remedy() {
        let cases = [
            ("example", &["no command given", "see example --help"][..]),
            ("example goo", &["'goo'", "'go'", "see example --help"]),
            (
                "example go",
                &["not provided", "--far <FAR>", "see example go --help"],
            ),
            (
                "example go --far 10",
                &["'10'", "--far", "1..=9", "see example go --help"],
            ),
            (
                "example go --fer 3",
                &["'--fer'", "'--far'", "see example go --help"],
            ),
        ];
        for (line, parts) in cases {
            let said = refused(line);
            assert!(!said.contains('\n'), "{said:?}");
            for part in parts {
                assert!(said.contains(part), "{line:?}: no {part:?} in {said:?}");
            }
        }
    }

    #[test]
    fn every_help_has_the_table_and_the_version_its_compiler() {
        for line in ["example --help", "example go --help"] {
            let Err(help) = parse::<Example>("example", &words(line)) else {
                panic!("no help");
            };
            assert!(help.render().to_string().contains(exit::TABLE), "{help}");
        }
        assert!(VERSION.contains("rustc 1."), "{VERSION}");
    }
}
