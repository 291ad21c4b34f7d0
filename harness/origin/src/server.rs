//! The event loop: listeners, connections, timers for held answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{SockFlag, accept4};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use socket2::{Domain, Protocol, Socket, Type};

use crate::answer::Answer;
use crate::forward::{Client, Next as NextService, UPSTREAM, Upstreams};
use crate::poller::{Poller, Ready};
use crate::session::{MAX_PENDING_OUTPUT, Session, Site};

/// Bytes taken from a socket in one read.
const READ_BYTES: usize = 64 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a refused client may go on sending before the connection is dropped.
const LINGER: Duration = Duration::from_secs(1);
/// Token of the descriptor that ends the loop; listeners count down from just below.
const STOP: u64 = u64::MAX;

/// What to serve and where.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// Raw TCP echo listeners.
    pub tcp_echo: Vec<SocketAddr>,
    /// The echo server first says its name and a line feed.
    pub tcp_echo_banner: bool,
    /// Value of `x-served-by`.
    pub name: String,
    /// Body size of an answer that neither echoes nor is asked for a size.
    pub body_size: usize,
    /// Query for requests that have none.
    pub default_params: String,
    /// The service that answers instead; none for a server that answers itself.
    pub next: Option<NextService>,
    /// Seed of the percentages.
    pub seed: u64,
}

/// A server with bound listeners.
#[derive(Debug)]
pub struct Server {
    poller: Poller,
    listeners: Vec<Listener>,
    connections: Vec<Slot>,
    free: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    site: Site,
    /// Connections to the next service; none for a server that answers itself.
    upstreams: Option<Upstreams>,
    banner: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    address: SocketAddr,
    kind: Kind,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.x.
    Http,
    /// Every byte comes back.
    TcpEcho,
}

/// A place for a connection; the generation tells a late event from a current one.
#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// `None` for raw echo.
    session: Option<Session>,
    /// Output the socket had no room for, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// A timer for this connection is set.
    waiting: bool,
    eof: bool,
    draining: bool,
}

