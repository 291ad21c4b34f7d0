//! Reading answers: framing that is cheap in the common case and right in the others.
//!
//! RFC 9112 section 6.3 in order: no body after `HEAD`, 1xx, 204 and 304; chunked; `Content-Length`;
//! else until the connection closes. Bytes may come in pieces of any size; only an incomplete head is
//! ever copied.

use std::mem::MaybeUninit;

use kmesh_origin::chunked::{Chunked, Piece};

/// Largest response head in bytes.
pub const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

/// Reads the answer to one request after another on one connection.
#[derive(Debug, Default)]
pub struct ResponseReader {
    state: State,
    head_only: bool,
    /// Start of a head that is not complete.
    partial: Vec<u8>,
    answer: Answer,
}

/// What an answer said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The connection can be used again.
    pub keep_alive: bool,
    /// Value of `x-served-by`; empty without one.
    pub served_by: Vec<u8>,
    /// Value of `x-request-seq`; empty without one.
    pub seq: Vec<u8>,
    /// Value of `x-body-hash`.
    pub body_hash: Option<u64>,
    /// Bytes of the body.
    pub body_len: u64,
    /// So far the body is what was expected; true if nothing was.
    pub body_matches: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// Where the reader stands after some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input is used and the answer is not complete.
    More,
    /// The answer ends after this many bytes of the input.
    Done(usize),
}

impl ResponseReader {
    /// Starts on the answer to the next request; `head_only` if that was a `HEAD`.
    pub fn begin(&mut self, head_only: bool) {
        self.state = State::Head;
        self.head_only = head_only;
        self.partial.clear();
    }

    /// The answer read last; complete after [`Progress::Done`].
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Takes the next bytes; `expected` is the body to compare with, if any.
    ///
    /// # Errors
    /// When the bytes are not an HTTP/1.x response; the connection is of no more use.
    pub fn feed(
        &mut self,
        input: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<Progress, ResponseError> {
        let mut rest = input;
        loop {
            match &mut self.state {
                State::Head => {
                    let used = if self.partial.is_empty() {
                        self.read_head(rest)?
                    } else {
                        self.read_joined_head(rest)?
                    };
                    let Some(used) = used else {
                        return Ok(Progress::More);
                    };
                    rest = &rest[used..];
                    if matches!(self.state, State::Length(0)) {
                        return Ok(self.done(input.len() - rest.len(), expected));
                    }
                }
                State::Length(left) => {
                    let take =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= take as u64;
                    let complete = *left == 0;
                    let (data, after) = rest.split_at(take);
                    self.answer.take(data, expected);
                    rest = after;
                    if complete {
                        return Ok(self.done(input.len() - rest.len(), expected));
                    }
                    return Ok(Progress::More);
                }
                State::Chunked(chunked) => {
                    match chunked.next(&mut rest).map_err(|_| ResponseError::Chunk)? {
                        Piece::Data(data) => self.answer.take(data, expected),
                        Piece::End => return Ok(self.done(input.len() - rest.len(), expected)),
                        Piece::More => return Ok(Progress::More),
                    }
                }
                State::UntilClose => {
                    self.answer.take(rest, expected);
                    return Ok(Progress::More);
                }
            }
        }
    }

    /// The connection was closed: true if that is how this answer ends.
    pub fn end_of_input(&mut self, expected: Option<&[u8]>) -> bool {
        let complete = matches!(self.state, State::UntilClose);
        if complete {
            self.done(0, expected);
        }
        complete
    }

    fn done(&mut self, used: usize, expected: Option<&[u8]>) -> Progress {
        if let Some(expected) = expected
            && !self.head_only
        {
            self.answer.body_matches &= self.answer.body_len == expected.len() as u64;
        }
        self.state = State::Head;
        Progress::Done(used)
    }

    /// A head that began in earlier input. Returns the bytes of `input` it takes.
    fn read_joined_head(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let before = self.partial.len();
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(input);
        let used = self.read_head(&joined)?;
        // A 1xx that ends in what was kept cannot be: it would have been read then.
        Ok(used.map(|used| used.saturating_sub(before)))
    }

    /// Reads heads at the front of `input`, skipping 1xx; keeps an incomplete one. Returns its length.
    fn read_head(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let mut at = 0;
        loop {
            let Some(len) = self.parse_head(&input[at..])? else {
                if input.len() - at > MAX_HEAD_BYTES {
                    return Err(ResponseError::HeadTooLarge);
                }
                self.partial.extend_from_slice(&input[at..]);
                return Ok(None);
            };
            at += len;
            if self.answer.status == 101 {
                return Err(ResponseError::Upgrade);
            }
            if self.answer.status >= 200 {
                return Ok(Some(at));
            }
            self.state = State::Head;
        }
    }

    fn parse_head(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, input, &mut headers);
        let len = match parsed {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(source) => return Err(ResponseError::Head(source)),
        };
        let answer = &mut self.answer;
        answer.status = response.code.unwrap_or(0);
        answer.keep_alive = response.version == Some(1);
        answer.served_by.clear();
        answer.seq.clear();
        answer.body_hash = None;
        answer.body_len = 0;
        answer.body_matches = true;
        let (mut length, mut chunked) = (None, false);
        for header in &*response.headers {
            let (name, value) = (header.name, header.value);
            match name.len() {
                10 if name.eq_ignore_ascii_case("connection") => {
                    for token in value.split(|b| *b == b',') {
                        let token = token.trim_ascii();
                        if token.eq_ignore_ascii_case(b"close") {
                            answer.keep_alive = false;
                        } else if token.eq_ignore_ascii_case(b"keep-alive") {
                            answer.keep_alive = true;
                        }
                    }
                }
                11 if name.eq_ignore_ascii_case("x-served-by") => {
                    answer.served_by.extend_from_slice(value);
                }
                11 if name.eq_ignore_ascii_case("x-body-hash") => {
                    answer.body_hash = std::str::from_utf8(value)
                        .ok()
                        .and_then(|hex| u64::from_str_radix(hex, 16).ok());
                }
                13 if name.eq_ignore_ascii_case("x-request-seq") => {
                    answer.seq.extend_from_slice(value);
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let value = parse_length(value).ok_or(ResponseError::Length)?;
                    if length.is_some_and(|before| before != value) {
                        return Err(ResponseError::Length);
                    }
                    length = Some(value);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    chunked = value
                        .trim_ascii()
                        .to_ascii_lowercase()
                        .ends_with(b"chunked");
                    if !chunked {
                        length = None;
                    }
                }
                _ => {}
            }
        }
        let bodiless = self.head_only || answer.status < 200 || matches!(answer.status, 204 | 304);
        self.state = match (bodiless, chunked, length) {
            (true, ..) => State::Length(0),
            (false, true, Some(_)) => return Err(ResponseError::Length),
            (false, true, None) => State::Chunked(Chunked::default()),
            (false, false, Some(length)) => State::Length(length),
            (false, false, None) => {
                answer.keep_alive = false;
                State::UntilClose
            }
        };
        Ok(Some(len))
    }
}

