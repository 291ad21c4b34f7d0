//! Bodies: sent from a pattern, and compared with it as they come, without ever being held.

use std::io;

use crate::head::{HeadError, Receiver};
use crate::plan::{Framing, Side};
use crate::segments::{Sender, Shape};

/// Bytes of a body that are made at a time.
const PIECE: u64 = 64 << 10;
/// Longest chunk-size line or trailer that is accepted, bytes.
const LINE_MAX: usize = 1024;

/// What is wrong with a body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection failed or ended.
    #[error("after {at} of {length} bytes of the body: {source}")]
    Broken {
        /// Bytes that had come.
        at: u64,
        /// Bytes that were to come.
        length: u64,
        /// What happened.
        source: HeadError,
    },
    /// A byte is not what was sent.
    #[error("byte {at} of {length} is wrong: {found}")]
    Wrong {
        /// Its position.
        at: u64,
        /// Bytes that were to come.
        length: u64,
        /// What stands there instead.
        found: String,
    },
    /// There are more or fewer bytes than were sent.
    #[error("the body has {found} bytes, {length} were sent")]
    Length {
        /// As it came.
        found: u64,
        /// As it was sent.
        length: u64,
    },
    /// The chunked coding is broken.
    #[error("after {at} of {length} bytes of the body, where a chunk should begin or end: {found}")]
    Chunk {
        /// Bytes that had come.
        at: u64,
        /// Bytes that were to come.
        length: u64,
        /// What stands there.
        found: String,
    },
}

impl BodyError {
    /// Whether the body ended early, rather than wrongly.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

/// Hands a body to the sender; the last bytes may be kept back.
///
/// # Errors
/// Of the socket.
pub fn write(sender: &mut Sender<'_>, side: &Side, shape: &mut Shape) -> io::Result<()> {
    match side.framing {
        Framing::None => Ok(()),
        Framing::Length => write_range(sender, side, shape, 0, side.length),
        Framing::Chunked => {
            let mut at = 0;
            while at < side.length {
                let count = shape.next_chunk(side.length - at);
                let extension = if side.ornate { ";piece=\"a b\"" } else { "" };
                sender.keep(format!("{count:x}{extension}\r\n").as_bytes());
                write_range(sender, side, shape, at, count)?;
                sender.keep(b"\r\n");
                at += count;
            }
            sender.keep(b"0\r\n");
            if side.ornate {
                sender.keep(b"x-trailer: end\r\n");
            }
            sender.keep(b"\r\n");
            Ok(())
        }
    }
}

fn write_range(
    sender: &mut Sender<'_>,
    side: &Side,
    shape: &mut Shape,
    from: u64,
    count: u64,
) -> io::Result<()> {
    let mut bytes = vec![0; count.min(PIECE) as usize];
    let mut at = 0;
    while at < count {
        let piece = &mut bytes[..(count - at).min(PIECE) as usize];
        side.pattern.fill(from + at, piece);
        sender.keep(piece);
        at += piece.len() as u64;
        if sender.is_full() {
            sender.flush(side, shape)?;
        }
    }
    Ok(())
}

/// Reads a body that is framed as `framing` says, of `told` bytes if that is by length, and compares it with what was sent.
///
/// # Errors
/// [`BodyError`].
pub fn check(
    receiver: &mut Receiver<'_>,
    side: &Side,
    framing: Framing,
    told: u64,
) -> Result<(), BodyError> {
    let length = side.length;
    let mut body = Body {
        receiver,
        side,
        at: 0,
    };
    match framing {
        Framing::None => {}
        Framing::Length if told != length => {
            return Err(BodyError::Length {
                found: told,
                length,
            });
        }
        Framing::Length => body.range(length)?,
        Framing::Chunked => body.chunks()?,
    }
    if body.at == length {
        Ok(())
    } else {
        Err(BodyError::Length {
            found: body.at,
            length,
        })
    }
}

struct Body<'r, 's> {
    receiver: &'r mut Receiver<'s>,
    side: &'r Side,
    /// Bytes of the body that have been compared.
    at: u64,
}

impl Body<'_, '_> {
    fn range(&mut self, count: u64) -> Result<(), BodyError> {
        let mut left = count;
        while left > 0 {
            if self.receiver.buffer.is_empty() {
                self.fill()?;
            }
            let have = self
                .receiver
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = &self.receiver.buffer[..have];
            if let Some(wrong) = self.side.pattern.first_wrong(self.at, bytes) {
                let found = &bytes[(wrong - self.at) as usize..];
                return Err(BodyError::Wrong {
                    at: wrong,
                    length: self.side.length,
                    found: shown(found),
                });
            }
            self.receiver.buffer.drain(..have);
            self.at += have as u64;
            left -= have as u64;
        }
        Ok(())
    }

    /// RFC 9112 section 7.1.
    fn chunks(&mut self) -> Result<(), BodyError> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let Ok(count) = u64::from_str_radix(digits, 16) else {
                return Err(self.chunk(line.as_bytes()));
            };
            if count == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            if self.at + count > self.side.length {
                return Err(BodyError::Length {
                    found: self.at + count,
                    length: self.side.length,
                });
            }
            self.range(count)?;
            let line = self.line()?;
            if !line.is_empty() {
                return Err(self.chunk(line.as_bytes()));
            }
        }
    }

    fn line(&mut self) -> Result<String, BodyError> {
        loop {
            let buffer = &mut self.receiver.buffer;
            if let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
                buffer.drain(..end + 2);
                return Ok(line);
            }
            if buffer.len() > LINE_MAX {
                let found = buffer[..LINE_MAX].to_vec();
                return Err(self.chunk(&found));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), BodyError> {
        let broken = |source| BodyError::Broken {
            at: self.at,
            length: self.side.length,
            source,
        };
        match self.receiver.fill() {
            Ok(true) => Ok(()),
            Ok(false) => Err(broken(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            Err(error) => Err(broken(error.into())),
        }
    }

    fn chunk(&self, found: &[u8]) -> BodyError {
        BodyError::Chunk {
            at: self.at,
            length: self.side.length,
            found: shown(found),
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(60)].escape_ascii().to_string()
}
