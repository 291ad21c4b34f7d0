//! One answer, rendered into one buffer so that it leaves in one write.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::date::http_date;

/// Everything an answer is made of.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Status code, 200..=599.
    pub status: u16,
    /// The request was HTTP/1.0, which must be told that the connection stays open.
    pub http10: bool,
    /// The connection stays open afterwards.
    pub keep_alive: bool,
    /// Answer to `HEAD`: the length is told, the body is not sent.
    pub head_only: bool,
    /// Value for `x-request-seq`.
    pub seq: Option<&'a [u8]>,
    /// Value for `x-body-hash`.
    pub body_hash: Option<u64>,
    /// Value for `content-type`.
    pub content_type: Option<&'a [u8]>,
    /// More headers, names and values already checked.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

impl Response<'_> {
    /// Appends the answer to `out`. `name` is the value of `x-served-by`, `date` that of `date`.
    pub fn render(&self, name: &str, date: &[u8], out: &mut Vec<u8>) {
        out.reserve(256 + self.body.len());
        if self.status == 200 {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\nx-served-by: ");
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            push_decimal(out, u64::from(self.status));
            out.push(b' ');
            out.extend_from_slice(reason(self.status).as_bytes());
            out.extend_from_slice(b"\r\nx-served-by: ");
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(date);
        // 204 and 304 have no body whatever their headers say (RFC 9112 section 6.3).
        let bodiless = matches!(self.status, 204 | 304);
        if !bodiless {
            out.extend_from_slice(b"\r\ncontent-length: ");
            push_decimal(out, self.body.len() as u64);
        }
        if let Some(kind) = self.content_type {
            out.extend_from_slice(b"\r\ncontent-type: ");
            out.extend_from_slice(kind);
        }
        if let Some(seq) = self.seq {
            out.extend_from_slice(b"\r\nx-request-seq: ");
            out.extend_from_slice(seq);
        }
        if let Some(hash) = self.body_hash {
            out.extend_from_slice(format!("\r\nx-body-hash: {hash:016x}").as_bytes());
        }
        for (name, value) in self.headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        if !self.keep_alive {
            out.extend_from_slice(b"\r\nconnection: close");
        } else if self.http10 {
            out.extend_from_slice(b"\r\nconnection: keep-alive");
        }
        out.extend_from_slice(b"\r\n\r\n");
        if !bodiless && !self.head_only {
            out.extend_from_slice(self.body);
        }
    }
}

/// The value of the `date` header, recomputed when the second changes.
#[derive(Debug)]
pub struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    /// The current date.
    pub fn new() -> Self {
        let mut cache = Self {
            second: u64::MAX,
            text: String::new(),
        };
        cache.refresh(SystemTime::now());
        cache
    }

    /// Takes over the time `now`.
    pub fn refresh(&mut self, now: SystemTime) {
        let second = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        if second != self.second {
            self.second = second;
            self.text = http_date(second);
        }
    }

    /// The header value.
    pub fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // The phrase may be empty (RFC 9112 section 4); the blank before it may not.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Response<'_> = Response {
        status: 200,
        http10: false,
        keep_alive: true,
        head_only: false,
        seq: None,
        body_hash: None,
        content_type: None,
        headers: &[],
        body: b"hi",
    };

    fn text(response: Response<'_>) -> String {
        let mut out = Vec::new();
        response.render("pod", b"D", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_rendered_in_full() {
        let headers = [("a".to_owned(), "b".to_owned())];
        let all = Response {
            status: 503,
            keep_alive: false,
            seq: Some(b"7"),
            body_hash: Some(0xab),
            content_type: Some(b"x/y"),
            headers: &headers,
            ..PLAIN
        };
        assert_eq!(
            text(all),
            "HTTP/1.1 503 Service Unavailable\r\nx-served-by: pod\r\ndate: D\r\ncontent-length: 2\r\ncontent-type: x/y\r\n\
             x-request-seq: 7\r\nx-body-hash: 00000000000000ab\r\na: b\r\nconnection: close\r\n\r\nhi"
        );
    }

    #[test]
    fn answers_without_a_body_have_none() {
        let head = text(Response {
            head_only: true,
            ..PLAIN
        });
        assert!(
            head.contains("content-length: 2\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        for status in [204, 304] {
            let bodiless = text(Response { status, ..PLAIN });
            assert!(
                !bodiless.contains("content-length") && bodiless.ends_with("\r\n\r\n"),
                "{bodiless}"
            );
        }
    }

    #[test]
    fn http10_is_told_that_the_connection_stays() {
        assert!(
            text(Response {
                http10: true,
                ..PLAIN
            })
            .contains("\r\nconnection: keep-alive\r\n")
        );
        assert!(!text(PLAIN).contains("connection"));
    }
}
