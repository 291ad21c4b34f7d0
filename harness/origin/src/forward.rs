//! A server in the middle of a chain: it asks the next service and answers with what that says.
//!
//! Connections to the next service are kept and carry one request at a time; the calls leave through the pod's own
//! network, so whatever carries the pod's traffic carries them too. `x-served-by` of an answer lists the whole chain
//! (`a/b/c`), so that a client can judge every hop's decision from the one answer it gets.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::answer::{Answer, AnswerReader};
use crate::poller::Poller;
use crate::request::MAX_HEADERS;
use crate::server::write_what_fits;

/// Bytes taken from a socket in one read.
const READ_BYTES: usize = 64 << 10;
/// Bit of a token that marks a connection to the next service.
pub(crate) const UPSTREAM: u64 = 1 << 63;
/// Keeps tokens below those of listeners, which have all high bits set.
const GENERATION_MASK: u32 = 0x3fff_ffff;

/// Where a forwarding server sends its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// `Host` of the forwarded requests.
    pub host: String,
    /// Addresses, connected to in turn: a service's one, or its endpoints where nothing balances.
    pub targets: Vec<SocketAddr>,
}

impl FromStr for Next {
    type Err = String;

    /// `HOST=ADDR:PORT[,ADDR:PORT...]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, targets) = text
            .split_once('=')
            .filter(|(host, _)| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| format!("{text:?} is not HOST=ADDR:PORT[,ADDR:PORT...]"))?;
        let targets = targets
            .split(',')
            .map(|target| {
                target
                    .parse()
                    .map_err(|error| format!("{target:?}: {error}"))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            host: host.to_owned(),
            targets,
        })
    }
}

/// Headers that belong to one hop (RFC 9110 section 7.6.1), or are written anew.
const OWN: [&str; 6] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "expect",
    "upgrade",
];

