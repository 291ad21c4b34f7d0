//! The server: knows from a request's numbers what must arrive, compares it, and answers by the same plan.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::body::{self, BodyError};
use crate::bulk;
use crate::finding::{Finding, Kind, Tally};
use crate::head::{Head, HeadError, Receiver};
use crate::plan::{Framing, Message, Number, Side};
use crate::segments::{Sender, Shape};

/// Header with a message's numbers, in requests and answers.
pub const MESSAGE: &str = "x-message";
/// Header with the server's name.
pub const SERVED_BY: &str = "x-served-by";
/// Target that a server answers with its [`Report`].
pub const REPORT: &str = "/.report";
/// Longest wait for a client to close after an announced end.
const LINGER: Duration = Duration::from_secs(5);

/// What a server has seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its findings.
    pub tally: Tally,
    /// The messages that reached it whole, as (connection, message).
    pub seen: Vec<(u64, u32)>,
}

/// A server's memory, shared by its connections.
#[derive(Debug, Default)]
struct Memory {
    tally: Tally,
    seen: HashSet<(u64, u32)>,
    /// The last message of each connection.
    last: HashMap<u64, u32>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    name: String,
    memory: Mutex<Memory>,
}

/// What a connection does after a message.
enum Next {
    /// Waits for another.
    Keep,
    /// Ends, as announced.
    Close,
}

impl Server {
    /// A server of this name.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            memory: Mutex::default(),
        })
    }

    /// Accepts connections for ever, one thread each.
    ///
    /// # Errors
    /// If the listener fails, or no thread can be had.
    pub fn serve(self: &Arc<Self>, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = match listener.accept() {
                Ok(accepted) => accepted,
                // The client has left already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let server = Arc::clone(self);
            thread::Builder::new()
                .stack_size(512 << 10)
                .spawn(move || server.connection(&stream))?;
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, kind: Kind, step: String, what: &impl ToString) {
        self.memory().tally.find(Finding {
            kind,
            by: self.name.clone(),
            step,
            what: what.to_string(),
        });
    }

    fn connection(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut sender) = Sender::new(stream, false) else {
            return;
        };
        let mut receiver = Receiver::new(stream);
        loop {
            let head = match receiver.request() {
                Ok(Some(head)) => head,
                // A connection may end between two messages, and idle ones may break there, or wait for ever.
                Ok(None) => return,
                Err(HeadError::Io(error)) if receiver.buffer.is_empty() => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        continue;
                    }
                    return;
                }
                Err(HeadError::Io(error)) => {
                    return self.find(Kind::Broken, "in a head".to_owned(), &error);
                }
                Err(error @ HeadError::Cut(_)) => {
                    return self.find(Kind::Broken, "in a head".to_owned(), &error);
                }
                Err(error @ HeadError::Garbage { .. }) => {
                    return self.find(Kind::Wrong, "where a head should be".to_owned(), &error);
                }
            };
            match self.exchange(&head, &mut receiver, &mut sender) {
                Ok(Next::Keep) => {}
                Ok(Next::Close) => return linger(stream),
                // The client notices as well, and knows whether that was to be expected.
                Err(_) => return,
            }
        }
    }

    fn exchange(
        &self,
        head: &Head,
        receiver: &mut Receiver<'_>,
        sender: &mut Sender<'_>,
    ) -> io::Result<Next> {
        let (method, target) = head.request.clone().unwrap_or_default();
        let Some(number) = head.only(MESSAGE).and_then(Number::parse) else {
            return self.unnumbered(head, receiver, sender);
        };
        let message = Message::of(number);
        let step = format!(
            "connection {} message {}",
            number.connection, number.message
        );
        if let Err(difference) = check_head(&message, head, &method, &target) {
            self.find(Kind::Wrong, step, &difference);
            return Err(io::ErrorKind::InvalidData.into());
        }
        if head.only("expect").is_some() {
            sender.keep(b"HTTP/1.1 100 Continue\r\n\r\n");
            sender.flush(&WHOLE, &mut Shape::of(&WHOLE))?;
        }
        let (framing, told) = head.framing();
        if let Err(error) = body::check(receiver, &message.request, framing, told) {
            let kind = if error.is_broken() {
                Kind::Broken
            } else {
                Kind::Wrong
            };
            self.find(kind, step, &format!("request: {error}"));
            return Err(broken(&error));
        }
        self.remember(number);
        self.answer(&message, sender)?;
        Ok(next(message.close || head.closes()))
    }

    /// Notes that a message came; a second time, or after a later one of its connection, is wrong.
    fn remember(&self, number: Number) {
        let mut memory = self.memory();
        let key = (number.connection, number.message);
        let what = if !memory.seen.insert(key) {
            "this message came twice"
        } else if memory
            .last
            .insert(key.0, key.1)
            .is_some_and(|last| last > key.1)
        {
            "this message came after a later one"
        } else {
            return;
        };
        memory
            .tally
            .find(Finding::about(Kind::Wrong, &self.name, number, &what));
    }

    fn answer(&self, message: &Message, sender: &mut Sender<'_>) -> io::Result<()> {
        let side = &message.answer;
        let mut shape = Shape::of(side);
        let reason = match message.status {
            204 => "No Content",
            304 => "Not Modified",
            _ => "OK",
        };
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\n{MESSAGE}: {}\r\n{SERVED_BY}: {}\r\nx-padding: {}\r\n",
            message.status,
            message.number.text(),
            self.name,
            padding(side.padding)
        );
        if message.close {
            head.push_str("connection: close\r\n");
        }
        head.push_str(&framing_lines(side));
        head.push_str("\r\n");
        sender.keep(head.as_bytes());
        if message.answer_has_body() {
            body::write(sender, side, &mut shape)?;
        }
        sender.flush(side, &mut shape)
    }

    /// Requests that are no message: readiness and the report. Anything else is bytes that were not meant as a request.
    fn unnumbered(
        &self,
        head: &Head,
        receiver: &mut Receiver<'_>,
        sender: &mut Sender<'_>,
    ) -> io::Result<Next> {
        let next = next(head.closes());
        let (method, target) = head.request.clone().unwrap_or_default();
        if let Some(length) = target
            .strip_prefix("/first/bulk/")
            .and_then(|n| n.parse().ok())
        {
            return large(sender, &bulk::side(length), true).map(|()| next);
        }
        if let Some(length) = target
            .strip_prefix("/first/blob/")
            .and_then(|n| n.parse().ok())
        {
            skip(receiver, head.framing().1)?;
            return large(sender, &bulk::side(length), false).map(|()| next);
        }
        let body = match (method.as_str(), target.as_str()) {
            ("GET", "/") => "ready".to_owned(),
            ("GET", REPORT) => self.report()?,
            _ => {
                let what = format!("{method} {target}: nobody sent this request");
                self.find(Kind::Wrong, "where a head should be".to_owned(), &what);
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        sender.keep(head.as_bytes());
        sender.keep(body.as_bytes());
        sender.flush(&WHOLE, &mut Shape::of(&WHOLE))?;
        Ok(next)
    }

    fn report(&self) -> io::Result<String> {
        let memory = self.memory();
        let report = Report {
            tally: memory.tally.clone(),
            seen: memory.seen.iter().copied().collect(),
        };
        Ok(serde_json::to_string(&report)?)
    }
}

/// A side without cuts or pauses.
const WHOLE: Side = Side {
    length: 0,
    framing: Framing::None,
    pattern: crate::pattern::Pattern::new(0),
    padding: 0,
    cuts: crate::plan::Cuts::Whole,
    pause_us: 0,
    shape: 0,
    ornate: false,
};

/// Answers with a large body: of its pattern, or of bytes that cost nothing to make.
fn large(sender: &mut Sender<'_>, side: &Side, patterned: bool) -> io::Result<()> {
    let mut shape = Shape::of(side);
    sender.keep(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing_lines(side)).as_bytes());
    if patterned {
        body::write(sender, side, &mut shape)?;
    } else {
        let piece = [b'x'; 16 << 10];
        let mut left = side.length as usize;
        while left > 0 {
            let count = left.min(piece.len());
            sender.keep(&piece[..count]);
            left -= count;
            if sender.is_full() {
                sender.flush(side, &mut shape)?;
            }
        }
    }
    sender.flush(side, &mut shape)
}