impl Server {
    /// Binds every listener.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub fn bind(config: &Config) -> Result<Self, ServerError> {
        let poller = Poller::new(256).map_err(ServerError::Poll)?;
        let mut listeners = Vec::new();
        let http = config.http.iter().map(|address| (*address, Kind::Http));
        let echo = config
            .tcp_echo
            .iter()
            .map(|address| (*address, Kind::TcpEcho));
        for (address, kind) in http.chain(echo) {
            let (socket, address) =
                listen(address).map_err(|source| ServerError::Listen { address, source })?;
            poller
                .add_level(&socket, STOP - 1 - listeners.len() as u64)
                .map_err(ServerError::Poll)?;
            listeners.push(Listener {
                socket,
                address,
                kind,
            });
        }
        let rng = SmallRng::seed_from_u64(config.seed);
        let site = Site::new(&config.name, &config.default_params, config.body_size, rng);
        let (site, upstreams) = match &config.next {
            Some(next) => (
                site.forwarding_to(&next.host),
                Some(Upstreams::new(next.targets.clone())),
            ),
            None => (site, None),
        };
        Ok(Self {
            poller,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            site,
            upstreams,
            banner: if config.tcp_echo_banner {
                format!("{}\n", config.name).into_bytes()
            } else {
                Vec::new()
            },
            input: vec![0; READ_BYTES],
            output: Vec::new(),
        })
    }

    /// What is bound, with the real port where 0 was asked for; in the order of the configuration, HTTP first.
    pub fn addresses(&self) -> impl Iterator<Item = (Kind, SocketAddr)> + '_ {
        self.listeners
            .iter()
            .map(|listener| (listener.kind, listener.address))
    }

    /// Serves until `stop` becomes readable.
    ///
    /// # Errors
    /// When the kernel refuses to wait for events.
    pub fn run(mut self, stop: impl AsFd) -> Result<(), ServerError> {
        self.poller
            .add_level(stop, STOP)
            .map_err(ServerError::Poll)?;
        loop {
            let timeout = self
                .timers
                .peek()
                .map(|Reverse((due, _))| due.saturating_duration_since(Instant::now()));
            let ready = self.poller.wait(timeout).map_err(ServerError::Poll)?;
            self.site.date.refresh(SystemTime::now());
            for index in 0..ready {
                let event = self.poller.ready(index);
                if event.token == STOP {
                    return Ok(());
                }
                let listener = (STOP - 1 - event.token) as usize;
                if listener < self.listeners.len() {
                    self.accept(listener);
                } else if event.token & UPSTREAM != 0 {
                    self.on_answer(event.token);
                } else {
                    self.on_ready(event);
                }
            }
            self.fire_timers();
        }
    }

    /// Takes every connection that waits.
    fn accept(&mut self, listener: usize) {
        let kind = self.listeners[listener].kind;
        loop {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            // Any error but "no more" (a client that went away, no descriptors left) ends this round; the
            // listener is level-triggered and reported again.
            let Ok(fd) = accept4(self.listeners[listener].socket.as_raw_fd(), flags) else {
                return;
            };
            // SAFETY: accept4 just returned this descriptor, and nothing else owns it.
            let stream = unsafe { TcpStream::from_raw_fd(fd) };
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(Slot {
                    generation: 0,
                    connection: None,
                });
                self.connections.len() - 1
            });
            let token = token(index, self.connections[index].generation);
            if self.poller.add(&stream, token).is_err() {
                self.free.push(index);
                continue;
            }
            let session = (kind == Kind::Http).then(Session::default);
            let pending = if session.is_none() {
                self.banner.clone()
            } else {
                Vec::new()
            };
            self.connections[index].connection = Some(Connection {
                stream,
                session,
                pending,
                written: 0,
                waiting: false,
                eof: false,
                draining: false,
            });
        }
    }

    fn on_ready(&mut self, event: Ready) {
        let (index, generation) = (event.token as u32 as usize, (event.token >> 32) as u32);
        let Some(slot) = self
            .connections
            .get_mut(index)
            .filter(|slot| slot.generation == generation)
        else {
            return;
        };
        let Some(connection) = slot.connection.as_mut() else {
            return;
        };
        let result = connection.advance(
            event.hangup,
            &mut self.site,
            &mut self.input,
            &mut self.output,
        );
        self.settle(index, result.unwrap_or(Next::Close));
    }

    /// A connection to the next service is ready; most likely with an answer.
    fn on_answer(&mut self, token: u64) {
        let upstreams = self.upstreams.as_mut();
        let Some((client, outcome)) =
            upstreams.and_then(|upstreams| upstreams.on_ready(&self.poller, token))
        else {
            return;
        };
        self.answer(client, outcome.ok().as_ref());
    }

    /// Hands the next service's answer on; the client may be gone meanwhile.
    fn answer(&mut self, (index, generation): Client, answer: Option<&Answer>) {
        let slot = &mut self.connections[index];
        let connection = slot
            .connection
            .as_mut()
            .filter(|_| slot.generation == generation);
        if let Some(connection) = connection {
            let result =
                connection.answered(answer, &mut self.site, &mut self.input, &mut self.output);
            self.settle(index, result.unwrap_or(Next::Close));
        }
    }

    fn fire_timers(&mut self) {
        while let Some(Reverse((due, token))) = self.timers.peek().copied() {
            if due > Instant::now() {
                return;
            }
            self.timers.pop();
            let (index, generation) = (token as u32 as usize, (token >> 32) as u32);
            let slot = &mut self.connections[index];
            let Some(connection) = slot
                .connection
                .as_mut()
                .filter(|_| slot.generation == generation)
            else {
                continue;
            };
            connection.waiting = false;
            let result = if connection.draining {
                Ok(Next::Close)
            } else {
                connection.release(&mut self.site, &mut self.input, &mut self.output)
            };
            self.settle(index, result.unwrap_or(Next::Close));
        }
    }

    /// Does what a connection asked for: keep it, set its timer, or close it.
    fn settle(&mut self, index: usize, next: Next) {
        let slot = &mut self.connections[index];
        match next {
            Next::Keep => self.forward(index),
            Next::Wait(delay) => {
                self.timers.push(Reverse((
                    Instant::now() + delay,
                    token(index, slot.generation),
                )));
            }
            Next::Close => {
                slot.connection = None;
                slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
                self.free.push(index);
            }
        }
    }
}

impl Server {
    /// Asks the next service what this connection's session wants of it.
    fn forward(&mut self, index: usize) {
        let Some(upstreams) = &mut self.upstreams else {
            return;
        };
        let slot = &mut self.connections[index];
        let session = slot.connection.as_mut().and_then(|c| c.session.as_mut());
        let Some(request) = session.and_then(Session::take_request) else {
            return;
        };
        let client = (index, slot.generation);
        if upstreams.send(&self.poller, client, request).is_err() {
            self.answer(client, None);
        }
    }
}

/// Keeps connection tokens below those of the listeners.
const GENERATION_MASK: u32 = 0x7fff_ffff;

fn token(index: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | index as u64
}

/// What becomes of a connection.
#[derive(Clone, Copy)]
enum Next {
    Keep,
    Wait(Duration),
    Close,
}

