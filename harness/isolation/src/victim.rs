//! The victim: requests whose answers must come from the one server meant, each to its own request.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::exchange::{Answer, PATIENCE, exchange, prepare};

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

/// Sends requests for so long, each answered by one of `servers` (with commas) or something is wrong. Calls `begun` when it knows what became of
/// the first.
pub fn run(target: SocketAddr, servers: &str, length: Duration, begun: impl FnOnce()) -> Seen {
    let end = Instant::now() + length;
    let mut seen = Seen::default();
    let mut times = Vec::new();
    let mut number = 0;
    let mut tell = Some(begun);
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
                Ok(answer) => {
                    times.push(begun.elapsed());
                    seen.judge(&answer, servers, number);
                }
                Err(error) => {
                    seen.fail(format!("request {number}: {error}"));
                    break;
                }
            }
            if let Some(tell) = tell.take() {
                tell();
            }
        }
    }
    times.sort_unstable();
    let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    seen.p99_us = times.get(at).map_or(0, |time| time.as_micros() as u64);
    seen
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    prepare(&stream)?;
    Ok(stream)
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

    /// Adds what another victim saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.stolen += other.stolen;
        self.p99_us = self.p99_us.max(other.p99_us);
        other
            .examples
            .into_iter()
            .for_each(|what| self.example(what));
    }

    fn judge(&mut self, answer: &Answer, servers: &str, number: u64) {
        if answer.is_nobodys() {
            self.fail(format!("request {number}: {}", answer.status()));
        } else if servers
            .split(',')
            .any(|server| answer.is_of(server, number))
        {
            self.answered += 1;
        } else {
            self.stolen += 1;
            self.example(format!(
                "request {number} to {servers} got {:?}",
                answer.head
            ));
        }
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
            seen.judge(&Answer { head: head.clone() }, "s1", 7);
            assert_eq!(
                (seen.answered, seen.failed, seen.stolen),
                expected,
                "{head}"
            );
        }
    }
}
