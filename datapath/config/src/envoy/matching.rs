//! `envoy.config.route.v3.RouteMatch` and the matchers in it.

use crate::error::ConfigError;
use crate::model::{
    Fraction, HeaderMatch, PathMatch, QueryMatch, RouteAction, RouteRule, ValueMatch,
};
use crate::reader::{Item, Object};

/// Reads what a route matches; the action is yet to be filled in.
pub(crate) fn route_match(fields: &mut Object<'_>) -> Result<RouteRule, ConfigError> {
    let path = path(fields)?;
    let sensitive = fields
        .take("case_sensitive")
        .map_or(Ok(true), |item| item.boolean())?;
    // Envoy does not look at it beside an expression.
    let ignore_case = !sensitive && !matches!(path, PathMatch::Regex(_));
    let headers = fields.items("headers")?;
    let headers = headers.iter().map(|item| item.object(header));
    let headers = headers.collect::<Result<_, _>>()?;
    let query = fields.items("query_parameters")?;
    let query = query.iter().map(|item| item.object(query_parameter));
    let query = query.collect::<Result<_, _>>()?;
    let fraction = fields
        .take("runtime_fraction")
        .map(|item| item.object(runtime_fraction))
        .transpose()?;
    let grpc = fields
        .take("grpc")
        .map(|item| item.object(|_| Ok(())))
        .transpose()?;
    Ok(RouteRule {
        ignore_case,
        headers,
        query,
        fraction,
        grpc: grpc.is_some(),
        ..RouteRule::to(path, RouteAction::Cluster(String::new()))
    })
}

fn path(fields: &mut Object<'_>) -> Result<PathMatch, ConfigError> {
    for specifier in ["connect_matcher", "path_match_policy"] {
        if let Some(item) = fields.take(specifier) {
            return Err(item.place.refuse(
                "not supported by this datapath, which knows prefix, path, path_separated_prefix and safe_regex",
            ));
        }
    }
    let mut paths = Vec::new();
    if let Some(item) = fields.take("path") {
        paths.push((PathMatch::Exact(item.string()?.to_owned()), item));
    }
    if let Some(item) = fields.take("prefix") {
        paths.push((PathMatch::Prefix(item.string()?.to_owned()), item));
    }
    if let Some(item) = fields.take("path_separated_prefix") {
        let prefix = item.text()?;
        if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
            return Err(item.refuse("must begin with / and not end with it, and have no ? or #"));
        }
        paths.push((PathMatch::Separated(prefix.to_owned()), item));
    }
    if let Some(item) = fields.take("safe_regex") {
        paths.push((PathMatch::Regex(regex(&item)?), item));
    }
    if let [_, (_, second), ..] = paths.as_slice() {
        return Err(second.refuse("stands beside another path: use one"));
    }
    match paths.pop() {
        Some((path, _)) => Ok(path),
        None => Err(fields
            .place
            .refuse("has neither prefix nor path nor path_separated_prefix nor safe_regex")),
    }
}

/// A `HeaderMatcher`.
fn header(fields: &mut Object<'_>) -> Result<HeaderMatch, ConfigError> {
    let name = fields.need("name")?.text()?.to_ascii_lowercase();
    let missing_is_empty = fields
        .take("treat_missing_header_as_empty")
        .map_or(Ok(false), |item| item.boolean())?;
    let mut invert = fields
        .take("invert_match")
        .map_or(Ok(false), |item| item.boolean())?;
    let mut ignore_case = false;
    let mut matches = Vec::new();
    if let Some(pattern) = fields.take("string_match") {
        let value = pattern.object(|pattern| string_match(pattern, &mut ignore_case))?;
        matches.push((pattern, value));
    }
    // Deprecated forms of string_match; in them, an empty text means presence to Envoy.
    for (kind, make) in STRINGS {
        if let Some(item) = fields.take(&format!("{kind}_match")) {
            let value = Some(make(item.text()?.to_owned()));
            matches.push((item, value));
        }
    }
    if let Some(item) = fields.take("safe_regex_match") {
        let value = Some(ValueMatch::Regex(regex(&item)?));
        matches.push((item, value));
    }
    if let Some(range) = fields.take("range_match") {
        let value = range.object(|range| {
            let mut bound = |name| range.take(name).map_or(Ok(0), |item| item.integer());
            let (start, end) = (bound("start")?, bound("end")?);
            Ok(ValueMatch::Range { start, end })
        })?;
        matches.push((range, Some(value)));
    }
    if let Some(present) = fields.take("present_match") {
        invert ^= !present.boolean()?;
        matches.push((present, Some(ValueMatch::Present)));
    }
    if let [_, (second, _), ..] = matches.as_slice() {
        return Err(second.place.refuse("stands beside another match: use one"));
    }
    let value = match matches.pop() {
        Some((_, Some(value))) => value,
        // Another kind of match is refused by its own name when the object ends.
        None if !fields.is_read() => ValueMatch::Present,
        None => {
            return Err(fields
                .place
                .refuse("has neither string_match nor range_match nor present_match"));
        }
        Some((item, None)) if fields.is_read() => {
            return Err(item.place.refuse("has no pattern that this datapath knows"));
        }
        Some(_) => ValueMatch::Present,
    };
    Ok(HeaderMatch {
        name,
        value,
        ignore_case,
        invert,
        missing_is_empty,
    })
}

