//! An answer of the next service, read as a client reads it.
//!
//! Only what a chain needs: who answered, the status, the body and its hash. Interim answers (1xx) are skipped.

use std::mem::MaybeUninit;

use crate::chunked::{Chunked, Piece};

/// Most header lines in one answer.
const MAX_HEADERS: usize = 64;
/// Largest head, and largest body, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// A complete answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Value of `x-served-by`; empty if a proxy answered by itself.
    pub served_by: String,
    /// `content-type` and `x-body-hash`, as far as they were there.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The connection may carry another request.
    pub reusable: bool,
}

/// The answer is not one, or ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no complete HTTP/1.1 answer")]
pub struct Broken;

/// Reads one answer from pieces of any size.
#[derive(Debug, Default)]
pub struct AnswerReader {
    input: Vec<u8>,
    answer: Option<Answer>,
    left: Left,
    /// The request was `HEAD`.
    head_only: bool,
}

#[derive(Debug, Default)]
enum Left {
    #[default]
    Nothing,
    Length(usize),
    Chunked(Chunked),
    /// Up to the end of the connection.
    All,
}

impl AnswerReader {
    /// A reader for the answer to one request; `head_only` for `HEAD`.
    pub fn new(head_only: bool) -> Self {
        Self {
            head_only,
            ..Self::default()
        }
    }

    /// Whether nothing has been read yet.
    pub fn is_untouched(&self) -> bool {
        self.answer.is_none() && self.input.is_empty()
    }

    /// Takes `bytes`; the answer once it is complete. What follows it is an error: nobody asked for it.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Broken> {
        self.input.extend_from_slice(bytes);
        while self.answer.is_none() {
            if !self.head()? {
                return Ok(None);
            }
        }
        let Some(answer) = &mut self.answer else {
            return Ok(None);
        };
        if answer.body.len() + self.input.len() > MAX_BYTES {
            return Err(Broken);
        }
        let complete = match &mut self.left {
            Left::Nothing => true,
            Left::All => {
                answer.body.append(&mut self.input);
                false
            }
            Left::Length(left) => {
                let take = self.input.len().min(*left);
                answer.body.extend(self.input.drain(..take));
                *left -= take;
                *left == 0
            }
            Left::Chunked(chunked) => {
                let mut rest = self.input.as_slice();
                let complete = loop {
                    match chunked.next(&mut rest).map_err(|_| Broken)? {
                        Piece::Data(data) => answer.body.extend_from_slice(data),
                        Piece::End => break true,
                        Piece::More => break false,
                    }
                };
                let used = self.input.len() - rest.len();
                self.input.drain(..used);
                complete
            }
        };
        if !complete {
            return Ok(None);
        }
        if self.input.is_empty() {
            Ok(self.answer.take())
        } else {
            Err(Broken)
        }
    }

    /// The connection has ended: complete only if the end of the connection is the end of the body.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn end(&mut self) -> Result<Answer, Broken> {
        match self.left {
            Left::All => self.answer.take().ok_or(Broken),
            _ => Err(Broken),
        }
    }

    /// Reads one head off the input, an interim answer's too. False when more bytes are needed.
    fn head(&mut self) -> Result<bool, Broken> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, &self.input, &mut headers)
            .map_err(|_| Broken)?;
        let httparse::Status::Complete(len) = status else {
            return if self.input.len() > MAX_BYTES {
                Err(Broken)
            } else {
                Ok(false)
            };
        };
        let code = response.code.ok_or(Broken)?;
        if code == 101 {
            return Err(Broken);
        }
        if code >= 200 {
            let mut answer = Answer {
                status: code,
                reusable: response.version == Some(1),
                ..Answer::default()
            };
            self.left = Left::All;
            for header in &*response.headers {
                let value = str::from_utf8(header.value).map_err(|_| Broken)?;
                match header.name.to_ascii_lowercase().as_str() {
                    "x-served-by" => value.clone_into(&mut answer.served_by),
                    name @ ("x-body-hash" | "content-type") => {
                        answer.headers.push((name.to_owned(), value.to_owned()));
                    }
                    "content-length" => {
                        self.left = Left::Length(value.trim().parse().map_err(|_| Broken)?);
                    }
                    "transfer-encoding" => self.left = Left::Chunked(Chunked::default()),
                    "connection" => answer.reusable &= !value.eq_ignore_ascii_case("close"),
                    _ => {}
                }
            }
            // RFC 9112 section 6.3.
            if self.head_only || matches!(code, 204 | 304) {
                self.left = Left::Nothing;
            }
            answer.reusable &= !matches!(self.left, Left::All);
            self.answer = Some(answer);
        }
        self.input.drain(..len);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Served-By: c\r\nContent-Length: 3\r\n\r\nabc";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nx-served-by: c\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

    #[test]
    fn however_it_is_cut_it_is_the_same_answer() {
        for wire in [PLAIN, CHUNKED] {
            for cut in 0..wire.len() {
                let mut reader = AnswerReader::new(false);
                assert_eq!(reader.feed(&wire[..cut]), Ok(None), "cut at {cut}");
                let answer = reader.feed(&wire[cut..]).unwrap().unwrap();
                assert_eq!(
                    (answer.status, answer.served_by.as_str(), answer.reusable),
                    (200, "c", true)
                );
                assert_eq!(answer.body, b"abc");
            }
        }
    }

    #[test]
    fn the_end_of_the_connection_ends_only_what_has_no_other_end() {
        let mut open = AnswerReader::new(false);
        assert_eq!(open.feed(b"HTTP/1.1 200 OK\r\n\r\nab"), Ok(None));
        let answer = open.end().unwrap();
        assert_eq!(
            (answer.body.as_slice(), answer.reusable),
            (&b"ab"[..], false)
        );
        let mut cut = AnswerReader::new(false);
        assert_eq!(cut.feed(&PLAIN[..PLAIN.len() - 1]), Ok(None));
        assert_eq!(cut.end(), Err(Broken));
    }

    #[test]
    fn no_body_where_none_can_be() {
        let mut reader = AnswerReader::new(true);
        let answer = reader.feed(&PLAIN[..PLAIN.len() - 3]).unwrap().unwrap();
        assert!(answer.body.is_empty());
        let mut more = AnswerReader::new(true);
        assert_eq!(more.feed(PLAIN), Err(Broken));
    }
}
