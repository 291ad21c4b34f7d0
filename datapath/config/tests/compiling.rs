//! The compiler's choices and limits.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use kmesh_api::cluster::LB_RANDOM;
use kmesh_api::limits;
use kmesh_api::listener::{CLASS_ANCHORED, CLASS_OPAQUE};
use kmesh_api::route::name;
use kmesh_config::model::{
    ClusterConfig, DirectResponse, Fraction, HeaderMatch, LbPolicy, ListenerConfig, ListenerKind,
    PathMatch, PathRedirect, Redirect, RouteAction, RouteConfiguration, RouteRule, ValueMatch,
    VirtualHostConfig, WeightedCluster,
};
use kmesh_config::policy::{ClusterPolicy, HttpOptions};
use kmesh_config::{Classes, Compiled, Config, Identities, compile, parse};

const L4: Classes = Classes { l4: true };
const L7: Classes = Classes { l4: false };

fn address(last: u32) -> SocketAddr {
    SocketAddr::from((
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + last),
        80,
    ))
}

fn cluster(name: &str, endpoints: u32) -> ClusterConfig {
    ClusterConfig {
        name: name.to_owned(),
        lb: LbPolicy::RoundRobin,
        endpoints: (0..endpoints).map(address).collect(),
        max_connections: 1024,
        max_pending_requests: 1024,
        connect_timeout: Duration::from_secs(5),
        policy: ClusterPolicy::default(),
    }
}

fn route(path: PathMatch, cluster: &str) -> RouteRule {
    RouteRule::to(path, RouteAction::Cluster(cluster.to_owned()))
}

fn prefix(prefix: &str, cluster: &str) -> RouteRule {
    route(PathMatch::Prefix(prefix.to_owned()), cluster)
}

fn header(name: &str, exact: &str) -> HeaderMatch {
    HeaderMatch::exact(name, exact)
}

fn host(name: &str, domains: &[&str], routes: Vec<RouteRule>) -> VirtualHostConfig {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    VirtualHostConfig {
        name: name.to_owned(),
        domains,
        routes,
    }
}

fn listener(number: u32, virtual_hosts: Vec<VirtualHostConfig>) -> ListenerConfig {
    let name = format!("listener-{number}");
    let kind = ListenerKind::Http(RouteConfiguration {
        name: name.clone(),
        virtual_hosts,
        options: HttpOptions::default(),
    });
    ListenerConfig {
        name,
        address: address(number),
        kind,
    }
}

/// One listener with these hosts and clusters `one` (1 endpoint), `two` (2 endpoints) and `none`.
fn config(virtual_hosts: Vec<VirtualHostConfig>) -> Config {
    Config {
        origin: "test".to_owned(),
        listeners: vec![listener(0, virtual_hosts)],
        clusters: vec![cluster("one", 1), cluster("two", 2), cluster("none", 0)],
    }
}

fn any_host(routes: Vec<RouteRule>) -> Config {
    config(vec![host("all", &["*"], routes)])
}

