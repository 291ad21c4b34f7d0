//! A server that notes what reaches it, as it understands it: which requests, with bodies of how many bytes, and what it
//! could not read as a request. The server of the [`crate::desync`] cases.

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::head::{Head, HeadError, Receiver};
use crate::plan::Framing;
use crate::server::REPORT;

/// Longest chunk-size line that is accepted, bytes.
const LINE_MAX: usize = 8 << 10;

/// A recorder.
#[derive(Debug, Default)]
pub struct Recorder {
    lines: Mutex<Vec<String>>,
}

impl Recorder {
    /// One with empty pages.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Accepts connections for ever, one thread each.
    ///
    /// # Errors
    /// If the listener fails, or no thread can be had.
    pub fn serve(self: &Arc<Self>, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            let recorder = Arc::clone(self);
            thread::Builder::new().spawn(move || recorder.connection(stream))?;
        }
    }

    fn note(&self, line: String) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    fn connection(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(reading) = stream.try_clone() else {
            return;
        };
        let mut receiver = Receiver::new(&reading);
        loop {
            match receiver.request() {
                Ok(Some(head)) => {
                    if self.exchange(&head, &mut receiver, &mut stream).is_err() {
                        return;
                    }
                }
                Err(error @ (HeadError::Garbage { .. } | HeadError::Cut(_))) => {
                    return self.note(format!("garbage: {error}"));
                }
                Ok(None) | Err(HeadError::Io(_)) => return,
            }
        }
    }

    fn exchange(
        &self,
        head: &Head,
        receiver: &mut Receiver<'_>,
        stream: &mut TcpStream,
    ) -> io::Result<()> {
        let (method, target) = head.request.clone().unwrap_or_default();
        let body = match head.framing() {
            (Framing::None, _) => Some(0),
            (Framing::Length, length) => take(receiver, length as usize)?.then_some(length),
            (Framing::Chunked, _) => chunks(receiver)?,
        };
        let text = if target == REPORT {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            serde_json::to_string(&*lines)?
        } else {
            let length = body.map_or_else(|| "broken".to_owned(), |length| length.to_string());
            self.note(format!("{method} {target} {length}"));
            "ok".to_owned()
        };
        let body_text = if method == "HEAD" { "" } else { &text };
        let close = if head.closes() {
            "connection: close\r\n"
        } else {
            ""
        };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{close}\r\n{body_text}",
            text.len()
        )?;
        if body.is_none() || head.closes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// Skips bytes of a body; false if the connection ends before.
fn take(receiver: &mut Receiver<'_>, count: usize) -> io::Result<bool> {
    let mut left = count;
    while left > 0 {
        if receiver.buffer.is_empty() && !receiver.fill()? {
            return Ok(false);
        }
        let count = left.min(receiver.buffer.len());
        receiver.buffer.drain(..count);
        left -= count;
    }
    Ok(true)
}

/// Reads a chunked body, RFC 9112 section 7.1, to the letter; its length, `None` if it is broken.
fn chunks(receiver: &mut Receiver<'_>) -> io::Result<Option<u64>> {
    let mut length = 0;
    loop {
        let Some(line) = line(receiver)? else {
            return Ok(None);
        };
        let digits = line.split(';').next().unwrap_or_default();
        let Ok(count) = u64::from_str_radix(digits.trim_end(), 16) else {
            return Ok(None);
        };
        if count == 0 {
            loop {
                match self::line(receiver)? {
                    Some(trailer) if trailer.is_empty() => return Ok(Some(length)),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        }
        if !take(receiver, count as usize)? || self::line(receiver)?.as_deref() != Some("") {
            return Ok(None);
        }
        length += count;
    }
}

fn line(receiver: &mut Receiver<'_>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = receiver.buffer.windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&receiver.buffer[..end]).into_owned();
            receiver.buffer.drain(..end + 2);
            return Ok(Some(line));
        }
        if receiver.buffer.len() > LINE_MAX || !receiver.fill()? {
            return Ok(None);
        }
    }
}
