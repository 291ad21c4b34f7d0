//! Envoy v3 configuration, read and compiled to the datapath's tables.
//!
//! ```text
//!  YAML, protobuf's JSON --resource--> Resources --reader, inert, envoy--> Config (model) + Answers
//!  Config --check, class, compile--> Image (kmesh-api) + Names
//! ```
//!
//! A field is taken, inert (with the reason), or its resource is refused by file, resource and field; a resource is refused
//! alone. The [`Store`] keeps the last good version of each. The compiler lowers the model to an [`kmesh_api::Image`], on which the kernel and user space decide alike. Neither performs I/O besides
//! reading the one file.

mod alone;
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
pub mod inert;
pub mod model;
mod names;
mod pattern;
pub mod policy;
mod range;
mod reader;
pub mod redirect;
mod report;
pub mod resource;
mod store;
mod trie;
mod values;

use std::path::Path;

pub use alone::alone;
pub use class::Classes;
pub use compile::{Compiled, Policies, compile};
pub use error::{ConfigError, Place};
pub use identities::Identities;
pub use model::Config;
pub use names::{ClusterName, EndpointName, LocalAnswer, Names, RouteName};

pub use envoy::{Loaded, load};
pub use report::Report;
pub use resource::{Answer, Document, Kind, Resource};
pub use store::{Applied, Store};

/// Reads a configuration file; all of it, or nothing.
///
/// # Errors
/// [`ConfigError`] if the file cannot be read, or as [`parse`].
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    parse(&text(path)?, &path.display().to_string())
}

/// The text of a configuration file.
///
/// # Errors
/// [`ConfigError::Read`] if it cannot be read.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Reads a configuration from YAML (or JSON, which is YAML), all of it or nothing; `origin` names it in messages.
///
/// # Errors
/// [`ConfigError::Syntax`] if it is not YAML, [`ConfigError::Field`] for the first thing that this datapath cannot do.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    let document = Document::of(origin, &resource::tree(text, origin)?);
    let loaded = load(origin, &document.resources);
    let answers = document.answers.into_iter().chain(loaded.answers);
    match answers.flat_map(|answer| answer.refused).next() {
        Some(error) => Err(error),
        None => Ok(loaded.config),
    }
}