fn compiled(config: &Config, classes: Classes) -> Result<Compiled, String> {
    compile(config, &mut Identities::default(), classes).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(config: &Config, expected: &str) {
    let Err(message) = compiled(config, L7) else {
        panic!("was compiled, not refused with {expected:?}");
    };
    assert_eq!(message, expected);
}

fn class(config: &Config, classes: Classes) -> u32 {
    compiled(config, classes).unwrap().image.listeners[0].class
}

#[test]
fn only_a_certain_outcome_makes_an_http_listener_opaque() {
    assert_eq!(class(&any_host(vec![prefix("/", "one")]), L7), CLASS_OPAQUE);
    assert_eq!(
        class(&any_host(vec![prefix("", "one"), prefix("/a", "two")]), L7),
        CLASS_OPAQUE
    );
    let mut conditional = prefix("/", "one");
    conditional.headers.push(header("end-user", "jason"));
    let mut weighted = prefix("/", "one");
    weighted.action = RouteAction::Weighted(vec![WeightedCluster {
        name: "one".to_owned(),
        weight: 1,
    }]);
    let uncertain = [
        ("two endpoints", any_host(vec![prefix("/", "two")])),
        ("no endpoint", any_host(vec![prefix("/", "none")])),
        ("no route", any_host(Vec::new())),
        ("another prefix", any_host(vec![prefix("/a", "one")])),
        (
            "an exact path",
            any_host(vec![route(PathMatch::Exact("/".to_owned()), "one")]),
        ),
        (
            "an earlier route",
            any_host(vec![prefix("/a", "two"), prefix("/", "one")]),
        ),
        ("a condition", any_host(vec![conditional])),
        ("weights", any_host(vec![weighted])),
        (
            "one domain",
            config(vec![host("a", &["a.test"], vec![prefix("/", "one")])]),
        ),
        (
            "another virtual host",
            config(vec![
                host("all", &["*"], vec![prefix("/", "one")]),
                host("a", &["a.test"], vec![prefix("/", "one")]),
            ]),
        ),
    ];
    for (why, config) in uncertain {
        assert_eq!(class(&config, L7), CLASS_ANCHORED, "{why}");
    }
}

#[test]
fn l4_takes_one_cluster_and_names_the_routes_that_differ() {
    let config_of = |cluster| {
        config(vec![
            host(
                "a",
                &["a.test"],
                vec![prefix("/a", "two"), prefix("/", "two")],
            ),
            host("b", &["b.test"], vec![prefix("/b", cluster)]),
        ])
    };
    let image = compiled(&config_of("two"), L4).unwrap().image;
    let listener = image.listeners[0];
    assert_eq!((listener.class, listener.count), (CLASS_OPAQUE, 1));
    let weight = image.weights[listener.target as usize];
    assert_eq!((weight.cluster, weight.up_to), (1, 1));
    assert_eq!(
        compiled(&config_of("one"), L4).err().unwrap(),
        "test: listener \"listener-0\": cannot be balanced by connection (l4): route 0 of virtual host \"a\" leads to \
         cluster \"two\", route 0 of virtual host \"b\" to \"one\""
    );
    assert_eq!(
        compiled(&any_host(Vec::new()), L4).err().unwrap(),
        "test: listener \"listener-0\": cannot be balanced by connection (l4): has no route"
    );
}

#[test]
fn tables_and_names_agree_with_the_configuration() {
    let config = parse(include_str!("base.yaml"), "base.yaml").unwrap();
    let Compiled { image, names, .. } = compile(&config, &mut Identities::default(), L7).unwrap();
    assert_eq!(names.listeners, ["web", "echo"]);
    assert_eq!(image.generation, 0);
    let classes = [
        image.listeners[0].class,
        image.listeners[1].class,
        image.listeners[2].class,
    ];
    assert_eq!(classes, [CLASS_ANCHORED, CLASS_OPAQUE, 0]);
    for (listener, config) in image.listeners.iter().zip(&config.listeners) {
        assert_eq!(SocketAddr::from(listener.address), config.address);
    }
    let clusters: Vec<&str> = names
        .clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    assert_eq!(clusters, ["a", "b"]);
    assert_eq!(
        (
            image.clusters[0].endpoints_count,
            image.clusters[1].endpoints_count
        ),
        (2, 0)
    );
    assert_eq!(image.clusters[1].lb, LB_RANDOM);
    for (endpoint, name) in image.endpoints.iter().zip(&names.endpoints) {
        assert_eq!(
            (SocketAddr::from(endpoint.address), endpoint.id),
            (name.address, name.id)
        );
    }
    let routes: Vec<(&str, u32)> = names
        .routes
        .iter()
        .map(|route| (route.virtual_host.as_str(), route.position))
        .collect();
    assert_eq!(routes, [("one", 0), ("one", 1), ("one", 2)]);
    assert_eq!(config.clusters[1].max_connections, 7);
    assert_eq!(
        config.clusters[0].connect_timeout,
        Duration::from_millis(250)
    );
}

#[test]
fn identities_survive_a_change_of_configuration() {
    let mut identities = Identities::default();
    let before = any_host(vec![prefix("/", "two")]);
    let mut after = before.clone();
    after.clusters.reverse();
    after.clusters.push(cluster("new", 3));
    let before = compile(&before, &mut identities, L7).unwrap().names;
    let after = compile(&after, &mut identities, L7).unwrap().names;
    for cluster in &before.clusters {
        assert!(
            after.clusters.contains(cluster),
            "{cluster:?} is not in {:?}",
            after.clusters
        );
    }
    let id = |names: &kmesh_config::Names, address| {
        names
            .endpoints
            .iter()
            .find(|endpoint| endpoint.address == address)
            .unwrap()
            .id
    };
    assert_eq!(id(&before, address(1)), id(&after, address(1)));
    let shared = after
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.address == address(0));
    assert_eq!(
        shared
            .map(|endpoint| endpoint.id)
            .collect::<Vec<_>>()
            .windows(2)
            .filter(|w| w[0] != w[1])
            .count(),
        0
    );
}

