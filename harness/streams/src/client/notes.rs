//! What the client knows in the end, against what the servers know: a message that was answered must have been seen once,
//! by the server that answered it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpStream};

use serde::de::DeserializeOwned;

use crate::finding::{Finding, Kind, Tally};
use crate::head::Receiver;
use crate::plan::{Cuts, Framing, Number, Side};
use crate::segments::{Sender, Shape};
use crate::server::Report;

/// The answered messages.
#[derive(Debug, Default)]
pub(super) struct Notes {
    seed: u64,
    answered: HashMap<(u64, u32), String>,
}

impl Notes {
    pub(super) fn answered(&mut self, number: Number, server: String) {
        self.seed = number.seed;
        let key = (number.connection, number.message);
        self.answered.insert(key, server);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.seed = self.seed.max(other.seed);
        self.answered.extend(other.answered);
    }

    /// Notes a finding for every message that an answer promised and no server saw, or that two saw.
    pub(super) fn compare(&self, tally: &mut Tally, reports: &BTreeMap<&str, Report>) {
        let mut seen: HashMap<(u64, u32), &str> = HashMap::new();
        let about = |key: (u64, u32), what: String| {
            let number = Number {
                seed: self.seed,
                connection: key.0,
                message: key.1,
            };
            Finding::about(Kind::Wrong, "client", number, &what)
        };
        for (name, report) in reports {
            for key in &report.seen {
                if let Some(other) = seen.insert(*key, name) {
                    tally.find(about(*key, format!("reached both {other} and {name}")));
                }
            }
        }
        for (key, server) in &self.answered {
            if seen.get(key).is_none_or(|by| by != server) {
                tally.find(about(
                    *key,
                    format!("{server} answered it but never saw it"),
                ));
            }
        }
    }
}

/// A server's document, asked at its own address.
///
/// # Errors
/// If there is no such server or document.
pub fn fetch<T: DeserializeOwned>(address: SocketAddr, path: &str) -> io::Result<T> {
    let stream = TcpStream::connect(address)?;
    let side = Side {
        length: 0,
        framing: Framing::None,
        pattern: crate::pattern::Pattern::new(0),
        padding: 0,
        cuts: Cuts::Whole,
        pause_us: 0,
        shape: 0,
        ornate: false,
    };
    let mut sender = Sender::new(&stream, false)?;
    sender.keep(format!("GET {path} HTTP/1.1\r\nhost: report\r\n\r\n").as_bytes());
    sender.flush(&side, &mut Shape::of(&side))?;
    let mut receiver = Receiver::new(&stream);
    let head = receiver.response().map_err(io::Error::other)?;
    let length: usize = head
        .as_ref()
        .and_then(|head| head.only("content-length")?.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    while receiver.buffer.len() < length {
        if !receiver.fill()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(serde_json::from_slice(&receiver.buffer[..length])?)
}