/// A `QueryParameterMatcher`.
fn query_parameter(fields: &mut Object<'_>) -> Result<QueryMatch, ConfigError> {
    let name = fields.need("name")?.text()?.to_owned();
    let mut ignore_case = false;
    let string = fields.take("string_match");
    let present = fields.take("present_match");
    let (value, invert) = match (string, present) {
        (Some(_), Some(present)) => {
            return Err(present.place.refuse("stands beside another match: use one"));
        }
        (Some(string), None) => {
            let value = string.object(|pattern| string_match(pattern, &mut ignore_case))?;
            let value = value.ok_or_else(|| {
                string
                    .place
                    .refuse("has no pattern that this datapath knows")
            })?;
            (value, false)
        }
        (None, Some(present)) => (ValueMatch::Present, !present.boolean()?),
        (None, None) => (ValueMatch::Present, false),
    };
    Ok(QueryMatch {
        name,
        value,
        ignore_case,
        invert,
    })
}

/// A `RuntimeFractionalPercent`.
fn runtime_fraction(fields: &mut Object<'_>) -> Result<Fraction, ConfigError> {
    if let Some(key) = fields.take("runtime_key")
        && !key.string()?.is_empty()
    {
        return Err(key.refuse("this datapath has no runtime: only default_value"));
    }
    fields.need("default_value")?.object(|fraction| {
        let numerator = fraction
            .take("numerator")
            .map_or(Ok(0), |item| item.number())?;
        let denominator =
            match fraction.choice("denominator", &["HUNDRED", "TEN_THOUSAND", "MILLION"])? {
                "TEN_THOUSAND" => 10_000,
                "MILLION" => 1_000_000,
                _ => 100,
            };
        Ok(Fraction {
            numerator,
            denominator,
        })
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

/// The one pattern of a `StringMatcher`; `None` if there is none that this datapath knows.
fn string_match(
    fields: &mut Object<'_>,
    ignore_case: &mut bool,
) -> Result<Option<ValueMatch>, ConfigError> {
    if let Some(item) = fields.take("ignore_case") {
        *ignore_case = item.boolean()?;
    }
    let mut value = None;
    for (kind, make) in STRINGS {
        if let Some(item) = fields.take(kind) {
            if value.is_some() {
                return Err(item.refuse("stands beside another match: use one"));
            }
            // Only an exact match can be empty.
            let text = if kind == "exact" {
                item.string()?
            } else {
                item.text()?
            };
            value = Some(make(text.to_owned()));
        }
    }
    if let Some(item) = fields.take("safe_regex") {
        if value.is_some() || *ignore_case {
            return Err(item
                .place
                .refuse("stands beside another match or ignore_case"));
        }
        value = Some(ValueMatch::Regex(regex(&item)?));
    }
    Ok(value)
}

/// A `RegexMatcher`.
fn regex(item: &Item<'_>) -> Result<String, ConfigError> {
    item.object(|fields| {
        if let Some(engine) = fields.take("google_re2") {
            engine.object(|_| Ok(()))?;
        }
        Ok(fields.need("regex")?.text()?.to_owned())
    })
}