#[test]
fn every_limit_is_named_with_the_resource() {
    let at = "test: listener \"listener-0\": filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0]";
    let most = limits::ROUTES_MAX;
    let routes = |count| {
        any_host(
            (0..count)
                .map(|i| prefix(&format!("/{i}"), "two"))
                .collect(),
        )
    };
    assert!(compiled(&routes(most), L7).is_ok());
    refused(
        &routes(most + 1),
        &format!(
            "{at}.routes[{most}]: needs {} routes, all listeners together, the datapath's limit ROUTES_MAX is {most}",
            most + 1
        ),
    );

    let conditions = |count: u32| {
        let mut route = prefix("/", "one");
        route.headers = (0..count).map(|i| header(&format!("x-{i}"), "1")).collect();
        any_host(vec![route])
    };
    assert!(compiled(&conditions(limits::ROUTE_PREDICATES_MAX), L7).is_ok());
    refused(
        &conditions(33),
        &format!(
            "{at}.routes[0]: needs 33 conditions on one route, the datapath's limit ROUTE_PREDICATES_MAX is 32"
        ),
    );

    let names = |count: usize| {
        let named = |i| {
            let mut route = prefix("/", "one");
            route.headers = vec![header(&format!("x-{i}"), "1")];
            route
        };
        any_host((0..count).map(named).collect())
    };
    assert!(compiled(&names(limits::NAMES_MAX - name::CONFIGURED as usize), L7).is_ok());
    refused(
        &names(limits::NAMES_MAX - name::CONFIGURED as usize + 1),
        &format!(
            "{at}.routes[245].match.headers[0]: needs 257 names of headers and query parameters, the datapath's limit NAMES_MAX is 256"
        ),
    );

    let mut same = prefix("/", "one");
    same.headers = vec![header("x", "1")];
    refused(
        &any_host(vec![same; 4097]),
        &format!(
            "{at}: needs 4097 routes to try for one path, the datapath's limit CANDIDATE_LIST_MAX is 4096"
        ),
    );

    let mut weighted = prefix("/", "one");
    weighted.action = RouteAction::Weighted(vec![
        WeightedCluster {
            name: "one".to_owned(),
            weight: 1
        };
        65
    ]);
    refused(
        &any_host(vec![weighted]),
        &format!(
            "{at}.routes[0]: needs 65 weighted clusters, the datapath's limit ROUTE_WEIGHTS_MAX is 64"
        ),
    );

    let mut clusters = any_host(Vec::new());
    clusters.clusters = (0..=limits::CLUSTERS_MAX)
        .map(|i| cluster(&i.to_string(), 0))
        .collect();
    refused(
        &clusters,
        "test: needs 8193 clusters, the datapath's limit CLUSTERS_MAX is 8192",
    );

    let mut endpoints = any_host(Vec::new());
    endpoints
        .clusters
        .push(cluster("many", limits::ENDPOINTS_MAX as u32));
    refused(
        &endpoints,
        "test: cluster \"many\": needs 16387 endpoints, all clusters together, the datapath's limit ENDPOINTS_MAX is 16384",
    );

    let mut listeners = any_host(Vec::new());
    listeners.listeners = (0..=limits::LISTENERS_MAX as u32)
        .map(|i| listener(i, Vec::new()))
        .collect();
    refused(
        &listeners,
        "test: needs 8193 listeners, the datapath's limit LISTENERS_MAX is 8192",
    );

    let long = |i: u32| prefix(&format!("/{i:04}{}", "x".repeat(100)), "two");
    refused(
        &any_host((0..2000).map(long).collect()),
        &format!(
            "{at}: needs 202225 automaton nodes, all automata together, the datapath's limit NODES_MAX is 131072"
        ),
    );
}

