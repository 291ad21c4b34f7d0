//! The reference against a table written by hand, each line checked against Envoy 1.40.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use kmesh_config::model::{
    HeaderMatch, ListenerConfig, ListenerKind, PathMatch, RouteAction, RouteConfiguration,
    RouteRule, VirtualHostConfig, WeightedCluster,
};
use kmesh_config::policy::HttpOptions;
use kmesh_config::{Config, parse};
use kmesh_oracle::{Prediction, Request, connection, predict};

fn route(path: PathMatch, headers: &[(&str, &str)]) -> RouteRule {
    let header = |(name, exact): &(&str, &str)| HeaderMatch::exact(name, exact);
    RouteRule {
        headers: headers.iter().map(header).collect(),
        ..RouteRule::to(path, RouteAction::Cluster("none".to_owned()))
    }
}

fn prefix(prefix: &str) -> RouteRule {
    route(PathMatch::Prefix(prefix.to_owned()), &[])
}

/// A configuration whose hosts have these domains and routes.
fn config(hosts: Vec<(&[&str], Vec<RouteRule>)>) -> Config {
    let host = |(i, (domains, routes)): (usize, (&[&str], _))| VirtualHostConfig {
        name: i.to_string(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        routes,
    };
    let virtual_hosts = hosts.into_iter().enumerate().map(host).collect();
    let routes = RouteConfiguration {
        name: String::new(),
        virtual_hosts,
        options: HttpOptions::default(),
    };
    let listener = ListenerConfig {
        name: "web".to_owned(),
        address: "10.96.0.1:80".parse().unwrap(),
        kind: ListenerKind::Http(routes),
    };
    Config {
        origin: "test".to_owned(),
        listeners: vec![listener],
        clusters: Vec::new(),
    }
}

/// `HOST/ROUTE`, or `404`.
fn answer(config: &Config, request: &Request) -> String {
    match predict(config, &config.listeners[0], request, 0) {
        Prediction::NoRoute => "404".to_owned(),
        Prediction::Answered(answered) => format!("{} {}", answered.status, answered.text),
        Prediction::Routed(routed) => format!("{}/{}", routed.virtual_host, routed.route),
    }
}

#[test]
fn domains_by_kind_then_length() {
    let domains: [&[&str]; 7] = [
        &["svc.test"],
        &["*.test", "*.b.test"],
        &["*c.test"],
        &["svc.*"],
        &["svc.te*"],
        &["[fd00::1]"],
        &["*"],
    ];
    let config = config(
        domains
            .into_iter()
            .map(|domains| (domains, vec![prefix("")]))
            .collect(),
    );
    let cases = [
        ("svc.test", "0/0"),
        ("SVC.Test", "0/0"),
        ("svc.test:80", "4/0"),
        ("a.b.test", "1/0"),
        (".test", "6/0"),
        ("c.test", "1/0"),
        ("abc.test", "2/0"),
        ("svc.org", "3/0"),
        ("svc.", "6/0"),
        ("svc.te", "3/0"),
        ("svc.tea", "4/0"),
        ("[fd00::1]", "5/0"),
        ("[fd00::1]:80", "6/0"),
        ("", "6/0"),
    ];
    for (host, expected) in cases {
        assert_eq!(
            answer(&config, &Request::get(host, "/")),
            expected,
            "host {host:?}"
        );
    }
}

#[test]
fn the_first_route_that_matches() {
    let exact = route(PathMatch::Exact("/a".to_owned()), &[]);
    let routes = vec![
        prefix("/a/b"),
        exact,
        prefix("/a"),
        prefix("/a/b/c"),
        prefix("/b?"),
    ];
    let config = config(vec![(&["*"], routes)]);
    let cases = [
        ("/a", "0/1"),
        ("/a?b", "0/1"),
        ("/a/", "0/2"),
        ("/ab", "0/2"),
        ("/a/b", "0/0"),
        ("/a/b/c", "0/0"),
        ("/A", "404"),
        ("/", "404"),
        ("/b?", "404"),
    ];
    for (target, expected) in cases {
        assert_eq!(
            answer(&config, &Request::get("svc", target)),
            expected,
            "target {target:?}"
        );
    }
}

#[test]
fn header_lines_one_by_one_or_joined() {
    let any = || PathMatch::Prefix("/".to_owned());
    let routes = vec![
        route(any(), &[("a", "x,y")]),
        route(any(), &[("a", "x"), ("a", "y")]),
        route(any(), &[("a", "y")]),
        route(any(), &[("a", "")]),
        route(any(), &[("accept", "x,y")]),
        route(any(), &[("accept", "y")]),
        route(any(), &[("accept", "")]),
    ];
    let config = config(vec![(&["*"], routes)]);
    let get = || Request::get("svc", "/");
    let cases = [
        (get(), "404"),
        (get().with("a", "x,y"), "0/0"),
        (get().with("a", "x").with("A", "y"), "0/1"),
        (get().with("a", "z").with("a", "y"), "0/2"),
        (get().with("a", ""), "0/3"),
        (get().with("a", "X"), "404"),
        (get().with("accept", "x").with("Accept", "y"), "0/4"),
        (get().with("accept", "y").with("accept", "x"), "404"),
        (get().with("accept", "").with("accept", "y"), "0/5"),
        (get().with("accept", "y").with("accept", ""), "0/5"),
        (get().with("accept", "").with("accept", ""), "0/6"),
    ];
    for (request, expected) in cases {
        assert_eq!(answer(&config, &request), expected, "{request}");
    }
}

#[test]
fn candidates_are_what_can_be_drawn() {
    let text = include_str!("../../../scenarios/resources/weighted-90-10.yaml");
    let mut config = parse(text, "weighted-90-10.yaml").unwrap();
    let request = Request::get("svc.test", "/");
    let Prediction::Routed(routed) = predict(&config, &config.listeners[0], &request, 0) else {
        panic!("{request}: no route");
    };
    let drawn: Vec<(&str, u32, usize)> = routed
        .candidates
        .iter()
        .map(|c| (c.cluster, c.weight, c.endpoints.len()))
        .collect();
    assert_eq!(drawn, [("v1", 90, 2), ("v2", 10, 2)]);
    let prediction = Prediction::Routed(routed);
    assert_eq!(
        (prediction.endpoints().count(), prediction.statuses()),
        (4, Vec::new())
    );

    config.clusters[1].endpoints.clear();
    let prediction = predict(&config, &config.listeners[0], &request, 0);
    assert_eq!(
        (prediction.endpoints().count(), prediction.statuses()),
        (2, vec![503])
    );
    let other = predict(
        &config,
        &config.listeners[0],
        &Request::get("other", "/"),
        0,
    );
    assert_eq!(
        (other.endpoints().count(), other.statuses()),
        (0, vec![404])
    );

    let weight = |name: &str, weight| WeightedCluster {
        name: name.to_owned(),
        weight,
    };
    config.listeners[0].kind = ListenerKind::Tcp(vec![weight("v1", 0), weight("v2", 3)]);
    let candidates = connection(&config, &config.listeners[0]);
    assert_eq!(candidates.len(), 1, "weight 0 is never drawn");
    assert_eq!(
        (candidates[0].cluster, candidates[0].endpoints.len()),
        ("v2", 0)
    );
}
