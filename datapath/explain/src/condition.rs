//! A route's conditions one by one: in words, and as a route that has no other.

use kmesh_config::model::{HeaderMatch, PathMatch, RouteRule, ValueMatch};
use kmesh_config::policy::RoutePolicy;

/// The route that takes everything to where `rule` goes.
pub(crate) fn none(rule: &RouteRule) -> RouteRule {
    RouteRule {
        name: String::new(),
        path: PathMatch::Prefix(String::new()),
        headers: Vec::new(),
        action: rule.action.clone(),
        policy: RoutePolicy::default(),
    }
}

/// Each condition of `rule`, the path's first.
pub(crate) fn all(rule: &RouteRule) -> impl Iterator<Item = (String, RouteRule)> {
    let path = RouteRule {
        path: rule.path.clone(),
        ..none(rule)
    };
    let headers = rule.headers.iter().map(|header| {
        let alone = RouteRule {
            headers: vec![header.clone()],
            ..none(rule)
        };
        (self::header(header), alone)
    });
    std::iter::once((self::path(&rule.path), path)).chain(headers)
}

fn path(path: &PathMatch) -> String {
    match path {
        PathMatch::Prefix(prefix) => format!("path starts with {prefix:?}"),
        PathMatch::Exact(path) => format!("path is {path:?}"),
        PathMatch::Separated(prefix) => format!("path is {prefix:?} or below it"),
    }
}

fn header(header: &HeaderMatch) -> String {
    let HeaderMatch {
        name,
        value,
        ignore_case,
        invert,
    } = header;
    let (verb, text) = match value {
        ValueMatch::Exact(text) => ("is", text),
        ValueMatch::Prefix(text) => ("starts with", text),
        ValueMatch::Suffix(text) => ("ends with", text),
        ValueMatch::Contains(text) => ("contains", text),
        ValueMatch::Regex(text) => ("matches", text),
        ValueMatch::Present if *invert => return format!("header {name} is absent"),
        ValueMatch::Present => return format!("header {name} is there"),
    };
    let not = if *invert { "is there and not: " } else { "" };
    let case = if *ignore_case { " in any case" } else { "" };
    format!("header {name} {not}{verb} {text:?}{case}")
}
