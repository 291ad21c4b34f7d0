//! Large bodies, the client's side: readers that do not read, and transfers that are timed.
//!
//! The server answers `/first/bulk/N` with N bytes of [`BODY`] and `/first/blob/N` with N bytes that cost nothing to make;
//! it counts what is sent to `/first/blob/0`.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::body;
use crate::head::Receiver;
use crate::pattern::Pattern;
use crate::plan::{Cuts, Framing, Side};
use crate::world::HOST;

/// The bytes of `/first/bulk/N`.
pub const BODY: Pattern = Pattern::new(3);
/// How many of the stalled responses are read to the end and compared: all of a thousand would be 16 GB.
const COMPARED: usize = 16;
/// What [`stall`] prints when no reader has anything left to do.
pub const STALLED: &str = "stalled";

/// A side of a message that is just a body of [`BODY`].
pub(crate) fn side(length: u64) -> Side {
    Side {
        length,
        framing: Framing::Length,
        pattern: BODY,
        padding: 0,
        cuts: Cuts::Whole,
        pause_us: 0,
        shape: 0,
        ornate: false,
    }
}

/// Connections that ask for a large body and read nothing of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stall {
    /// Where to connect.
    pub target: SocketAddr,
    /// How many.
    pub readers: usize,
    /// Bytes of each body.
    pub length: u64,
}

/// What the stalled readers found when they read on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stalled {
    /// Bodies that were read to the end.
    pub compared: usize,
    /// What was wrong with them.
    pub wrong: Vec<String>,
}

/// Asks, prints [`STALLED`], waits for a line on stdin, then reads some of the bodies and compares them.
///
/// # Errors
/// If a connection can't be made or is refused an answer.
pub fn stall(task: &Stall) -> io::Result<Stalled> {
    let request = |path: String| format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut streams = Vec::new();
    for _ in 0..task.readers {
        let mut stream = TcpStream::connect(task.target)?;
        // A first exchange, so that the kernel has an upstream for the large one.
        stream.write_all(request("/first/bulk/1".to_owned()).as_bytes())?;
        read_body(&stream, 1).map_err(io::Error::other)?;
        stream.write_all(request(format!("/first/bulk/{}", task.length)).as_bytes())?;
        streams.push(stream);
    }
    println_now(STALLED)?;
    io::stdin().lock().read_line(&mut String::new())?;
    let mut outcome = Stalled {
        compared: 0,
        wrong: Vec::new(),
    };
    for stream in streams.iter().take(COMPARED) {
        match read_body(stream, task.length) {
            Ok(()) => outcome.compared += 1,
            Err(error) => outcome.wrong.push(error),
        }
    }
    Ok(outcome)
}

fn println_now(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn read_body(stream: &TcpStream, length: u64) -> Result<(), String> {
    let mut receiver = Receiver::new(stream);
    let head = receiver.response().map_err(|error| error.to_string())?;
    let head = head.ok_or("closed without an answer")?;
    if head.status != 200 {
        return Err(format!("status {}", head.status));
    }
    let (framing, told) = head.framing();
    body::check(&mut receiver, &side(length), framing, told).map_err(|error| error.to_string())
}

/// Bodies one after the other on one connection, each timed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Where to connect.
    pub target: SocketAddr,
    /// How many.
    pub count: usize,
    /// Bytes of each body.
    pub length: u64,
    /// Whether the client sends them.
    pub upload: bool,
}

/// Transfers; seconds of each.
///
/// # Errors
/// If a connection breaks, or the answer is not that of the server.
pub fn transfer(task: &Transfer) -> io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(task.target)?;
    stream.set_nodelay(true)?;
    let mut bytes = vec![b'x'; 256 << 10];
    let mut seconds = Vec::new();
    // The first opens pools and windows; it is not counted.
    for turn in 0..=task.count {
        let begun = Instant::now();
        if task.upload {
            let head = format!(
                "POST /first/blob/0 HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n",
                task.length
            );
            stream.write_all(head.as_bytes())?;
            let mut left = task.length as usize;
            while left > 0 {
                let count = left.min(bytes.len());
                stream.write_all(&bytes[..count])?;
                left -= count;
            }
        } else {
            let head = format!(
                "GET /first/blob/{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n",
                task.length
            );
            stream.write_all(head.as_bytes())?;
        }
        let length = answer_length(&stream, &mut bytes)?;
        let expected = if task.upload { 0 } else { task.length };
        if length != expected {
            return Err(io::Error::other(format!(
                "{length} bytes came, not {expected}"
            )));
        }
        if turn > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}

/// Reads an answer and forgets its body; the body's length.
fn answer_length(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<u64> {
    let mut receiver = Receiver::new(stream);
    let head = receiver.response().map_err(io::Error::other)?;
    let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
    let (Framing::Length, length) = head.framing() else {
        return Err(io::Error::other("an answer without content-length"));
    };
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    let mut left = length.saturating_sub(receiver.buffer.len() as u64);
    while left > 0 {
        let most = bytes.len().min(left as usize);
        match (&*stream).read(&mut bytes[..most]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => left -= count as u64,
            // See `Receiver::fill`.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// How long memory must stay level before it is taken for the end of its growth.
pub const LEVEL: Duration = Duration::from_millis(1_500);
