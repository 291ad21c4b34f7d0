//! The model back to Envoy's own configuration.

use std::collections::BTreeSet;

use kmesh_config::Config;
use kmesh_config::model::{
    Fraction, HeaderMatch, ListenerConfig, ListenerKind, PathMatch, PathRedirect, QueryMatch,
    Redirect, RouteAction, RouteRule, ValueMatch, VirtualHostConfig, WeightedCluster,
};
use serde_json::{Value, json};

/// Response header with the route.
pub(super) const ROUTE: &str = "x-kmesh-route";
/// Response header with the cluster.
pub(super) const CLUSTER: &str = "x-kmesh-cluster";
/// Request header with the number that a weighted choice draws.
pub(super) const DRAWN: &str = "x-kmesh-drawn";

pub(super) const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(super) const ROUTER: &str =
    "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// The denominators of shares of requests. What is left of the number to draw modulo each of them comes in a header of its own.
pub(super) const DENOMINATORS: [u32; 3] = [100, 10_000, 1_000_000];

/// Request header with the number to draw modulo `denominator`.
pub(super) fn drawn_of(denominator: u32) -> String {
    format!("{DRAWN}-{denominator}")
}

/// The abstract unix socket of a listener.
pub(super) fn socket(prefix: &str, config: usize, listener: usize) -> String {
    format!("{prefix}-{config}-{listener}")
}

/// A bootstrap with a listener for every HTTP listener.
pub(super) fn bootstrap(configs: &[Config], sockets: &str) -> Value {
    let mut listeners = Vec::new();
    let mut names = BTreeSet::new();
    for (c, config) in configs.iter().enumerate() {
        for (l, listener) in config.listeners.iter().enumerate() {
            if let ListenerKind::Http(routes) = &listener.kind {
                let hosts = routes.virtual_hosts.iter().enumerate();
                let hosts: Vec<Value> = hosts.map(|(h, host)| virtual_host(h, host)).collect();
                let mut listener = http_listener(&socket(sockets, c, l), &hosts);
                if routes.options.ignore_port {
                    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
                    manager["route_config"]["ignore_port_in_host_matching"] = true.into();
                }
                listeners.push(listener);
            }
        }
        // All are alike, so configurations may share them; headers name them as they are.
        names.extend(config.clusters.iter().map(|cluster| &cluster.name));
    }
    let clusters: Vec<Value> = names
        .into_iter()
        .map(|name| {
            json!({ "name": name, "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": { "cluster_name": name, "endpoints": [] } })
        })
        .collect();
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

/// A bootstrap with one route, to a server on an abstract socket.
pub(super) fn before_server(sockets: &str, server: &str) -> Value {
    let host = json!({ "name": "all", "domains": ["*"], "routes": [
        { "match": { "prefix": "/" }, "route": { "cluster": "server" } },
    ] });
    let address = json!({ "pipe": { "path": format!("@{server}") } });
    let cluster = json!({ "name": "server", "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": { "cluster_name": "server", "endpoints": [
            { "lb_endpoints": [{ "endpoint": { "address": address } }] },
        ] } });
    let listener = http_listener(&socket(sockets, 0, 0), &[host]);
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } })
}

