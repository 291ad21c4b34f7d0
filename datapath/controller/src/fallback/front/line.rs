//! The request line (RFC 9112 section 3).

use super::Rejection;

/// What stands for the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1.
    Http11,
    /// Another version, well formed.
    Other,
    /// Nothing: the line is all of the request (HTTP/0.9).
    None,
}

/// A request line's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'h> {
    /// One of [`METHODS`].
    pub(super) method: &'h str,
    /// The target, visible ASCII only.
    pub(super) target: &'h str,
    /// The version.
    pub(super) version: Version,
}

/// The methods that Envoy takes, besides CONNECT. `MSEARCH` is its spelling.
const METHODS: [&str; 34] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Whether a request may begin with this byte, line ends aside, which may stand before it.
pub(super) fn can_begin(byte: u8) -> bool {
    byte > b' '
}

/// Takes a line apart; `line` ends with its LF. Any white space separates, any amount of it.
///
/// # Errors
/// 400 for what is no request line.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, Rejection> {
    let line = line.trim_ascii_end();
    let (method, rest) = island(line);
    let (target, version) = island(rest);
    let text = |bytes| str::from_utf8(bytes).map_err(|_| Rejection::MALFORMED);
    let method = text(method)?;
    let known = METHODS.contains(&method);
    let visible = target.iter().all(u8::is_ascii_graphic);
    if !known || target.is_empty() || !visible {
        return Err(Rejection::MALFORMED);
    }
    Ok(Line {
        method,
        target: text(target)?,
        version: self::version(version)?,
    })
}

/// What comes before white space, and what after.
fn island(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte <= b' ');
    let (island, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
    let begin = rest.iter().position(|byte| *byte > b' ');
    (island, &rest[begin.unwrap_or(rest.len())..])
}

fn version(bytes: &[u8]) -> Result<Version, Rejection> {
    match bytes {
        b"" => Ok(Version::None),
        b"HTTP/1.1" => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Ok(Version::Other)
        }
        _ => Err(Rejection::MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_white_space_separates() {
        let expected = Line {
            method: "GET",
            target: "/a",
            version: Version::Http11,
        };
        for line in [
            "GET /a HTTP/1.1\r\n",
            "GET /a HTTP/1.1\n",
            "GET\t/a\tHTTP/1.1\r\n",
            "GET  /a   HTTP/1.1 \t\r\n",
            "GET\r/a HTTP/1.1\r\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn versions_are_told_apart() {
        let version = |line: &str| parse(line.as_bytes()).map(|line| line.version);
        assert_eq!(version("GET /\r\n"), Ok(Version::None));
        assert_eq!(version("GET / \r\n"), Ok(Version::None));
        assert_eq!(version("GET / HTTP/1.0\r\n"), Ok(Version::Other));
        assert_eq!(version("GET / HTTP/5.6\r\n"), Ok(Version::Other));
        for text in [
            "HTTP/1",
            "HTTP/01.01",
            "HTTP/ 1.1",
            "http/1.1",
            "HTTP/1.1 x",
            "x HTTP/1.1",
            "ICE/1.0",
        ] {
            let line = format!("GET / {text}\r\n");
            assert_eq!(version(&line), Err(Rejection::MALFORMED), "{text}");
        }
    }

    #[test]
    fn only_known_methods_and_visible_targets() {
        assert!(METHODS.is_sorted());
        for line in [
            "BREW / HTTP/1.1",
            "get / HTTP/1.1",
            "M-SEARCH * HTTP/1.1",
            "PRI * HTTP/2.0",
            "GET, / HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\x7f HTTP/1.1",
            "GET",
        ] {
            let line = format!("{line}\r\n");
            assert_eq!(
                parse(line.as_bytes()),
                Err(Rejection::MALFORMED),
                "{line:?}"
            );
        }
    }
}
