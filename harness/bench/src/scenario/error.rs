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
    #[error("{} (in {directory})", kmesh_cli::unknown("scenario", name, known.split(", ")).message)]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where was looked.
        directory: PathBuf,
        /// Names there, comma-separated.
        known: String,
    },
}
