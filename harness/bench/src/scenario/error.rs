//! What can be wrong with a scenario, always with the place.

use super::source::Place;
use std::path::PathBuf;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("scenario file {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// What a scenario generates cannot be written.
    #[error("generated configuration {path} cannot be written")]
    Cache {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// The parser's words.
        message: String,
    },
    /// A value that makes no sense, or contradicts another.
    #[error("{place}: {key}: {message}")]
    Value {
        /// Where; the nearest parent when the key is missing.
        place: Place,
        /// The key's dotted path.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// `extends` leads back to a file already in the chain.
    #[error("{place}: extends: {target} is already in the chain of files, so it would never end")]
    Cycle {
        /// Where.
        place: Place,
        /// The file named.
        target: PathBuf,
    },
    /// No such scenario.
    #[error("no scenario {name:?} in {directory}: {}", hint(name, known))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where was looked.
        directory: PathBuf,
        /// Names there.
        known: Vec<String>,
    },
    /// A folder's path where a scenario is meant.
    #[error("{0} is a folder: name a scenario, or its file (`kmesh-bench list` names them)")]
    IsFolder(PathBuf),
    /// The folder of scenarios cannot be read.
    #[error("folder of scenarios {directory} cannot be read; name another one with --scenarios")]
    Folder {
        /// The folder.
        directory: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// Several at once.
    #[error("{}", joined(.0))]
    Several(Vec<ScenarioError>),
}

impl ScenarioError {
    /// One error of several; none for no error.
    pub(super) fn of_all(mut errors: Vec<Self>) -> Option<Self> {
        match errors.len() {
            0 | 1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }
}

/// The nearest names, or how to see all.
fn hint(name: &str, known: &[String]) -> String {
    match kmesh_cli::nearest(name, known.iter().map(String::as_str)).as_slice() {
        [] => format!("`kmesh-bench list` names the {} there are", known.len()),
        near => format!("did you mean {}?", near.join(" or ")),
    }
}

/// Each with its causes, in one line.
fn joined(errors: &[ScenarioError]) -> String {
    let words = errors.iter().map(|error| {
        let cause = std::error::Error::source(error);
        cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    });
    words.collect::<Vec<_>>().join("; ")
}
