//! One connection of the generator and what is under way on it.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kmesh_origin::server::write_what_fits;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use crate::ledger::Request;
use crate::request::{SEQ_DIGITS, Template};
use crate::response::{Answer, Progress, ResponseError, ResponseReader};

/// A place for one connection; the socket comes and goes.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) target: SocketAddr,
    pub(crate) stream: Option<TcpStream>,
    pub(crate) phase: Phase,
    /// Counts sockets, so that a late event for an old one is told from a current one.
    pub(crate) generation: u32,
    pub(crate) request: Request,
    pub(crate) reader: Reader,
    /// The part of the request the socket had no room for.
    pub(crate) unsent: Vec<u8>,
    /// Requests answered on this socket.
    pub(crate) answered: u32,
    /// Requests after which this socket is closed.
    pub(crate) limit: u32,
    /// When the slot became free, nanoseconds on the engine's clock.
    pub(crate) free_since_ns: u64,
    /// When the request under way becomes a timeout.
    pub(crate) deadline_ns: u64,
}

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is under way; the socket, if there is one, can be used.
    Idle,
    /// The socket is being connected for the request.
    Connecting,
    /// The server's greeting is awaited (TCP echo with a banner).
    Greeting,
    /// The request was sent, its answer is being read.
    Busy,
}

/// Reads answers in the plan's protocol.
#[derive(Debug)]
pub(crate) enum Reader {
    Http(ResponseReader),
    Echo(EchoReader),
}

/// Compares what comes back with what was sent.
#[derive(Debug, Default)]
pub(crate) struct EchoReader {
    received: usize,
    /// The server's name, from its greeting.
    greeting: Vec<u8>,
    answer: Answer,
}

impl Slot {
    pub(crate) fn new(target: SocketAddr, reader: Reader) -> Self {
        Self {
            target,
            stream: None,
            phase: Phase::Idle,
            generation: 0,
            request: Request::default(),
            reader,
            unsent: Vec::new(),
            answered: 0,
            limit: u32::MAX,
            free_since_ns: 0,
            deadline_ns: u64::MAX,
        }
    }

    /// Starts a connection; completion is reported as writable.
    pub(crate) fn connect(&mut self) -> io::Result<&TcpStream> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(
            Domain::for_address(self.target),
            kind,
            Some(IpProtocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.answered = 0;
        self.unsent.clear();
        if let Reader::Echo(echo) = &mut self.reader {
            echo.greeting.clear();
        }
        Ok(self.stream.insert(socket.into()))
    }

    /// Closes the socket, with a reset if asked.
    pub(crate) fn disconnect(&mut self, reset: bool) {
        if let Some(stream) = self.stream.take() {
            if reset {
                // Best effort: without it the close is an orderly one.
                let _ = Socket::from(stream).set_linger(Some(Duration::ZERO));
            }
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Writes the request; what does not fit is kept for [`Slot::flush`]. Returns the size of the request.
    pub(crate) fn send(&mut self, template: &mut Template) -> io::Result<usize> {
        template.stamp(&self.request.seq);
        match &mut self.reader {
            Reader::Http(reader) => reader.begin(template.head_only),
            Reader::Echo(echo) => echo.begin(),
        }
        let bytes = template.bytes.as_slice();
        let mut sent = 0;
        if let Some(stream) = &mut self.stream {
            sent = write_what_fits(stream, bytes)?;
        }
        if sent < bytes.len() {
            self.unsent.extend_from_slice(&bytes[sent..]);
        }
        Ok(bytes.len())
    }

    /// Writes what is left of the request.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(stream) = &mut self.stream
            && !self.unsent.is_empty()
        {
            let sent = write_what_fits(stream, &self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// One read; `None` when there is nothing now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        loop {
            match stream.read(buffer) {
                Ok(read) => return Ok(Some(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Reader {
    /// Takes bytes of the answer to the request that `template` and `seq` made.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        template: &Template,
        seq: &[u8; SEQ_DIGITS],
    ) -> Result<Progress, ResponseError> {
        match self {
            Self::Http(reader) => reader.feed(input, template.body.as_deref()),
            Self::Echo(echo) => Ok(echo.feed(input, template, seq)),
        }
    }

    /// The connection was closed: true if that completes the answer.
    pub(crate) fn end_of_input(&mut self, template: &Template) -> bool {
        match self {
            Self::Http(reader) => reader.end_of_input(template.body.as_deref()),
            Self::Echo(_) => false,
        }
    }

    /// The answer that was just completed.
    pub(crate) fn answer(&self) -> &Answer {
        match self {
            Self::Http(reader) => reader.answer(),
            Self::Echo(echo) => &echo.answer,
        }
    }

    /// Takes bytes of the greeting; the number used once it is complete.
    pub(crate) fn greet(&mut self, input: &[u8]) -> Option<usize> {
        let Self::Echo(echo) = self else {
            return Some(0);
        };
        let end = input.iter().position(|byte| *byte == b'\n');
        echo.greeting
            .extend_from_slice(&input[..end.unwrap_or(input.len())]);
        end.map(|end| end + 1)
    }
}

impl EchoReader {
    fn begin(&mut self) {
        self.received = 0;
        let answer = &mut self.answer;
        answer.keep_alive = true;
        answer.body_matches = true;
        answer.body_len = 0;
        answer.served_by.clone_from(&self.greeting);
    }

    fn feed(&mut self, input: &[u8], template: &Template, seq: &[u8; SEQ_DIGITS]) -> Progress {
        let take = input.len().min(template.bytes.len() - self.received);
        let (part, stamp_len) = (&input[..take], template.seq.map_or(0, |(_, len)| len));
        let stamp = &seq[SEQ_DIGITS - stamp_len..];
        for (index, byte) in part
            .iter()
            .enumerate()
            .take(stamp_len.saturating_sub(self.received))
        {
            self.answer.body_matches &= stamp[self.received + index] == *byte;
        }
        let plain_from = stamp_len.clamp(self.received, self.received + take);
        let plain = &template.bytes[plain_from..self.received + take];
        self.answer.body_matches &= plain == &part[plain_from - self.received..];
        self.received += take;
        self.answer.body_len = self.received as u64;
        if self.received == template.bytes.len() {
            Progress::Done(take)
        } else {
            Progress::More
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Protocol};
    use crate::request::seq_digits;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_echo_is_right_however_it_is_split_and_wrong_with_any_byte_changed(
            len in 1_u32..80,
            cut: prop::sample::Index,
            flip: prop::sample::Index,
        ) {
            let plan = Plan {
                protocol: Protocol::TcpEcho { message_bytes: len, banner: false, expect: vec![] },
                ..Plan::closed(vec!["127.0.0.1:1".parse().unwrap()], 1, vec![])
            };
            let mut template = Template::all(&plan).remove(0);
            let seq = seq_digits(0x0123_4567_89ab_cdef);
            template.stamp(&seq);
            let sent = template.bytes.clone();
            // Another connection stamps the shared template meanwhile.
            template.stamp(&seq_digits(7));
            let read = |wire: &[u8]| {
                let mut echo = EchoReader::default();
                echo.begin();
                let (a, b) = wire.split_at(cut.index(wire.len()));
                let first = echo.feed(a, &template, &seq);
                let last = echo.feed(b, &template, &seq);
                (first == Progress::More, last == Progress::Done(b.len()), echo.answer.body_matches)
            };
            prop_assert_eq!(read(&sent), (true, true, true));
            let mut damaged = sent;
            let at = flip.index(damaged.len());
            damaged[at] ^= 1;
            prop_assert_eq!(read(&damaged), (true, true, false));
        }
    }
}
