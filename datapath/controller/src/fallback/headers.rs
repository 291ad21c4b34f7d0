//! Headers on their way through: what belongs to one hop, and what a route changes.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE};
use kmesh_config::policy::{AppendAction, HeaderAddition, HeaderMutations, Mutations, RoutePolicy};

/// Whether the connection that a message came on may carry another one.
pub(super) fn keeps_open(headers: &HeaderMap) -> bool {
    !connection_options(headers).any(|option| option.eq_ignore_ascii_case("close"))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Removes the headers that belong to one hop (RFC 9110 section 7.6.1), `te: trailers` excepted, which gRPC needs.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_options(headers)
        .filter_map(|name| name.parse().ok())
        .collect();
    let codings = headers.get(TE).and_then(|te| te.to_str().ok());
    let trailers = codings.is_some_and(|codings| {
        let mut codings = codings.split([',', ';']).map(str::trim);
        codings.any(|coding| coding.eq_ignore_ascii_case("trailers"))
    });
    for name in named {
        headers.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The changes that `policy` makes for requests to `cluster`, from the innermost level to the outermost.
fn levels<'p>(policy: &'p RoutePolicy, cluster: &str) -> impl Iterator<Item = &'p HeaderMutations> {
    let of_cluster = (policy.cluster_headers.iter()).find(|(name, _)| name == cluster);
    let of_cluster = of_cluster.map(|(_, headers)| headers);
    of_cluster.into_iter().chain(&policy.headers)
}

/// Changes a request's headers (Envoy: `HeaderParser::evaluateHeaders`).
pub(super) fn change_request(headers: &mut HeaderMap, policy: &RoutePolicy, cluster: &str) {
    levels(policy, cluster).for_each(|level| change(headers, &level.request));
}

/// Changes a response's headers.
pub(super) fn change_response(headers: &mut HeaderMap, policy: &RoutePolicy, cluster: &str) {
    levels(policy, cluster).for_each(|level| change(headers, &level.response));
}

fn change(headers: &mut HeaderMap, mutations: &Mutations) {
    for name in &mutations.remove {
        headers.remove(name);
    }
    for addition in &mutations.add {
        add(headers, addition);
    }
}

fn add(headers: &mut HeaderMap, addition: &HeaderAddition) {
    // The configuration's reader took only what can be sent.
    let name = HeaderName::from_bytes(addition.name.as_bytes());
    let value = HeaderValue::from_bytes(addition.value.as_bytes());
    let (Ok(name), Ok(value)) = (name, value) else {
        return;
    };
    let there = headers.contains_key(&name);
    match addition.action {
        AppendAction::Append => {
            headers.append(name, value);
        }
        AppendAction::AddIfAbsent if there => {}
        AppendAction::OverwriteIfExists if !there => {}
        AppendAction::AddIfAbsent | AppendAction::Overwrite | AppendAction::OverwriteIfExists => {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition(name: &str, value: &str, action: AppendAction) -> HeaderAddition {
        HeaderAddition {
            name: name.to_owned(),
            value: value.to_owned(),
            action,
        }
    }

    fn level(remove: &[&str], add: Vec<HeaderAddition>) -> HeaderMutations {
        HeaderMutations {
            request: Mutations {
                remove: remove.iter().map(|name| (*name).to_owned()).collect(),
                add,
            },
            response: Mutations::default(),
        }
    }

    fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn levels_apply_from_the_inside_out() {
        use AppendAction::{AddIfAbsent, Append, Overwrite, OverwriteIfExists};
        let policy = RoutePolicy {
            cluster_headers: vec![(
                "blue".to_owned(),
                level(&[], vec![addition("a", "cluster", Append)]),
            )],
            headers: vec![
                level(
                    &["gone"],
                    vec![
                        addition("a", "route", AddIfAbsent),
                        addition("b", "route", Overwrite),
                    ],
                ),
                level(
                    &[],
                    vec![
                        addition("b", "host", Append),
                        addition("c", "host", OverwriteIfExists),
                    ],
                ),
            ],
            ..RoutePolicy::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert("gone", HeaderValue::from_static("1"));
        headers.insert("b", HeaderValue::from_static("client"));
        change_request(&mut headers, &policy, "blue");
        assert_eq!(all(&headers, "a"), ["cluster"]);
        assert_eq!(all(&headers, "b"), ["route", "host"]);
        assert!(!headers.contains_key("c") && !headers.contains_key("gone"));
        let mut others = HeaderMap::new();
        change_request(&mut others, &policy, "green");
        assert_eq!(
            all(&others, "a"),
            ["route"],
            "another cluster's changes are not made"
        );
    }

    #[test]
    fn what_belongs_to_a_hop_ends_there() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("x-mine, te, close"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert("x-other", HeaderValue::from_static("1"));
        assert!(!keeps_open(&headers));
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-other"]);
    }
}
