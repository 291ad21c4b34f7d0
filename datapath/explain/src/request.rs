//! Requests as they are written on a command line.

/// Why a text is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It has no method, or nothing after it.
    #[error("{0:?} is not METHOD HOST/PATH [NAME: VALUE; ...]")]
    Shape(String),
    /// A header has no colon.
    #[error("header {0:?} has no colon")]
    Header(String),
    /// An escape is unknown.
    #[error("escape {0:?} is unknown; there are \\r, \\n, \\t, \\\\ and \\xNN")]
    Escape(String),
}

/// The head that `text` stands for: `GET svc.test/a?b end-user: jason; x: y`, or the head itself with line ends written
/// `\r\n`, which is recognised by its `HTTP/`.
///
/// # Errors
/// [`RequestError`].
pub fn head(text: &str) -> Result<Vec<u8>, RequestError> {
    if text.contains("HTTP/") {
        return unescape(text);
    }
    let shape = || RequestError::Shape(text.to_owned());
    let (method, rest) = text.trim().split_once(' ').ok_or_else(shape)?;
    let (target, headers) = rest
        .trim_start()
        .split_once(' ')
        .unwrap_or((rest.trim_start(), ""));
    let slash = target.find('/').ok_or_else(shape)?;
    let (host, target) = target.split_at(slash);
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
    for header in headers.split(';').map(str::trim).filter(|h| !h.is_empty()) {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| RequestError::Header(header.to_owned()))?;
        for part in [name.trim(), ": ", value.trim(), "\r\n"] {
            head.push_str(part);
        }
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

fn unescape(text: &str) -> Result<Vec<u8>, RequestError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let unknown = || RequestError::Escape(rest.chars().take(4).collect());
        let (byte, length) = match rest.as_bytes().get(1) {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b't') => (b'\t', 2),
            Some(b'\\') => (b'\\', 2),
            Some(b'x') => {
                let digits = rest.get(2..4).ok_or_else(unknown)?;
                (u8::from_str_radix(digits, 16).map_err(|_| unknown())?, 4)
            }
            _ => return Err(unknown()),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let short = head("GET svc.test/a?b end-user: jason; x:").unwrap();
        let long = r"GET /a?b HTTP/1.1\r\nhost: svc.test\r\nend-user: jason\r\nx: \r\n\r\n";
        assert_eq!(short, head(long).unwrap());
        assert_eq!(head(r"\x41HTTP/\t\\").unwrap(), b"AHTTP/\t\\");
    }

    #[test]
    fn what_is_not_a_request() {
        assert!(matches!(head("GET"), Err(RequestError::Shape(_))));
        assert!(matches!(head("GET svc"), Err(RequestError::Shape(_))));
        assert!(matches!(head("GET svc/ a"), Err(RequestError::Header(_))));
        assert!(matches!(head(r"HTTP/\q"), Err(RequestError::Escape(_))));
        assert!(matches!(head(r"HTTP/\x1"), Err(RequestError::Escape(_))));
    }
}
