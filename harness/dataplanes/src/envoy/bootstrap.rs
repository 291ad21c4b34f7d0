//! The bootstraps of the sidecars, made from a scenario's resources.
//!
//! A caller's sidecar gets the scenario's listeners and clusters as they are, plus a catch-all listener that hands each
//! intercepted connection to the listener of its original destination. A server's sidecar is the same for every scenario:
//! it forwards to where the connection was going, through an HTTP connection manager for ports that speak HTTP.

use serde_json::{Map, Value, json};

use super::profile::{Direction, EnvoyProfile};
use crate::{
    nft::{INBOUND_PORT, OUTBOUND_PORT},
    resources::{Protocol, Resources},
};

/// Port of the admin interface, on the pod's loopback only; as in Istio.
pub(crate) const ADMIN_PORT: u16 = 15000;

/// Cluster that leads to where a connection was going.
const PASSTHROUGH: &str = "kmesh-original-destination";
/// `u32::MAX`: no circuit breaker ever opens.
const NO_LIMIT: u32 = u32::MAX;

/// A bootstrap and what in it does not come from the scenario.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    /// The document, to be written as JSON.
    pub(crate) document: Value,
    /// One line per change of a scenario's resource and per resource of our own.
    pub(crate) added: Vec<String>,
}

impl Bootstrap {
    /// The list of additions, as text for people.
    pub(crate) fn added_text(&self) -> String {
        let mut text = "Added by the harness to the scenario's resources:\n".to_owned();
        for line in &self.added {
            text.push_str("- ");
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The bootstrap of a caller's sidecar.
pub(crate) fn outbound(resources: &Resources, pod: &str, profile: EnvoyProfile) -> Bootstrap {
    let (fixed, added) = outbound_resources(resources, profile);
    finish(fixed, added, profile, pod)
}

/// The bootstrap of the sidecar of an application that listens on `ports` and calls others.
pub(crate) fn both(
    resources: &Resources,
    pod: &str,
    ports: &[(u16, Protocol)],
    profile: EnvoyProfile,
) -> Bootstrap {
    let (mut fixed, mut added) = outbound_resources(resources, profile);
    push(&mut fixed, "listeners", inbound_listener(ports, profile));
    added.push("listener kmesh-inbound: takes the connections to the pod".to_owned());
    finish(fixed, added, profile, pod)
}

fn outbound_resources(
    resources: &Resources,
    profile: EnvoyProfile,
) -> (Map<String, Value>, Vec<String>) {
    let mut fixed = resources.fixed().clone();
    let mut added = Vec::new();
    for listener in elements(&mut fixed, "listeners") {
        let name = name_of(listener);
        if let Some(fields) = listener.as_object_mut()
            && fields.get("bind_to_port") != Some(&json!(false))
        {
            fields.insert("bind_to_port".to_owned(), json!(false));
            added.push(format!("listener {name}: bind_to_port: false, the catch-all listener hands it its connections"));
        }
        let mut shaped = Vec::new();
        shape_managers(listener, profile, Direction::Outbound, &mut shaped);
        if !shaped.is_empty() {
            added.push(format!(
                "listener {name}: profile {}: {}",
                profile.name(),
                shaped.join(", ")
            ));
        }
    }
    for cluster in elements(&mut fixed, "clusters") {
        let name = name_of(cluster);
        if let Some(fields) = cluster.as_object_mut()
            && !fields.contains_key("circuit_breakers")
        {
            fields.insert("circuit_breakers".to_owned(), open_circuit_breakers());
            added.push(format!(
                "cluster {name}: circuit breakers raised to {NO_LIMIT}"
            ));
        }
    }
    push(
        &mut fixed,
        "listeners",
        json!({
            "name": "kmesh-outbound",
            "address": socket_address("0.0.0.0", OUTBOUND_PORT),
            "additional_addresses": [{"address": socket_address("::", OUTBOUND_PORT)}],
            "use_original_dst": true,
            "traffic_direction": "OUTBOUND",
            "filter_chains": [{"filters": [tcp_passthrough("kmesh-outbound")]}]
        }),
    );
    added.push(format!(
        "listener kmesh-outbound on port {OUTBOUND_PORT}: takes the intercepted connections"
    ));
    push(&mut fixed, "clusters", passthrough_cluster());
    added.push(format!(
        "cluster {PASSTHROUGH}: for connections to none of the scenario's listeners"
    ));
    (fixed, added)
}

/// The bootstrap of a server's sidecar, for an application that listens on `ports`.
pub(crate) fn inbound(pod: &str, ports: &[(u16, Protocol)], profile: EnvoyProfile) -> Bootstrap {
    let mut fixed = Map::new();
    push(&mut fixed, "listeners", inbound_listener(ports, profile));
    push(&mut fixed, "clusters", passthrough_cluster());
    let added = vec![format!(
        "everything: a server's sidecar has nothing of the scenario's; profile {}",
        profile.name()
    )];
    finish(fixed, added, profile, pod)
}

fn inbound_listener(ports: &[(u16, Protocol)], profile: EnvoyProfile) -> Value {
    let mut chains = Vec::new();
    for (port, protocol) in ports {
        let filter = match protocol {
            Protocol::Http => http_passthrough(*port, profile),
            Protocol::Tcp => tcp_passthrough(&format!("inbound_{port}")),
        };
        chains.push(json!({"filter_chain_match": {"destination_port": port}, "filters": [filter]}));
    }
    json!({
        "name": "kmesh-inbound",
        "address": socket_address("0.0.0.0", INBOUND_PORT),
        "additional_addresses": [{"address": socket_address("::", INBOUND_PORT)}],
        "traffic_direction": "INBOUND",
        "listener_filters": [{
            "name": "envoy.filters.listener.original_dst",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"}
        }],
        "filter_chains": chains,
        "default_filter_chain": {"filters": [tcp_passthrough("inbound_other")]}
    })
}

fn finish(
    fixed: Map<String, Value>,
    added: Vec<String>,
    profile: EnvoyProfile,
    pod: &str,
) -> Bootstrap {
    let mut document = Map::new();
    document.insert(
        "node".to_owned(),
        json!({"id": format!("sidecar~{pod}"), "cluster": pod}),
    );
    document.insert(
        "admin".to_owned(),
        json!({"address": socket_address("127.0.0.1", ADMIN_PORT)}),
    );
    document.insert("static_resources".to_owned(), Value::Object(fixed));
    profile.shape_bootstrap(&mut document);
    Bootstrap {
        document: Value::Object(document),
        added,
    }
}

fn elements<'f>(
    fixed: &'f mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'f mut Value> {
    fixed
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn push(fixed: &mut Map<String, Value>, key: &str, resource: Value) {
    match fixed.get_mut(key) {
        Some(Value::Array(list)) => list.push(resource),
        _ => {
            fixed.insert(key.to_owned(), json!([resource]));
        }
    }
}

fn name_of(resource: &Value) -> String {
    resource
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("(without name)")
        .to_owned()
}

/// Lets the profile shape every HTTP connection manager below `value`.
fn shape_managers(
    value: &mut Value,
    profile: EnvoyProfile,
    direction: Direction,
    shaped: &mut Vec<String>,
) {
    match value {
        Value::Object(fields) => {
            let kind = fields
                .get("@type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if kind.ends_with(".HttpConnectionManager") {
                shaped.extend(profile.shape_http(fields, direction));
            } else {
                fields
                    .values_mut()
                    .for_each(|inner| shape_managers(inner, profile, direction, shaped));
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| shape_managers(item, profile, direction, shaped)),
        _ => {}
    }
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn open_circuit_breakers() -> Value {
    let limits = |priority: &str| {
        json!({
            "priority": priority,
            "max_connections": NO_LIMIT,
            "max_pending_requests": NO_LIMIT,
            "max_requests": NO_LIMIT,
            "max_retries": NO_LIMIT
        })
    };
    json!({"thresholds": [limits("DEFAULT"), limits("HIGH")]})
}

fn passthrough_cluster() -> Value {
    json!({
        "name": PASSTHROUGH,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "circuit_breakers": open_circuit_breakers()
    })
}

fn tcp_passthrough(stat_prefix: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": stat_prefix,
            "cluster": PASSTHROUGH
        }
    })
}

fn http_passthrough(port: u16, profile: EnvoyProfile) -> Value {
    let mut filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": format!("inbound_{port}"),
            "route_config": {
                "name": format!("inbound|{port}"),
                "virtual_hosts": [{
                    "name": format!("inbound|http|{port}"),
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": PASSTHROUGH, "timeout": "0s"}}]
                }]
            },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
            }]
        }
    });
    shape_managers(&mut filter, profile, Direction::Inbound, &mut Vec::new());
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary() -> Resources {
        let text = include_str!("../../tests/canary.yaml");
        Resources::from_document(serde_yaml_ng::from_str(text).unwrap()).unwrap()
    }

    fn without(mut value: Value, pointer: &str, fields: &[&str]) -> Value {
        let object = value
            .pointer_mut(pointer)
            .and_then(Value::as_object_mut)
            .unwrap();
        for field in fields {
            object.remove(*field).unwrap();
        }
        value
    }

    /// The scenario's resources must reach Envoy as they are, but for what `added` says.
    #[test]
    fn the_scenario_is_untouched_but_for_what_is_said() {
        let resources = canary();
        let bootstrap = outbound(&resources, "client", EnvoyProfile::Min);
        let fixed = &bootstrap.document["static_resources"];
        let manager = "/filter_chains/0/filters/0/typed_config";
        assert_eq!(
            without(
                fixed["listeners"][0].clone(),
                manager,
                &["generate_request_id"]
            ),
            resources.fixed()["listeners"][0]
        );
        assert_eq!(fixed["listeners"][1], resources.fixed()["listeners"][1]);
        for (i, original) in resources.fixed()["clusters"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            assert_eq!(
                without(fixed["clusters"][i].clone(), "", &["circuit_breakers"]),
                *original
            );
        }
        let text = bootstrap.added_text();
        for expected in [
            "listener web: profile min: generate_request_id",
            "cluster web-v1: circuit breakers",
            "kmesh-outbound",
        ] {
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }

    #[test]
    fn a_scenario_keeps_its_own_choices() {
        let text = "static_resources: {clusters: [{name: a, circuit_breakers: {thresholds: []}}], \
                    listeners: [{name: l, bind_to_port: true}]}";
        let resources = Resources::from_document(serde_yaml_ng::from_str(text).unwrap()).unwrap();
        let bootstrap = outbound(&resources, "client", EnvoyProfile::Istio);
        let fixed = &bootstrap.document["static_resources"];
        assert_eq!(
            fixed["clusters"][0]["circuit_breakers"],
            json!({"thresholds": []})
        );
        assert_eq!(fixed["listeners"][0]["bind_to_port"], json!(false));
    }

    #[test]
    fn istio_logs_traces_and_filters() {
        let bootstrap = outbound(&canary(), "client", EnvoyProfile::Istio);
        let manager = &bootstrap.document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
            [0]["typed_config"];
        assert_eq!(
            manager["access_log"][0]["typed_config"]["path"],
            "/dev/stdout"
        );
        assert_eq!(
            manager["http_filters"][0]["name"],
            "envoy.filters.http.grpc_stats"
        );
        assert_eq!(
            manager["http_filters"][3]["name"],
            "envoy.filters.http.router"
        );
        assert!(bootstrap.document.get("stats_config").is_some());
        let server = inbound("web-v1", &[(8080, Protocol::Http)], EnvoyProfile::Istio);
        let manager = &server.document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
            [0]["typed_config"];
        assert_eq!(manager["server_name"], "istio-envoy");
    }
}
