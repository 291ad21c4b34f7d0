//! What is made of a head: a request written anew for hyper, with where its body ends, or a rejection.

use hyper::Method;

use super::connection::{Connection, joined};
use super::fields::{self, Field};
use super::line::{self, Version};
use super::target::{self, is_authority};
use super::{Order, Rejection};

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes, often none.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// A request that hyper may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Its head, in the one form that nobody misreads.
    pub(super) head: Vec<u8>,
    /// Its body.
    pub(super) framing: Framing,
    /// The rest is another protocol's.
    pub(super) upgrade: bool,
    /// What the service is to do with it.
    pub(super) order: Order,
}

/// Judges a head, from its request line to its blank line, as Envoy does and in Envoy's order.
///
/// # Errors
/// What the client is told before the connection ends.
pub(super) fn judge(head: &[u8]) -> Result<Passed, Rejection> {
    let feed = head.iter().position(|byte| *byte == b'\n');
    let (line, block) = head.split_at(feed.map_or(head.len(), |feed| feed + 1));
    let line = line::parse(line)?;
    let target = target::parse(line.method, line.target);
    if line.version == Version::None {
        return Err(target.err().unwrap_or(Rejection::VERSION));
    }
    if !fields::is_clean(head) {
        return Err(Rejection::MALFORMED);
    }
    let fields = fields::parse(block)?;
    let framing = framing(&fields)?;
    if line.version == Version::Other {
        return Err(Rejection::VERSION);
    }
    let connect = line.method == Method::CONNECT.as_str();
    let framing = match framing {
        Some(Body::Unknown) => return Err(Rejection::CODING),
        Some(Body::Chunked) if connect => return Err(Rejection::CODING),
        Some(Body::Length(length)) if connect && length > 0 => return Err(Rejection::MALFORMED),
        Some(Body::Chunked) => Framing::Chunked,
        Some(Body::Length(length)) => Framing::Length(length),
        None => Framing::Length(0),
    };
    let connection = Connection::of(&fields)?;
    let target = target?;
    let host = match target.authority {
        Some(authority) => Some(authority.to_owned()),
        None => joined(&fields, "host").filter(|_| !connection.named.iter().any(|n| n == "host")),
    };
    if !host.as_deref().is_none_or(is_authority) {
        return Err(Rejection::MALFORMED);
    }
    let answer = if host.is_none() {
        Some(Rejection::UNFIT)
    } else {
        target.answer
    };
    let mut text = format!("{} {} HTTP/1.1\r\n", line.method, target.path).into_bytes();
    if let Some(host) = &host {
        push(&mut text, "host", host.as_bytes());
    }
    write_fields(&mut text, &fields, &connection);
    text.extend_from_slice(b"\r\n");
    Ok(Passed {
        head: text,
        framing,
        upgrade: connection.upgrade.is_some(),
        order: Order {
            answer,
            last: connection.upgrade.is_some() || answer == Some(Rejection::UNFIT),
        },
    })
}

/// Why a request is refused whatever follows its line; `None` too if the line is not there yet.
pub(super) fn judge_line(head: &[u8]) -> Option<Rejection> {
    let feed = head.iter().position(|byte| *byte == b'\n')?;
    match line::parse(&head[..=feed]) {
        Err(rejection) => Some(rejection),
        // The line is all of the request.
        Ok(line) if line.version == Version::None => judge(&head[..=feed]).err(),
        Ok(_) => None,
    }
}

/// The request that stands for one that is refused: it takes the rejection's turn among the answers.
pub(super) fn stand_in(refused: &[u8], rejection: Rejection) -> Passed {
    let method = if refused.starts_with(b"HEAD ") {
        Method::HEAD
    } else {
        Method::GET
    };
    Passed {
        head: format!("{method} / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n")
            .into_bytes(),
        framing: Framing::Length(0),
        upgrade: false,
        order: Order {
            answer: Some(rejection),
            last: true,
        },
    }
}

enum Body {
    Length(u64),
    Chunked,
    /// A coding that is not known, so nothing after it can be found.
    Unknown,
}

