//! `envoy.config.cluster.v3.Cluster`, static ones.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::ConfigError;
use crate::model::{ClusterConfig, LbPolicy};
use crate::reader::{Item, Object};

/// Envoy's default for connections and for pending requests.
const BREAKER_DEFAULT: u32 = 1024;
/// Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
        let (max_connections, max_pending_requests) = circuit_breakers(fields)?;
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
            max_connections,
            max_pending_requests,
            connect_timeout,
        })
    })
}

/// The limits for routes of default priority: connections, pending requests.
fn circuit_breakers(cluster: &mut Object<'_>) -> Result<(u32, u32), ConfigError> {
    let mut limits = (BREAKER_DEFAULT, BREAKER_DEFAULT);
    let Some(breakers) = cluster.take("circuit_breakers") else {
        return Ok(limits);
    };
    breakers.object(|breakers| {
        for item in breakers.items("thresholds")? {
            item.object(|threshold| {
                let priority = threshold.choice("priority", &["DEFAULT", "HIGH"])?;
                let connections = number_or_default(threshold, "max_connections")?;
                let pending = number_or_default(threshold, "max_pending_requests")?;
                if let Some(requests) = threshold.take("max_requests")
                    && requests.number()? < connections
                {
                    return Err(requests.refuse(
                        "this datapath bounds requests by max_connections only, which is larger",
                    ));
                }
                threshold.ignore("max_retries", "nothing is retried");
                threshold.ignore("track_remaining", "statistics only");
                // Routes of priority HIGH are refused, so the other thresholds bind nobody.
                if priority == "DEFAULT" {
                    limits = (connections, pending);
                }
                Ok(())
            })?;
        }
        Ok(limits)
    })
}

fn number_or_default(object: &mut Object<'_>, name: &str) -> Result<u32, ConfigError> {
    object
        .take(name)
        .map_or(Ok(BREAKER_DEFAULT), |item| item.number())
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
