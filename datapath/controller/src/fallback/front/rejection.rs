//! What a client is told instead of being served.

use hyper::StatusCode;

use crate::fallback::reply::Reply;

/// A status, with Envoy's way of saying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fallback) struct Rejection {
    /// The status.
    pub(super) status: StatusCode,
    /// Whether the status' name is the body: Envoy's codec says it, its connection manager does not.
    named: bool,
}

impl Rejection {
    /// The codec's word for what it cannot read.
    pub(in crate::fallback) const MALFORMED: Self = Self::named(StatusCode::BAD_REQUEST);
    /// More head than is taken.
    pub(super) const TOO_LARGE: Self = Self::named(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    /// A transfer coding other than chunked (RFC 9112 section 6.1).
    pub(super) const CODING: Self = Self::named(StatusCode::NOT_IMPLEMENTED);
    /// Not HTTP/1.1.
    pub(super) const VERSION: Self = Self::named(StatusCode::UPGRADE_REQUIRED);
    /// Readable, and not what a request may say.
    pub(super) const UNFIT: Self = Self::bare(StatusCode::BAD_REQUEST);
    /// No route can lead there.
    pub(super) const NOWHERE: Self = Self::bare(StatusCode::NOT_FOUND);

    const fn named(status: StatusCode) -> Self {
        Self {
            status,
            named: true,
        }
    }

    const fn bare(status: StatusCode) -> Self {
        Self {
            status,
            named: false,
        }
    }

    /// The reply.
    pub(in crate::fallback) fn reply(self) -> Reply {
        let name = self.status.canonical_reason().unwrap_or_default();
        Reply::new(self.status, if self.named { name } else { "" })
    }
}
