//! The victim: requests whose answers must come from the one server meant, each to its own request.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Longer than an answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests on one connection before the next is made.
const PER_CONNECTION: u64 = 50;

/// What the victim saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests without a good answer: refused, broken off, or answered with an error.
    pub failed: u64,
    /// Answers of another sender, or to another request.
    pub stolen: u64,
    /// The first of the failures and thefts, for people.
    pub examples: Vec<String>,
    /// 99th percentile of the time to an answer, microseconds.
    pub p99_us: u64,
}

/// Sends requests for so long, each answered by `server` or something is wrong.
pub fn run(target: SocketAddr, server: &str, length: Duration) -> Seen {
    let end = Instant::now() + length;
    let mut seen = Seen::default();
    let mut times = Vec::new();
    let mut number = 0;
    while Instant::now() < end {
        let mut stream = match connect(target) {
            Ok(stream) => stream,
            Err(error) => {
                seen.fail(format!("connect: {error}"));
                continue;
            }
        };
        for _ in 0..PER_CONNECTION {
            number += 1;
            let begun = Instant::now();
            match exchange(&mut stream, number) {
                Ok(head) => {
                    times.push(begun.elapsed());
                    seen.judge(&head, server, number);
                }
                Err(error) => {
                    seen.fail(format!("request {number}: {error}"));
                    break;
                }
            }
        }
    }
    times.sort_unstable();
    let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    seen.p99_us = times.get(at).map_or(0, |time| time.as_micros() as u64);
    seen
}

impl Seen {
    fn fail(&mut self, what: String) {
        self.failed += 1;
        self.example(what);
    }

    fn example(&mut self, what: String) {
        const KEPT: usize = 5;
        if self.examples.len() < KEPT {
            self.examples.push(what);
        }
    }

    fn judge(&mut self, head: &str, server: &str, number: u64) {
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find_map(|(have, value)| have.eq_ignore_ascii_case(name).then_some(value))
        };
        let sequence = number.to_string();
        if !head.starts_with("HTTP/1.1 200") && header("x-served-by").is_none() {
            self.fail(format!(
                "request {number}: {}",
                head.lines().next().unwrap_or_default()
            ));
        } else if header("x-served-by") == Some(server)
            && header("x-request-seq") == Some(&sequence)
        {
            self.answered += 1;
        } else {
            self.stolen += 1;
            self.example(format!("request {number} to {server} got {head:?}"));
        }
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a request and reads its answer; the answer's head.
fn exchange(stream: &mut TcpStream, number: u64) -> io::Result<String> {
    let request = format!(
        "GET / HTTP/1.1\r\nhost: victim\r\nx-request-seq: {number}\r\ncookie: the victim's\r\n\r\n"
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
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse().ok())?
        })
        .unwrap_or(0_usize);
    while bytes.len() < end + length {
        bytes.extend_from_slice(some(stream, &mut piece)?);
    }
    Ok(head)
}

fn some<'a>(stream: &mut TcpStream, piece: &'a mut [u8]) -> io::Result<&'a [u8]> {
    match stream.read(piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(&piece[..count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "HTTP/1.1 200 OK\r\nx-served-by: s1\r\nx-request-seq: 7\r\n\r\n";

    #[test]
    fn only_the_servers_answer_to_the_request_is_right() {
        for (head, expected) in [
            (OWN.to_owned(), (1, 0, 0)),
            (OWN.replace("s1", "s2"), (0, 0, 1)),
            (OWN.replace('7', "8"), (0, 0, 1)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n".to_owned(),
                (0, 0, 1),
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned(),
                (0, 1, 0),
            ),
        ] {
            let mut seen = Seen::default();
            seen.judge(&head, "s1", 7);
            assert_eq!(
                (seen.answered, seen.failed, seen.stolen),
                expected,
                "{head}"
            );
        }
    }
}