/// The request to forward: the head that came in, for the next host, with `body`. None if `head` is no request.
pub(crate) fn request(head: &[u8], host: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(head).ok()?;
    let (method, path) = (parsed.method?, parsed.path?);
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    for header in &*parsed.headers {
        if OWN.iter().all(|own| !header.name.eq_ignore_ascii_case(own)) {
            request.extend_from_slice(header.name.as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(header.value);
            request.extend_from_slice(b"\r\n");
        }
    }
    if !body.is_empty() {
        request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    Some(request)
}

/// Who waits for an answer: a connection's place and generation.
pub(crate) type Client = (usize, u32);

/// The connections to the next service.
#[derive(Debug)]
pub(crate) struct Upstreams {
    targets: Vec<SocketAddr>,
    turn: usize,
    slots: Vec<Slot>,
    /// Connected and without a request, the latest used last.
    idle: Vec<usize>,
    free: Vec<usize>,
    input: Vec<u8>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    upstream: Option<Upstream>,
}

#[derive(Debug)]
struct Upstream {
    stream: TcpStream,
    /// The request under way, and how much of it is written.
    request: Vec<u8>,
    written: usize,
    reader: AnswerReader,
    client: Option<Client>,
    /// It has carried a request before: should it fail without a byte, it was closed while it was idle.
    used: bool,
}

impl Upstreams {
    pub(crate) fn new(targets: Vec<SocketAddr>) -> Self {
        Self {
            targets,
            turn: 0,
            slots: Vec::new(),
            idle: Vec::new(),
            free: Vec::new(),
            input: vec![0; READ_BYTES],
        }
    }

    /// Sends `request` for `client`.
    ///
    /// # Errors
    /// No connection can be opened.
    pub(crate) fn send(
        &mut self,
        poller: &Poller,
        client: Client,
        request: Vec<u8>,
    ) -> io::Result<()> {
        let index = match self.idle.pop() {
            Some(index) => index,
            None => self.open(poller)?,
        };
        let head_only = request.starts_with(b"HEAD ");
        if let Some(upstream) = &mut self.slots[index].upstream {
            upstream.request = request;
            upstream.written = 0;
            upstream.reader = AnswerReader::new(head_only);
            upstream.client = Some(client);
            // An error shows once more when the connection is reported, and is dealt with there.
            let _ = upstream.flush();
        }
        Ok(())
    }

    /// Goes on with the connection of `token`; whom its answer is for, or the failure.
    pub(crate) fn on_ready(
        &mut self,
        poller: &Poller,
        token: u64,
    ) -> Option<(Client, io::Result<Answer>)> {
        let (index, generation) = (
            token as u32 as usize,
            (token >> 32) as u32 & GENERATION_MASK,
        );
        let slot = self.slots.get_mut(index)?;
        let upstream = slot
            .upstream
            .as_mut()
            .filter(|_| slot.generation == generation)?;
        match upstream.advance(&mut self.input) {
            Ok(None) => None,
            Ok(Some(answer)) => {
                let client = upstream.client.take();
                upstream.used = true;
                if answer.reusable {
                    self.idle.push(index);
                } else {
                    self.close(index);
                }
                Some((client?, Ok(answer)))
            }
            Err(error) => {
                let stale = upstream.used && upstream.reader.is_untouched();
                let request = std::mem::take(&mut upstream.request);
                let client = upstream.client.take();
                self.close(index);
                let client = client?;
                if !stale {
                    return Some((client, Err(error)));
                }
                // It was closed while nobody used it, and the request has reached nobody.
                self.drop_idle();
                match self.send(poller, client, request) {
                    Ok(()) => None,
                    Err(error) => Some((client, Err(error))),
                }
            }
        }
    }

    /// Closes what is idle: a repeated request must not meet another connection that was closed meanwhile.
    fn drop_idle(&mut self) {
        for index in std::mem::take(&mut self.idle) {
            self.close(index);
        }
    }

    fn open(&mut self, poller: &Poller) -> io::Result<usize> {
        let target = self.targets[self.turn % self.targets.len()];
        self.turn = self.turn.wrapping_add(1);
        let socket = Socket::new(
            Domain::for_address(target),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let token = UPSTREAM | u64::from(slot.generation) << 32 | index as u64;
        let stream = TcpStream::from(socket);
        if let Err(error) = poller.add(&stream, token) {
            self.free.push(index);
            return Err(error);
        }
        slot.upstream = Some(Upstream {
            stream,
            request: Vec::new(),
            written: 0,
            reader: AnswerReader::default(),
            client: None,
            used: false,
        });
        Ok(index)
    }

    fn close(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.upstream = None;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.idle.retain(|idle| *idle != index);
        self.free.push(index);
    }
}

impl Upstream {
    fn advance(&mut self, input: &mut [u8]) -> io::Result<Option<Answer>> {
        self.flush()?;
        loop {
            match self.stream.read(input) {
                Ok(0) if self.client.is_some() => {
                    let broken = |_| io::Error::from(io::ErrorKind::UnexpectedEof);
                    return self.reader.end().map(Some).map_err(broken);
                }
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.client.is_none() => return Err(io::ErrorKind::InvalidData.into()),
                Ok(read) => {
                    let answer = self.reader.feed(&input[..read]).map_err(io::Error::other)?;
                    if answer.is_some() {
                        return Ok(answer);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.written += write_what_fits(&mut self.stream, &self.request[self.written..])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_on_without_what_belongs_to_its_hop() {
        let head = b"POST /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\nend-user: jason\r\nContent-Length: 2\r\n\r\n";
        let forwarded = request(head, "b.test", b"hi").unwrap();
        assert_eq!(
            String::from_utf8(forwarded).unwrap(),
            "POST /x?y HTTP/1.1\r\nhost: b.test\r\nend-user: jason\r\ncontent-length: 2\r\n\r\nhi"
        );
    }

    #[test]
    fn a_next_service_has_a_host_and_addresses() {
        let next: Next = "b.test=10.0.0.1:80,[::1]:81".parse().unwrap();
        assert_eq!((next.host.as_str(), next.targets.len()), ("b.test", 2));
        for wrong in ["", "b.test", "=10.0.0.1:80", "b=10.0.0.1", "b="] {
            assert!(wrong.parse::<Next>().is_err(), "{wrong}");
        }
    }
}
