//! `envoy.config.cluster.v3.Cluster`, static ones.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::ConfigError;
use crate::model::{ClusterConfig, LbPolicy};
use crate::policy::ClusterPolicy;
use crate::reader::{Item, Object};

/// Envoy's default for connections and for pending requests.
const BREAKER_DEFAULT: u32 = 1024;
/// Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Reads a cluster.
pub(crate) fn read(item: &Item<'_>) -> Result<ClusterConfig, ConfigError> {
    item.object(|fields| {
        let name = fields.need("name")?.text()?.to_owned();
        fields.allow("type", &["STATIC"])?;
        let lb = match fields.choice("lb_policy", &["ROUND_ROBIN", "RANDOM"])? {
            "RANDOM" => LbPolicy::Random,
            _ => LbPolicy::RoundRobin,
        };
        let connect_timeout = match fields.take("connect_timeout") {
            None => CONNECT_TIMEOUT,
            Some(timeout) => match timeout.duration()? {
                Duration::ZERO => return Err(timeout.refuse("must be more than 0s")),
                duration => duration,
            },
        };
        let (http2, idle_timeout) = protocol(fields)?;
        let breakers = circuit_breakers(fields, http2)?;
        let endpoints = match fields.take("load_assignment") {
            None => Vec::new(),
            Some(assignment) => load_assignment(&assignment)?,
        };
        fields.ignore("alt_stat_name", "statistics only");
        fields.ignore(
            "dns_lookup_family",
            "addresses of a static cluster are not looked up",
        );
        fields.ignore("metadata", "read by subsets only, which are refused");
        fields.ignore("per_connection_buffer_limit_bytes", "bounds Envoy's memory");
        Ok(ClusterConfig {
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
        })
    })
}

/// What the endpoints speak (whether it is HTTP/2) and how long connections may be idle:
/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
fn protocol(cluster: &mut Object<'_>) -> Result<(bool, Option<Duration>), ConfigError> {
    let mut found = (false, ClusterPolicy::default().idle_timeout);
    let Some(extensions) = cluster.take("typed_extension_protocol_options") else {
        return Ok(found);
    };
    extensions.object(|extensions| {
        extensions.need(HTTP_OPTIONS)?.object(|options| {
            match options.kind()? {
                (_, HTTP_OPTIONS) => {}
                (kind, _) => return Err(kind.refuse("must be HttpProtocolOptions")),
            }
            if let Some(common) = options.take("common_http_protocol_options") {
                common.object(|common| {
                    if let Some(timeout) = common.take("idle_timeout") {
                        found.1 = Some(timeout.duration()?).filter(|timeout| !timeout.is_zero());
                    }
                    Ok(())
                })?;
            }
            options.need("explicit_http_config")?.object(|explicit| {
                let http1 = explicit.take("http_protocol_options");
                if let Some(http1) = &http1 {
                    http1.object(|_| Ok(()))?;
                }
                match explicit.take("http2_protocol_options") {
                    Some(http2) if http1.is_some() => {
                        Err(http2.refuse("stands beside http_protocol_options: use one"))
                    }
                    Some(http2) => {
                        found.0 = true;
                        http2.object(|http2| {
                            http2.ignore("initial_stream_window_size", "how Envoy buffers");
                            http2.ignore("initial_connection_window_size", "how Envoy buffers");
                            Ok(())
                        })
                    }
                    None if http1.is_none() => Err(explicit
                        .place
                        .refuse("has neither http_protocol_options nor http2_protocol_options")),
                    None => Ok(()),
                }
            })
        })
    })?;
    Ok(found)
}

/// The limits for routes of default priority.
struct Breakers {
    connections: u32,
    pending: u32,
    requests: u32,
    retries: u32,
}

fn circuit_breakers(cluster: &mut Object<'_>, http2: bool) -> Result<Breakers, ConfigError> {
    let defaults = ClusterPolicy::default();
    let mut limits = Breakers {
        connections: BREAKER_DEFAULT,
        pending: BREAKER_DEFAULT,
        requests: defaults.max_requests,
        retries: defaults.max_retries,
    };
    let Some(breakers) = cluster.take("circuit_breakers") else {
        return Ok(limits);
    };
    breakers.object(|breakers| {
        for item in breakers.items("thresholds")? {
            item.object(|threshold| {
                let priority = threshold.choice("priority", &["DEFAULT", "HIGH"])?;
                let connections = threshold.number_or("max_connections", BREAKER_DEFAULT)?;
                let pending = threshold.number_or("max_pending_requests", BREAKER_DEFAULT)?;
                let retries = threshold.number_or("max_retries", defaults.max_retries)?;
                let requests = match threshold.take("max_requests") {
                    None => defaults.max_requests,
                    Some(requests) if !http2 && requests.number()? < connections => {
                        return Err(requests.refuse(
                            "this datapath bounds requests by max_connections only, which is larger",
                        ));
                    }
                    Some(requests) => requests.number()?,
                };
                threshold.ignore("track_remaining", "statistics only");
                // Routes of priority HIGH are refused, so the other thresholds bind nobody.
                if priority == "DEFAULT" {
                    limits = Breakers {
                        connections,
                        pending,
                        requests,
                        retries,
                    };
                }
                Ok(())
            })?;
        }
        Ok(limits)
    })
}

fn load_assignment(item: &Item<'_>) -> Result<Vec<SocketAddr>, ConfigError> {
    item.object(|assignment| {
        assignment.need("cluster_name")?.text()?;
        let mut endpoints = Vec::new();
        for group in assignment.items("endpoints")? {
            group.object(|group| {
                group.ignore("locality", "localities without weights are balanced as one");
                zero(group, "priority")?;
                for endpoint in group.items("lb_endpoints")? {
                    endpoints.push(lb_endpoint(&endpoint)?);
                }
                Ok(())
            })?;
        }
        Ok(endpoints)
    })
}

fn lb_endpoint(item: &Item<'_>) -> Result<SocketAddr, ConfigError> {
    item.object(|fields| {
        fields.allow("health_status", &["UNKNOWN", "HEALTHY"])?;
        fields.ignore("metadata", "read by subsets only, which are refused");
        if let Some(weight) = fields.take("load_balancing_weight")
            && weight.number()? != 1
        {
            return Err(weight.refuse("this datapath gives every endpoint the same weight, 1"));
        }
        fields.need("endpoint")?.object(|endpoint| {
            endpoint.ignore("hostname", "read by host rewrites and health checks only");
            endpoint.need("address")?.address()
        })
    })
}

fn zero(object: &mut Object<'_>, name: &str) -> Result<(), ConfigError> {
    match object.take(name) {
        Some(item) if item.number()? != 0 => {
            Err(item.refuse("not supported by this datapath, only 0"))
        }
        _ => Ok(()),
    }
}
