//! The request target and the authority that it, or the Host header, names (RFC 9112 section 3.2).

use http::uri::PathAndQuery;
use hyper::Method;

use super::Rejection;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'h> {
    /// Path and query.
    pub(super) path: &'h str,
    /// The authority, if the target is in absolute form: it replaces what Host says (RFC 9112 section 3.2.2).
    pub(super) authority: Option<&'h str>,
    /// The answer, if there can be no other.
    pub(super) answer: Option<Rejection>,
}

/// Takes a target apart; it is visible ASCII.
///
/// # Errors
/// 400 for what is none, and 404 for CONNECT, which no route here takes.
pub(super) fn parse<'h>(method: &str, target: &'h str) -> Result<Target<'h>, Rejection> {
    if method == Method::CONNECT.as_str() {
        let authority = target.rsplit_once(':');
        let sound = authority
            .is_some_and(|(host, port)| !host.is_empty() && is_port(port) && is_authority(host));
        return Err(if sound {
            Rejection::NOWHERE
        } else {
            Rejection::MALFORMED
        });
    }
    if target.starts_with('*') && method == Method::OPTIONS.as_str() {
        // Envoy asks for a path that begins with a slash, here too.
        return Ok(answered("/", None, Rejection::NOWHERE));
    }
    if target.starts_with('/') {
        return of_path(target, None);
    }
    let (scheme, rest) = target.split_once("://").ok_or(Rejection::MALFORMED)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Rejection::MALFORMED);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = host_and_port(authority)?;
    match path.as_bytes().first() {
        None => of_path("/", Some(authority)),
        Some(b'/') => of_path(path, Some(authority)),
        Some(b'?') => Ok(answered("/", Some(authority), Rejection::NOWHERE)),
        _ => Ok(answered("/", Some(authority), Rejection::UNFIT)),
    }
}

fn of_path<'h>(path: &'h str, authority: Option<&'h str>) -> Result<Target<'h>, Rejection> {
    if path.contains('#') {
        return Ok(answered("/", authority, Rejection::UNFIT));
    }
    // Stricter than Envoy: `<`, `>` and `` ` `` stand in no URI (RFC 3986 section 2), and hyper's type holds none.
    PathAndQuery::try_from(path).map_err(|_| Rejection::MALFORMED)?;
    Ok(Target {
        path,
        authority,
        answer: None,
    })
}

fn answered<'h>(path: &'h str, authority: Option<&'h str>, answer: Rejection) -> Target<'h> {
    Target {
        path,
        authority,
        answer: Some(answer),
    }
}

/// The authority of an absolute target, without user information.
fn host_and_port(authority: &str) -> Result<&str, Rejection> {
    let authority = match authority.split_once('@') {
        Some((_, host)) => host,
        None => authority,
    };
    // A colon within brackets is part of an IPv6 address.
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[end..].find(':') {
        Some(colon) => (&authority[..end + colon], &authority[end + colon + 1..]),
        None => (authority, "80"),
    };
    if host.is_empty() || host.contains('@') || !is_port(port) || !is_authority(host) {
        return Err(Rejection::MALFORMED);
    }
    Ok(authority)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Whether a Host header may say this (RFC 3986 section 3.2, percent signs not looked at). Nothing is something.
pub(super) fn is_authority(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 answered when asked.
    #[test]
    fn forms_come_to_what_envoy_makes_of_them() {
        let get = |target| parse("GET", target);
        let sound = |path, authority| {
            Ok(Target {
                path,
                authority,
                answer: None,
            })
        };
        assert_eq!(get("/a?b"), sound("/a?b", None));
        assert_eq!(get("http://a.test/b?c"), sound("/b?c", Some("a.test")));
        assert_eq!(get("HTTPS://a.test:8080"), sound("/", Some("a.test:8080")));
        assert_eq!(get("http://user@a.test/"), sound("/", Some("a.test")));
        assert_eq!(get("http://[::1]:80/"), sound("/", Some("[::1]:80")));
        assert_eq!(
            parse("OPTIONS", "*").unwrap().answer,
            Some(Rejection::NOWHERE)
        );
        assert_eq!(
            get("http://a.test?b").unwrap().answer,
            Some(Rejection::NOWHERE)
        );
        assert_eq!(get("/a#b").unwrap().answer, Some(Rejection::UNFIT));
        assert_eq!(
            get("http://a.test/#b").unwrap().answer,
            Some(Rejection::UNFIT)
        );
        assert_eq!(parse("CONNECT", "a.test:80"), Err(Rejection::NOWHERE));
        for (method, target) in [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", "%2fa"),
            ("GET", "ftp://a.test/"),
            ("GET", "http:///a"),
            ("GET", "http://a.test:x/"),
            ("GET", "http://a.test:99999/"),
            ("GET", "http://a@b@a.test/"),
            ("OPTIONS", "http://a.test*\"/"),
            ("CONNECT", "a.test"),
            ("CONNECT", "/a"),
            ("GET", "/a<b"),
        ] {
            assert_eq!(
                parse(method, target),
                Err(Rejection::MALFORMED),
                "{method} {target}"
            );
        }
    }

    #[test]
    fn a_host_may_be_odd_but_not_anything() {
        assert!(is_authority("") && is_authority("a.test,b.test") && is_authority("a@b"));
        assert!(!is_authority("a b") && !is_authority("a/b") && !is_authority("a\"b"));
    }
}