/// Reads a body of this length and forgets it.
fn skip(receiver: &mut Receiver<'_>, length: u64) -> io::Result<()> {
    let mut left = length as usize;
    while left > 0 {
        if receiver.buffer.is_empty() && !receiver.fill()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = left.min(receiver.buffer.len());
        receiver.buffer.drain(..count);
        left -= count;
    }
    Ok(())
}

fn next(closes: bool) -> Next {
    if closes { Next::Close } else { Next::Keep }
}

/// The value of the header that only fills a head; its bytes tell their place, too.
pub fn padding(length: usize) -> String {
    (0..length)
        .map(|at| char::from((b'a' + (at % 26) as u8) ^ (at / 26 % 2 * 32) as u8))
        .collect()
}

/// The header lines that tell how a side's body is framed.
pub fn framing_lines(side: &Side) -> String {
    match side.framing {
        Framing::None => String::new(),
        Framing::Length => format!("content-length: {}\r\n", side.length),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
    }
}

/// Whether a request's head is the planned one, as far as a proxy must leave it alone.
fn check_head(message: &Message, head: &Head, method: &str, target: &str) -> Result<(), String> {
    let side = &message.request;
    if (method, target) != (message.method, &message.path()) {
        return Err(format!(
            "{method} {target} came, {} {} was sent",
            message.method,
            message.path()
        ));
    }
    let framing = head.framing().0;
    let same = match side.framing {
        // No body may also be told as a body of no bytes.
        Framing::None => true,
        planned => framing == planned,
    };
    if !same {
        return Err(format!(
            "the body is framed by {framing:?}, was sent with {:?}",
            side.framing
        ));
    }
    if head.only("x-padding") != Some(&padding(side.padding)) {
        return Err("the header x-padding is not as sent".to_owned());
    }
    Ok(())
}

fn broken(error: &BodyError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Closes so that the answer survives: a close with unread bytes would reset the connection and take the answer with it.
fn linger(mut stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.set_read_timeout(Some(LINGER));
    let mut bytes = [0; 16 << 10];
    while let Ok(1..) = stream.read(&mut bytes) {}
}
