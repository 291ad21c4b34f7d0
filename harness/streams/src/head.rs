//! Message heads: written from plain text, read with `httparse`, strictly.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv};

use crate::plan::Framing;
use crate::segments::{PATIENCE, await_ready};

/// Largest head that is accepted, bytes.
const HEAD_MAX: usize = 64 << 10;
/// Most bytes taken from the kernel at a time.
const READ: usize = 64 << 10;
/// Most header lines in a head.
const LINES_MAX: usize = 64;

/// Why a head can't be read.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The connection broke, or nothing came for too long.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The connection ended within a head.
    #[error("the connection ended {0} bytes into a head")]
    Cut(usize),
    /// What came is not a head.
    #[error("not a head ({problem}): {begin}")]
    Garbage {
        /// What the parser found.
        problem: String,
        /// Its first bytes.
        begin: String,
    },
}

/// The receiving half of a connection, with what was read ahead.
#[derive(Debug)]
pub struct Receiver<'s> {
    stream: &'s TcpStream,
    pub(crate) buffer: Vec<u8>,
    /// Where the kernel writes to; its content means nothing.
    scratch: Box<[u8]>,
    /// Bytes taken from the kernel so far.
    pub received: u64,
    /// How long nothing may come before that counts as a hang.
    pub patience: Duration,
}

/// A head, of a request or of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Method and target of a request.
    pub request: Option<(String, String)>,
    /// Status of a response.
    pub status: u16,
    /// Header lines, names in lower case.
    pub lines: Vec<(String, String)>,
}

impl Head {
    /// The only value of a header; `None` if there is none, or more than one.
    pub fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.lines.iter().filter(|(line, _)| line == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// How the body is framed, and its length if that is told.
    pub fn framing(&self) -> (Framing, u64) {
        let length = self.only("content-length").map(str::parse);
        match (self.only("transfer-encoding"), length) {
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => (Framing::Chunked, 0),
            (None, Some(Ok(length))) => (Framing::Length, length),
            _ => (Framing::None, 0),
        }
    }

    /// Whether it says that the connection ends with this message.
    pub fn closes(&self) -> bool {
        self.only("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl<'s> Receiver<'s> {
    /// Reads from a socket.
    pub fn new(stream: &'s TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            scratch: vec![0; READ].into_boxed_slice(),
            received: 0,
            patience: PATIENCE,
        }
    }

    /// The next request's head; `None` if the client closed before one began.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn request(&mut self) -> Result<Option<Head>, HeadError> {
        self.head(|bytes| {
            let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
            let mut request = httparse::Request::new(&mut lines);
            let httparse::Status::Complete(length) = request.parse(bytes)? else {
                return Ok(None);
            };
            let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
            let head = Head {
                request: Some((text(request.method), text(request.path))),
                status: 0,
                lines: owned(request.headers),
            };
            Ok(Some((head, length)))
        })
    }

    /// The next response's head; `None` if the server closed before one began.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn response(&mut self) -> Result<Option<Head>, HeadError> {
        self.head(|bytes| {
            let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
            let mut response = httparse::Response::new(&mut lines);
            let httparse::Status::Complete(length) = response.parse(bytes)? else {
                return Ok(None);
            };
            let head = Head {
                request: None,
                status: response.code.unwrap_or_default(),
                lines: owned(response.headers),
            };
            Ok(Some((head, length)))
        })
    }

    fn head(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(Head, usize)>, httparse::Error>,
    ) -> Result<Option<Head>, HeadError> {
        loop {
            match parse(&self.buffer) {
                Ok(Some((head, length))) => {
                    self.buffer.drain(..length);
                    return Ok(Some(head));
                }
                Ok(None) if self.buffer.len() <= HEAD_MAX => {}
                Ok(None) => return Err(self.garbage("too long")),
                Err(error) => return Err(self.garbage(&error.to_string())),
            }
            if !self.fill()? {
                return match self.buffer.len() {
                    0 => Ok(None),
                    count => Err(HeadError::Cut(count)),
                };
            }
        }
    }

    /// Reads more. False at the end of the stream.
    ///
    /// # Errors
    /// Of the socket; [`io::ErrorKind::TimedOut`] if nothing comes for as long as [`Self::patience`].
    pub fn fill(&mut self) -> io::Result<bool> {
        loop {
            await_ready(self.stream, PollFlags::POLLIN, self.patience)?;
            // Without blocking: a blocking `recv` on a socket in a sockmap may be woken for nothing (Linux 6.18,
            // tcp_bpf_recvmsg) and answer EAGAIN.
            match recv(
                self.stream.as_raw_fd(),
                &mut self.scratch,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(count) => {
                    self.received += count as u64;
                    self.buffer.extend_from_slice(&self.scratch[..count]);
                    return Ok(count > 0);
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// What has come and belongs to no message: read ahead, or waiting in the kernel.
    pub fn surplus(&mut self) -> usize {
        let mut bytes = [0; 4096];
        let waiting = recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
        self.buffer
            .extend_from_slice(&bytes[..waiting.unwrap_or(0)]);
        self.buffer.len()
    }

    fn garbage(&self, problem: &str) -> HeadError {
        let begin = &self.buffer[..self.buffer.len().min(80)];
        HeadError::Garbage {
            problem: problem.to_owned(),
            begin: begin.escape_ascii().to_string(),
        }
    }
}

fn owned(lines: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let line = |line: &httparse::Header<'_>| {
        let value = String::from_utf8_lossy(line.value).into_owned();
        (line.name.to_ascii_lowercase(), value)
    };
    lines.iter().map(line).collect()
}
