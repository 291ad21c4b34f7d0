//! Why there is no outcome.

use std::io;

use kmesh_probe::client::StatusError;
use netns_lab::LabError;

/// What keeps the attacks from being judged.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The daemon's answers.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A file or a process of our own.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ended before it was ready, or without an outcome.
    #[error("{program} ended without {missing}: {said}")]
    Ended {
        /// The program.
        program: String,
        /// What it did not say.
        missing: &'static str,
        /// What it said instead.
        said: String,
    },
    /// The daemon did not do what its files say.
    #[error("kmeshd did not {what} within {seconds} s: {status}")]
    NotFollowed {
        /// What it should have done.
        what: &'static str,
        /// How long it had.
        seconds: u64,
        /// What it says of itself.
        status: String,
    },
}

/// For errors of the system while `what` was done.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> IsolationError {
    let what = what.into();
    move |source| IsolationError::Io { what, source }
}