#[test]
fn a_full_listener_table_is_found_again() {
    let mut config = any_host(Vec::new());
    let tcp = ListenerKind::Tcp(vec![WeightedCluster {
        name: "one".to_owned(),
        weight: 1,
    }]);
    config.listeners = (0..limits::LISTENERS_MAX as u32)
        .map(|i| ListenerConfig {
            name: i.to_string(),
            address: address(i),
            kind: tcp.clone(),
        })
        .collect();
    let image = compiled(&config, L7).unwrap().image;
    for (i, listener) in image.listeners.iter().enumerate() {
        let slots = (0..limits::LISTENER_PROBES).map(|probe| {
            let slot =
                listener.address.hash().wrapping_add(probe) as usize & (limits::LISTENER_SLOTS - 1);
            image.listener_slots[slot]
        });
        let found = slots
            .take_while(|slot| *slot != 0)
            .any(|slot| slot == i as u32 + 1);
        assert!(found, "listener {i} is not on its probe sequence");
    }
}

/// 10,000 routes, half of them on one virtual host, 1,000 of them expressions there: the tables are nearly full.
fn many_routes() -> Config {
    // Multiplying by an odd number scatters the paths, so that they share little.
    let path = |i: u32| format!("/{:08x}/item", i.wrapping_mul(0x9e37_79b1));
    let hosts = (0..50).map(|i| {
        let routes = (0..100).map(|j| prefix(&path(100 * i + j), "two"));
        let domain = format!("service-{i}.namespace.svc.cluster.local");
        host(&format!("host-{i}"), &[&domain], routes.collect())
    });
    let mut config = config(hosts.collect());
    // A tenth of all are expressions.
    let one = (5000..10_000).map(|i| match i % 5 {
        0 => route(
            PathMatch::Regex(format!("{}/[0-9]+(?:/[^/]+)?", path(i))),
            "two",
        ),
        _ => route(PathMatch::Exact(path(i)), "two"),
    });
    config
        .listeners
        .push(listener(1, vec![host("one", &["*"], one.collect())]));
    config
}

#[test]
fn ten_thousand_routes_compile_quickly() {
    let config = many_routes();
    let started = Instant::now();
    let image = compiled(&config, L7).unwrap().image;
    let taken = started.elapsed();
    let transitions = image.cells.iter().filter(|cell| cell.owner != 0).count();
    println!("{transitions} transitions in {taken:?}");
    assert!(
        transitions > 100_000,
        "{transitions} transitions are not many"
    );
    let bound = if cfg!(debug_assertions) { 20 } else { 2 };
    assert!(taken < Duration::from_secs(bound), "took {taken:?}");
}

/// Every match on a header that the reader takes, in Envoy's own words.
#[test]
fn header_matches_are_read() {
    let text = include_str!("../../../scenarios/resources/header-canary.yaml");
    let before = text.find("string_match:").unwrap();
    let column = before - text[..before].rfind('\n').unwrap() - 1;
    let next_line = format!("\n{:column$}", "");
    let case = |matching: &str| {
        let text = text.replace(
            "string_match: { exact: jason }",
            &matching.replace("; ", &next_line),
        );
        let config = parse(&text, "canary.yaml").unwrap();
        let hosts = config.listeners[0].virtual_hosts();
        let found = hosts.iter().flat_map(|host| &host.routes);
        let found = found.flat_map(|route| &route.headers).next().unwrap();
        (found.value.clone(), found.ignore_case, found.invert)
    };
    let text = |make: fn(String) -> ValueMatch| make("j".to_owned());
    let cases = [
        (
            "string_match: { prefix: j }",
            (text(ValueMatch::Prefix), false, false),
        ),
        (
            "string_match: { suffix: j, ignore_case: true }",
            (text(ValueMatch::Suffix), true, false),
        ),
        (
            "string_match: { contains: j }; invert_match: true",
            (text(ValueMatch::Contains), false, true),
        ),
        (
            "string_match: { safe_regex: { google_re2: {}, regex: j } }",
            (text(ValueMatch::Regex), false, false),
        ),
        ("exact_match: j", (text(ValueMatch::Exact), false, false)),
        ("present_match: true", (ValueMatch::Present, false, false)),
        ("present_match: false", (ValueMatch::Present, false, true)),
        (
            "present_match: false; invert_match: true",
            (ValueMatch::Present, false, false),
        ),
    ];
    for (matching, expected) in cases {
        assert_eq!(case(matching), expected, "{matching}");
    }
}

