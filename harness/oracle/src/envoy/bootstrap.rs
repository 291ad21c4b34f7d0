//! The model back to Envoy's own configuration.

use kmesh_config::Config;
use kmesh_config::model::{
    HeaderMatch, ListenerConfig, ListenerKind, PathMatch, RouteAction, RouteRule, ValueMatch,
    VirtualHostConfig,
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

/// The abstract unix socket of a listener.
pub(super) fn socket(prefix: &str, config: usize, listener: usize) -> String {
    format!("{prefix}-{config}-{listener}")
}

/// A bootstrap with a listener for every HTTP listener.
pub(super) fn bootstrap(configs: &[Config], sockets: &str) -> Value {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (c, config) in configs.iter().enumerate() {
        for (l, listener) in config.listeners.iter().enumerate() {
            if let ListenerKind::Http(routes) = &listener.kind {
                let hosts = routes.virtual_hosts.iter().enumerate();
                let hosts: Vec<Value> = hosts.map(|(h, host)| virtual_host(c, h, host)).collect();
                listeners.push(http_listener(&socket(sockets, c, l), &hosts));
            }
        }
        for cluster in &config.clusters {
            let name = cluster_name(c, &cluster.name);
            clusters.push(
                json!({ "name": name, "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": { "cluster_name": name, "endpoints": [] } }),
            );
        }
    }
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
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

/// Clusters of all configurations share one space of names.
pub(super) fn cluster_name(config: usize, name: &str) -> String {
    format!("{config}/{name}")
}

fn virtual_host(config: usize, number: usize, host: &VirtualHostConfig) -> Value {
    let routes = host.routes.iter().enumerate();
    let routes: Vec<Value> = routes
        .map(|(r, rule)| route(config, &format!("{number}/{r}"), rule))
        .collect();
    json!({ "name": host.name, "domains": host.domains, "routes": routes })
}

fn route(config: usize, name: &str, rule: &RouteRule) -> Value {
    let mut matching = match &rule.path {
        PathMatch::Prefix(prefix) => json!({ "prefix": prefix }),
        PathMatch::Separated(prefix) => json!({ "path_separated_prefix": prefix }),
        PathMatch::Exact(path) => json!({ "path": path }),
    };
    let headers: Vec<Value> = rule.headers.iter().map(header).collect();
    matching["headers"] = headers.into();
    let action = match &rule.action {
        RouteAction::Cluster(cluster) => json!({ "cluster": cluster_name(config, cluster) }),
        RouteAction::Weighted(choices) => {
            let clusters = choices.iter().map(|choice| {
                json!({ "name": cluster_name(config, &choice.name), "weight": choice.weight })
            });
            let clusters: Vec<Value> = clusters.collect();
            json!({ "weighted_clusters": { "clusters": clusters, "header_name": DRAWN } })
        }
    };
    json!({ "name": name, "match": matching, "route": action })
}

fn header(header: &HeaderMatch) -> Value {
    let mut json = json!({ "name": header.name, "invert_match": header.invert });
    let (kind, value) = match &header.value {
        ValueMatch::Exact(text) => ("exact", json!(text)),
        ValueMatch::Prefix(text) => ("prefix", json!(text)),
        ValueMatch::Suffix(text) => ("suffix", json!(text)),
        ValueMatch::Contains(text) => ("contains", json!(text)),
        ValueMatch::Regex(text) => ("safe_regex", json!({ "regex": text })),
        ValueMatch::Present => {
            json["present_match"] = true.into();
            return json;
        }
    };
    json["string_match"] = json!({ kind: value, "ignore_case": header.ignore_case });
    json
}

/// The virtual hosts of a listener as Envoy's configuration has them; clusters under names of their own.
pub(super) fn virtual_hosts(listener: &ListenerConfig) -> Value {
    let hosts = listener.virtual_hosts().iter().enumerate();
    hosts.map(|(h, host)| virtual_host(0, h, host)).collect()
}
