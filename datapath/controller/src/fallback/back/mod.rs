//! The back: what a server answers is judged here before hyper sees it, as Envoy's HTTP/1.1 codec (Balsa) judges it.
//!
//! The counterpart of `front`: hyper and whoever comes after it get heads that are written anew from what was understood. What Envoy
//! cannot use is a fault of the connection here, which the client is told as 502 ([`Garbled`]).

#[cfg(test)]
mod edge;
mod judge;
mod line;
mod stream;

use std::io;

pub(super) use self::stream::{Back, Turn};

/// Longest head, bytes, its end included, as Envoy takes it from servers (`MAX_RESPONSE_HEADERS_KB`, 80).
const HEAD_MAX: usize = 80 * 1024;
/// What hyper reads ahead of a server at most: a head must fit in.
pub(super) const READ_AHEAD: usize = HEAD_MAX + 16 * 1024;

/// What a server sent is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protocol error")]
pub(super) struct Garbled;

impl Garbled {
    /// Whether this is why something failed.
    pub(super) fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            if error.is::<Self>()
                || inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl From<Garbled> for io::Error {
    fn from(garbled: Garbled) -> Self {
        Self::new(io::ErrorKind::InvalidData, garbled)
    }
}
