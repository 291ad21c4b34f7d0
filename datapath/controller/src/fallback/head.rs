//! A parsed request as a head that the decision code scans: the same code, the same tables, the same answer.

use http::Version;
use http::header::HOST;
use hyper::Request;
use kmesh_api::head::Head;
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::{Length, Outcome, admit, begin_request, request_length, scan};

use super::anchor::HEAD_MAX;

/// What tells a request's scheme (`kmesh-config` compiles `:scheme` to it).
const FORWARDED_PROTO: &[u8] = b"x-forwarded-proto";

/// What the scanner made of a request.
pub(super) struct Scanned {
    /// The head with what was found in it.
    pub head: Box<Head<HEAD_MAX>>,
    /// Whether the kernel would have carried the request, had there been an upstream.
    pub kernel_bound: bool,
}

/// Writes the request's head out and scans it.
///
/// # Errors
/// The scanner's reason for refusing, as an HTTP server would: malformed or too long.
pub(super) fn scan_request<B>(image: &Image, request: &Request<B>) -> Result<Scanned, Reason> {
    let mut bytes = Vec::with_capacity(1024);
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    bytes.extend_from_slice(request.method().as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(target.as_bytes());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    // In absolute form the target's authority replaces the Host header (RFC 9112 section 3.2.2).
    let authority = request.uri().authority();
    if let Some(authority) = authority {
        push(&mut bytes, b"host", authority.as_str().as_bytes());
    }
    // An HTTP/2 request says itself what its scheme is, whatever was forwarded.
    let scheme = (request.version() == Version::HTTP_2).then(|| request.uri().scheme());
    if let Some(Some(scheme)) = scheme {
        push(&mut bytes, FORWARDED_PROTO, scheme.as_str().as_bytes());
    }
    for (name, value) in request.headers() {
        let replaced = authority.is_some() && name == HOST
            || scheme.is_some() && name.as_str().as_bytes() == FORWARDED_PROTO;
        if !replaced {
            push(&mut bytes, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    bytes.extend_from_slice(b"\r\n");
    if bytes.len() > HEAD_MAX {
        return Err(Reason::HeadTooLong);
    }
    // SAFETY: all fields are integers or arrays of integers, for which zero is a value. On the heap from the start: the
    // struct is larger than a stack frame should be.
    let mut head: Box<Head<HEAD_MAX>> = unsafe { Box::new_zeroed().assume_init() };
    begin_request(&mut *head);
    let carried = CARRIED.contains(&request.method().as_str());
    if !carried {
        begin_at_target(image, &mut head, request.method().as_str().len() + 1);
    }
    head.bytes[..bytes.len()].copy_from_slice(&bytes);
    head.length = bytes.len() as u32;
    match scan(image, &mut *head) {
        Outcome::Complete => {}
        Outcome::Refused(reason) if reason == Reason::TooManyHeaders as u32 => {
            return Err(Reason::TooManyHeaders);
        }
        Outcome::Partial | Outcome::Refused(_) => return Err(Reason::Malformed),
    }
    let kernel_bound = match request_length(&head) {
        Length::Known(total) => carried && admit(&head, total).is_ok(),
        // The next one may come whole.
        Length::Chunked => carried && admit(&head, 0).is_ok(),
        Length::Unknown(_) => false,
    };
    Ok(Scanned { head, kernel_bound })
}

/// The methods that the kernel carries. Others come here, and those that Envoy refuses come no further than the front.
const CARRIED: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT",
];

/// Lets the scanner, which refuses methods that the kernel does not carry, begin behind a method that ends before `target`.
fn begin_at_target(image: &Image, head: &mut Head<HEAD_MAX>, target: usize) {
    const KNOWN: &[u8] = b"GET ";
    head.bytes[..KNOWN.len()].copy_from_slice(KNOWN);
    head.length = KNOWN.len() as u32;
    // Partial: the target is next.
    let _ = scan(image, head);
    head.position = target as u32;
    head.target_at = target as u32;
}

fn push(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}
