//! The head of a request: what it asks, how its body is framed, and whether it can be answered at all.

use std::mem::MaybeUninit;

/// Largest request head in bytes.
pub const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most header lines in one request.
pub const MAX_HEADERS: usize = 128;

/// A complete request head; borrows from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one request"
)]
pub struct Head<'a> {
    /// The method is `HEAD`: the answer has no body.
    pub head_only: bool,
    /// Path without query.
    pub path: &'a str,
    /// What follows the first `?`, if there is one.
    pub query: Option<&'a str>,
    /// The request is HTTP/1.0.
    pub http10: bool,
    /// The client wants the connection to stay open.
    pub keep_alive: bool,
    /// Where the body ends.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Value of `x-request-seq`.
    pub seq: Option<&'a [u8]>,
    /// Value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// Bytes of the head, the empty line included.
    pub len: usize,
}

/// How the end of a request body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes, at least 1.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// Why a request is answered with an error and the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: not HTTP/1.x, or ambiguous framing.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// 413: a body that would have to be kept is above [`crate::session::MAX_BODY_BYTES`].
    #[error("request body too large to echo")]
    BodyTooLarge,
    /// 417: an expectation other than `100-continue`.
    #[error("unknown expectation")]
    Expectation,
    /// 431: head above [`MAX_HEAD_BYTES`], or more than [`MAX_HEADERS`] lines.
    #[error("request head too large")]
    HeadTooLarge,
    /// 501: a transfer coding other than `chunked`.
    #[error("unknown transfer coding")]
    Coding,
    /// 505: HTTP/2 or later.
    #[error("not HTTP/1.x")]
    Version,
}

impl Refusal {
    /// Status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::BodyTooLarge => 413,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::Coding => 501,
            Self::Version => 505,
        }
    }
}

/// Parses the head at the front of `input`; `None` if it is not complete yet.
///
/// # Errors
/// When the request must be refused.
pub fn parse(input: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let status = match request.parse_with_uninit_headers(input, &mut headers) {
        Ok(status) => status,
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Refusal::Version),
        Err(httparse::Error::HeaderName) => return Err(Refusal::Malformed("header name")),
        Err(httparse::Error::HeaderValue) => return Err(Refusal::Malformed("header value")),
        Err(_) => return Err(Refusal::Malformed("request line or line end")),
    };
    let httparse::Status::Complete(len) = status else {
        return if input.len() > MAX_HEAD_BYTES {
            Err(Refusal::HeadTooLarge)
        } else {
            Ok(None)
        };
    };
    if len > MAX_HEAD_BYTES {
        return Err(Refusal::HeadTooLarge);
    }
    let http10 = request.version == Some(0);
    let fields = Fields::read(request.headers)?;
    if fields.hosts > 1 || (fields.hosts == 0 && !http10) {
        return Err(Refusal::Malformed("not exactly one host"));
    }
    let (path, query) = split_target(request.path.unwrap_or("/"));
    Ok(Some(Head {
        head_only: request.method == Some("HEAD"),
        path,
        query,
        http10,
        keep_alive: if http10 {
            fields.keep_alive && !fields.close
        } else {
            !fields.close
        },
        framing: fields.framing(http10)?,
        expects_continue: fields.expects_continue && !http10,
        seq: fields.seq,
        content_type: fields.content_type,
        len,
    }))
}

/// The header fields this server looks at.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each records that one header was seen"
)]
struct Fields<'a> {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    seq: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value);
            // By length first: most names are ruled out by one comparison.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    fields.hosts += 1;
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::Expectation);
                    }
                    fields.expects_continue = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    for token in value.split(|b| *b == b',') {
                        let token = token.trim_ascii();
                        fields.close |= token.eq_ignore_ascii_case(b"close");
                        fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                12 if name.eq_ignore_ascii_case("content-type") => {
                    fields.content_type = Some(value);
                }
                13 if name.eq_ignore_ascii_case("x-request-seq") => fields.seq = Some(value),
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let length = parse_length(value).ok_or(Refusal::Malformed("content-length"))?;
                    if fields.length.is_some_and(|before| before != length) {
                        return Err(Refusal::Malformed("two lengths"));
                    }
                    fields.length = Some(length);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::Coding);
                    }
                    fields.chunked = true;
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// RFC 9112 section 6.3, with every ambiguous case refused.
    fn framing(&self, http10: bool) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::Malformed(
                "both content-length and transfer-encoding",
            )),
            (true, None) if http10 => Err(Refusal::Malformed("transfer-encoding in HTTP/1.0")),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// Digits only: no sign, no blank, no list.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Path and query of origin-form (`/a?b`), absolute-form (`http://h/a?b`) and asterisk-form targets.
fn split_target(target: &str) -> (&str, Option<&str>) {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head<'_> {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_head_is_complete_at_its_empty_line_and_not_before() {
        let text = "POST /a/b?size=5&x=? HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nX-Request-Seq: 42\r\n\r\nrest";
        let len = text.len() - 4;
        for end in 0..len {
            assert_eq!(parse(&text.as_bytes()[..end]), Ok(None), "at {end}");
        }
        let head = head(text);
        assert_eq!(
            (head.path, head.query, head.len),
            ("/a/b", Some("size=5&x=?"), len)
        );
        assert_eq!(
            (head.framing, head.seq),
            (Framing::Length(7), Some(&b"42"[..]))
        );
    }

    #[test]
    fn connection_persistence_follows_version_and_header() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n",
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                true,
            ),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ];
        for (text, keep) in cases {
            assert_eq!(head(text).keep_alive, keep, "{text}");
        }
    }

    #[test]
    fn refusals_have_the_right_status() {
        let many = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS)
        );
        let big = format!(
            "GET / HTTP/1.1\r\nHost: h\r\na: {}\r\n\r\n",
            "x".repeat(MAX_HEAD_BYTES)
        );
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("G@T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
                501,
            ),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                501,
            ),
            ("GET / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n", 417),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            (&many, 431),
            (&big, 431),
            (&big[..=MAX_HEAD_BYTES], 431),
        ];
        for (text, status) in cases {
            let refusal = parse(text.as_bytes()).unwrap_err();
            assert_eq!(refusal.status(), status, "{text:.80}: {refusal}");
        }
    }

    #[test]
    fn every_form_of_target_gives_path_and_query() {
        let cases = [
            ("/", ("/", None)),
            ("/a?", ("/a", Some(""))),
            ("http://host:80/a?b", ("/a", Some("b"))),
            ("http://host?b", ("", Some("b"))),
            ("http://host", ("/", None)),
            ("/a?u=http://x/", ("/a", Some("u=http://x/"))),
            ("*", ("*", None)),
        ];
        for (target, want) in cases {
            assert_eq!(split_target(target), want, "{target}");
        }
    }
}
