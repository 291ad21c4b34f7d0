//! What is made of a head: a response written anew for hyper, or nothing.

use hyper::StatusCode;

use super::super::front::fields::{self, Field};
use super::super::phrase;
use super::{Garbled, line};

/// A response that hyper may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// Its head, in the one form that nobody misreads.
    pub(super) head: Vec<u8>,
    /// Whether another response follows it.
    pub(super) is_interim: bool,
}

/// Judges a head, from its status line to its blank line.
///
/// # Errors
/// If Envoy would not use it.
pub(super) fn judge(head: &[u8]) -> Result<Passed, Garbled> {
    let feed = head.iter().position(|byte| *byte == b'\n');
    let (line, block) = head.split_at(feed.map_or(head.len(), |feed| feed + 1));
    let line = line::parse(line)?;
    if !fields::is_clean(head) {
        return Err(Garbled);
    }
    let fields = fields::parse(block).map_err(|_| Garbled)?;
    framing(&fields, line.status)?;
    let status = StatusCode::from_u16(line.status).map_err(|_| Garbled)?;
    // hyper wants three digits, and keeps words of which it does not think itself.
    let words = phrase::of(status);
    let mut text = format!("HTTP/1.1 {} {words}\r\n", status.as_str()).into_bytes();
    for field in &fields {
        push(&mut text, field.name.as_bytes(), &field.value());
    }
    if !line.is_http11 {
        push(&mut text, b"connection", b"close");
    }
    text.extend_from_slice(b"\r\n");
    Ok(Passed {
        head: text,
        is_interim: line.status < 200 && line.status != 101,
    })
}

fn push(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

/// Checks that there is one way at most to find the end of the body, and none where there is no body.
fn framing(fields: &[Field<'_>], status: u16) -> Result<(), Garbled> {
    let mut lengths = fields.iter().filter(|field| field.is("content-length"));
    let mut codings = fields.iter().filter(|field| field.is("transfer-encoding"));
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() || length.is_some() && coding.is_some()
    {
        return Err(Garbled);
    }
    let bodiless = status < 200 || status == 204;
    if let Some(coding) = coding
        && (bodiless || !coding.value().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(Garbled);
    }
    let Some(length) = length.map(Field::value) else {
        return Ok(());
    };
    let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(&length).map(str::parse::<u64>);
    if !digits || !matches!(number, Ok(Ok(_))) || bodiless && *length != *b"0" {
        return Err(Garbled);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &str) -> Result<String, Garbled> {
        judge(head.as_bytes()).map(|passed| String::from_utf8(passed.head).unwrap_or_default())
    }

    #[test]
    fn a_head_has_one_form_whatever_it_came_in() {
        let written = "HTTP/1.1 200 OK\r\na: b c\r\ncontent-length: 2\r\n\r\n";
        for head in [
            "HTTP/1.1 200 OK\r\na: b c\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1\t+200\na:\tb\r c\ncontent-length:\n 2\n\n",
        ] {
            assert_eq!(judged(head).as_deref(), Ok(written), "{head:?}");
        }
        let old = "HTTP/1.0 200 OK\r\n\r\n";
        let closed = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        assert_eq!(judged(old).as_deref(), Ok(closed));
    }

    #[test]
    fn interim_responses_are_told_from_the_last() {
        let interim = |status| {
            let head = format!("HTTP/1.1 {status} a\r\n\r\n");
            judge(head.as_bytes()).map(|passed| passed.is_interim)
        };
        let of = [100, 103, 199, 101, 200].map(interim);
        assert_eq!(of, [Ok(true), Ok(true), Ok(true), Ok(false), Ok(false)]);
    }

    #[test]
    fn a_body_ends_in_one_way() {
        for (status, fields, good) in [
            (200, "content-length: 2\r\n", true),
            (200, "content-length: 002\r\n", true),
            (200, "content-length: 18446744073709551615\r\n", true),
            (200, "content-length: 18446744073709551616\r\n", false),
            (200, "content-length: +2\r\n", false),
            (200, "content-length:\r\n", false),
            (200, "content-length: 2, 2\r\n", false),
            (200, "content-length: 2\r\ncontent-length: 2\r\n", false),
            (200, "transfer-encoding: Chunked\r\n", true),
            (200, "transfer-encoding: gzip, chunked\r\n", false),
            (200, "transfer-encoding:\r\n", false),
            (
                200,
                "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
                false,
            ),
            (204, "content-length: 0\r\n", true),
            (204, "content-length: 00\r\n", false),
            (204, "content-length: 5\r\n", false),
            (204, "transfer-encoding: chunked\r\n", false),
            (103, "content-length: 5\r\n", false),
            (101, "content-length: 5\r\n", false),
            (304, "content-length: 5\r\n", true),
            (304, "transfer-encoding: chunked\r\n", true),
        ] {
            let head = format!("HTTP/1.1 {status} a\r\n{fields}\r\n");
            assert_eq!(judged(&head).is_ok(), good, "{head:?}");
        }
    }
}
