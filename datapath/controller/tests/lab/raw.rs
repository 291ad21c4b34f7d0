//! A server whose every byte and send the test decides.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use super::agent::{Agent, agent};
use super::{Mesh, RAW_PORT};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Method, a blank, the target.
    pub(crate) line: String,
    /// The head.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The target.
    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// The server's side of one connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// The next request's head; `None` at the end of the connection.
    pub(crate) fn head(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().ok()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let line = head.split(" HTTP/").next().unwrap().to_owned();
        Some(Request {
            line,
            head,
            body: Vec::new(),
        })
    }

    /// The body that the head announces by its length.
    pub(crate) fn body(&mut self, request: &mut Request) -> Option<()> {
        let lower = request.head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        while self.buffer.len() < length {
            self.fill().ok()?;
        }
        request.body = self.buffer.drain(..length).collect();
        Some(())
    }

    /// A whole request.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        self.body(&mut request)?;
        Some(request)
    }

    /// Sends an answer, each part in a send of its own; `None` if nobody takes it.
    pub(crate) fn answer(&mut self, parts: &[impl AsRef<[u8]>]) -> Option<()> {
        for part in parts {
            self.stream.write_all(part.as_ref()).ok()?;
        }
        Some(())
    }

    /// The bytes that come next, whatever they are.
    pub(crate) fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 65536];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }
}

/// Serves `/raw` in s3, every connection on its own thread, until the test ends.
pub(crate) fn serve(mesh: &Mesh, handler: impl Fn(Connection) + Send + Sync + 'static) -> Agent {
    let agent = agent(&mesh.lab, "s3");
    let listener = agent.listen(mesh.endpoint("s3", RAW_PORT)).unwrap();
    let handler = Arc::new(handler);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            let handler = Arc::clone(&handler);
            thread::spawn(move || {
                handler(Connection {
                    stream,
                    buffer: Vec::new(),
                });
            });
        }
    });
    agent
}