/// What the fields say of the body's end (RFC 9112 section 6). Two that say something are refused, even if they agree.
fn framing(fields: &[Field<'_>]) -> Result<Option<Body>, Rejection> {
    let mut found: Option<Body> = None;
    for field in fields {
        let body = if field.is("content-length") {
            Body::Length(length(field.raw).ok_or(Rejection::MALFORMED)?)
        } else if field.is("transfer-encoding") {
            coding(field)?
        } else {
            continue;
        };
        found = match (found, body) {
            (None, body) => Some(body),
            // A list of codings, none of which is chunked alone.
            (Some(Body::Chunked | Body::Unknown), Body::Chunked | Body::Unknown) => {
                Some(Body::Unknown)
            }
            _ => return Err(Rejection::MALFORMED),
        };
    }
    Ok(found)
}

fn coding(field: &Field<'_>) -> Result<Body, Rejection> {
    if field.raw.eq_ignore_ascii_case(b"chunked") {
        return Ok(Body::Chunked);
    }
    // Stricter than Envoy, which takes `chun\rked` for chunked in one place and not in another.
    if field.value().eq_ignore_ascii_case(b"chunked") {
        return Err(Rejection::MALFORMED);
    }
    Ok(Body::Unknown)
}

fn length(digits: &[u8]) -> Option<u64> {
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(digits).ok().filter(|_| sound)?;
    text.parse().ok()
}

fn write_fields(text: &mut Vec<u8>, fields: &[Field<'_>], connection: &Connection) {
    for field in fields {
        // Framing headers end no body for having been named.
        let framing = field.is("content-length") || field.is("transfer-encoding");
        if framing {
            push(text, field.name, field.raw);
        } else if !field.is("host") && !connection.ends(field) {
            push(text, field.name, &field.value());
        }
    }
    if let Some(upgrade) = &connection.upgrade {
        push(text, "connection", b"upgrade");
        push(text, "upgrade", upgrade.as_bytes());
    } else if connection.close {
        push(text, "connection", b"close");
    }
}

fn push(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(head: &str) -> Result<String, Rejection> {
        let passed = judge(head.as_bytes())?;
        Ok(String::from_utf8(passed.head).unwrap())
    }

    #[test]
    fn heads_are_written_anew() {
        let plain = "GET /a HTTP/1.1\r\nhost: a.test\r\nx: y z\r\n\r\n";
        for head in [
            "GET /a HTTP/1.1\r\nhost: a.test\r\nx: y z\r\n\r\n",
            "GET\t/a  HTTP/1.1 \nhost:a.test\nx: y\r\n z\n\n",
            "GET http://a.test/a HTTP/1.1\r\nhost: b.test\r\nx:\ty z \r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a.test\r\nx: y\r z\r\nconnection: c\r\nc: d\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a.test\r\nx: y z\r\nupgrade: b\r\nproxy-connection: c\r\n\r\n",
        ] {
            assert_eq!(text(head).as_deref(), Ok(plain), "{head:?}");
        }
        assert_eq!(
            text("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\nproxy-connection: Close\r\n\r\n")
                .as_deref(),
            Ok("GET / HTTP/1.1\r\nhost: a,b\r\nconnection: close\r\n\r\n")
        );
    }

    #[test]
    fn bodies_end_where_one_header_says() {
        let framing = |lines: &str| {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
            judge(head.as_bytes()).map(|passed| passed.framing)
        };
        assert_eq!(framing(""), Ok(Framing::Length(0)));
        assert_eq!(framing("content-length: 007\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("content-length:\r\n 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(
            framing("Transfer-Encoding:\r\n\tChunked\r\n"),
            Ok(Framing::Chunked)
        );
        for (lines, rejection) in [
            (
                "content-length: 2\r\ncontent-length: 2\r\n",
                Rejection::MALFORMED,
            ),
            ("content-length: 2, 2\r\n", Rejection::MALFORMED),
            ("content-length: +2\r\n", Rejection::MALFORMED),
            ("content-length:\r\n", Rejection::MALFORMED),
            (
                "content-length: 18446744073709551616\r\n",
                Rejection::MALFORMED,
            ),
            (
                "content-length: 0\r\ntransfer-encoding: chunked\r\n",
                Rejection::MALFORMED,
            ),
            (
                "transfer-encoding: x\r\ncontent-length: 0\r\n",
                Rejection::MALFORMED,
            ),
            ("transfer-encoding: chun\rked\r\n", Rejection::MALFORMED),
            ("transfer-encoding: gzip, chunked\r\n", Rejection::CODING),
            ("transfer-encoding:\r\n", Rejection::CODING),
            (
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                Rejection::CODING,
            ),
        ] {
            assert_eq!(framing(lines), Err(rejection), "{lines:?}");
        }
    }

    #[test]
    fn some_answers_stand_at_once() {
        let order = |head: &str| judge(head.as_bytes()).map(|passed| passed.order);
        let answer = |rejection, last| {
            Ok(Order {
                answer: Some(rejection),
                last,
            })
        };
        assert_eq!(
            order("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"),
            answer(Rejection::NOWHERE, false)
        );
        for unfit in [
            "GET / HTTP/1.1\r\nx: y\r\n\r\n",
            "GET /#a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n",
        ] {
            assert_eq!(order(unfit), answer(Rejection::UNFIT, true), "{unfit:?}");
        }
        for (head, rejection) in [
            ("GET / HTTP/1.0\r\n\r\n", Rejection::VERSION),
            ("GET /\r\n", Rejection::VERSION),
            ("GET HTTP/1.1\r\n", Rejection::MALFORMED),
            (
                "CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
                Rejection::NOWHERE,
            ),
            ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", Rejection::MALFORMED),
            (
                "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
                Rejection::MALFORMED,
            ),
        ] {
            assert_eq!(order(head), Err(rejection), "{head:?}");
        }
    }
}
