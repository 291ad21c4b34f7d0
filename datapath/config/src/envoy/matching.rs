//! `envoy.config.route.v3.RouteMatch` and the matchers in it.

use crate::model::{
    Fraction, HeaderMatch, PathMatch, QueryMatch, RouteAction, RouteRule, ValueMatch,
};
use crate::reader::{Item, Object};

/// Reads what a route matches; the action is yet to be filled in.
pub(crate) fn route_match(fields: &mut Object<'_>) -> RouteRule {
    let path = path(fields);
    let sensitive = fields.flag_or("case_sensitive", true);
    // Envoy does not look at it beside an expression.
    let ignore_case = !sensitive && !matches!(path, PathMatch::Regex(_));
    let headers = fields.items("headers");
    let headers = headers
        .iter()
        .map(|item| item.message("HeaderMatcher", header));
    let headers = headers.collect();
    let query = fields.items("query_parameters");
    let query = query
        .iter()
        .map(|item| item.message("QueryParameterMatcher", query_parameter));
    let query = query.collect();
    let fraction = fields
        .take("runtime_fraction")
        .map(|item| item.message("RuntimeFractionalPercent", runtime_fraction));
    let grpc = fields
        .take("grpc")
        .map(|item| item.message("GrpcRouteMatchOptions", |_| ()));
    RouteRule {
        ignore_case,
        headers,
        query,
        fraction,
        grpc: grpc.is_some(),
        ..RouteRule::to(path, RouteAction::Cluster(String::new()))
    }
}

fn path(fields: &mut Object<'_>) -> PathMatch {
    for specifier in ["connect_matcher", "path_match_policy"] {
        if let Some(item) = fields.take(specifier) {
            item.refuse_place(
                "not supported by this datapath, which knows prefix, path, path_separated_prefix and safe_regex",
            );
            return PathMatch::Prefix(String::new());
        }
    }
    let mut paths = Vec::new();
    if let Some(item) = fields.take("path") {
        paths.push((PathMatch::Exact(item.string().to_owned()), item));
    }
    if let Some(item) = fields.take("prefix") {
        paths.push((PathMatch::Prefix(item.string().to_owned()), item));
    }
    if let Some(item) = fields.take("path_separated_prefix") {
        let prefix = item.text();
        if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
            item.refuse("must begin with / and not end with it, and have no ? or #");
        }
        paths.push((PathMatch::Separated(prefix.to_owned()), item));
    }
    if let Some(item) = fields.take("safe_regex") {
        paths.push((PathMatch::Regex(regex(&item)), item));
    }
    if let [_, (_, second), ..] = paths.as_slice() {
        second.refuse("stands beside another path: use one");
    }
    if let Some((path, _)) = paths.pop() {
        return path;
    }
    fields.refuse("has neither prefix nor path nor path_separated_prefix nor safe_regex");
    PathMatch::Prefix(String::new())
}

/// A `HeaderMatcher`.
fn header(fields: &mut Object<'_>) -> HeaderMatch {
    let name = fields.need("name").text().to_ascii_lowercase();
    let missing_is_empty = fields.flag("treat_missing_header_as_empty");
    let mut invert = fields.flag("invert_match");
    let mut ignore_case = false;
    let mut matches = Vec::new();
    if let Some(pattern) = fields.take("string_match") {
        let value = string_matcher(&pattern, &mut ignore_case);
        matches.push((pattern, value));
    }
    // Deprecated forms of string_match; in them, an empty text means presence to Envoy.
    for (kind, make) in STRINGS {
        if let Some(item) = fields.take(&format!("{kind}_match")) {
            let value = make(item.text().to_owned());
            matches.push((item, value));
        }
    }
    if let Some(item) = fields.take("safe_regex_match") {
        let value = ValueMatch::Regex(regex(&item));
        matches.push((item, value));
    }
    if let Some(range) = fields.take("range_match") {
        let value = range.message("Int64Range", |range| {
            let mut bound = |name| range.take(name).map_or(0, |item| item.integer());
            let (start, end) = (bound("start"), bound("end"));
            ValueMatch::Range { start, end }
        });
        matches.push((range, value));
    }
    if let Some(present) = fields.take("present_match") {
        invert ^= !present.boolean();
        matches.push((present, ValueMatch::Present));
    }
    if let [_, (second, _), ..] = matches.as_slice() {
        second.refuse_place("stands beside another match: use one");
    }
    let value = matches.pop().map(|(_, value)| value);
    // Another kind of match is refused by its own name when the object ends.
    if value.is_none() && fields.is_read() {
        fields.refuse("has neither string_match nor range_match nor present_match");
    }
    HeaderMatch {
        name,
        value: value.unwrap_or(ValueMatch::Present),
        ignore_case,
        invert,
        missing_is_empty,
    }
}

/// A `QueryParameterMatcher`.
fn query_parameter(fields: &mut Object<'_>) -> QueryMatch {
    let name = fields.need("name").text().to_owned();
    let mut ignore_case = false;
    let string = fields
        .take("string_match")
        .map(|pattern| string_matcher(&pattern, &mut ignore_case));
    let present = fields.take("present_match");
    if let (Some(_), Some(present)) = (&string, &present) {
        present.refuse_place("stands beside another match: use one");
    }
    let invert = present.is_some_and(|present| !present.boolean());
    QueryMatch {
        name,
        value: string.unwrap_or(ValueMatch::Present),
        ignore_case,
        invert,
    }
}

/// A `RuntimeFractionalPercent`.
fn runtime_fraction(fields: &mut Object<'_>) -> Fraction {
    fields
        .need("default_value")
        .message("FractionalPercent", |fraction| {
            let numerator = fraction.number_or("numerator", 0);
            let denominator =
                match fraction.choice("denominator", &["HUNDRED", "TEN_THOUSAND", "MILLION"]) {
                    "TEN_THOUSAND" => 10_000,
                    "MILLION" => 1_000_000,
                    _ => 100,
                };
            Fraction {
                numerator,
                denominator,
            }
        })
}

type Make = fn(String) -> ValueMatch;

/// The matches of a text by plain comparison, by their names in a `StringMatcher`.
const STRINGS: [(&str, Make); 4] = [
    ("exact", ValueMatch::Exact),
    ("prefix", ValueMatch::Prefix),
    ("suffix", ValueMatch::Suffix),
    ("contains", ValueMatch::Contains),
];

/// The one pattern of a `StringMatcher`.
pub(crate) fn string_matcher(item: &Item<'_>, ignore_case: &mut bool) -> ValueMatch {
    item.message("StringMatcher", |fields| {
        *ignore_case = fields.flag("ignore_case");
        let mut value = None;
        for (kind, make) in STRINGS {
            if let Some(item) = fields.take(kind) {
                if value.is_some() {
                    item.refuse("stands beside another match: use one");
                }
                // Only an exact match can be empty.
                let text = if kind == "exact" {
                    item.string()
                } else {
                    item.text()
                };
                value = Some(make(text.to_owned()));
            }
        }
        if let Some(item) = fields.take("safe_regex") {
            if value.is_some() || *ignore_case {
                item.refuse_place("stands beside another match or ignore_case");
            }
            value = Some(ValueMatch::Regex(regex(&item)));
        }
        if value.is_none() && fields.is_read() {
            fields.refuse("has no pattern that this datapath knows");
        }
        value.unwrap_or(ValueMatch::Present)
    })
}

/// A `RegexMatcher`.
pub(crate) fn regex(item: &Item<'_>) -> String {
    item.message("RegexMatcher", |fields| {
        fields.need("regex").text().to_owned()
    })
}