/// The first route of `base.yaml` with this match.
fn matching(matching: &str) -> RouteRule {
    let text = include_str!("base.yaml").replace("{ path: /exact }", matching);
    let config = parse(&text, "base.yaml").unwrap();
    config.listeners[0].virtual_hosts()[0].routes[0].clone()
}

#[test]
fn paths_and_conditions_are_read() {
    let regex =
        matching("{ safe_regex: { google_re2: {}, regex: '/a/[0-9]+' }, case_sensitive: false }");
    assert_eq!(regex.path, PathMatch::Regex("/a/[0-9]+".to_owned()));
    assert!(
        !regex.ignore_case,
        "an expression says itself what case means"
    );
    let folded = matching("{ path_separated_prefix: /A, case_sensitive: false, grpc: {} }");
    assert_eq!(folded.path, PathMatch::Separated("/A".to_owned()));
    assert!(folded.ignore_case && folded.grpc);
    let query = matching(
        "{ prefix: /, query_parameters: [{ name: k }, { name: j, present_match: false }, \
         { name: i, string_match: { prefix: a, ignore_case: true } }] }",
    );
    let said: Vec<_> = query
        .query
        .iter()
        .map(|q| (q.name.as_str(), &q.value, q.ignore_case, q.invert))
        .collect();
    let prefix = ValueMatch::Prefix("a".to_owned());
    assert_eq!(
        said,
        [
            ("k", &ValueMatch::Present, false, false),
            ("j", &ValueMatch::Present, false, true),
            ("i", &prefix, true, false),
        ]
    );
    let share = matching(
        "{ prefix: /, runtime_fraction: { default_value: { numerator: 7, denominator: MILLION } } }",
    );
    let expected = Fraction {
        numerator: 7,
        denominator: 1_000_000,
    };
    assert_eq!(share.fraction, Some(expected));
    let header = matching(
        "{ prefix: /, headers: [{ name: ':path', range_match: { start: -1, end: '9' }, treat_missing_header_as_empty: true }] }",
    );
    assert_eq!(
        header.headers[0].value,
        ValueMatch::Range { start: -1, end: 9 }
    );
    assert!(header.headers[0].missing_is_empty);
}

#[test]
fn actions_are_read() {
    let action = |text: &str| {
        let text = include_str!("base.yaml").replacen("route: { cluster: a }", text, 1);
        let config = parse(&text, "base.yaml").unwrap();
        config.listeners[0].virtual_hosts()[0].routes[0]
            .action
            .clone()
    };
    let none = Redirect {
        scheme: None,
        host: None,
        port: None,
        path: PathRedirect::Keep,
        strip_query: false,
        status: 301,
    };
    let cases = [
        ("redirect: {}", none.clone()),
        (
            "redirect: { https_redirect: true, port_redirect: 8443, response_code: FOUND, strip_query: true }",
            Redirect {
                scheme: Some("https".to_owned()),
                port: Some(8443),
                status: 302,
                strip_query: true,
                ..none.clone()
            },
        ),
        (
            "redirect: { host_redirect: b.test, prefix_rewrite: /c }",
            Redirect {
                host: Some("b.test".to_owned()),
                path: PathRedirect::Prefix("/c".to_owned()),
                ..none.clone()
            },
        ),
        (
            "redirect: { https_redirect: false, path_redirect: '' }",
            none,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(action(text), RouteAction::Redirect(expected), "{text}");
    }
    assert_eq!(
        action("direct_response: { status: 503, body: { inline_string: closed } }"),
        RouteAction::Direct(DirectResponse {
            status: 503,
            body: "closed".to_owned()
        })
    );
    assert_eq!(
        action("route: { cluster_header: X-To }"),
        RouteAction::ClusterHeader("x-to".to_owned())
    );
    assert_eq!(
        action(
            "route: { weighted_clusters: { header_name: X-N, clusters: [{ name: a, weight: 3 }] } }"
        ),
        RouteAction::WeightedBy {
            header: "x-n".to_owned(),
            choices: vec![WeightedCluster {
                name: "a".to_owned(),
                weight: 3
            }],
        }
    );
}
