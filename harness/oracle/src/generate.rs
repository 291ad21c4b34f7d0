//! Configurations and requests for property tests.
//!
//! Both are drawn from the same few labels, segments, names and values, so that patterns overlap and requests hit and
//! nearly hit them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kmesh_config::Config;
use kmesh_config::model::{
    ClusterConfig, HeaderMatch, LbPolicy, ListenerConfig, ListenerKind, PathMatch, RouteAction,
    RouteConfiguration, RouteRule, ValueMatch, VirtualHostConfig, WeightedCluster,
};
use kmesh_config::policy::{ClusterPolicy, HttpOptions, RoutePolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::request::Request;

const LABELS: [&str; 5] = ["a", "b", "ab", "svc", "a-b"];
const SEGMENTS: [&str; 5] = ["a", "b", "ab", "", "a.b"];
const NAMES: [&str; 5] = ["x-a", "x-ab", "end-user", "accept", "user-agent"];
const VALUES: [&str; 7] = ["", "1", "2", "1,2", "1 2", "12", "J"];
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
        vec(vec(virtual_host(), 1..5), 1..3),
        vec(cluster(), CLUSTERS),
    )
        .prop_map(|(listeners, clusters)| {
            let listener = |(i, hosts): (usize, _)| ListenerConfig {
                name: format!("listener-{i}"),
                address: SocketAddr::from((Ipv4Addr::new(10, 96, 0, 1), 80 + i as u16)),
                kind: ListenerKind::Http(route_configuration(hosts)),
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
    let target = (
        path(),
        prop_oneof![Just(""), Just("?"), Just("?q=/a/b"), Just("?a?b")],
    )
        .prop_map(|(path, query)| path + query);
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
    let header = prop_oneof![3 => asked, 1 => noise];
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
fn route_configuration(hosts: Vec<VirtualHostConfig>) -> RouteConfiguration {
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
        options: HttpOptions::default(),
    }
}

fn route() -> impl Strategy<Value = RouteRule> {
    let prefix = (path(), any::<prop::sample::Index>())
        .prop_map(|(path, at)| PathMatch::Prefix(path[..=at.index(path.len())].to_owned()));
    let path = prop_oneof![
        2 => path().prop_map(PathMatch::Exact),
        1 => path().prop_map(|path| PathMatch::Separated(format!("/a{}", path.trim_end_matches('/')))),
        1 => Just(PathMatch::Separated("/a".to_owned())),
        4 => prefix,
        1 => Just(PathMatch::Prefix(String::new())),
    ];
    let header = (
        select(&NAMES[..]),
        value_match(),
        any::<bool>(),
        any::<bool>(),
    );
    let header = header.prop_map(|(name, value, fold, invert)| HeaderMatch {
        name: name.to_owned(),
        ignore_case: fold && !matches!(value, ValueMatch::Regex(_) | ValueMatch::Present),
        value,
        invert,
    });
    let headers = prop_oneof![2 => Just(Vec::new()), 1 => vec(header, 1..3)];
    (path, headers, action()).prop_map(|(path, headers, action)| RouteRule {
        name: String::new(),
        path,
        headers,
        action,
        policy: RoutePolicy::default(),
    })
}

/// Conditions on values that hold for some of [`VALUES`], nearly or quite.
fn value_match() -> impl Strategy<Value = ValueMatch> {
    let part = || select(&["1", "2", ",", "1,", " 2", "j", "J"][..]).prop_map(str::to_owned);
    prop_oneof![
        3 => select(&VALUES[..]).prop_map(|value| ValueMatch::Exact(value.to_owned())),
        1 => part().prop_map(ValueMatch::Prefix),
        1 => part().prop_map(ValueMatch::Suffix),
        1 => part().prop_map(ValueMatch::Contains),
        1 => select(&EXPRESSIONS[..]).prop_map(|text| ValueMatch::Regex(text.to_owned())),
        1 => Just(ValueMatch::Present),
    ]
}

fn action() -> impl Strategy<Value = RouteAction> {
    let choice =
        (0..CLUSTERS, select(&[0, 1, 2, 3, 10][..])).prop_map(|(i, weight)| WeightedCluster {
            name: cluster_name(i),
            weight,
        });
    let weighted = vec(choice, 1..5).prop_map(|mut choices| {
        if choices.iter().all(|choice| choice.weight == 0) {
            choices[0].weight = 1;
        }
        RouteAction::Weighted(choices)
    });
    let one = (0..CLUSTERS).prop_map(|i| RouteAction::Cluster(cluster_name(i)));
    prop_oneof![one, weighted]
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
