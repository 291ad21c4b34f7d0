//! A small HTTP/1.1 client that shows every byte: the tests decide what goes into which send.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longer than any answer should take, shorter than the patience of whoever runs the tests.
const PATIENCE: Duration = Duration::from_secs(10);

/// A response as received.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// Which server answered.
    pub(crate) fn server(&self) -> &str {
        self.header("x-served-by")
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// A GET and its answer.
    pub(crate) fn get(&mut self, path: &str, headers: &str) -> Response {
        self.try_get(path, headers)
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// A GET that may fail.
    pub(crate) fn try_get(&mut self, path: &str, headers: &str) -> io::Result<Response> {
        self.stream.write_all(get(path, headers).as_bytes())?;
        self.try_receive(false)
    }

    /// The next response; to a HEAD request if `to_head`.
    pub(crate) fn receive(&mut self, to_head: bool) -> Response {
        self.try_receive(to_head)
            .unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub(crate) fn try_receive(&mut self, to_head: bool) -> io::Result<Response> {
        loop {
            let response = self.one(to_head)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    /// The next response, interim ones included.
    pub(crate) fn one(&mut self, to_head: bool) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .map(|line| {
                line.split_once(':')
                    .unwrap_or_else(|| panic!("header line {line:?}"))
            })
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        response.body = if to_head || status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if response.header("transfer-encoding") == "chunked" {
            self.chunks()?
        } else if let Ok(length) = response.header("content-length").parse() {
            self.take(length)?
        } else {
            self.rest()?
        };
        Ok(response)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 65536];
        match self.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    /// Reads, and believes `EAGAIN` only when it took as long as the timeout: `tcp_bpf_recvmsg` (Linux 6.18) waits for one
    /// wake-up and takes any, so a blocking `recv` on a sockmap socket ends early when the send buffer has room again.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            match self.stream.read(bytes) {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE => {}
                other => return other,
            }
        }
    }

    /// The bytes that come next, this many.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.take(count).unwrap()
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                self.fill()?;
            };
            let line = self.take(end + 2)?;
            let size = str::from_utf8(&line[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n", "end of a chunk");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the other side ended the connection, orderly or not, and nothing else came.
    pub(crate) fn ended(&mut self) -> bool {
        match self.fill() {
            Ok(()) => false,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        }
    }
}

/// The head of a GET to `svc.test`; `headers` are whole lines.
pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: svc.test\r\n{headers}\r\n")
}

/// A POST to `svc.test`.
pub(crate) fn post(path: &str, body: &[u8]) -> (String, Vec<u8>) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: svc.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head, body.to_vec())
}

/// The hash that `kmesh-origin` reports of a request body: FNV-1a, 64 bits.
pub(crate) fn hash(body: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in body {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{hash:016x}")
}
