//! `envoy.config.cluster.v3.Cluster` and `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::inert::HOSTNAME;
use crate::model::{ClusterConfig, LbPolicy};
use crate::policy::ClusterPolicy;
use crate::reader::{Item, Object};

/// Envoy's default for connections and for pending requests.
const BREAKER_DEFAULT: u32 = 1024;
/// Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Reads a cluster.
pub(crate) fn read(item: &Item<'_>) -> ClusterConfig {
    item.message("Cluster", |fields| {
        let name = fields.need("name").text().to_owned();
        fields.choice("type", &["STATIC"]);
        let lb = match fields.choice("lb_policy", &["ROUND_ROBIN", "RANDOM"]) {
            "RANDOM" => LbPolicy::Random,
            _ => LbPolicy::RoundRobin,
        };
        let connect_timeout = fields.take("connect_timeout").map_or(CONNECT_TIMEOUT, |item| {
            let timeout = item.duration();
            if item.tree() == "0s" {
                item.refuse("must be more than 0s");
            }
            timeout
        });
        let (http2, idle_timeout) = protocol(fields);
        let breakers = circuit_breakers(fields, http2);
        let endpoints = fields
            .take("load_assignment")
            .map_or(Vec::new(), |assignment| load_assignment(&assignment));
        ClusterConfig {
            name,
            lb,
            endpoints,
            max_connections: breakers.connections,
            max_pending_requests: breakers.pending,
            connect_timeout,
            policy: ClusterPolicy {
                http2,
                idle_timeout,
                max_requests: breakers.requests,
                max_retries: breakers.retries,
            },
        }
    })
}

/// What the endpoints speak (whether it is HTTP/2) and how long connections may be idle:
/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
fn protocol(cluster: &mut Object<'_>) -> (bool, Option<Duration>) {
    let mut found = (false, ClusterPolicy::default().idle_timeout);
    let Some(extensions) = cluster.take("typed_extension_protocol_options") else {
        return found;
    };
    for (name, item) in extensions.entries() {
        if name != HTTP_OPTIONS {
            item.refuse_place("not supported by this datapath, which knows HttpProtocolOptions");
            continue;
        }
        item.typed("UpstreamHttpProtocolOptions", |kind, options| {
            if kind != HTTP_OPTIONS {
                options.refuse("must be HttpProtocolOptions");
            }
            if let Some(common) = options.take("common_http_protocol_options") {
                common.message("UpstreamCommonHttpProtocolOptions", |common| {
                    if let Some(timeout) = common.take("idle_timeout") {
                        found.1 = Some(timeout.duration()).filter(|timeout| !timeout.is_zero());
                    }
                });
            }
            let explicit = options.need("explicit_http_config");
            explicit.message("ExplicitHttpConfig", |explicit| {
                let http1 = explicit.take("http_protocol_options");
                if let Some(http1) = &http1 {
                    http1.message("Http1ProtocolOptions", |_| ());
                }
                match explicit.take("http2_protocol_options") {
                    Some(http2) if http1.is_some() => {
                        http2.refuse_place("stands beside http_protocol_options: use one");
                    }
                    Some(http2) => {
                        found.0 = true;
                        http2.message("Http2ProtocolOptions", |_| ());
                    }
                    None if http1.is_none() => explicit
                        .refuse("has neither http_protocol_options nor http2_protocol_options"),
                    None => {}
                }
            });
        });
    }
    found
}

/// The limits for routes of default priority.
struct Breakers {
    connections: u32,
    pending: u32,
    requests: u32,
    retries: u32,
}

fn circuit_breakers(cluster: &mut Object<'_>, http2: bool) -> Breakers {
    let defaults = ClusterPolicy::default();
    let mut limits = Breakers {
        connections: BREAKER_DEFAULT,
        pending: BREAKER_DEFAULT,
        requests: defaults.max_requests,
        retries: defaults.max_retries,
    };
    let Some(breakers) = cluster.take("circuit_breakers") else {
        return limits;
    };
    breakers.message("CircuitBreakers", |breakers| {
        for item in breakers.items("thresholds") {
            item.message("Thresholds", |threshold| {
                let priority = threshold.choice("priority", &["DEFAULT", "HIGH"]);
                let connections = threshold.number_or("max_connections", BREAKER_DEFAULT);
                let pending = threshold.number_or("max_pending_requests", BREAKER_DEFAULT);
                let retries = threshold.number_or("max_retries", defaults.max_retries);
                let requests = threshold.take("max_requests").map(|item| {
                    let requests = item.number();
                    if !http2 && requests < connections {
                        item.refuse(
                            "this datapath bounds requests by max_connections only, which is larger",
                        );
                    }
                    requests
                });
                // Routes of priority HIGH are refused, so the other thresholds bind nobody.
                if priority == "DEFAULT" {
                    limits = Breakers {
                        connections,
                        pending,
                        requests: requests.unwrap_or(defaults.max_requests),
                        retries,
                    };
                }
            });
        }
    });
    limits
}

/// Reads the endpoints of a cluster.
pub(crate) fn load_assignment(item: &Item<'_>) -> Vec<SocketAddr> {
    item.message("ClusterLoadAssignment", |assignment| {
        assignment.need("cluster_name").text();
        let mut endpoints = Vec::new();
        for group in assignment.items("endpoints") {
            group.message("LocalityLbEndpoints", |group| {
                let items = group.items("lb_endpoints");
                endpoints.extend(items.iter().map(lb_endpoint));
            });
        }
        endpoints
    })
}

fn lb_endpoint(item: &Item<'_>) -> SocketAddr {
    item.message("LbEndpoint", |fields| {
        fields.choice("health_status", &["UNKNOWN", "HEALTHY"]);
        if let Some(weight) = fields.take("load_balancing_weight")
            && weight.number() != 1
        {
            weight.refuse("this datapath gives every endpoint the same weight, 1");
        }
        fields.need("endpoint").message("Endpoint", |endpoint| {
            endpoint.inert("hostname", HOSTNAME);
            endpoint.need("address").ip_address()
        })
    })
}
