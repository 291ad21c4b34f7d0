//! Replies made here, in Envoy's words.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use super::anchor::Anchor;
use super::body::Answer;
use super::exchange::Failure;

/// A reply instead of an upstream's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its body, plain text; may be empty.
    pub text: String,
    /// Where it sends the client instead.
    pub location: Option<String>,
}

impl Reply {
    /// A status and a text.
    pub(super) fn new(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            text: text.to_owned(),
            location: None,
        }
    }

    /// What Envoy answers when the last try failed; `tries` came before it.
    pub(super) fn to_failure(failure: &Failure, tries: u32) -> Self {
        if matches!(failure, Failure::TryTimeout) {
            return Self::new(StatusCode::GATEWAY_TIMEOUT, TIMEOUT);
        }
        let retried = if tries > 0 {
            "retried and the latest "
        } else {
            ""
        };
        let text = format!(
            "upstream connect error or disconnect/reset before headers. {retried}reset reason: {failure}"
        );
        let status = match failure {
            Failure::Garbled(_) => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            text,
            location: None,
        }
    }

    /// The reply as a response; a gRPC client gets it as a status of its own kind.
    pub(super) fn response(self, anchor: &Arc<Anchor>, to_grpc: bool) -> Response<Answer> {
        let text = Bytes::from(self.text);
        let location = self.location.and_then(|location| location.parse().ok());
        if to_grpc {
            let mut response = Response::new(Answer::made(anchor, Bytes::new()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", grpc_status(self.status).into());
            if let Ok(message) = HeaderValue::from_bytes(&text)
                && !message.is_empty()
            {
                headers.insert("grpc-message", message);
            }
            headers.extend(location.map(|location| (LOCATION, location)));
            return response;
        }
        let typed = !text.is_empty();
        let mut response = Response::new(Answer::made(anchor, text));
        *response.status_mut() = self.status;
        if typed {
            let plain = HeaderValue::from_static("text/plain");
            response.headers_mut().insert(CONTENT_TYPE, plain);
        }
        let headers = response.headers_mut();
        headers.extend(location.map(|location| (LOCATION, location)));
        response
    }
}

/// Envoy's words when a route's time is over.
pub(super) const TIMEOUT: &str = "upstream request timeout";

/// Whether the request is a gRPC call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'+')
}

/// The gRPC status for an HTTP status (`http-grpc-status-mapping.md` of gRPC).
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 answered when asked.
    #[test]
    fn the_words_are_envoys() {
        let overflow = Reply::to_failure(&Failure::Overflow, 0);
        let words =
            "upstream connect error or disconnect/reset before headers. reset reason: overflow";
        assert_eq!(overflow, Reply::new(StatusCode::SERVICE_UNAVAILABLE, words));
        let words = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: overflow";
        assert_eq!(Reply::to_failure(&Failure::Overflow, 2).text, words);
        let late = Reply::new(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout");
        assert_eq!(Reply::to_failure(&Failure::TryTimeout, 1), late);
    }

    #[test]
    fn grpc_is_told_by_its_type() {
        let typed = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            is_grpc(&headers)
        };
        assert!(typed("application/grpc") && typed("application/grpc+proto"));
        assert!(!typed("application/grpc-web") && !typed("text/plain"));
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
