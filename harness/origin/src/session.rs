//! One HTTP connection as a pure machine: bytes in, bytes out, no sockets and no clock.
//!
//! ```text
//! Head ──complete──▶ Body ──complete──▶ answer ──▶ Head        (pipelined requests in one go)
//!                                         ├─ delay ▶ Held ──release──▶ Head
//!                                         ├─ close ▶ Closing
//!                                         └─ next service ▶ Forwarding ──answered──▶ Head
//! ```
//!
//! Because nothing here blocks, "the same answer for every way the bytes can be split" is a property
//! test and not a hope.

use std::time::Duration;

use rand::rngs::SmallRng;

use crate::answer::Answer;
use crate::chunked::{Chunked, Piece};
use crate::echo::{Echo, MAX_SIZE, Outcome};
use crate::forward;
use crate::pattern::{self, FNV64_START, fnv64_continue};
use crate::request::{self, Framing, Head, Refusal};
use crate::response::{DateCache, Response};

/// Largest request body that is kept to be echoed, in bytes. With `size=` a body of any length is taken.
pub const MAX_BODY_BYTES: usize = 64 << 20;
/// Output not yet written above which no further pipelined request is answered, in bytes.
pub const MAX_PENDING_OUTPUT: usize = 256 << 10;

/// What all connections share: the configuration and some caches.
#[derive(Debug)]
pub struct Site {
    name: String,
    default_echo: Echo,
    default_size: usize,
    /// `Host` of the next service; none where this server answers itself.
    next_host: Option<String>,
    /// The query parsed last: clients repeat themselves.
    last_query: (String, Echo),
    pattern: Vec<u8>,
    /// Kept current by the server.
    pub date: DateCache,
    rng: SmallRng,
}

impl Site {
    /// `name` goes into `x-served-by`; `default_params` is the query of requests that have none;
    /// `default_size` the body of answers that neither echo nor ask for a size.
    pub fn new(name: &str, default_params: &str, default_size: usize, rng: SmallRng) -> Self {
        let default_size = default_size.min(MAX_SIZE);
        Self {
            name: name.to_owned(),
            default_echo: Echo::parse(default_params),
            default_size,
            next_host: None,
            last_query: (String::new(), Echo::default()),
            pattern: pattern::bytes(default_size),
            date: DateCache::new(),
            rng,
        }
    }

    /// Has every request but `/ready` answered by the next service, under this `Host`.
    #[must_use]
    pub fn forwarding_to(mut self, host: &str) -> Self {
        self.next_host = Some(host.to_owned());
        self
    }

    /// Makes [`Site::echo`] answer for this query, and draws its outcome.
    fn roll(&mut self, query: Option<&str>) -> Outcome {
        if let Some(query) = query
            && self.last_query.0 != query
        {
            self.last_query = (query.to_owned(), Echo::parse(query));
        }
        let echo = if query.is_some() {
            &self.last_query.1
        } else {
            &self.default_echo
        };
        echo.roll(&mut self.rng)
    }

    /// The instructions of the query last rolled, or the default ones.
    fn echo(&self, query: Option<&str>) -> &Echo {
        if query.is_some() {
            &self.last_query.1
        } else {
            &self.default_echo
        }
    }

    fn grow_pattern(&mut self, len: usize) {
        if self.pattern.len() < len {
            self.pattern = pattern::bytes(len.next_power_of_two());
        }
    }
}

/// State of one connection.
#[derive(Debug, Default)]
pub struct Session {
    /// Bytes that were read and are not used yet.
    input: Vec<u8>,
    state: State,
    cut: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Body(Box<Exchange>),
    Held(Held),
    Forwarding(Box<Forwarding>),
    Closing {
        /// The client may still be sending: closing at once would reset the answer away.
        linger: bool,
    },
}

/// A request that the next service answers.
#[derive(Debug)]
struct Forwarding {
    /// What to send it; none once it has been taken.
    request: Option<Vec<u8>>,
    http10: bool,
    keep_alive: bool,
    head_only: bool,
    seq: Option<Vec<u8>>,
}

/// A request whose body is being read.
#[derive(Debug)]
struct Exchange {
    outcome: Outcome,
    headers: Vec<(String, String)>,
    http10: bool,
    keep_alive: bool,
    head_only: bool,
    seq: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
    left: BodyLeft,
    hash: u64,
    body: Vec<u8>,
    /// The head, where the request is to go on to the next service.
    onward: Option<Vec<u8>>,
}

#[derive(Debug)]
enum BodyLeft {
    Length(u64),
    Chunked(Chunked),
}

