//! One HTTP/1.1 exchange at a time, for readiness and for Envoy's admin interface. Not for load.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A response: its status and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Fetches `path`, in the calling thread's network namespace.
pub(crate) fn fetch(
    address: SocketAddr,
    host: &str,
    path: &str,
    patience: Duration,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "not a complete HTTP/1.1 response",
        )
    })
}

/// A complete response; the server has closed after it.
fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let header = |name: &str| {
        let mut fields = head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let body = if header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        join_chunks(body)?
    } else if let Some(length) = header("content-length") {
        body.get(..length.parse().ok()?)?.to_vec()
    } else {
        body.to_vec()
    };
    Some(Response { status, body })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = str::from_utf8(&rest[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_by_length_by_chunks_or_to_the_end() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                Some((200, "hi")),
            ),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\nhi",
                Some((503, "hi")),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\na;x\r\n0123456789\r\n0\r\n\r\n",
                Some((200, "hi0123456789")),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi", None),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
                None,
            ),
            ("HTTP/1.1 200 OK\r\n", None),
        ];
        for (bytes, expected) in cases {
            let got = parse(bytes.as_bytes());
            let expected = expected.map(|(status, body): (u16, &str)| Response {
                status,
                body: body.into(),
            });
            assert_eq!(got, expected, "{bytes}");
        }
    }
}
