//! The Envoy resources that the tests run with, written as JSON, which is YAML.

use std::net::SocketAddr;

use serde_json::{Value, json};

const V3: &str = "type.googleapis.com/envoy.extensions.filters";

/// All resources in one document.
pub(crate) fn resources(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// An HTTP listener with the virtual hosts.
pub(crate) fn http(at: SocketAddr, virtual_hosts: &Value) -> Value {
    let manager = json!({
        "@type": format!("{V3}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "skip_xff_append": true,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": { "idle_timeout": "0s" },
        "route_config": { "name": "web", "virtual_hosts": virtual_hosts },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": format!("{V3}.http.router.v3.Router"),
                "suppress_envoy_headers": true,
            },
        }],
    });
    listener(at, "http_connection_manager", &manager)
}

/// A TCP listener.
pub(crate) fn tcp(at: SocketAddr, cluster: &str) -> Value {
    let proxy = json!({
        "@type": format!("{V3}.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": "tcp",
        "idle_timeout": "0s",
        "cluster": cluster,
    });
    listener(at, "tcp_proxy", &proxy)
}

/// A listener with one network filter.
fn listener(at: SocketAddr, filter: &str, config: &Value) -> Value {
    let filter =
        json!({ "name": format!("envoy.filters.network.{filter}"), "typed_config": config });
    json!({
        "name": format!("listener-{at}"),
        "address": address(at),
        "bind_to_port": false,
        "filter_chains": [{ "filters": [filter] }],
    })
}

/// A route to one cluster, or to several by weight.
pub(crate) fn route(matching: &Value, clusters: &[(&str, u32)]) -> Value {
    let action = match clusters {
        [(only, _)] => json!({ "cluster": only, "timeout": "0s" }),
        several => {
            let clusters: Vec<Value> = several
                .iter()
                .map(|(name, weight)| json!({ "name": name, "weight": weight }))
                .collect();
            json!({ "weighted_clusters": { "clusters": clusters }, "timeout": "0s" })
        }
    };
    json!({ "match": matching, "route": action })
}

/// A round-robin cluster.
pub(crate) fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| json!({ "endpoint": { "address": address(*endpoint) } }))
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": endpoints }],
        },
    })
}