/// An answer that waits for its delay to pass.
#[derive(Debug)]
struct Held {
    answer: Vec<u8>,
    delay: Duration,
    close: bool,
}

impl Session {
    /// Takes `bytes` from the client and appends the answers they complete to `out`.
    ///
    /// Stops early while an answer is held back or `out` is full; call again with no bytes to go on.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>, site: &mut Site) {
        if self.input.is_empty() {
            let used = self.run(bytes, out, site);
            self.input.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.run(&input, out, site);
        input.drain(..used);
        self.input = input;
    }

    /// The delay of the answer that is held back, if there is one. The session takes no input until
    /// [`Session::release`].
    pub fn held(&self) -> Option<Duration> {
        match &self.state {
            State::Held(held) => Some(held.delay),
            _ => None,
        }
    }

    /// Sends the answer that was held back and goes on with what was read since.
    pub fn release(&mut self, out: &mut Vec<u8>, site: &mut Site) {
        if let State::Held(held) = &mut self.state {
            out.append(&mut held.answer);
            self.state = if held.close {
                State::Closing { linger: false }
            } else {
                State::Head
            };
            self.feed(&[], out, site);
        }
    }

    /// The request for the next service, once. The session takes no input until [`Session::answered`].
    pub fn take_request(&mut self) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Forwarding(forwarding) => forwarding.request.take(),
            _ => None,
        }
    }

    /// Whether the next service is being asked.
    pub fn is_forwarding(&self) -> bool {
        matches!(self.state, State::Forwarding(_))
    }

    /// Answers with what the next service said; without it with a 502 that nobody signs. Goes on with what was read since.
    pub fn answered(&mut self, answer: Option<&Answer>, out: &mut Vec<u8>, site: &mut Site) {
        let State::Forwarding(forwarding) = std::mem::take(&mut self.state) else {
            return;
        };
        // What no server has signed (a proxy's own 503) stays unsigned: no wrong server was reached.
        let name = match answer {
            Some(answer) if !answer.served_by.is_empty() => {
                format!("{}/{}", site.name, answer.served_by)
            }
            _ => String::new(),
        };
        let (status, headers, body) = match answer {
            Some(answer) => (
                answer.status,
                answer.headers.as_slice(),
                answer.body.as_slice(),
            ),
            None => (502, &[][..], &b"the next service did not answer\n"[..]),
        };
        let response = Response {
            status,
            http10: forwarding.http10,
            keep_alive: forwarding.keep_alive,
            head_only: forwarding.head_only,
            seq: forwarding.seq.as_deref(),
            body_hash: None,
            content_type: None,
            headers,
            body,
        };
        response.render(&name, site.date.text(), out);
        self.after_answer(forwarding.keep_alive);
        self.feed(&[], out, site);
    }

    /// The connection ends once everything in `out` is written.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// The end must be announced and the client's bytes drained before the socket is closed.
    pub fn must_linger(&self) -> bool {
        matches!(self.state, State::Closing { linger: true })
    }

    /// Whether part of a request has come and the rest has not.
    pub fn is_mid_request(&self) -> bool {
        matches!(self.state, State::Body(_)) || !self.input.is_empty()
    }

    /// Whether the last call stopped because `out` was full: call again when there is room.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Works through `input`; returns how much of it was used.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>, site: &mut Site) -> usize {
        let mut rest = input;
        loop {
            self.cut = out.len() > MAX_PENDING_OUTPUT;
            if self.cut {
                break;
            }
            let step = match &mut self.state {
                State::Head => self.read_head(&mut rest, out, site),
                State::Body(_) => self.read_body(&mut rest, out, site),
                State::Held(_) | State::Forwarding(_) => Ok(false),
                State::Closing { .. } => return input.len(),
            };
            match step {
                Ok(true) => {}
                Ok(false) => break,
                Err(refusal) => {
                    self.refuse(refusal, out, site);
                    return input.len();
                }
            }
        }
        input.len() - rest.len()
    }

    /// Reads one head; answers at once if there is no body. False when more bytes are needed.
    fn read_head(
        &mut self,
        rest: &mut &[u8],
        out: &mut Vec<u8>,
        site: &mut Site,
    ) -> Result<bool, Refusal> {
        // Empty lines before a request are allowed (RFC 9112 section 2.2).
        while let [b'\r', b'\n', tail @ ..] = *rest {
            *rest = tail;
        }
        if rest.is_empty() {
            return Ok(false);
        }
        let Some(head) = request::parse(rest)? else {
            return Ok(false);
        };
        let (own, after) = rest.split_at(head.len);
        let onward = site.next_host.as_deref().filter(|_| head.path != "/ready");
        let left = match head.framing {
            Framing::None if onward.is_some() => {
                let request = onward.and_then(|host| forward::request(own, host, &[]));
                self.state = State::Forwarding(Box::new(Forwarding {
                    request,
                    http10: head.http10,
                    keep_alive: head.keep_alive,
                    head_only: head.head_only,
                    seq: head.seq.map(<[u8]>::to_vec),
                }));
                *rest = after;
                return Ok(true);
            }
            Framing::None => {
                self.answer_bodiless(&head, out, site);
                *rest = after;
                return Ok(true);
            }
            Framing::Length(length) => BodyLeft::Length(length),
            Framing::Chunked => BodyLeft::Chunked(Chunked::default()),
        };
        let onward = onward.map(|_| own.to_vec());
        let mut exchange = start_exchange(&head, left, site);
        if onward.is_some() {
            // All of the body goes on, and what the query asks for is the last server's to do.
            exchange.outcome.size = None;
            exchange.onward = onward;
        }
        if let (BodyLeft::Length(length), None) = (&exchange.left, exchange.outcome.size)
            && *length > MAX_BODY_BYTES as u64
        {
            return Err(Refusal::BodyTooLarge);
        }
        // Without `Expect` handling a client would wait a second before each body.
        if head.expects_continue && after.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.state = State::Body(Box::new(exchange));
        *rest = after;
        Ok(true)
    }

    fn answer_bodiless(&mut self, head: &Head<'_>, out: &mut Vec<u8>, site: &mut Site) {
        if head.path == "/ready" {
            let ready = Response {
                seq: head.seq,
                ..response(head, 200, head.keep_alive, b"ready\n")
            };
            ready.render(&site.name, site.date.text(), out);
            self.after_answer(head.keep_alive);
            return;
        }
        let outcome = site.roll(head.query);
        let keep_alive = head.keep_alive && !outcome.close;
        let size = outcome.size.unwrap_or(site.default_size);
        site.grow_pattern(size);
        let answer = Response {
            seq: head.seq,
            headers: &site.echo(head.query).headers,
            content_type: (size > 0).then_some(&b"application/octet-stream"[..]),
            ..response(head, outcome.status, keep_alive, &site.pattern[..size])
        };
        if outcome.delay.is_zero() {
            answer.render(&site.name, site.date.text(), out);
            self.after_answer(keep_alive);
        } else {
            let mut held = Vec::new();
            answer.render(&site.name, site.date.text(), &mut held);
            self.state = State::Held(Held {
                answer: held,
                delay: outcome.delay,
                close: !keep_alive,
            });
        }
    }

    /// Reads body bytes; answers when it is complete. False when more bytes are needed.
    fn read_body(
        &mut self,
        rest: &mut &[u8],
        out: &mut Vec<u8>,
        site: &mut Site,
    ) -> Result<bool, Refusal> {
        let State::Body(exchange) = &mut self.state else {
            return Ok(false);
        };
        let complete = match &mut exchange.left {
            BodyLeft::Length(left) => {
                let take = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                let (data, after) = rest.split_at(take);
                *left -= take as u64;
                let complete = *left == 0;
                exchange.take(data)?;
                *rest = after;
                complete
            }
            BodyLeft::Chunked(chunked) => {
                match chunked
                    .next(rest)
                    .map_err(|_| Refusal::Malformed("chunked body"))?
                {
                    Piece::Data(data) => {
                        exchange.take(data)?;
                        return Ok(true);
                    }
                    Piece::End => true,
                    Piece::More => false,
                }
            }
        };
        if !complete {
            return Ok(false);
        }
        let State::Body(exchange) = std::mem::take(&mut self.state) else {
            return Ok(false);
        };
        if let (Some(head), Some(host)) = (&exchange.onward, &site.next_host) {
            self.state = State::Forwarding(Box::new(Forwarding {
                request: forward::request(head, host, &exchange.body),
                http10: exchange.http10,
                keep_alive: exchange.keep_alive,
                head_only: exchange.head_only,
                seq: exchange.seq.clone(),
            }));
            return Ok(true);
        }
        let mut held = Vec::new();
        let delay = exchange.outcome.delay;
        exchange.render(if delay.is_zero() { out } else { &mut held }, site);
        if delay.is_zero() {
            self.after_answer(exchange.keep_alive);
        } else {
            self.state = State::Held(Held {
                answer: held,
                delay,
                close: !exchange.keep_alive,
            });
        }
        Ok(true)
    }

    fn after_answer(&mut self, keep_alive: bool) {
        self.state = if keep_alive {
            State::Head
        } else {
            State::Closing { linger: false }
        };
    }

    fn refuse(&mut self, refusal: Refusal, out: &mut Vec<u8>, site: &Site) {
        let text = format!("{refusal}\n");
        let answer = Response {
            status: refusal.status(),
            http10: false,
            keep_alive: false,
            head_only: false,
            seq: None,
            body_hash: None,
            content_type: Some(b"text/plain"),
            headers: &[],
            body: text.as_bytes(),
        };
        answer.render(&site.name, site.date.text(), out);
        self.state = State::Closing { linger: true };
    }
}

