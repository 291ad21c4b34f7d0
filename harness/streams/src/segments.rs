//! Sending a message in pieces: a plan says where the cuts are and how long the pauses.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use kmesh_stats::Rng;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::plan::{Cuts, Side};

/// How long a peer may leave a send or a receive waiting before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Most pauses within one message.
const PAUSES_MAX: u32 = 4;
/// Most bytes of glued messages that are kept back.
const GLUED_MAX: usize = 256 << 10;

/// The sending half of a connection.
#[derive(Debug)]
pub struct Sender<'s> {
    stream: &'s TcpStream,
    /// Whether sends refuse to block.
    nonblocking: bool,
    kept: Vec<u8>,
    /// Bytes handed to the kernel so far.
    pub sent: u64,
}

impl<'s> Sender<'s> {
    /// A sender on a blocking socket.
    ///
    /// # Errors
    /// If the socket takes no time limit for sends.
    pub fn new(stream: &'s TcpStream, nonblocking: bool) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            nonblocking,
            kept: Vec::new(),
            sent: 0,
        })
    }

    /// Keeps bytes back, to be sent together with what comes next.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Whether so much is kept back that it should go.
    pub fn is_full(&self) -> bool {
        self.kept.len() > GLUED_MAX
    }

    /// Sends what was kept back, cut as `side` says.
    ///
    /// # Errors
    /// Of the socket; [`io::ErrorKind::TimedOut`] after [`PATIENCE`] without room.
    pub fn flush(&mut self, side: &Side, shape: &mut Shape) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.kept);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let count = shape.next_cut(side).min(rest.len());
            self.all(&rest[..count])?;
            rest = &rest[count..];
            if !rest.is_empty() {
                shape.pause(side);
            }
        }
        self.kept = bytes;
        self.kept.clear();
        Ok(())
    }

    fn all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut flags = MsgFlags::MSG_NOSIGNAL;
        flags.set(MsgFlags::MSG_DONTWAIT, self.nonblocking);
        while !bytes.is_empty() {
            match send(self.stream.as_raw_fd(), bytes, flags) {
                Ok(count) => {
                    self.sent += count as u64;
                    bytes = &bytes[count..];
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    await_ready(self.stream, PollFlags::POLLOUT, PATIENCE)?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Random cuts and pauses of one message.
#[derive(Debug)]
pub struct Shape {
    rng: Rng,
    pauses: u32,
}

impl Shape {
    /// The shape of a side.
    pub fn of(side: &Side) -> Self {
        Self {
            rng: Rng::new(side.shape),
            pauses: 0,
        }
    }

    /// How many bytes the next send takes.
    fn next_cut(&mut self, side: &Side) -> usize {
        match side.cuts {
            Cuts::Whole => usize::MAX,
            Cuts::Pieces(most) => 1 + self.rng.below(most),
        }
    }

    /// How many bytes the next chunk has, of at most `left`.
    pub fn next_chunk(&mut self, left: u64) -> u64 {
        let most = [10, 1_000, 40_000, 300_000][self.rng.below(4)];
        // Tiny chunks of a large body would only be slow.
        let least = left / 64;
        (least + 1 + self.rng.below(most) as u64).min(left)
    }

    fn pause(&mut self, side: &Side) {
        if side.pause_us == 0 || self.pauses >= PAUSES_MAX || self.rng.coin() {
            return;
        }
        self.pauses += 1;
        let length = Duration::from_micros(self.rng.below(side.pause_us as usize) as u64);
        let end = Instant::now() + length;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
    }
}

/// Waits until the socket can be read or written.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] after `patience`.
pub fn await_ready(stream: &TcpStream, events: PollFlags, patience: Duration) -> io::Result<()> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stream.as_fd(), events)], timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
