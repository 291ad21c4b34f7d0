//! A configuration as the Envoy v3 resources that say it: what the reader of `kmesh-config` reads back.

use kmesh_config::Config;
use kmesh_config::model::{ClusterConfig, LbPolicy, ListenerConfig, ListenerKind, WeightedCluster};
use serde_json::{Map, Value, json};

use super::bootstrap::{DENOMINATORS, DRAWN, MANAGER, ROUTER, drawn_of, fraction, virtual_hosts};

const PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// The resources.
pub fn resources(config: &Config) -> Value {
    let listeners: Vec<Value> = config.listeners.iter().map(listener).collect();
    let clusters: Vec<Value> = config.clusters.iter().map(cluster).collect();
    let mut resources = json!({ "listeners": listeners, "clusters": clusters });
    unscript(&mut resources);
    resources
}

fn listener(listener: &ListenerConfig) -> Value {
    let (name, typed) = match &listener.kind {
        ListenerKind::Http(routes) => (
            "envoy.filters.network.http_connection_manager",
            json!({
                "@type": MANAGER,
                "stat_prefix": listener.name,
                "route_config": {
                    "name": routes.name,
                    "virtual_hosts": virtual_hosts(listener),
                    "ignore_port_in_host_matching": routes.options.ignore_port,
                },
                "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } }],
            }),
        ),
        ListenerKind::Tcp(choices) => (
            "envoy.filters.network.tcp_proxy",
            json!({
                "@type": PROXY,
                "stat_prefix": listener.name,
                "weighted_clusters": { "clusters": choices.iter().map(choice).collect::<Vec<_>>() },
            }),
        ),
        // Whoever connects is refused by us; Envoy, without the cluster, closes what it accepted. The other kinds are not generated.
        _ => (
            "envoy.filters.network.tcp_proxy",
            json!({ "@type": PROXY, "stat_prefix": listener.name, "cluster": "(none)" }),
        ),
    };
    json!({
        "name": listener.name,
        "address": socket_address(listener.address),
        "filter_chains": [{ "filters": [{ "name": name, "typed_config": typed }] }],
    })
}

fn choice(choice: &WeightedCluster) -> Value {
    json!({ "name": choice.name, "weight": choice.weight })
}

fn socket_address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn cluster(cluster: &ClusterConfig) -> Value {
    let endpoints = cluster.endpoints.iter();
    let endpoints: Vec<Value> = endpoints
        .map(|address| json!({ "endpoint": { "address": socket_address(*address) } }))
        .collect();
    let policy = match cluster.lb {
        LbPolicy::RoundRobin => "ROUND_ROBIN",
        LbPolicy::Random => "RANDOM",
    };
    json!({
        "name": cluster.name,
        "type": "STATIC",
        "lb_policy": policy,
        "connect_timeout": format!("{}s", cluster.connect_timeout.as_secs_f64()),
        "load_assignment": { "cluster_name": cluster.name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

/// Takes back what the oracle's bootstrap does for itself: draws that headers script.
fn unscript(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(unscript),
        Value::Object(fields) => {
            fields.retain(|name, value| !(name == "header_name" && value == DRAWN));
            if let Some(fraction) = scripted_fraction(fields) {
                fields.insert("runtime_fraction".to_owned(), fraction);
            }
            fields.values_mut().for_each(unscript);
        }
        _ => {}
    }
}

/// Takes the header condition that stands for a share of requests out of a match, and returns the share.
fn scripted_fraction(matching: &mut Map<String, Value>) -> Option<Value> {
    let headers = matching.get_mut("headers")?.as_array_mut()?;
    for denominator in DENOMINATORS {
        let name = drawn_of(denominator);
        if let Some(at) = headers.iter().position(|header| header["name"] == *name) {
            let header = headers.remove(at);
            return Some(fraction(&header["range_match"]["end"], denominator));
        }
    }
    None
}
