//! The status line (RFC 9112 section 4).

use super::Garbled;

/// A status line's parts; the words behind the status are nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Whether the version is HTTP/1.1. Of others nobody knows whether the connection stays.
    pub(super) is_http11: bool,
    /// The status, from 100 to 999: Envoy passes larger ones on, which `http::StatusCode` cannot hold.
    pub(super) status: u16,
}

/// Takes a line apart. Any white space separates, any amount of it.
///
/// # Errors
/// If it is no status line.
pub(super) fn parse(line: &[u8]) -> Result<Line, Garbled> {
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    let mut parts = line.split(is_space).filter(|part| !part.is_empty());
    let (version, status) = (parts.next(), parts.next());
    let is_http11 = match version.ok_or(Garbled)? {
        b"HTTP/1.1" if line.starts_with(b"H") => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if line.starts_with(b"H") => {
            if !major.is_ascii_digit() || !minor.is_ascii_digit() {
                return Err(Garbled);
            }
            false
        }
        _ => return Err(Garbled),
    };
    // As a number: Envoy takes a sign and zeros before it.
    let text = str::from_utf8(status.ok_or(Garbled)?).map_err(|_| Garbled)?;
    let status = text.parse().map_err(|_| Garbled)?;
    if !(100..=999).contains(&status) {
        return Err(Garbled);
    }
    Ok(Line { is_http11, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_envoy_takes_is_taken() {
        let ok = |is_http11| {
            Ok(Line {
                is_http11,
                status: 200,
            })
        };
        for line in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200\n",
            "HTTP/1.1  200 \r\n",
            "HTTP/1.1\t200\tOK\r\n",
            "HTTP/1.1\r200 O\rK\r\n",
            "HTTP/1.1 +200 OK\r\n",
            "HTTP/1.1 0200 OK\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), ok(true), "{line:?}");
        }
        for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9"] {
            assert_eq!(parse(format!("{version} 200 OK\r\n").as_bytes()), ok(false));
        }
    }

    #[test]
    fn what_is_no_status_line_is_garbled() {
        for line in [
            "",
            "\r\n",
            "HTTP/1.1\r\n",
            " HTTP/1.1 200 OK\r\n",
            "http/1.1 200 OK\r\n",
            "HTTP/2 200 OK\r\n",
            "HTTP/1.10 200 OK\r\n",
            "HTTP/1.x 200 OK\r\n",
            "ICY 200 OK\r\n",
            "HTTP/1.1 099 OK\r\n",
            "HTTP/1.1 1000 OK\r\n",
            "HTTP/1.1 20x OK\r\n",
            "HTTP/1.1 -200 OK\r\n",
            "HTTP/1.1 2 00 OK\r\n",
            "HTTP/1.1\u{b}200 OK\r\n",
            "200 OK\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Garbled), "{line:?}");
        }
    }
}
