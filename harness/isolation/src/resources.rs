//! The configuration of the node under test, as Envoy resources.

use std::net::SocketAddr;

use serde_json::{Value, json};

const V3: &str = "type.googleapis.com/envoy.extensions.filters";

/// All of it.
pub(crate) fn document(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// An HTTP listener that sends everything to `cluster`, and by a second route nothing to `other`: so the kernel decides on each request.
pub(crate) fn listener(at: SocketAddr, cluster: &str, other: &str) -> Value {
    let route = |prefix: &str, cluster: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster, "timeout": "0s" } });
    let manager = json!({
        "@type": format!("{V3}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "skip_xff_append": true,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": { "idle_timeout": "0s" },
        "route_config": { "name": format!("routes-{at}"), "virtual_hosts": [
            { "name": "all", "domains": ["*"], "routes": [route("/nobody-asks/", other), route("/", cluster)] },
        ] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": format!("{V3}.http.router.v3.Router"),
                "suppress_envoy_headers": true,
            },
        }],
    });
    let filter =
        json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({
        "name": format!("listener-{at}"),
        "address": socket(at),
        "bind_to_port": false,
        "filter_chains": [{ "filters": [filter] }],
    })
}

/// A cluster of one endpoint.
pub(crate) fn cluster(name: &str, endpoint: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(endpoint) } }] }],
        },
    })
}