impl Exchange {
    fn take(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.hash = fnv64_continue(self.hash, data);
        if self.outcome.size.is_none() {
            if self.body.len() + data.len() > MAX_BODY_BYTES {
                return Err(Refusal::BodyTooLarge);
            }
            self.body.extend_from_slice(data);
        }
        Ok(())
    }

    fn render(&self, out: &mut Vec<u8>, site: &mut Site) {
        let body = match self.outcome.size {
            Some(size) => {
                site.grow_pattern(size);
                &site.pattern[..size]
            }
            None => &self.body,
        };
        let kind = self
            .content_type
            .as_deref()
            .filter(|_| self.outcome.size.is_none());
        let answer = Response {
            status: self.outcome.status,
            http10: self.http10,
            keep_alive: self.keep_alive,
            head_only: self.head_only,
            seq: self.seq.as_deref(),
            body_hash: Some(self.hash),
            content_type: Some(kind.unwrap_or(b"application/octet-stream")),
            headers: &self.headers,
            body,
        };
        answer.render(&site.name, site.date.text(), out);
    }
}

fn start_exchange(head: &Head<'_>, left: BodyLeft, site: &mut Site) -> Exchange {
    let outcome = site.roll(head.query);
    Exchange {
        outcome,
        headers: site.echo(head.query).headers.clone(),
        http10: head.http10,
        keep_alive: head.keep_alive && !outcome.close,
        head_only: head.head_only,
        seq: head.seq.map(<[u8]>::to_vec),
        content_type: head.content_type.map(<[u8]>::to_vec),
        left,
        hash: FNV64_START,
        body: Vec::new(),
        onward: None,
    }
}

