//! Configurations and requests for property tests.
//!
//! Both are drawn from the same few labels, segments, names and values, so that patterns overlap and requests hit and
//! nearly hit them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kmesh_config::Config;
use kmesh_config::model::{
    ClusterConfig, DirectResponse, Fraction, HeaderMatch, LbPolicy, ListenerConfig, ListenerKind,
    PathMatch, PathRedirect, QueryMatch, Redirect, RouteAction, RouteConfiguration, RouteRule,
    ValueMatch, VirtualHostConfig, WeightedCluster,
};
use kmesh_config::policy::{ClusterPolicy, HttpOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::request::Request;

const LABELS: [&str; 5] = ["a", "b", "ab", "svc", "a-b"];
const SEGMENTS: [&str; 6] = ["a", "b", "ab", "", "a.b", "A"];
const NAMES: [&str; 6] = [
    "x-a",
    "x-ab",
    "end-user",
    "accept",
    "user-agent",
    "content-type",
];
/// Names that conditions ask about and that are not lines of a head.
const PSEUDO: [&str; 4] = [":method", ":path", ":authority", ":scheme"];
const VALUES: [&str; 14] = [
    "",
    "1",
    "2",
    "1,2",
    "1 2",
    "12",
    "J",
    "-1",
    "+2",
    "007",
    "cluster-1",
    "application/grpc",
    "application/grpc+json",
    "application/grpc-web",
];
/// Values of pseudo headers, some of which requests have.
const PSEUDO_VALUES: [&str; 10] = [
    "GET", "HEAD", "/a", "/b?k=1", "/", "svc", "a.b", "svc:80", "http", "https",
];
/// What clients say of the scheme. (Envoy answers 404 if they say nothing: docs/LIMITS.md.)
const FORWARDED: [&str; 5] = ["http", "https", "ftp", "https,http", "https"];
/// Queries over the parameters `k` and `j`.
const QUERIES: [&str; 12] = [
    "",
    "",
    "",
    "?",
    "?q=/a/b",
    "?a?b",
    "?k=1",
    "?k=2&k=1",
    "?j&k",
    "?k=&j=12",
    "?K=1&&kk=1&k=1,2",
    "?k==1&j=%31",
];
/// Regular expressions over paths.
const PATHS: [&str; 12] = [
    "/a.*",
    ".*",
    "/[^/]*",
    "/(a|b)/.*",
    ".*/ab",
    "/.*\\.b",
    "/a/?b?",
    "/\\w+/\\w+",
    "/(?:a|ab)(?:/b)*",
    "/A.{0,3}",
    ".*b.*a.*",
    "/[^a]+",
];
/// Regular expressions over [`VALUES`].
const EXPRESSIONS: [&str; 9] = [
    "1|2",
    ".*2",
    "[^1]*",
    "1?,?2",
    "(1.)+",
    "\\d*",
    "^\\w$",
    "(?:1|12)(?:,2|)",
    "\\d+\\W\\d+",
];
/// Headers nobody asks about: prefixes and extensions of the names above, and one that scanners skip by words.
const NOISE: [&str; 5] = ["x-abc", "x", "accepts", "hos", "cookie"];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
const CLUSTERS: usize = 4;

/// A valid configuration of one or two HTTP listeners.
pub fn config() -> impl Strategy<Value = Config> {
    (
        vec((vec(virtual_host(), 1..5), any::<bool>()), 1..3),
        vec(cluster(), CLUSTERS),
    )
        .prop_map(|(listeners, clusters)| {
            let listener = |(i, (hosts, ignore_port)): (usize, _)| ListenerConfig {
                name: format!("listener-{i}"),
                address: SocketAddr::from((Ipv4Addr::new(10, 96, 0, 1), 80 + i as u16)),
                kind: ListenerKind::Http(route_configuration(hosts, ignore_port)),
            };
            let named = |(i, (lb, count)): (usize, (LbPolicy, u16))| ClusterConfig {
                name: cluster_name(i),
                lb,
                endpoints: (0..count).map(|port| endpoint(i, port)).collect(),
                max_connections: 1024,
                max_pending_requests: 1024,
                connect_timeout: Duration::from_secs(5),
                policy: ClusterPolicy::default(),
            };
            Config {
                origin: "generated".to_owned(),
                listeners: listeners.into_iter().enumerate().map(listener).collect(),
                clusters: clusters.into_iter().enumerate().map(named).collect(),
            }
        })
}

/// A request in canonical form: one that the kernel decides on.
pub fn request() -> impl Strategy<Value = Request> {
    let target = (path(), select(&QUERIES[..])).prop_map(|(path, query)| path + query);
    let host = (
        host(),
        any::<bool>(),
        prop_oneof![4 => Just(""), 1 => Just(":80")],
    )
        .prop_map(|(host, upper, port)| {
            if upper {
                host.to_ascii_uppercase() + port
            } else {
                host + port
            }
        });
    let asked = (select(&NAMES[..]), any::<bool>(), select(&VALUES[..]))
        .prop_map(|(name, upper, value)| (in_case(name, upper), value.to_owned()));
    let noise = (select(&NOISE[..]), any::<bool>(), "[ -~]{0,40}")
        .prop_map(|(name, upper, value)| (in_case(name, upper), value.trim().to_owned()));
    let forwarded = select(&FORWARDED[..])
        .prop_map(|scheme| ("x-forwarded-proto".to_owned(), scheme.to_owned()));
    let header = prop_oneof![6 => asked, 2 => noise, 1 => forwarded];
    (select(&METHODS[..]), host, target, vec(header, 0..6)).prop_map(
        |(method, host, target, headers)| Request {
            method: method.to_owned(),
            host,
            target,
            headers,
        },
    )
}

fn in_case(name: &str, upper: bool) -> String {
    if upper {
        name.to_ascii_uppercase()
    } else {
        name.to_owned()
    }
}

fn host() -> impl Strategy<Value = String> {
    vec(select(&LABELS[..]), 1..4).prop_map(|labels| labels.join("."))
}

fn path() -> impl Strategy<Value = String> {
    vec(select(&SEGMENTS[..]), 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn domain() -> impl Strategy<Value = String> {
    let cut = || (host(), any::<prop::sample::Index>());
    let suffix = cut().prop_map(|(host, at)| format!("*{}", &host[at.index(host.len())..]));
    let prefix = cut().prop_map(|(host, at)| format!("{}*", &host[..=at.index(host.len())]));
    prop_oneof![4 => host(), 3 => suffix, 3 => prefix, 1 => Just("*".to_owned())]
}

fn virtual_host() -> impl Strategy<Value = VirtualHostConfig> {
    (vec(domain(), 1..4), vec(route(), 0..8)).prop_map(|(domains, routes)| VirtualHostConfig {
        name: String::new(),
        domains,
        routes,
    })
}

/// Gives the hosts names and takes away domains that an earlier one has.
fn route_configuration(hosts: Vec<VirtualHostConfig>, ignore_port: bool) -> RouteConfiguration {
    let mut seen = HashSet::new();
    let mut virtual_hosts = hosts;
    for (i, host) in virtual_hosts.iter_mut().enumerate() {
        host.name = format!("host-{i}");
        host.domains.retain(|domain| seen.insert(domain.clone()));
    }
    virtual_hosts.retain(|host| !host.domains.is_empty());
    RouteConfiguration {
        name: "generated".to_owned(),
        virtual_hosts,
        options: HttpOptions {
            ignore_port,
            ..HttpOptions::default()
        },
    }
}

fn route() -> impl Strategy<Value = RouteRule> {
    let headers = prop_oneof![3 => Just(Vec::new()), 2 => vec(header(), 1..3)];
    let query = prop_oneof![6 => Just(Vec::new()), 1 => vec(query(), 1..3)];
    let fraction = prop_oneof![6 => Just(None), 1 => fraction().prop_map(Some)];
    let grpc = prop::bool::weighted(0.05);
    (
        path_match(),
        prop::bool::weighted(0.2),
        headers,
        query,
        fraction,
        grpc,
        action(),
    )
        .prop_map(
            |(path, ignore_case, headers, query, fraction, grpc, action)| RouteRule {
                ignore_case: ignore_case && !matches!(path, PathMatch::Regex(_)),
                headers,
                query,
                fraction,
                grpc,
                ..RouteRule::to(path, action)
            },
        )
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let prefix = (path(), any::<prop::sample::Index>())
        .prop_map(|(path, at)| PathMatch::Prefix(path[..=at.index(path.len())].to_owned()));
    prop_oneof![
        2 => path().prop_map(PathMatch::Exact),
        1 => path().prop_map(|path| PathMatch::Separated(format!("/a{}", path.trim_end_matches('/')))),
        1 => Just(PathMatch::Separated("/a".to_owned())),
        4 => prefix,
        1 => Just(PathMatch::Prefix(String::new())),
        2 => select(&PATHS[..]).prop_map(|text| PathMatch::Regex(text.to_owned())),
    ]
}

fn header() -> impl Strategy<Value = HeaderMatch> {
    let range = (-2_i64..14, 0_i64..8).prop_map(|(start, width)| ValueMatch::Range {
        start,
        end: start + width,
    });
    let line = (
        select(&NAMES[..]),
        prop_oneof![6 => value_match(), 1 => range],
    );
    let pseudo = (select(&PSEUDO[..]), pseudo_match());
    let named = prop_oneof![5 => line, 1 => pseudo];
    let missing = prop::bool::weighted(0.2);
    (named, any::<bool>(), any::<bool>(), missing).prop_map(
        |((name, value), fold, invert, missing_is_empty)| HeaderMatch {
            name: name.to_owned(),
            ignore_case: fold && folds(&value),
            value,
            invert,
            missing_is_empty,
        },
    )
}

/// Whether case can be ignored in such a match.
fn folds(value: &ValueMatch) -> bool {
    !matches!(
        value,
        ValueMatch::Regex(_) | ValueMatch::Range { .. } | ValueMatch::Present
    )
}

fn query() -> impl Strategy<Value = QueryMatch> {
    let value = prop_oneof![
        2 => value_match(),
        1 => Just(ValueMatch::Exact("1".to_owned())),
    ];
    (
        select(&["k", "j", "K"][..]),
        value,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(name, value, fold, invert)| QueryMatch {
            name: name.to_owned(),
            ignore_case: fold && folds(&value),
            invert: invert && value == ValueMatch::Present,
            value,
        })
}

fn fraction() -> impl Strategy<Value = Fraction> {
    let denominator = select(&[100, 10_000, 1_000_000][..]);
    let share = select(&[0, 1, 30, 50, 99, 100, 200][..]);
    (denominator, share).prop_map(|(denominator, percent)| Fraction {
        numerator: denominator / 100 * percent,
        denominator,
    })
}

/// Conditions on values that hold for some of [`VALUES`], nearly or quite.
fn value_match() -> impl Strategy<Value = ValueMatch> {
    let part =
        || select(&["1", "2", ",", "1,", " 2", "j", "J", "grpc"][..]).prop_map(str::to_owned);
    prop_oneof![
        3 => select(&VALUES[..]).prop_map(|value| ValueMatch::Exact(value.to_owned())),
        1 => part().prop_map(ValueMatch::Prefix),
        1 => part().prop_map(ValueMatch::Suffix),
        1 => part().prop_map(ValueMatch::Contains),
        1 => select(&EXPRESSIONS[..]).prop_map(|text| ValueMatch::Regex(text.to_owned())),
        1 => Just(ValueMatch::Present),
    ]
}

/// The same for pseudo headers.
fn pseudo_match() -> impl Strategy<Value = ValueMatch> {
    let part =
        || select(&["G", "/a", "k=1", "svc", ":80", "b", "http", "s"][..]).prop_map(str::to_owned);
    prop_oneof![
        3 => select(&PSEUDO_VALUES[..]).prop_map(|value| ValueMatch::Exact(value.to_owned())),
        1 => part().prop_map(ValueMatch::Prefix),
        1 => part().prop_map(ValueMatch::Suffix),
        1 => part().prop_map(ValueMatch::Contains),
        1 => select(&PATHS[..]).prop_map(|text| ValueMatch::Regex(text.to_owned())),
        1 => Just(ValueMatch::Present),
    ]
}

fn action() -> impl Strategy<Value = RouteAction> {
    let choice =
        (0..CLUSTERS, select(&[0, 1, 2, 3, 10][..])).prop_map(|(i, weight)| WeightedCluster {
            name: cluster_name(i),
            weight,
        });
    let choices = vec(choice, 1..5).prop_map(|mut choices| {
        if choices.iter().all(|choice| choice.weight == 0) {
            choices[0].weight = 1;
        }
        choices
    });
    let weighted =
        (choices, prop::option::weighted(0.3, select(&NAMES[..]))).prop_map(|(choices, header)| {
            match header {
                Some(header) => RouteAction::WeightedBy {
                    header: header.to_owned(),
                    choices,
                },
                None => RouteAction::Weighted(choices),
            }
        });
    let one = (0..CLUSTERS).prop_map(|i| RouteAction::Cluster(cluster_name(i)));
    let named = select(&NAMES[..]).prop_map(|name| RouteAction::ClusterHeader(name.to_owned()));
    let direct = (
        select(&[200, 204, 404, 418, 599][..]),
        select(&["", "no"][..]),
    )
        .prop_map(|(status, body)| {
            RouteAction::Direct(DirectResponse {
                status,
                // 204 has no body to compare.
                body: if status == 204 { "" } else { body }.to_owned(),
            })
        });
    prop_oneof![
        8 => one,
        8 => weighted,
        2 => named,
        2 => redirect().prop_map(RouteAction::Redirect),
        1 => direct,
    ]
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let owned = |text: &str| text.to_owned();
    let scheme = prop::option::of(select(&["https", "http", "ws"][..]).prop_map(owned));
    let host = prop::option::of(select(&["other", "other:99"][..]).prop_map(owned));
    let port = prop::option::of(select(&[80_u32, 8080][..]));
    let text = || select(&["/n", "/n?z=1", "n", "/"][..]).prop_map(owned);
    let path = prop_oneof![
        Just(PathRedirect::Keep),
        text().prop_map(PathRedirect::Whole),
        text().prop_map(PathRedirect::Prefix),
    ];
    let status = select(&[301, 302, 303, 307, 308][..]);
    (scheme, host, port, path, any::<bool>(), status).prop_map(
        |(scheme, host, port, path, strip_query, status)| Redirect {
            scheme,
            host,
            port,
            path,
            strip_query,
            status,
        },
    )
}

fn cluster() -> impl Strategy<Value = (LbPolicy, u16)> {
    (
        select(&[LbPolicy::RoundRobin, LbPolicy::Random][..]),
        0_u16..4,
    )
}

fn cluster_name(i: usize) -> String {
    format!("cluster-{i}")
}

fn endpoint(cluster: usize, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 244, 0, cluster as u8), 8000 + port))
}
