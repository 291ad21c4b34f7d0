//! What must hold across fields and resources before anything is compiled: names, references, domains, weights.
//!
//! It works on the model, so it judges configurations from every source alike.

use std::collections::{HashMap, HashSet};

use kmesh_api::Address;

use crate::error::{ConfigError, Place};
use crate::model::{
    Config, DirectResponse, ListenerConfig, ListenerKind, RouteAction, RouteConfiguration,
    RouteRule, WeightedCluster,
};

/// Headers that a route cannot match on, with the reason.
const RESERVED_HEADERS: [(&str, &str); 12] = [
    ("host", "the virtual host's domains match it"),
    ("content-length", FRAMING),
    ("transfer-encoding", FRAMING),
    ("connection", FRAMING),
    ("upgrade", FRAMING),
    ("expect", FRAMING),
    ("keep-alive", REMOVED),
    ("proxy-connection", REMOVED),
    ("te", REMOVED),
    ("x-forwarded-client-cert", REMOVED),
    ("x-forwarded-proto", WRITTEN),
    ("x-request-id", WRITTEN),
];
const FRAMING: &str = "the datapath needs it to find message boundaries";
const REMOVED: &str = "Envoy removes it before it routes, this datapath does not";
const WRITTEN: &str = "Envoy writes it before it routes, this datapath does not";

/// Checks a configuration.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    let document = Place::document(&config.origin);
    let mut clusters = HashSet::new();
    for cluster in &config.clusters {
        let place = document.resource("cluster", &cluster.name);
        if cluster.name.is_empty() {
            return Err(place.field("name").refuse("must not be empty"));
        }
        if !clusters.insert(cluster.name.as_str()) {
            return Err(place
                .field("name")
                .refuse("is the name of an earlier cluster too"));
        }
        let mut endpoints = HashSet::new();
        for endpoint in &cluster.endpoints {
            if !endpoints.insert(Address::from(*endpoint)) {
                let problem = format!("{endpoint} is there twice");
                return Err(place.field("load_assignment").refuse(problem));
            }
        }
    }
    let mut names = HashSet::new();
    let mut addresses = HashMap::new();
    for listener in &config.listeners {
        let place = document.resource("listener", &listener.name);
        if listener.name.is_empty() {
            return Err(place.field("name").refuse("must not be empty"));
        }
        if !names.insert(listener.name.as_str()) {
            return Err(place
                .field("name")
                .refuse("is the name of an earlier listener too"));
        }
        check_address(listener, &place)?;
        let address = Address::from(listener.address);
        if let Some(other) = addresses.insert(address, listener.name.as_str()) {
            let problem = format!(
                "{}: is the address of listener {other:?} too",
                listener.address
            );
            return Err(place.field("address").refuse(problem));
        }
        let config = place.field("filter_chains[0].filters[0].typed_config");
        match &listener.kind {
            ListenerKind::Tcp(choices) if choices.len() == 1 && choices[0].weight == 1 => {
                check_reference(&choices[0].name, &clusters, &config.field("cluster"))?;
            }
            ListenerKind::Tcp(choices) => check_weights(choices, &clusters, &config)?,
            ListenerKind::Http(routes) => {
                check_routes(routes, &clusters, &config.field("route_config"))?;
            }
        }
    }
    Ok(())
}

fn check_address(listener: &ListenerConfig, place: &Place) -> Result<(), ConfigError> {
    let ip = listener.address.ip();
    if ip.is_unspecified() || ip.is_multicast() || listener.address.port() == 0 {
        let problem = format!(
            "{}: must be the one address and port of a service",
            listener.address
        );
        return Err(place.field("address").refuse(problem));
    }
    Ok(())
}

