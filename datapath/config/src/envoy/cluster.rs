//! `envoy.config.cluster.v3.Cluster` and `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::envoy::library::Library;
use crate::inert::FILTER_STATISTICS;
use crate::model::{ClusterConfig, LbPolicy};
use crate::policy::{ClusterPolicy, Discovery};
use crate::reader::{Item, Object};

/// Envoy's default for connections and for pending requests.
const BREAKER_DEFAULT: u32 = 1024;
/// Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The endpoint that stands for the address that the application asked for.
const ORIGINAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
/// Upstream network filters that watch and do nothing to the bytes.
const WATCHERS: [&str; 1] = ["envoy.tcp.metadataexchange.config.MetadataExchange"];
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Reads a cluster.
pub(crate) fn read(item: &Item<'_>, library: &Library<'_>) -> ClusterConfig {
    item.message("Cluster", |fields| {
        let name = fields.need("name").text().to_owned();
        let kind = fields.choice("type", &["STATIC", "EDS", "ORIGINAL_DST"]);
        let original = kind == "ORIGINAL_DST";
        let lb = if original {
            fields.choice("lb_policy", &["CLUSTER_PROVIDED"]);
            LbPolicy::RoundRobin
        } else {
            policy(fields)
        };
        for filter in fields.items("filters") {
            watcher(&filter);
        }
        if let Some(socket) = fields.take("transport_socket") {
            transport(&socket);
        }
        let connect_timeout = fields
            .take("connect_timeout")
            .map_or(CONNECT_TIMEOUT, |item| {
                let timeout = item.duration();
                if item.tree() == "0s" {
                    item.refuse("must be more than 0s");
                }
                timeout
            });
        let protocol = protocol(fields);
        let breakers = circuit_breakers(fields, protocol.http2);
        let own = fields.take("load_assignment");
        let endpoints = match kind {
            "EDS" => {
                let service = fields
                    .take("eds_cluster_config")
                    .and_then(|item| service(&item));
                library.endpoints(service.as_deref().unwrap_or(&name))
            }
            "ORIGINAL_DST" => Some(Endpoints {
                addresses: vec![ORIGINAL],
                hostnames: BTreeMap::new(),
            }),
            _ => own.as_ref().map(load_assignment),
        };
        let endpoints = endpoints.unwrap_or_default();
        ClusterConfig {
            name,
            lb,
            endpoints: endpoints.addresses,
            max_connections: breakers.connections,
            max_pending_requests: breakers.pending,
            connect_timeout,
            policy: ClusterPolicy {
                http2: protocol.http2,
                idle_timeout: protocol.idle_timeout,
                max_requests: breakers.requests,
                max_retries: breakers.retries,
                discovery: if original {
                    Discovery::Original
                } else {
                    Discovery::Static
                },
                like_client: protocol.like_client,
                hostnames: endpoints.hostnames,
                single_use: original || protocol.single_use,
            },
        }
    })
}

/// `lb_policy`.
fn policy(fields: &mut Object<'_>) -> LbPolicy {
    match fields.choice("lb_policy", &["ROUND_ROBIN", "RANDOM"]) {
        "RANDOM" => LbPolicy::Random,
        _ => LbPolicy::RoundRobin,
    }
}

/// The name of the endpoints of an EDS cluster, if it is not the cluster's.
fn service(item: &Item<'_>) -> Option<String> {
    item.message("EdsClusterConfig", |fields| {
        Some(fields.string("service_name").to_owned()).filter(|name| !name.is_empty())
    })
}

/// An upstream network filter: one that watches.
fn watcher(item: &Item<'_>) {
    item.message("Filter", |filter| {
        filter.take("name");
        let config = filter.need("typed_config");
        if WATCHERS.contains(&config.kind()) {
            filter.note("typed_config", FILTER_STATISTICS);
        } else {
            config.refuse_type("which knows filters that only watch");
        }
    });
}

