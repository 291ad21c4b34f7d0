//! A route's conditions one by one: in words, and as a route that has no other.

use kmesh_config::model::{Fraction, HeaderMatch, PathMatch, QueryMatch, RouteRule, ValueMatch};

/// The route that takes everything to where `rule` goes.
pub(crate) fn none(rule: &RouteRule) -> RouteRule {
    let everything = PathMatch::Prefix(String::new());
    RouteRule::to(everything, rule.action.clone())
}

/// Each condition of `rule`, the path's first.
pub(crate) fn all(rule: &RouteRule) -> impl Iterator<Item = (String, RouteRule)> {
    let path = RouteRule {
        path: rule.path.clone(),
        ignore_case: rule.ignore_case,
        ..none(rule)
    };
    let mut conditions = vec![(self::path(&rule.path, rule.ignore_case), path)];
    for header in &rule.headers {
        let alone = RouteRule {
            headers: vec![header.clone()],
            ..none(rule)
        };
        conditions.push((self::header(header), alone));
    }
    for query in &rule.query {
        let alone = RouteRule {
            query: vec![query.clone()],
            ..none(rule)
        };
        conditions.push((self::query(query), alone));
    }
    if let Some(Fraction {
        numerator,
        denominator,
    }) = rule.fraction
    {
        let alone = RouteRule {
            fraction: rule.fraction,
            ..none(rule)
        };
        let words = format!("chance gives {numerator} out of {denominator} requests");
        conditions.push((words, alone));
    }
    if rule.grpc {
        let alone = RouteRule {
            grpc: true,
            ..none(rule)
        };
        conditions.push(("the request is gRPC".to_owned(), alone));
    }
    conditions.into_iter()
}

fn path(path: &PathMatch, ignore_case: bool) -> String {
    let case = in_any_case(ignore_case);
    match path {
        PathMatch::Prefix(prefix) => format!("path starts with {prefix:?}{case}"),
        PathMatch::Exact(path) => format!("path is {path:?}{case}"),
        PathMatch::Separated(prefix) => format!("path is {prefix:?} or below it{case}"),
        PathMatch::Regex(text) => format!("path matches {text:?}"),
    }
}

fn header(header: &HeaderMatch) -> String {
    let HeaderMatch {
        name,
        value,
        ignore_case,
        invert,
        missing_is_empty,
    } = header;
    if *value == ValueMatch::Present && !missing_is_empty {
        let state = if *invert { "absent" } else { "there" };
        return format!("header {name} is {state}");
    }
    let not = if *invert { "is there and not: " } else { "" };
    let absent = if *missing_is_empty {
        " (absent: empty)"
    } else {
        ""
    };
    format!(
        "header {name} {not}{}{absent}",
        self::value(value, *ignore_case)
    )
}

fn query(query: &QueryMatch) -> String {
    let name = &query.name;
    match &query.value {
        ValueMatch::Present if query.invert => format!("query parameter {name} is absent"),
        value => format!(
            "query parameter {name} {}",
            self::value(value, query.ignore_case)
        ),
    }
}

fn value(value: &ValueMatch, ignore_case: bool) -> String {
    let (verb, text) = match value {
        ValueMatch::Exact(text) => ("is", text),
        ValueMatch::Prefix(text) => ("starts with", text),
        ValueMatch::Suffix(text) => ("ends with", text),
        ValueMatch::Contains(text) => ("contains", text),
        ValueMatch::Regex(text) => ("matches", text),
        ValueMatch::Range { start, end } => {
            return format!("is a number from {start} up to, not including, {end}");
        }
        ValueMatch::Present => return "is there".to_owned(),
    };
    format!("{verb} {text:?}{}", in_any_case(ignore_case))
}

fn in_any_case(ignore_case: bool) -> &'static str {
    if ignore_case { " in any case" } else { "" }
}
