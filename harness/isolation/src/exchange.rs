//! One request and its answer, with everything that tells whose it is.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than an answer takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(have, value)| have.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Whether `server` sent it, to the request of that number.
    pub(crate) fn is_of(&self, server: &str, number: u64) -> bool {
        self.header("x-served-by") == Some(server)
            && self.header("x-request-seq") == Some(&number.to_string())
    }

    /// Whether it is a refusal that no server sent.
    pub(crate) fn is_nobodys(&self) -> bool {
        !self.head.starts_with("HTTP/1.1 200") && self.header("x-served-by").is_none()
    }

    /// Its first line.
    pub(crate) fn status(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// Sets what an exchange relies on.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Sends a request of that number and reads an answer.
pub(crate) fn exchange(stream: &mut TcpStream, number: u64) -> io::Result<Answer> {
    let request = format!(
        "GET / HTTP/1.1\r\nhost: svc.test\r\nx-request-seq: {number}\r\ncookie: the victim's\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        bytes.extend_from_slice(some(stream, &mut piece)?);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let answer = Answer { head };
    let length = answer
        .header("content-length")
        .and_then(|text| text.parse().ok());
    while bytes.len() < end + length.unwrap_or(0_usize) {
        bytes.extend_from_slice(some(stream, &mut piece)?);
    }
    Ok(answer)
}

fn some<'a>(stream: &mut TcpStream, piece: &'a mut [u8]) -> io::Result<&'a [u8]> {
    match stream.read(piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(&piece[..count]),
    }
}