/// A transport socket: plain text.
pub(crate) fn transport(item: &Item<'_>) {
    item.message("TransportSocket", |socket| {
        socket.take("name");
        let config = socket.need("typed_config");
        if config.kind() == RAW_BUFFER {
            config.typed("RawBuffer", |_, _| ());
        } else {
            config.refuse_type("which has no TLS and sends nothing in plain text instead");
        }
    });
}

/// What the endpoints speak and how connections to them are used: `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
struct Protocol {
    http2: bool,
    like_client: bool,
    single_use: bool,
    idle_timeout: Option<Duration>,
}

fn protocol(cluster: &mut Object<'_>) -> Protocol {
    let mut found = Protocol {
        // The deprecated way.
        http2: cluster
            .take("http2_protocol_options")
            .map(|options| options.message("Http2ProtocolOptions", |_| ()))
            .is_some(),
        like_client: false,
        single_use: false,
        idle_timeout: ClusterPolicy::default().idle_timeout,
    };
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
                        found.idle_timeout =
                            Some(timeout.duration()).filter(|timeout| !timeout.is_zero());
                    }
                    found.single_use = common.number_or("max_requests_per_connection", 0) > 0;
                });
            }
            if let Some(options) = options.take("use_downstream_protocol_config") {
                found.like_client = options.message("UseDownstreamProtocol", versions);
            } else {
                let explicit = options.need("explicit_http_config");
                found.http2 = explicit.message("ExplicitHttpConfig", versions);
            }
        });
    }
    found
}

/// The options of HTTP versions; whether there are some of HTTP/2.
fn versions(fields: &mut Object<'_>) -> bool {
    let http1 = fields.take("http_protocol_options");
    if let Some(http1) = &http1 {
        http1.message("Http1ProtocolOptions", |_| ());
    }
    let http2 = fields.take("http2_protocol_options");
    if let Some(http2) = &http2 {
        http2.message("Http2ProtocolOptions", |_| ());
    }
    let downstream = fields.is("UseDownstreamProtocol");
    match (&http1, &http2) {
        (Some(_), Some(http2)) if !downstream => {
            http2.refuse_place("stands beside http_protocol_options: use one");
        }
        (None, None) if !downstream => {
            fields.refuse("has neither http_protocol_options nor http2_protocol_options");
        }
        _ => {}
    }
    http2.is_some()
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

/// The endpoints of a cluster.
#[derive(Default)]
pub(crate) struct Endpoints {
    /// Where they are.
    addresses: Vec<SocketAddr>,
    /// What some of them are called.
    hostnames: BTreeMap<SocketAddr, String>,
}

/// Reads the endpoints of a cluster.
pub(crate) fn load_assignment(item: &Item<'_>) -> Endpoints {
    item.message("ClusterLoadAssignment", |assignment| {
        assignment.need("cluster_name").text();
        let mut endpoints = Endpoints::default();
        for group in assignment.items("endpoints") {
            group.message("LocalityLbEndpoints", |group| {
                for item in group.items("lb_endpoints") {
                    let (address, hostname) = lb_endpoint(&item);
                    endpoints.addresses.push(address);
                    if !hostname.is_empty() {
                        endpoints.hostnames.insert(address, hostname.to_owned());
                    }
                }
            });
        }
        endpoints
    })
}

fn lb_endpoint<'v>(item: &Item<'v>) -> (SocketAddr, &'v str) {
    item.message("LbEndpoint", |fields| {
        fields.choice("health_status", &["UNKNOWN", "HEALTHY"]);
        if let Some(weight) = fields.take("load_balancing_weight")
            && weight.number() != 1
        {
            weight.refuse("this datapath gives every endpoint the same weight, 1");
        }
        fields.need("endpoint").message("Endpoint", |endpoint| {
            let hostname = endpoint.string("hostname");
            (endpoint.need("address").ip_address(), hostname)
        })
    })
}
