//! Numbers with a least and a most: refused where they are typed, and shown in `--help`.

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};
use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Parses a number within a range; see [`within`].
#[derive(Clone, Debug)]
pub struct Within<T>(RangeInclusive<T>);

/// A value parser for numbers from the range's start to its end: `value_parser = within(1_u32..=1_000)`.
pub fn within<T>(range: RangeInclusive<T>) -> Within<T> {
    Within(range)
}

/// What can be a [`Within`].
pub trait Number: FromStr + Display + PartialOrd + Clone + Send + Sync + 'static {}

impl<T: FromStr + Display + PartialOrd + Clone + Send + Sync + 'static> Number for T {}

impl<T: Number> Within<T> {
    fn words(&self) -> String {
        format!("{}..={}", self.0.start(), self.0.end())
    }
}

impl<T: Number> TypedValueParser for Within<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, Error> {
        let own = self.clone();
        let parse = move |text: &str| {
            let number = text.parse::<T>().ok();
            number
                .filter(|number| own.0.contains(number))
                .ok_or_else(|| format!("not a number in {}", own.words()))
        };
        parse.parse_ref(command, argument, value)
    }

    /// The range, hidden: no shell offers it as a word, and [`show`] finds it.
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let range = PossibleValue::new(self.words()).hide(true);
        Some(Box::new(std::iter::once(range)))
    }
}

/// The range that an argument's value must be in.
fn of(argument: &Arg) -> Option<String> {
    match argument.get_possible_values().as_slice() {
        [one] if one.is_hide_set() && one.get_name().contains("..=") => {
            Some(one.get_name().to_owned())
        }
        _ => None,
    }
}

/// Writes the range of every number into its help, here and in all commands below.
pub(crate) fn show(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let Some(range) = of(&argument) else {
                return argument;
            };
            let help = argument.get_help().cloned().unwrap_or_default();
            let help = format!("{help} [{range}]");
            // A number below the range is refused by it, not as a flag that does not exist.
            argument
                .help(help)
                .hide_possible_values(true)
                .allow_negative_numbers(true)
        })
        .mut_subcommands(show)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let far = Arg::new("far").long("far").help("How far");
        let far = far.value_parser(within(0.5_f64..=9.0));
        show(Command::new("go").arg(far))
    }

    fn typed(far: &str) -> Result<f64, String> {
        let matches = command()
            .try_get_matches_from(["go", "--far", far])
            .map_err(|error| error.to_string())?;
        Ok(*matches.get_one("far").unwrap())
    }

    #[test]
    fn the_ends_are_taken_and_what_is_beyond_is_not() {
        assert_eq!(typed("0.5"), Ok(0.5));
        assert_eq!(typed("9"), Ok(9.0));
        for wrong in ["0.4", "9.1", "-1", "NaN", "far", ""] {
            let said = typed(wrong).unwrap_err();
            assert!(said.contains("not a number in 0.5..=9"), "{said}");
        }
    }

    #[test]
    fn the_help_shows_the_range_and_no_shell_offers_it() {
        let help = command().render_help().to_string();
        assert!(help.contains("How far [0.5..=9]"), "{help}");
        assert!(!help.contains("possible values"), "{help}");
        let mut script = Vec::new();
        clap_complete::generate(
            clap_complete::Shell::Bash,
            &mut command(),
            "go",
            &mut script,
        );
        assert!(!String::from_utf8(script).unwrap().contains("0.5..=9"));
    }
}