/// The parts of an answer that depend on the request's head alone.
fn response<'a>(head: &Head<'_>, status: u16, keep_alive: bool, body: &'a [u8]) -> Response<'a> {
    Response {
        status,
        http10: head.http10,
        keep_alive,
        head_only: head.head_only,
        seq: None,
        body_hash: None,
        content_type: None,
        headers: &[],
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    fn site() -> Site {
        Site::new("pod", "", 3, SmallRng::seed_from_u64(1))
    }

    /// Feeds the pieces and returns the output without its date lines, and whether the session ended.
    fn talk(pieces: &[&[u8]]) -> (String, bool) {
        let (mut session, mut site, mut out) = (Session::default(), site(), Vec::new());
        for piece in pieces {
            session.feed(piece, &mut out, &mut site);
            while session.held().is_some() {
                session.release(&mut out, &mut site);
            }
        }
        // One char per byte: bodies may be anything.
        let text: String = out.into_iter().map(char::from).collect();
        let lines = text
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with("date: "));
        (lines.collect(), session.is_closing())
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    #[test]
    fn bodies_are_echoed_and_hashed_in_both_framings() {
        let length =
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nContent-Type: a/b\r\n\r\nfoobar";
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3;x=y\r\nfoo\r\n3\r\nbar\r\n0\r\nT: r\r\n\r\n";
        let want = "HTTP/1.1 200 OK\r\nx-served-by: pod\r\ncontent-length: 6\r\ncontent-type: a/b\r\n\
                    x-body-hash: 85944171f73967e8\r\n\r\nfoobar";
        for text in [length, chunked] {
            assert_eq!(talk(&[text.as_bytes()]), (want.to_owned(), false));
        }
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let request = |i| {
            format!(
                "GET /?size={i}&delay=1ms:50 HTTP/1.1\r\nHost: h\r\nx-request-seq: s{i}\r\n\r\n"
            )
        };
        let wire = [0, 1, 2, 3, 4].map(request).concat();
        let (text, closing) = talk(&[wire.as_bytes()]);
        let seqs: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("x-request-seq: "))
            .collect();
        assert_eq!(seqs, ["s0", "s1", "s2", "s3", "s4"]);
        assert!(!closing);
    }

    #[test]
    fn nothing_is_answered_after_the_close() {
        let wire = format!("GET /?close=true HTTP/1.1\r\nHost: h\r\n\r\n{GET}");
        let (text, closing) = talk(&[wire.as_bytes()]);
        assert_eq!(text.matches("HTTP/1.1 200").count(), 1);
        assert!(closing && text.contains("connection: close\r\n"));
    }

    #[test]
    fn a_client_that_waits_for_permission_gets_it_once() {
        let head =
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        let (text, _) = talk(&[head.as_bytes(), b"h", b"i"]);
        assert!(
            text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
            "{text}"
        );
        let (text, _) = talk(&[format!("{head}hi").as_bytes()]);
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n"),
            "a body that is already here needs no permission: {text}"
        );
    }

    #[test]
    fn http10_is_closed_unless_it_asks_to_stay() {
        assert!(talk(&[b"GET / HTTP/1.0\r\n\r\n"]).1);
        let (text, closing) = talk(&[b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"]);
        assert!(!closing && text.contains("connection: keep-alive"));
    }

    #[test]
    fn a_refused_request_ends_the_connection_with_a_reason() {
        let (text, closing) = talk(&[b"NONSENSE\r\n\r\n", GET.as_bytes()]);
        assert!(
            closing && text.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{text}"
        );
        assert_eq!(text.matches("HTTP/1.1").count(), 1);
        let large = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
            MAX_BODY_BYTES + 1
        );
        assert!(talk(&[large.as_bytes()]).0.starts_with("HTTP/1.1 413"));
        let chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        assert!(talk(&[chunked]).0.starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn output_is_bounded_while_the_client_does_not_read() {
        let request = "GET /?size=100000 HTTP/1.1\r\nHost: h\r\n\r\n";
        let (mut session, mut site, mut out) = (Session::default(), site(), Vec::new());
        session.feed(request.repeat(50).as_bytes(), &mut out, &mut site);
        assert!(out.len() < MAX_PENDING_OUTPUT + 110_000 && session.is_cut());
        let mut total = 0;
        while session.is_cut() {
            total += out.len();
            out.clear();
            session.feed(&[], &mut out, &mut site);
        }
        assert!(total + out.len() > 5_000_000);
    }

    #[test]
    fn ready_and_default_body_answer() {
        assert!(
            talk(&[b"GET /ready HTTP/1.1\r\nHost: h\r\n\r\n"])
                .0
                .ends_with("\r\n\r\nready\n")
        );
        assert!(
            talk(&[GET.as_bytes()]).0.ends_with(
                "content-length: 3\r\ncontent-type: application/octet-stream\r\n\r\n000"
            )
        );
    }

    fn conversation() -> Vec<u8> {
        let mut wire = Vec::new();
        for (i, body) in ["GET / HTTP/1.1\r\n\r\nfake", "", "abc"].iter().enumerate() {
            wire.extend_from_slice(
                format!("POST /{i}?delay=1ms:50 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\nx-request-seq: {i}\r\n\r\n{body}", body.len())
                    .as_bytes(),
            );
            wire.extend_from_slice(
                b"\r\nPOST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            wire.extend_from_slice(
                format!("{:x};e\r\n{body}x\r\n0\r\nt: u\r\n\r\n", body.len() + 1).as_bytes(),
            );
            wire.extend_from_slice(b"HEAD /?size=9 HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        wire.extend_from_slice(b"GET /?status=404 HTTP/1.0\r\n\r\nleft over");
        wire
    }

    #[test]
    fn two_pieces_split_anywhere_give_the_same_answers() {
        let wire = conversation();
        let whole = talk(&[&wire]);
        assert_eq!(whole.0.matches("HTTP/1.1 200").count(), 9);
        for cut in 0..wire.len() {
            assert_eq!(talk(&[&wire[..cut], &wire[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(talk(&bytes), whole, "byte by byte");
    }

    proptest! {
        #[test]
        fn any_bytes_give_the_same_answers_however_they_are_split(
            noise in prop::collection::vec(any::<u8>(), 0..40),
            at: prop::sample::Index,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut wire = conversation();
            let at = at.index(wire.len());
            wire.splice(at..at, noise);
            let mut points: Vec<usize> = cuts.iter().map(|c| c.index(wire.len())).collect();
            points.extend([0, wire.len()]);
            points.sort_unstable();
            let pieces: Vec<&[u8]> = points.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
            prop_assert_eq!(talk(&pieces), talk(&[&wire]));
        }
    }
}
