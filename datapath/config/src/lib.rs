//! Envoy v3 configuration, read and compiled to the datapath's tables.
//!
//! ```text
//!  YAML --reader, envoy--> Config (model) --check, class, compile--> Image (kmesh-api) + Names
//! ```
//!
//! The reader takes what this datapath can do and refuses the rest by file, resource and field. The compiler lowers the
//! model to an [`kmesh_api::Image`], on which the kernel and user space decide alike. Neither performs I/O besides
//! reading the one file.

mod automaton;
mod candidates;
mod check;
mod class;
mod compile;
mod dfa;
mod envoy;
mod error;
mod expressions;
mod header;
mod identities;
pub mod model;
mod names;
mod pattern;
pub mod policy;
mod range;
mod reader;
pub mod redirect;
mod trie;
mod values;

use std::path::Path;

pub use class::Classes;
pub use compile::{Compiled, Policies, compile};
pub use error::{ConfigError, Place};
pub use identities::Identities;
pub use model::Config;
pub use names::{ClusterName, EndpointName, LocalAnswer, Names, RouteName};

/// Reads a configuration file.
///
/// # Errors
/// [`ConfigError`] if the file cannot be read, or as [`parse`].
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, &path.display().to_string())
}

/// Reads a configuration from YAML (or JSON, which is YAML); `origin` names it in messages.
///
/// # Errors
/// [`ConfigError::Syntax`] if it is not YAML, [`ConfigError::Field`] for everything that this datapath cannot do.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    let value = serde_yaml_ng::from_str(text).map_err(|source| ConfigError::Syntax {
        origin: origin.to_owned(),
        source,
    })?;
    let config = envoy::document(origin, &reader::Item::root(origin, &value))?;
    check::check(&config)?;
    Ok(config)
}