impl Answer {
    fn take(&mut self, data: &[u8], expected: Option<&[u8]>) {
        if let Some(expected) = expected {
            let at = usize::try_from(self.body_len).unwrap_or(usize::MAX);
            let part = expected.get(at..at.saturating_add(data.len()));
            self.body_matches &= part == Some(data);
        }
        self.body_len += data.len() as u64;
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The head is not HTTP/1.x.
    #[error("response head is not HTTP/1.x: {0}")]
    Head(httparse::Error),
    /// The head does not end.
    #[error("response head above {MAX_HEAD_BYTES} bytes")]
    HeadTooLarge,
    /// The length is not a number, or contradicts another header.
    #[error("response has a wrong or contradictory content-length")]
    Length,
    /// The chunked framing is broken.
    #[error("response has broken chunked framing")]
    Chunk,
    /// 101 was never asked for.
    #[error("response switches protocols without being asked")]
    Upgrade,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: &str =
        "HTTP/1.1 200 OK\r\nX-Served-By: v1\r\ncontent-length: 5\r\nx-request-seq: 7\r\n\r\nhello";

    /// Feeds the pieces; returns the answer if it was complete, and how many bytes it took.
    fn read(
        pieces: &[&[u8]],
        head_only: bool,
        expected: Option<&[u8]>,
    ) -> Result<Option<(Answer, usize)>, ResponseError> {
        let mut reader = ResponseReader::default();
        reader.begin(head_only);
        let mut used = 0;
        for piece in pieces {
            match reader.feed(piece, expected)? {
                Progress::Done(n) => return Ok(Some((reader.answer().clone(), used + n))),
                Progress::More => used += piece.len(),
            }
        }
        Ok(reader
            .end_of_input(expected)
            .then(|| (reader.answer().clone(), used)))
    }

    fn one(text: &str) -> (Answer, usize) {
        read(&[text.as_bytes()], false, None).unwrap().unwrap()
    }

    #[test]
    fn what_an_answer_says_is_kept() {
        let (answer, used) = one(&format!("{LENGTH}HTTP/1.1 "));
        assert_eq!(
            (
                answer.status,
                answer.served_by.as_slice(),
                answer.seq.as_slice()
            ),
            (200, &b"v1"[..], &b"7"[..])
        );
        assert_eq!(
            (used, answer.body_len, answer.keep_alive),
            (LENGTH.len(), 5, true)
        );
    }

    #[test]
    fn every_framing_ends_where_it_should() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nt: 1\r\n\r\n|",
                3,
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n|", 0, true),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n|",
                0,
                true,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx|",
                1,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n|",
                0,
                false,
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n|", 0, false),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n|",
                0,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 13, false),
        ];
        for (text, body, keep) in cases {
            let (answer, used) = one(text);
            assert_eq!(used, text.find('|').unwrap_or(text.len()), "{text}");
            assert_eq!((answer.body_len, answer.keep_alive), (body, keep), "{text}");
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(
            read(&[head.as_bytes()], true, Some(b""))
                .unwrap()
                .unwrap()
                .1,
            head.len()
        );
    }

    #[test]
    fn what_is_cut_short_is_not_complete() {
        for text in [
            &LENGTH[..LENGTH.len() - 1],
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc",
        ] {
            assert_eq!(read(&[text.as_bytes()], false, None), Ok(None), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD_BYTES));
        for text in [
            "SSH-2.0",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nq\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            &long,
        ] {
            assert!(read(&[text.as_bytes()], false, None).is_err(), "{text:.60}");
        }
    }

    #[test]
    fn bodies_are_compared_byte_by_byte() {
        let matches = |body: &[u8]| {
            read(&[LENGTH.as_bytes()], false, Some(body))
                .unwrap()
                .unwrap()
                .0
                .body_matches
        };
        assert!(matches(b"hello"));
        for wrong in [&b"hellO"[..], b"hell", b"hello!", b""] {
            assert!(!matches(wrong));
        }
    }

    #[test]
    fn a_reader_starts_afresh_for_each_request() {
        let mut reader = ResponseReader::default();
        for _ in 0..3 {
            reader.begin(false);
            assert_eq!(
                reader.feed(&LENGTH.as_bytes()[..20], None),
                Ok(Progress::More)
            );
            assert_eq!(
                reader.feed(&LENGTH.as_bytes()[20..], None),
                Ok(Progress::Done(LENGTH.len() - 20))
            );
            assert_eq!(reader.answer().served_by, b"v1");
        }
    }

    const WIRES: [&str; 4] = [
        LENGTH,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-served-by: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    ];

    #[test]
    fn two_pieces_split_anywhere_give_the_same_answer() {
        for wire in WIRES.map(str::as_bytes) {
            let whole = read(&[wire], false, Some(b"hello")).unwrap().unwrap();
            assert!(whole.0.body_matches);
            for cut in 0..=wire.len() {
                let split = read(&[&wire[..cut], &wire[cut..]], false, Some(b"hello"))
                    .unwrap()
                    .unwrap();
                assert_eq!(split, whole, "cut at {cut}");
            }
            let bytes: Vec<&[u8]> = wire.chunks(1).collect();
            assert_eq!(
                read(&bytes, false, Some(b"hello")).unwrap().unwrap(),
                whole,
                "byte by byte"
            );
        }
    }

    proptest! {
        #[test]
        fn damage_is_read_the_same_however_it_is_split(
            which in 0..WIRES.len(),
            noise in prop::collection::vec(any::<u8>(), 0..4),
            at: prop::sample::Index,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut wire = WIRES[which].as_bytes().to_vec();
            let at = at.index(wire.len());
            wire.splice(at..at, noise);
            let mut points: Vec<usize> = cuts.iter().map(|c| c.index(wire.len())).collect();
            points.extend([0, wire.len()]);
            points.sort_unstable();
            let pieces: Vec<&[u8]> = points.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
            prop_assert_eq!(read(&pieces, false, None), read(&[&wire], false, None));
        }
    }
}
