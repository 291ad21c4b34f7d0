//! How every program here ends: one table of exit codes, and the errors that carry one.

use std::fmt;

/// Everything held; the work is done.
pub const HELD: u8 = 0;
/// A regression, or an expectation missed.
pub const FAILED: u8 = 1;
/// A wrong routing decision, or a wrong byte.
pub const WRONG: u8 = 2;
/// The environment is unfit (no root, no such daemon, a kernel that refuses), or the data leave the verdict open.
pub const UNFIT: u8 = 3;
/// Wrong usage, or input that cannot be used.
pub const USAGE: u8 = 4;
/// Output that cannot be written.
pub const OUTPUT: u8 = 5;

/// The table as it stands below every `--help`.
pub const TABLE: &str = "\
Exit codes:
  0  everything held
  1  a regression, or an expectation missed
  2  a wrong routing decision, or a wrong byte
  3  the environment is unfit, or the data leave the verdict open
  4  wrong usage, or input that cannot be used
  5  output that cannot be written";

/// An error that knows its exit code. The message names the object, the cause and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of the codes above.
    pub code: u8,
    /// One line.
    pub message: String,
}

impl Failure {
    /// Wrong usage or unusable input.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::of(USAGE, message)
    }

    /// An unfit environment.
    pub fn unfit(message: impl Into<String>) -> Self {
        Self::of(UNFIT, message)
    }

    /// Output that cannot be written.
    pub fn output(message: impl Into<String>) -> Self {
        Self::of(OUTPUT, message)
    }

    fn of(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