impl Connection {
    /// Reads, answers and writes as far as the socket and the session allow.
    fn advance(
        &mut self,
        hangup: bool,
        site: &mut Site,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> io::Result<Next> {
        output.clear();
        self.flush()?;
        if self.draining {
            return self.drain(input);
        }
        let mut emptied = false;
        loop {
            self.send(output)?;
            if self.is_stalled() {
                break;
            }
            if let Some(session) = self.session.as_mut().filter(|session| session.is_cut()) {
                session.feed(&[], output, site);
                continue;
            }
            if emptied {
                break;
            }
            match self.stream.read(input) {
                Ok(0) => {
                    self.eof = true;
                    break;
                }
                Ok(read) => {
                    match &mut self.session {
                        Some(session) => session.feed(&input[..read], output, site),
                        None => output.extend_from_slice(&input[..read]),
                    }
                    // A short read empties a TCP socket (epoll(7)), and the next bytes raise the next edge. In a socket map it may
                    // have emptied the queue of redirected bytes only, with TCP bytes behind them whose edge is past: what
                    // belongs together may come both ways, so a message that has begun is read until nothing is there.
                    let begun = self.session.as_ref().is_none_or(Session::is_mid_request);
                    emptied = read < input.len() && !hangup && !begun;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.next(input)
    }

    /// The delay of the held answer is over.
    fn release(
        &mut self,
        site: &mut Site,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> io::Result<Next> {
        self.resume(site, input, output, Session::release)
    }

    /// The next service has answered, or has not.
    fn answered(
        &mut self,
        answer: Option<&Answer>,
        site: &mut Site,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> io::Result<Next> {
        self.resume(site, input, output, |session, output, site| {
            session.answered(answer, output, site);
        })
    }

    /// Sends the answer that was waited for, then reads on: bytes may have come while nobody read, and their edge is past.
    fn resume(
        &mut self,
        site: &mut Site,
        input: &mut [u8],
        output: &mut Vec<u8>,
        answer: impl FnOnce(&mut Session, &mut Vec<u8>, &mut Site),
    ) -> io::Result<Next> {
        output.clear();
        if let Some(session) = &mut self.session {
            answer(session, output, site);
        }
        self.send(output)?;
        self.advance(true, site, input, output)
    }

    /// No more may be read for now: an answer is held, or the client does not take what it got.
    fn is_stalled(&self) -> bool {
        let unwritten = self.pending.len() - self.written;
        let Some(session) = &self.session else {
            return unwritten > MAX_PENDING_OUTPUT;
        };
        session.held().is_some()
            || session.is_forwarding()
            || session.is_closing()
            || unwritten > MAX_PENDING_OUTPUT
            || (session.is_cut() && unwritten > 0)
    }

    fn next(&mut self, input: &mut [u8]) -> io::Result<Next> {
        let unwritten = !self.pending.is_empty();
        if let Some(session) = &self.session {
            if let Some(delay) = session.held() {
                return Ok(if std::mem::replace(&mut self.waiting, true) {
                    Next::Keep
                } else {
                    Next::Wait(delay)
                });
            }
            if session.is_forwarding() {
                return Ok(Next::Keep);
            }
            if session.is_closing() && !unwritten {
                if !session.must_linger() || self.eof {
                    return Ok(Next::Close);
                }
                self.stream.shutdown(Shutdown::Write)?;
                self.draining = true;
                return match self.drain(input)? {
                    Next::Keep => Ok(Next::Wait(LINGER)),
                    next => Ok(next),
                };
            }
        }
        Ok(if self.eof && !unwritten {
            Next::Close
        } else {
            Next::Keep
        })
    }

    /// Throws away what a refused client still sends.
    fn drain(&mut self, input: &mut [u8]) -> io::Result<Next> {
        loop {
            match self.stream.read(input) {
                Ok(0) => return Ok(Next::Close),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Keep),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes `output`, keeps what does not fit, and leaves `output` empty.
    fn send(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        let sent = if self.pending.is_empty() {
            write_what_fits(&mut self.stream, output)?
        } else {
            0
        };
        self.pending.extend_from_slice(&output[sent..]);
        output.clear();
        Ok(())
    }

    /// Writes what is left from before.
    fn flush(&mut self) -> io::Result<()> {
        self.written += write_what_fits(&mut self.stream, &self.pending[self.written..])?;
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
        }
        Ok(())
    }
}

/// Writes as much as a socket that does not block has room for; how many bytes that was.
///
/// # Errors
/// Whatever the socket says, except that it is full or that a signal came.
pub fn write_what_fits(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Opens a listener whose accepted sockets have no Nagle delay (they inherit it).
fn listen(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}, is another server on that port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused an epoll call.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
}