fn http_listener(socket: &str, virtual_hosts: &[Value]) -> Value {
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "o",
        "codec_type": "HTTP1",
        "generate_request_id": false,
        "stream_idle_timeout": "0s",
        "route_config": {
            "name": socket,
            "virtual_hosts": virtual_hosts,
            "response_headers_to_add": [
                { "header": { "key": ROUTE, "value": "%ROUTE_NAME%" } },
                { "header": { "key": CLUSTER, "value": "%UPSTREAM_CLUSTER_RAW%" } },
            ],
        },
        "http_filters": [{ "name": "router", "typed_config": { "@type": ROUTER } }],
    });
    json!({
        "name": socket,
        "address": { "pipe": { "path": format!("@{socket}") } },
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

fn virtual_host(number: usize, host: &VirtualHostConfig) -> Value {
    let routes = host.routes.iter().enumerate();
    let routes: Vec<Value> = routes
        .map(|(r, rule)| route(&format!("{number}/{r}"), rule))
        .collect();
    json!({ "name": host.name, "domains": host.domains, "routes": routes })
}

fn route(name: &str, rule: &RouteRule) -> Value {
    let mut matching = match &rule.path {
        PathMatch::Prefix(prefix) => json!({ "prefix": prefix }),
        PathMatch::Separated(prefix) => json!({ "path_separated_prefix": prefix }),
        PathMatch::Exact(path) => json!({ "path": path }),
        PathMatch::Regex(text) => json!({ "safe_regex": { "regex": text } }),
    };
    if rule.ignore_case {
        matching["case_sensitive"] = false.into();
    }
    let mut headers: Vec<Value> = rule.headers.iter().map(header).collect();
    if let Some(Fraction {
        numerator,
        denominator,
    }) = rule.fraction
    {
        if numerator == 0 || numerator >= denominator {
            matching["runtime_fraction"] = fraction(&json!(numerator), denominator);
        } else {
            headers.push(json!({
                "name": drawn_of(denominator),
                "range_match": { "start": 0, "end": numerator },
            }));
        }
    }
    matching["headers"] = headers.into();
    matching["query_parameters"] = rule.query.iter().map(query).collect();
    if rule.grpc {
        matching["grpc"] = json!({});
    }
    let mut route = json!({ "name": name, "match": matching });
    let (kind, action) = match &rule.action {
        RouteAction::Cluster(cluster) => ("route", json!({ "cluster": cluster })),
        RouteAction::Weighted(choices) => ("route", weighted(choices, DRAWN)),
        RouteAction::WeightedBy { header, choices } => ("route", weighted(choices, header)),
        RouteAction::ClusterHeader(header) => ("route", json!({ "cluster_header": header })),
        RouteAction::Redirect(redirect) => ("redirect", redirection(redirect)),
        RouteAction::Direct(direct) => (
            "direct_response",
            json!({ "status": direct.status, "body": { "inline_string": direct.body } }),
        ),
    };
    route[kind] = action;
    route
}

/// A `RuntimeFractionalPercent`.
pub(super) fn fraction(numerator: &Value, denominator: u32) -> Value {
    let denominator = match denominator {
        100 => "HUNDRED",
        10_000 => "TEN_THOUSAND",
        _ => "MILLION",
    };
    json!({ "default_value": { "numerator": numerator, "denominator": denominator } })
}

fn weighted(choices: &[WeightedCluster], header: &str) -> Value {
    let clusters = choices
        .iter()
        .map(|choice| json!({ "name": choice.name, "weight": choice.weight }));
    let clusters: Vec<Value> = clusters.collect();
    json!({ "weighted_clusters": { "clusters": clusters, "header_name": header } })
}

fn redirection(redirect: &Redirect) -> Value {
    let mut json = json!({
        "strip_query": redirect.strip_query,
        "response_code": match redirect.status {
            301 => "MOVED_PERMANENTLY",
            302 => "FOUND",
            303 => "SEE_OTHER",
            307 => "TEMPORARY_REDIRECT",
            _ => "PERMANENT_REDIRECT",
        },
    });
    if let Some(scheme) = &redirect.scheme {
        json["scheme_redirect"] = json!(scheme);
    }
    if let Some(host) = &redirect.host {
        json["host_redirect"] = json!(host);
    }
    if let Some(port) = redirect.port {
        json["port_redirect"] = json!(port);
    }
    match &redirect.path {
        PathRedirect::Keep => {}
        PathRedirect::Whole(path) => json["path_redirect"] = json!(path),
        PathRedirect::Prefix(path) => json["prefix_rewrite"] = json!(path),
    }
    json
}

fn header(header: &HeaderMatch) -> Value {
    let mut json = json!({
        "name": header.name,
        "invert_match": header.invert,
        "treat_missing_header_as_empty": header.missing_is_empty,
    });
    match &header.value {
        ValueMatch::Range { start, end } => {
            json["range_match"] = json!({ "start": start, "end": end });
        }
        ValueMatch::Present => json["present_match"] = true.into(),
        value => json["string_match"] = string(value, header.ignore_case),
    }
    json
}

fn query(query: &QueryMatch) -> Value {
    let mut json = json!({ "name": query.name });
    match &query.value {
        ValueMatch::Present => json["present_match"] = (!query.invert).into(),
        value => json["string_match"] = string(value, query.ignore_case),
    }
    json
}

/// A `StringMatcher`; one that matches nothing for what it cannot say.
fn string(value: &ValueMatch, ignore_case: bool) -> Value {
    let (kind, text) = match value {
        ValueMatch::Exact(text) => ("exact", json!(text)),
        ValueMatch::Prefix(text) => ("prefix", json!(text)),
        ValueMatch::Suffix(text) => ("suffix", json!(text)),
        ValueMatch::Contains(text) => ("contains", json!(text)),
        ValueMatch::Regex(text) => ("safe_regex", json!({ "regex": text })),
        ValueMatch::Range { .. } | ValueMatch::Present => return json!({}),
    };
    json!({ kind: text, "ignore_case": ignore_case })
}

/// The virtual hosts of a listener as Envoy's configuration has them.
pub(super) fn virtual_hosts(listener: &ListenerConfig) -> Value {
    let hosts = listener.virtual_hosts().iter().enumerate();
    hosts.map(|(h, host)| virtual_host(h, host)).collect()
}
