//! Asking a running daemon for its status.

use std::io::{self, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::Status;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody answers.
    #[error("no kmeshd named {name} answers in this network namespace; is it running?")]
    Unreachable {
        /// The daemon's name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer is not a status.
    #[error("kmeshd {name} answered something that is not a status")]
    Garbled {
        /// The daemon's name.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The abstract socket address where the daemon `name` answers: abstract, so that it goes with the daemon.
///
/// # Errors
/// If the name is too long for a socket address.
pub fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("kmeshd/{name}"))
}

/// Asks the daemon `name`.
///
/// # Errors
/// [`StatusError`].
pub fn status(name: &str) -> Result<Status, StatusError> {
    let unreachable = |source| StatusError::Unreachable {
        name: name.to_owned(),
        source,
    };
    let mut text = String::new();
    address(name)
        .and_then(|address| UnixStream::connect_addr(&address))
        .and_then(|mut stream| stream.read_to_string(&mut text))
        .map_err(unreachable)?;
    serde_json::from_str(&text).map_err(|source| StatusError::Garbled {
        name: name.to_owned(),
        source,
    })
}
