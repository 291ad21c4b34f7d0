//! Cross-origin requests: preflights answered here, and what responses to allowed origins say.
//!
//! Envoy, `CorsFilter` (`source/extensions/filters/http/cors/cors_filter.cc`).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use hyper::Method;
use kmesh_config::model::ValueMatch;
use kmesh_config::policy::{Cors, Origin};
use regex::Regex;

/// What a policy makes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// Nothing: it says no origin, or one that is not allowed.
    None,
    /// It is answered 200 with these headers.
    Preflight(HeaderMap),
    /// Its response gets these headers.
    Allowed(HeaderMap),
}

/// Judges a request by its route's policy.
pub(super) fn judge(cors: &Cors, method: &Method, headers: &HeaderMap) -> Crossing {
    let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty());
    let Some(origin) = origin else {
        return Crossing::None;
    };
    let text = String::from_utf8_lossy(origin.as_bytes());
    let asks = headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let preflight = method == Method::OPTIONS && asks.is_some_and(|asked| !asked.is_empty());
    if !cors
        .origins
        .iter()
        .any(|own| fits(own, "*") || fits(own, &text))
    {
        return if preflight && cors.strangers_answered {
            Crossing::Preflight(HeaderMap::new())
        } else {
            Crossing::None
        };
    }
    let mut answer = HeaderMap::new();
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.credentials {
        let yes = HeaderValue::from_static("true");
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text)
            && !text.is_empty()
        {
            answer.insert(name, value);
        }
    };
    set(ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers);
    if !preflight {
        return Crossing::Allowed(answer);
    }
    set(ACCESS_CONTROL_ALLOW_METHODS, &cors.methods);
    set(ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers);
    set(ACCESS_CONTROL_MAX_AGE, &cors.max_age);
    Crossing::Preflight(answer)
}

fn fits(own: &Origin, origin: &str) -> bool {
    let lower = |text: &str| {
        if own.ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let origin = lower(origin);
    match &own.value {
        ValueMatch::Exact(text) => origin == lower(text),
        ValueMatch::Prefix(text) => origin.starts_with(&lower(text)),
        ValueMatch::Suffix(text) => origin.ends_with(&lower(text)),
        ValueMatch::Contains(text) => origin.contains(&lower(text)),
        // The configuration was refused if it is no expression.
        ValueMatch::Regex(text) => Regex::new(&format!("^(?:{text})$"))
            .is_ok_and(|expression| expression.is_match(&origin)),
        ValueMatch::Range { .. } | ValueMatch::Present => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preflights_are_answered_and_responses_marked() {
        let cors = Cors {
            origins: vec![Origin {
                value: ValueMatch::Suffix(".test".to_owned()),
                ignore_case: false,
            }],
            methods: "GET,POST".to_owned(),
            headers: String::new(),
            expose_headers: "x-a".to_owned(),
            max_age: "60".to_owned(),
            credentials: true,
            strangers_answered: true,
        };
        let mut headers = HeaderMap::new();
        assert_eq!(judge(&cors, &Method::GET, &headers), Crossing::None);
        headers.insert(ORIGIN, HeaderValue::from_static("http://b.example"));
        assert_eq!(judge(&cors, &Method::GET, &headers), Crossing::None);
        headers.insert(ORIGIN, HeaderValue::from_static("http://a.test"));
        let Crossing::Allowed(marks) = judge(&cors, &Method::OPTIONS, &headers) else {
            panic!("no preflight without a method that is asked for");
        };
        assert_eq!(marks[ACCESS_CONTROL_ALLOW_ORIGIN], "http://a.test");
        assert_eq!(marks.len(), 3, "{marks:?}");
        headers.insert(
            ACCESS_CONTROL_REQUEST_METHOD,
            HeaderValue::from_static("PUT"),
        );
        let Crossing::Preflight(answer) = judge(&cors, &Method::OPTIONS, &headers) else {
            panic!("a preflight");
        };
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "GET,POST");
        assert_eq!(answer[ACCESS_CONTROL_MAX_AGE], "60");
        assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }
}
