//! The words behind a status: of the server's own none reach the client, as with Envoy, which writes what its table says.

use hyper::Response;
use hyper::StatusCode;
use hyper::ext::ReasonPhrase;

/// Envoy's words for a status, as real Envoy 1.40 wrote them for every status from 200 to 999.
pub(super) fn of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        203 => "Non-Authoritative Information",
        418 | 451 => UNKNOWN,
        599 => "Last Unassigned Server Error Code",
        _ => status.canonical_reason().unwrap_or(UNKNOWN),
    }
}

const UNKNOWN: &str = "Unknown";

/// Has hyper write Envoy's words in the status line, whatever the server's were.
pub(super) fn put<B>(response: &mut Response<B>) {
    let words = of(response.status());
    if response.status().canonical_reason() == Some(words) {
        response.extensions_mut().remove::<ReasonPhrase>();
    } else {
        let words = ReasonPhrase::from_static(words.as_bytes());
        response.extensions_mut().insert(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every status from 200 on for which Envoy 1.40 had words.
    const KNOWN: &str = "200 OK, 201 Created, 202 Accepted, 203 Non-Authoritative Information, 204 No Content, \
        205 Reset Content, 206 Partial Content, 207 Multi-Status, 208 Already Reported, 226 IM Used, \
        300 Multiple Choices, 301 Moved Permanently, 302 Found, 303 See Other, 304 Not Modified, 305 Use Proxy, \
        307 Temporary Redirect, 308 Permanent Redirect, 400 Bad Request, 401 Unauthorized, 402 Payment Required, \
        403 Forbidden, 404 Not Found, 405 Method Not Allowed, 406 Not Acceptable, \
        407 Proxy Authentication Required, 408 Request Timeout, 409 Conflict, 410 Gone, 411 Length Required, \
        412 Precondition Failed, 413 Payload Too Large, 414 URI Too Long, 415 Unsupported Media Type, \
        416 Range Not Satisfiable, 417 Expectation Failed, 421 Misdirected Request, 422 Unprocessable Entity, \
        423 Locked, 424 Failed Dependency, 425 Too Early, 426 Upgrade Required, 428 Precondition Required, \
        429 Too Many Requests, 431 Request Header Fields Too Large, 500 Internal Server Error, \
        501 Not Implemented, 502 Bad Gateway, 503 Service Unavailable, 504 Gateway Timeout, \
        505 HTTP Version Not Supported, 506 Variant Also Negotiates, 507 Insufficient Storage, \
        508 Loop Detected, 510 Not Extended, 511 Network Authentication Required, \
        599 Last Unassigned Server Error Code";

    #[test]
    fn the_words_are_envoys() {
        let known: std::collections::BTreeMap<&str, &str> = KNOWN
            .split(", ")
            .map(|entry| entry.split_once(' ').unwrap())
            .collect();
        for number in 200..1000 {
            let status = StatusCode::from_u16(number).unwrap();
            let wanted = known.get(number.to_string().as_str());
            assert_eq!(of(status), wanted.copied().unwrap_or("Unknown"), "{number}");
        }
    }

    #[test]
    fn a_servers_words_go_and_what_hyper_would_write_is_left_to_it() {
        let put_on = |status, words: &'static [u8]| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let own = ReasonPhrase::from_static(words);
            response.extensions_mut().insert(own);
            put(&mut response);
            let words = response.extensions().get::<ReasonPhrase>();
            words.map(|words| words.as_bytes().to_vec())
        };
        assert_eq!(put_on(200, b""), None);
        assert_eq!(put_on(404, b"Lost"), None);
        assert_eq!(put_on(418, b"Tea"), Some(b"Unknown".to_vec()));
        assert_eq!(put_on(299, b"Odd"), Some(b"Unknown".to_vec()));
    }
}
