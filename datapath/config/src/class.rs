//! Which path a listener's connections take: see "Two paths, one rule" in the design.
//!
//! A TCP listener is opaque. An HTTP listener is anchored, unless its requests provably all have the same outcome: then
//! its connections may go straight to the one endpoint. Two outcomes differ from Envoy's on such a listener, and both for
//! requests that fail anyway: what is not HTTP meets the endpoint's own judgement instead of Envoy's 400, and a dead
//! endpoint is a refused connection instead of a 503.

use crate::error::{ConfigError, Place};
use crate::model::{
    Config, ListenerConfig, ListenerKind, PathMatch, RouteAction, RouteConfiguration,
    WeightedCluster,
};
use crate::policy::{Discovery, HttpOptions, RoutePolicy};

/// Options for choosing the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Balance connections instead of requests: HTTP listeners become opaque. They must lead to one cluster only; hosts,
    /// paths and headers are not looked at.
    pub l4: bool,
}

/// The path that a listener's connections take.
pub(crate) enum Class<'c> {
    /// Each connection goes straight to an endpoint of one of these clusters.
    Opaque(Vec<WeightedCluster>),
    /// Each request is routed on its own.
    Anchored(&'c RouteConfiguration),
}

/// What a listener has whose connections are told apart and none of which is HTTP.
static NO_ROUTES: RouteConfiguration = RouteConfiguration {
    name: String::new(),
    virtual_hosts: Vec::new(),
    options: HttpOptions::NONE,
};

/// Chooses the path.
pub(crate) fn classify<'c>(
    config: &Config,
    listener: &'c ListenerConfig,
    classes: Classes,
    place: &Place,
) -> Result<Class<'c>, ConfigError> {
    let one = |name: &str| {
        Class::Opaque(vec![WeightedCluster {
            name: name.to_owned(),
            weight: 1,
        }])
    };
    match &listener.kind {
        ListenerKind::Tcp(choices) => Ok(Class::Opaque(choices.clone())),
        ListenerKind::Closed | ListenerKind::Inbound | ListenerKind::Strangers(_) => {
            Ok(Class::Opaque(Vec::new()))
        }
        ListenerKind::Sniffed(sniffed) => match sniffed.plain_http() {
            ListenerKind::Http(routes) => Ok(Class::Anchored(routes)),
            // Only user space can tell what such connections want.
            _ => Ok(Class::Anchored(&NO_ROUTES)),
        },
        ListenerKind::Http(routes) if classes.l4 => Ok(one(sole_cluster(routes, place)?)),
        ListenerKind::Http(routes) => match certain_cluster(config, routes) {
            Some(name) => Ok(one(name)),
            None => Ok(Class::Anchored(routes)),
        },
    }
}

/// The cluster with one endpoint that every request goes to, whatever its host, path and headers.
fn certain_cluster<'c>(config: &Config, routes: &'c RouteConfiguration) -> Option<&'c str> {
    let [host] = routes.virtual_hosts.as_slice() else {
        return None;
    };
    let first = host.routes.first()?;
    let PathMatch::Prefix(prefix) = &first.path else {
        return None;
    };
    let RouteAction::Cluster(name) = &first.action else {
        return None;
    };
    let cluster = &config.clusters[config.cluster(name)?];
    // Whatever a policy does to a request, a connection that goes straight to the endpoint cannot have it done.
    let untouched = first.policy == RoutePolicy::default()
        && routes.options.change_nothing()
        && !cluster.policy.http2
        && cluster.policy.discovery != Discovery::Original
        && !cluster.policy.single_use;
    let every_host = host.domains.iter().any(|domain| domain == "*");
    let every_request = first.is_unconditional() && (prefix.is_empty() || prefix == "/");
    let endpoints = &config.clusters[config.cluster(name)?].endpoints;
    (untouched && every_host && every_request && endpoints.len() == 1).then_some(name)
}

/// The one cluster that all routes lead to.
fn sole_cluster<'c>(routes: &'c RouteConfiguration, place: &Place) -> Result<&'c str, ConfigError> {
    let mut first = None;
    for host in &routes.virtual_hosts {
        for (position, route) in host.routes.iter().enumerate() {
            if let RouteAction::ClusterHeader(_)
            | RouteAction::Redirect(_)
            | RouteAction::Direct(_) = route.action
            {
                return Err(place.refuse(format!(
                    "cannot be balanced by connection (l4): route {position} of virtual host {:?} leads to no cluster \
                     of its own",
                    host.name
                )));
            }
            for cluster in route.action.clusters() {
                let here = (host.name.as_str(), position, cluster);
                let (other_host, other_position, other) = *first.get_or_insert(here);
                if other != cluster {
                    return Err(place.refuse(format!(
                        "cannot be balanced by connection (l4): route {other_position} of virtual host {other_host:?} \
                         leads to cluster {other:?}, route {position} of virtual host {:?} to {cluster:?}",
                        host.name
                    )));
                }
            }
        }
    }
    let (_, _, cluster) =
        first.ok_or_else(|| place.refuse("cannot be balanced by connection (l4): has no route"))?;
    Ok(cluster)
}
