//! Bytes sent as they are, and what is heard back. The client of the [`crate::desync`] cases.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::head::{Head, Receiver};
use crate::plan::Framing;

/// How long an answer may take before it counts as none: some cases leave both ends waiting for more.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between two sends, so that they travel as two segments.
const PAUSE: Duration = Duration::from_millis(3);

/// One connection: ordinary requests first, then the case's bytes, then a request that shows whether both ends still agree
/// where a message begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dialogue {
    /// Name of the case.
    pub name: String,
    /// Where to connect.
    pub target: SocketAddr,
    /// Ordinary requests, one after the other, each answered before the next.
    pub before: Vec<String>,
    /// The case's bytes, one send each.
    pub sends: Vec<Vec<u8>>,
    /// What is sent after the first answer, if the connection is still open; it must ask for `connection: close`.
    pub after: String,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Name of the case.
    pub name: String,
    /// The answers to the case's bytes and to what came after, and how it ended: `200 200 end`, `400 end`, `silence`.
    pub answers: String,
}

/// Holds all dialogues at once.
pub fn run(dialogues: &[Dialogue]) -> Vec<Heard> {
    thread::scope(|scope| {
        let threads: Vec<_> = dialogues
            .iter()
            .map(|dialogue| scope.spawn(|| hold(dialogue)))
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|heard| heard.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn hold(dialogue: &Dialogue) -> Heard {
    let mut answers = Vec::new();
    let end = talk(dialogue, &mut answers).unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::TimedOut => "silence".to_owned(),
        // A server that closes with unread bytes resets: both are ends.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "end".to_owned(),
        _ => error.to_string(),
    });
    answers.push(end);
    Heard {
        name: dialogue.name.clone(),
        answers: answers.join(" "),
    }
}

fn talk(dialogue: &Dialogue, answers: &mut Vec<String>) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&dialogue.target, PATIENCE)?;
    stream.set_nodelay(true)?;
    let reading = stream.try_clone()?;
    let mut receiver = Receiver::new(&reading);
    receiver.patience = PATIENCE;
    for request in &dialogue.before {
        stream.write_all(request.as_bytes())?;
        let status = answer(&mut receiver, false)?;
        if status != Some(200) {
            return Ok(format!("{status:?} to an ordinary request before it"));
        }
    }
    for (index, bytes) in dialogue.sends.iter().enumerate() {
        if index > 0 {
            thread::park_timeout(PAUSE);
        }
        // An answer may have come already, and the connection be closed.
        if stream.write_all(bytes).is_err() {
            break;
        }
    }
    let to_head = dialogue
        .sends
        .first()
        .is_some_and(|bytes| bytes.starts_with(b"HEAD "));
    let Some(first) = answer(&mut receiver, to_head)? else {
        return Ok("end".to_owned());
    };
    answers.push(first.to_string());
    let _ = stream.write_all(dialogue.after.as_bytes());
    while let Some(status) = answer(&mut receiver, false)? {
        answers.push(status.to_string());
    }
    Ok("end".to_owned())
}

/// The next final answer's status; `None` at the end of the connection.
fn answer(receiver: &mut Receiver<'_>, to_head: bool) -> io::Result<Option<u16>> {
    loop {
        let Some(head) = receiver.response().map_err(io_error)? else {
            return Ok(None);
        };
        if head.status >= 200 {
            skip_body(receiver, &head, to_head)?;
            return Ok(Some(head.status));
        }
    }
}

fn skip_body(receiver: &mut Receiver<'_>, head: &Head, to_head: bool) -> io::Result<()> {
    if to_head || head.status == 204 || head.status == 304 {
        return Ok(());
    }
    match head.framing() {
        (Framing::Length, length) => {
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
        // Neither the recorder nor the proxies' own answers use anything else.
        (framing, _) => Err(io::Error::other(format!("an answer framed by {framing:?}"))),
    }
}

fn io_error(error: crate::head::HeadError) -> io::Error {
    match error {
        crate::head::HeadError::Io(error) => error,
        crate::head::HeadError::Cut(_) => io::ErrorKind::UnexpectedEof.into(),
        error @ crate::head::HeadError::Garbage { .. } => io::Error::other(error),
    }
}
