//! What an HTTP listener makes of a request's path before routes are looked at: escaped slashes, the normal form, one slash for
//! several.
//!
//! Envoy, `ConnectionManagerUtility::maybeNormalizePath` (`source/common/http/conn_manager_utility.cc`) with the canonical form of
//! Chromium's URL library.

use kmesh_config::policy::{EscapedSlashes, PathOptions};

/// What becomes of a request by its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Normal {
    /// It has this target.
    Target(String),
    /// The client is to ask for this target.
    Redirect(String),
    /// It is refused: 400.
    Refused,
}

/// The target (path and query) as routes see it.
pub(super) fn normal(target: &str, options: PathOptions) -> Normal {
    let at = target.find('?').unwrap_or(target.len());
    let (path, query) = target.split_at(at);
    let mut path = path.as_bytes().to_vec();
    let mut redirect = false;
    if options.escaped_slashes != EscapedSlashes::Keep {
        let unescaped = unescape_slashes(&path);
        if unescaped != path {
            match options.escaped_slashes {
                EscapedSlashes::Reject => return Normal::Refused,
                EscapedSlashes::Redirect => redirect = true,
                EscapedSlashes::Keep | EscapedSlashes::Unescape => {}
            }
            path = unescaped;
        }
    }
    if options.normalize {
        match canonical(&path) {
            Some(canonical) => path = canonical,
            None => return Normal::Refused,
        }
    }
    if options.merge_slashes {
        path = merge_slashes(&path);
    }
    let target = String::from_utf8_lossy(&path).into_owned() + query;
    if redirect {
        Normal::Redirect(target)
    } else {
        Normal::Target(target)
    }
}

/// The byte that an escape at the beginning stands for.
fn escaped(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        if let Some(byte @ (b'/' | b'\\')) = escaped(&path[at..]) {
            out.push(byte);
            at += 3;
        } else {
            out.push(path[at]);
            at += 1;
        }
    }
    out
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|next, before| *next == b'/' && *before == b'/');
    out
}

/// The canonical form: no `.` and `..` segments, backslashes are slashes, no escapes of what needs none, escapes of what needs
/// one. `None` if the path has an escaped zero.
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut at = 0;
    if !matches!(path.first(), Some(b'/' | b'\\')) {
        out.push(b'/');
    }
    while at < path.len() {
        let dot = dot(&path[at..]);
        if dot > 0 && out.last() == Some(&b'/') {
            // A segment that begins with a dot: of one or two dots and nothing else?
            let second = self::dot(&path[at + dot..]);
            let ends = |at: usize| matches!(path.get(at), None | Some(b'/' | b'\\'));
            if ends(at + dot) {
                at += dot + 1;
                continue;
            }
            if second > 0 && ends(at + dot + second) {
                out.pop();
                while out.last().is_some_and(|byte| *byte != b'/') {
                    out.pop();
                }
                if out.is_empty() {
                    out.push(b'/');
                }
                at += dot + second + 1;
                continue;
            }
        }
        if dot > 0 {
            out.push(b'.');
            at += dot;
            continue;
        }
        match path[at] {
            b'\\' => out.push(b'/'),
            b'%' => match escaped(&path[at..]) {
                Some(0) => return None,
                Some(byte) => {
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
                        out.push(byte);
                    } else {
                        out.extend_from_slice(&path[at..at + 3]);
                    }
                    at += 2;
                }
                None => out.push(b'%'),
            },
            byte @ (b'"'
            | b'#'
            | b'<'
            | b'>'
            | b'?'
            | b'^'
            | b'`'
            | b'{'
            | b'|'
            | b'}'
            | ..=b' '
            | 0x7f..) => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |number: u8| DIGITS[usize::from(number)];
                out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Some(out)
}

/// Length of the dot, perhaps escaped, at the beginning; 0 = there is none.
fn dot(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'.') => 1,
        Some(b'%') if escaped(bytes) == Some(b'.') => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Envoy 1.40 forwards.
    #[test]
    fn paths_become_what_envoy_makes_of_them() {
        let options = PathOptions {
            normalize: true,
            ..PathOptions::default()
        };
        let cases = [
            ("/a/../b?x=/../y", "/b?x=/../y"),
            ("/a/./b/", "/a/b/"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a\\b", "/a/b"),
            ("/%41%7e%2f", "/A~%2f"),
            ("/a//b", "/a//b"),
            ("/.well-known/...", "/.well-known/..."),
            ("/100%", "/100%"),
            ("/a{b}", "/a%7Bb%7D"),
        ];
        for (from, to) in cases {
            assert_eq!(
                normal(from, options),
                Normal::Target(to.to_owned()),
                "{from}"
            );
        }
        assert_eq!(normal("/a%00", options), Normal::Refused);
    }

    #[test]
    fn slashes_are_merged_and_unescaped_as_asked() {
        let merged = PathOptions {
            merge_slashes: true,
            ..PathOptions::default()
        };
        assert_eq!(
            normal("//a///b//?q=//", merged),
            Normal::Target("/a/b/?q=//".to_owned())
        );
        let escaped = |escaped_slashes| PathOptions {
            escaped_slashes,
            ..PathOptions::default()
        };
        let of = |action| normal("/a%2Fb%5cc?%2f", escaped(action));
        assert_eq!(of(EscapedSlashes::Reject), Normal::Refused);
        assert_eq!(
            of(EscapedSlashes::Redirect),
            Normal::Redirect("/a/b\\c?%2f".to_owned())
        );
        assert_eq!(
            of(EscapedSlashes::Unescape),
            Normal::Target("/a/b\\c?%2f".to_owned())
        );
        assert_eq!(
            of(EscapedSlashes::Keep),
            Normal::Target("/a%2Fb%5cc?%2f".to_owned())
        );
    }
}
