//! A keep-alive connection, one request on it at a time.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use super::bootstrap::{CLUSTER, DENOMINATORS, DRAWN, ROUTE, drawn_of};
use super::{Answer, EnvoyError};
use crate::request::Request;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// Received and not yet read.
    rest: Vec<u8>,
}

/// A response's head.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// Envoy closes the connection after it.
    pub(super) closes: bool,
    status: u16,
    route: String,
    cluster: String,
    location: Option<String>,
    body: String,
    /// The answer is in gRPC's words: 200 whatever happened.
    grpc: bool,
}

impl Connection {
    pub(super) fn open(socket: &str) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(socket)?;
        let stream = UnixStream::connect_addr(&address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            rest: Vec::new(),
        })
    }

    /// Sends a request.
    pub(super) fn send(&mut self, request: &Request, drawn: u32) -> io::Result<()> {
        let mut request = request.clone().with(DRAWN, &drawn.to_string());
        for denominator in DENOMINATORS {
            let share = drawn % denominator;
            request = request.with(&drawn_of(denominator), &share.to_string());
        }
        self.stream.write_all(&request.to_bytes())
    }

    /// The next response; its body is dropped.
    pub(super) fn receive(&mut self, to_head: bool) -> io::Result<Reply> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, head.clone());
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut reply = Reply {
            status: status
                .and_then(|code| code.parse().ok())
                .ok_or_else(malformed)?,
            ..Reply::default()
        };
        let mut body = 0;
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => body = value.parse().map_err(|_| malformed())?,
                "connection" => reply.closes = value == "close",
                ROUTE => value.clone_into(&mut reply.route),
                "location" => reply.location = Some(value.to_owned()),
                "content-type" => reply.grpc = value == "application/grpc",
                CLUSTER => value.clone_into(&mut reply.cluster),
                _ => {}
            }
        }
        let whole = if to_head { end } else { end + body };
        while self.rest.len() < whole {
            self.more()?;
        }
        reply.body = String::from_utf8_lossy(&self.rest[end..whole]).into_owned();
        self.rest.drain(..whole);
        Ok(reply)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

impl Reply {
    /// What it says about the request.
    pub(super) fn answer(self, request: &Request) -> Result<Answer, EnvoyError> {
        let place = self.route.split_once('/').and_then(|(host, route)| {
            let place: (usize, usize) = (host.parse().ok()?, route.parse().ok()?);
            Some(place)
        });
        let routed = !self.cluster.is_empty();
        match (self.status, place) {
            (503, Some((virtual_host, route))) if routed => Ok(Answer::Routed {
                virtual_host,
                route,
                cluster: self.cluster,
            }),
            (200, Some((virtual_host, route))) if routed && self.grpc => Ok(Answer::Routed {
                virtual_host,
                route,
                cluster: self.cluster,
            }),
            (503, Some((virtual_host, route))) => Ok(Answer::NoCluster {
                virtual_host,
                route,
            }),
            (status, Some((virtual_host, route))) if !routed => Ok(Answer::Local {
                virtual_host,
                route,
                status,
                text: self.location.unwrap_or(self.body),
            }),
            (404, None) => Ok(Answer::NoRoute),
            (200, None) if self.grpc => Ok(Answer::NoRoute),
            (400..=599, None) => Ok(Answer::Refused(self.status)),
            (status, _) => Err(EnvoyError::Answer {
                request: request.to_string(),
                status,
                route: self.route,
                cluster: self.cluster,
            }),
        }
    }
}