fn check_routes(
    config: &RouteConfiguration,
    clusters: &HashSet<&str>,
    place: &Place,
) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    let mut domains = HashMap::new();
    for (i, host) in config.virtual_hosts.iter().enumerate() {
        let place = place.field("virtual_hosts").item(i);
        if host.name.is_empty() {
            return Err(place.field("name").refuse("must not be empty"));
        }
        if !names.insert(host.name.as_str()) {
            let problem = format!("{:?} is the name of an earlier virtual host too", host.name);
            return Err(place.field("name").refuse(problem));
        }
        if host.domains.is_empty() {
            return Err(place.field("domains").refuse("must not be empty"));
        }
        for (j, domain) in host.domains.iter().enumerate() {
            let place = place.field("domains").item(j);
            if domain.is_empty() {
                return Err(place.refuse("must not be empty"));
            }
            if let Some(other) = domains.insert(domain.to_ascii_lowercase(), &host.name) {
                let problem = format!("{domain:?} is a domain of virtual host {other:?} too");
                return Err(place.refuse(problem));
            }
        }
        for (j, route) in host.routes.iter().enumerate() {
            check_route(route, clusters, &place.field("routes").item(j))?;
        }
    }
    Ok(())
}

fn check_route(
    route: &RouteRule,
    clusters: &HashSet<&str>,
    place: &Place,
) -> Result<(), ConfigError> {
    for (i, header) in route.headers.iter().enumerate() {
        let place = place.field("match.headers").item(i);
        check_name(&header.name, &place.field("name"))?;
    }
    for (i, mirror) in route.policy.mirrors.iter().enumerate() {
        let place = place.field("route.request_mirror_policies").item(i);
        check_reference(&mirror.cluster, clusters, &place.field("cluster"))?;
    }
    match &route.action {
        RouteAction::Cluster(name) => {
            check_reference(name, clusters, &place.field("route.cluster"))
        }
        RouteAction::Weighted(choices) => check_weights(choices, clusters, &place.field("route")),
        RouteAction::WeightedBy { header, choices } => {
            let place = place.field("route");
            check_name(header, &place.field("weighted_clusters.header_name"))?;
            check_weights(choices, clusters, &place)
        }
        RouteAction::ClusterHeader(header) => {
            check_name(header, &place.field("route.cluster_header"))
        }
        RouteAction::Redirect(_) => Ok(()),
        RouteAction::Direct(response) => check_direct(response, &place.field("direct_response")),
    }
}

/// Longest body of a direct response, bytes; Envoy's default `max_direct_response_body_size_bytes`.
const DIRECT_BODY_MAX: usize = 4096;

fn check_direct(response: &DirectResponse, place: &Place) -> Result<(), ConfigError> {
    if !(200..600).contains(&response.status) {
        let problem = format!("{}: must be from 200 to 599", response.status);
        return Err(place.field("status").refuse(problem));
    }
    let length = response.body.len();
    if length > DIRECT_BODY_MAX {
        let problem = format!("has {length} bytes: Envoy's limit is {DIRECT_BODY_MAX}");
        return Err(place.field("body").refuse(problem));
    }
    Ok(())
}

/// A header whose value the datapath reads.
fn check_name(name: &str, place: &Place) -> Result<(), ConfigError> {
    let reserved = RESERVED_HEADERS
        .iter()
        .find(|(reserved, _)| *reserved == name);
    let why = if let Some((_, why)) = reserved {
        why
    } else if [":method", ":path", ":authority"].contains(&name) {
        return Ok(());
    } else if name.starts_with("x-envoy-") {
        WRITTEN
    } else if name.starts_with(':') {
        "only :method, :path and :authority of the pseudo headers are supported by this datapath"
    } else if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        "must be a header name in lower case"
    } else {
        return Ok(());
    };
    Err(place.refuse(format!("{name:?}: cannot be matched on: {why}")))
}

fn check_weights(
    choices: &[WeightedCluster],
    clusters: &HashSet<&str>,
    place: &Place,
) -> Result<(), ConfigError> {
    let place = place.field("weighted_clusters.clusters");
    for (i, choice) in choices.iter().enumerate() {
        check_reference(&choice.name, clusters, &place.item(i).field("name"))?;
    }
    let sum: u64 = choices.iter().map(|choice| u64::from(choice.weight)).sum();
    if sum == 0 {
        return Err(place.refuse("the weights must not all be 0"));
    }
    if sum > u64::from(u32::MAX) {
        return Err(place.refuse(format!("the weights' sum {sum} is more than {}", u32::MAX)));
    }
    Ok(())
}

fn check_reference(name: &str, clusters: &HashSet<&str>, place: &Place) -> Result<(), ConfigError> {
    if clusters.contains(name) {
        return Ok(());
    }
    Err(place.refuse(format!("{name:?}: no such cluster")))
}
