//! The service that the messages go to: four servers, five routes, and a configuration that follows from the number of its
//! generation. Writer and checker ask the same functions, so the checker knows which server may answer when.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::plan::{Message, Route};

/// The servers. No route of the plan leads to the last one: it is the default route's, and a wrong backend for everybody.
pub const SERVERS: [&str; 4] = ["a", "b", "c", "decoy"];
/// Host name of every request.
pub const HOST: &str = "streams.test";

const V3: &str = "type.googleapis.com/envoy.extensions.filters";

/// The server that [`Route::Flip`] leads to in a generation.
fn flip(generation: u64) -> &'static str {
    if generation.is_multiple_of(2) {
        "b"
    } else {
        "c"
    }
}

/// The endpoints behind [`Route::Churn`] in a generation: some of the first three servers, never none.
fn churn(generation: u64) -> Vec<&'static str> {
    let mask = 1 + (generation.wrapping_mul(5) % 7);
    (0..3)
        .filter(|bit| mask >> bit & 1 == 1)
        .map(|bit| SERVERS[bit as usize])
        .collect()
}

/// Whether `server` may answer the message if a generation from `from` to `to` was in force when its request was routed.
pub fn may_answer(message: &Message, server: &str, from: u64, to: u64) -> bool {
    match message.route {
        Route::First => server == "a",
        Route::Header => server == if message.second { "b" } else { "a" },
        Route::Weighted => server == "a" || server == "b",
        Route::Flip => (from..=to).any(|generation| server == flip(generation)),
        Route::Churn => (from..=to).any(|generation| churn(generation).contains(&server)),
    }
}

/// Where a server listens, for clients of one address family.
pub type Endpoints = [SocketAddr; SERVERS.len()];

/// Envoy v3 resources of a generation: one listener for each pair of a virtual address and the servers' addresses of its
/// family. With `routes`, requests are routed as the plan says; without, all go to one cluster of all servers, as the arms
/// that balance connections need it.
pub fn resources(services: &[(SocketAddr, Endpoints)], generation: u64, routes: bool) -> Value {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (vip, endpoints) in services {
        let family = if vip.is_ipv6() { "-6" } else { "" };
        let name = |cluster: &str| format!("{cluster}{family}");
        let at = |servers: &[&str]| -> Vec<SocketAddr> {
            let named = SERVERS.iter().zip(endpoints);
            named
                .filter(|(server, _)| servers.contains(server))
                .map(|(_, endpoint)| *endpoint)
                .collect()
        };
        if routes {
            listeners.push(listener(*vip, &routed(&name, generation)));
            for server in SERVERS {
                clusters.push(cluster(&name(server), &at(&[server])));
            }
            clusters.push(cluster(&name("churn"), &at(&churn(generation))));
        } else {
            listeners.push(listener(*vip, &json!([route("/", &name("all"))])));
            clusters.push(cluster(&name("all"), endpoints));
        }
    }
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

/// Has all clusters speak HTTP/2.
pub fn speak_http2(resources: &mut Value) {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let clusters = resources["static_resources"]["clusters"].as_array_mut();
    for cluster in clusters.into_iter().flatten() {
        cluster["typed_extension_protocol_options"] = json!({ OPTIONS: {
            "@type": format!("type.googleapis.com/{OPTIONS}"),
            "explicit_http_config": { "http2_protocol_options": {} },
        } });
    }
}

fn routed(name: &impl Fn(&str) -> String, generation: u64) -> Value {
    let second = json!({
        "match": {
            "prefix": "/header/",
            "headers": [{ "name": "x-choice", "string_match": { "exact": "second" } }],
        },
        "route": { "cluster": name("b"), "timeout": "0s" },
    });
    let weighted = json!({
        "match": { "prefix": "/weighted/" },
        "route": { "timeout": "0s", "weighted_clusters": { "clusters": [
            { "name": name("a"), "weight": 50 },
            { "name": name("b"), "weight": 50 },
        ] } },
    });
    json!([
        route("/first/", &name("a")),
        second,
        route("/header/", &name("a")),
        weighted,
        route("/flip/", &name(flip(generation))),
        route("/churn/", &name("churn")),
        route("/", &name("decoy")),
    ])
}

fn route(prefix: &str, cluster: &str) -> Value {
    json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster, "timeout": "0s" } })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn listener(at: SocketAddr, routes: &Value) -> Value {
    json!({
        "name": format!("streams-{at}"),
        "address": address(at),
        "bind_to_port": false,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{V3}.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "streams",
                "stream_idle_timeout": "0s",
                "route_config": { "name": "streams", "virtual_hosts": [
                    { "name": "streams", "domains": [HOST, at.ip().to_string()], "routes": routes },
                ] },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": format!("{V3}.http.router.v3.Router") },
                }],
            },
        }] }],
    })
}

fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| json!({ "endpoint": { "address": address(*endpoint) } }))
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Number;

    #[test]
    fn generations_differ_and_no_server_is_always_right() {
        let message = |route| {
            let all = (0..).map(|message| {
                Message::of(Number {
                    seed: 1,
                    connection: 1,
                    message,
                })
            });
            let mut all = all.filter(|message| message.route == route);
            all.next().unwrap()
        };
        for route in [Route::Flip, Route::Churn] {
            let message = message(route);
            for server in ["b", "c"] {
                let right = (0..14).filter(|g| may_answer(&message, server, *g, *g));
                assert!((1..14).contains(&right.count()), "{route:?} {server}");
            }
            assert!(!may_answer(&message, "decoy", 0, 100), "{route:?}");
        }
        assert!((0..100).all(|generation| !churn(generation).is_empty()));
        let flip = message(Route::Flip);
        assert!(may_answer(&flip, "b", 2, 3) && may_answer(&flip, "c", 2, 3));
        assert!(!may_answer(&flip, "c", 2, 2));
    }
}
