//! What a connection's first bytes say: TLS and the name it asks for, HTTP/1.1, HTTP/2 in plain text, or something else.
//!
//! As Envoy's `tls_inspector` and `http_inspector`: nothing is read, the bytes are looked at until they decide.

use kmesh_config::model::Seen;
use tokio::net::TcpStream;

use super::accept::PREFACE;
use super::peek::peek;

/// Most bytes that are looked at; what has not decided by then is none of what is looked for.
const MOST: usize = 16 * 1024;

/// What bytes say so far.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// More are needed.
    More,
    /// This.
    Seen(Seen),
}

/// Looks at a connection's first bytes; `None` if it ends before they decide.
pub(super) async fn sniff(socket: &TcpStream) -> Option<Seen> {
    let mut bytes = vec![0; MOST];
    let decide = |bytes: &[u8]| match judge(bytes) {
        Judgement::Seen(seen) => Some(seen),
        Judgement::More => (bytes.len() == MOST).then(Seen::default),
    };
    peek(socket, &mut bytes, decide).await
}

fn judge(bytes: &[u8]) -> Judgement {
    let speaks = |protocol: &str| {
        Judgement::Seen(Seen {
            protocols: vec![protocol.to_owned()],
            ..Seen::default()
        })
    };
    if bytes.first() == Some(&0x16) {
        return client_hello(bytes);
    }
    if bytes.starts_with(PREFACE) {
        return speaks("h2c");
    }
    if PREFACE.starts_with(bytes) {
        return Judgement::More;
    }
    match request_line(bytes) {
        Some(true) => speaks("http/1.1"),
        Some(false) => Judgement::Seen(Seen::default()),
        None => Judgement::More,
    }
}

/// Whether the bytes begin with an HTTP/1 request's first line; `None` if they may.
fn request_line(bytes: &[u8]) -> Option<bool> {
    let method = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-');
    let method = method.count();
    match bytes.get(method) {
        None => return None,
        Some(b' ') if method > 0 => {}
        Some(_) => return Some(false),
    }
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    Some(line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"))
}

/// A reader of TLS's length-prefixed fields; `None` where bytes are missing.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// A number of this many bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let number = self.take(bytes)?;
        Some(
            number
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    /// A field after its length, which has this many bytes.
    fn field(&mut self, bytes: usize) -> Option<Self> {
        let length = self.number(bytes)?;
        self.take(length).map(Self)
    }
}

/// What a TLS `ClientHello` (RFC 8446 section 4.1.2) says, which may come in several records.
fn client_hello(bytes: &[u8]) -> Judgement {
    let tls = Seen {
        tls: true,
        ..Seen::default()
    };
    let mut records = Fields(bytes);
    let mut handshake = Vec::new();
    loop {
        let mut rest = Fields(&handshake);
        if let Some(kind) = rest.number(1) {
            if kind != 1 {
                // Envoy: TLS that is not understood is not TLS.
                return Judgement::Seen(Seen::default());
            }
            if let Some(hello) = rest.field(3) {
                return Judgement::Seen(extensions(hello).unwrap_or(tls));
            }
        }
        let Some(kind) = records.number(1) else {
            return Judgement::More;
        };
        let Some(version) = records.number(2) else {
            return Judgement::More;
        };
        if kind != 0x16 || version >> 8 != 3 {
            return Judgement::Seen(Seen::default());
        }
        match records.field(2) {
            Some(record) => handshake.extend_from_slice(record.0),
            None => return Judgement::More,
        }
    }
}

/// Name and protocols of a complete `ClientHello`; `None` if it is malformed.
fn extensions(mut hello: Fields<'_>) -> Option<Seen> {
    let mut seen = Seen {
        tls: true,
        ..Seen::default()
    };
    // Version and random number, session, ciphers, compressions.
    hello.take(34)?;
    hello.field(1)?;
    hello.field(2)?;
    hello.field(1)?;
    if hello.0.is_empty() {
        return Some(seen);
    }
    let mut extensions = hello.field(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut content = extensions.field(2)?;
        match kind {
            // server_name (RFC 6066 section 3): the one name of a host.
            0 => {
                let mut names = content.field(2)?;
                if names.number(1)? == 0 {
                    let name = names.field(2)?.0;
                    seen.server_name = Some(String::from_utf8_lossy(name).to_ascii_lowercase());
                }
            }
            // application_layer_protocol_negotiation (RFC 7301).
            16 => {
                let mut protocols = content.field(2)?;
                while !protocols.0.is_empty() {
                    let protocol = protocols.field(1)?.0;
                    seen.protocols
                        .push(String::from_utf8_lossy(protocol).into_owned());
                }
            }
            _ => {}
        }
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(length: usize, content: &[u8]) -> Vec<u8> {
        let bytes = content.len().to_be_bytes();
        [&bytes[bytes.len() - length..], content].concat()
    }

    fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
        let host = [&[0][..], &field(2, name.as_bytes())].concat();
        let sni = [&[0, 0][..], &field(2, &field(2, &host))].concat();
        let names: Vec<u8> = protocols
            .iter()
            .flat_map(|name| field(1, name.as_bytes()))
            .collect();
        let alpn = [&[0, 16][..], &field(2, &field(2, &names))].concat();
        let body = [
            &[3; 34][..],
            &field(1, &[]),
            &field(2, &[0x13, 1]),
            &field(1, &[0]),
            &field(2, &[sni, alpn].concat()),
        ];
        let handshake = [&[1][..], &field(3, &body.concat())].concat();
        [&[0x16, 3, 1][..], &field(2, &handshake)].concat()
    }

    #[test]
    fn the_first_bytes_tell_protocols_apart_however_they_come() {
        let seen = |tls, name: Option<&str>, protocols: &[&str]| Seen {
            tls,
            server_name: name.map(str::to_owned),
            protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
        };
        let tls = hello("API.example.com", &["h2", "http/1.1"]);
        let cases: [(&[u8], Seen); 7] = [
            (b"GET / HTTP/1.1\r\n", seen(false, None, &["http/1.1"])),
            (b"M-SEARCH * HTTP/1.1\n", seen(false, None, &["http/1.1"])),
            (PREFACE, seen(false, None, &["h2c"])),
            (b"*1\r\n", seen(false, None, &[])),
            (b"GET / FTP/1.1\r\n", seen(false, None, &[])),
            (&[0x16, 9], seen(false, None, &[])),
            (
                &tls,
                seen(true, Some("api.example.com"), &["h2", "http/1.1"]),
            ),
        ];
        for (bytes, expected) in cases {
            let decided = (1..=bytes.len()).find_map(|count| match judge(&bytes[..count]) {
                Judgement::Seen(seen) => Some(seen),
                Judgement::More => None,
            });
            if bytes.len() > 2 || expected != Seen::default() {
                assert_eq!(decided, Some(expected), "{bytes:?}");
            }
        }
    }
}
