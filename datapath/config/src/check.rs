//! What must hold across fields and resources before anything is compiled: names, references, domains, weights.
//!
//! It works on the model, so it judges configurations from every source alike.

use std::collections::{HashMap, HashSet};

use kmesh_api::Address;

use crate::error::{ConfigError, Place};
use crate::model::{
    Config, ListenerConfig, ListenerKind, RouteAction, RouteConfiguration, RouteRule,
    WeightedCluster,
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

/// Checks a configuration; says what is wrong with it, if anything. `declared` are the clusters that routes may lead to, whatever became
/// of them; without it, any.
pub(crate) fn check(config: &Config, declared: Option<&HashSet<String>>) -> Vec<ConfigError> {
    let mut checker = Checker {
        document: Place::document(&config.origin),
        declared,
        found: Vec::new(),
    };
    checker.clusters(config);
    checker.listeners(config);
    checker.found
}

struct Checker<'c> {
    document: Place,
    declared: Option<&'c HashSet<String>>,
    found: Vec<ConfigError>,
}

impl Checker<'_> {
    fn refuse(&mut self, place: &Place, problem: impl Into<String>) {
        self.found.push(place.refuse(problem));
    }

    fn clusters(&mut self, config: &Config) {
        let mut clusters = HashSet::new();
        for cluster in &config.clusters {
            let place = self.document.resource("cluster", &cluster.name);
            if cluster.name.is_empty() {
                self.refuse(&place.field("name"), "must not be empty");
            }
            if !clusters.insert(cluster.name.as_str()) {
                self.refuse(
                    &place.field("name"),
                    "is the name of an earlier cluster too",
                );
            }
            let mut endpoints = HashSet::new();
            for endpoint in &cluster.endpoints {
                if !endpoints.insert(Address::from(*endpoint)) {
                    let place = place.field("load_assignment");
                    self.refuse(&place, format!("{endpoint} is there twice"));
                }
            }
        }
    }

    fn listeners(&mut self, config: &Config) {
        let mut names = HashSet::new();
        let mut addresses = HashMap::new();
        for listener in &config.listeners {
            let place = self.document.resource("listener", &listener.name);
            if listener.name.is_empty() {
                self.refuse(&place.field("name"), "must not be empty");
            }
            if !names.insert(listener.name.as_str()) {
                self.refuse(
                    &place.field("name"),
                    "is the name of an earlier listener too",
                );
            }
            match listener.kind {
                ListenerKind::Closed | ListenerKind::Inbound | ListenerKind::Strangers(_) => {
                    continue;
                }
                _ => self.address(listener, &place),
            }
            let address = Address::from(listener.address);
            if let Some(other) = addresses.insert(address, listener.name.as_str()) {
                let problem = format!(
                    "{}: is the address of listener {other:?} too",
                    listener.address
                );
                self.refuse(&place.field("address"), problem);
            }
            // Envoy looks for a TCP proxy's cluster when a connection comes, and closes it if there is none.
            for (i, chain) in listener.kind.chains().into_iter().enumerate() {
                let chain_place = place
                    .field("filter_chains")
                    .item(i)
                    .field("filters[0].typed_config");
                match chain {
                    ListenerKind::Tcp(choices) => self.weights(choices, &chain_place),
                    ListenerKind::Http(routes) if routes.options.rds => {
                        let place = self.document.resource("route configuration", &routes.name);
                        self.routes(routes, &place);
                    }
                    ListenerKind::Http(routes) => {
                        self.routes(routes, &chain_place.field("route_config"));
                    }
                    _ => {}
                }
            }
        }
    }

    fn address(&mut self, listener: &ListenerConfig, place: &Place) {
        let ip = listener.address.ip();
        if ip.is_multicast() || listener.address.port() == 0 {
            let problem = format!(
                "{}: must be an address and port of services",
                listener.address
            );
            self.refuse(&place.field("address"), problem);
        }
    }

    fn routes(&mut self, config: &RouteConfiguration, place: &Place) {
        let mut names = HashSet::new();
        let mut domains = HashMap::new();
        for (i, host) in config.virtual_hosts.iter().enumerate() {
            let place = place.field("virtual_hosts").item(i);
            if host.name.is_empty() {
                self.refuse(&place.field("name"), "must not be empty");
            }
            if !names.insert(host.name.as_str()) {
                let problem = format!("{:?} is the name of an earlier virtual host too", host.name);
                self.refuse(&place.field("name"), problem);
            }
            if host.domains.is_empty() {
                self.refuse(&place.field("domains"), "must not be empty");
            }
            for (j, domain) in host.domains.iter().enumerate() {
                let place = place.field("domains").item(j);
                if domain.is_empty() {
                    self.refuse(&place, "must not be empty");
                }
                if let Some(other) = domains.insert(domain.to_ascii_lowercase(), &host.name) {
                    let problem = format!("{domain:?} is a domain of virtual host {other:?} too");
                    self.refuse(&place, problem);
                }
            }
            for (j, route) in host.routes.iter().enumerate() {
                let place = place.field("routes").item(j);
                self.route(route, config.options.validate_clusters, &place);
            }
        }
    }

    fn route(&mut self, route: &RouteRule, validate: bool, place: &Place) {
        for (i, header) in route.headers.iter().enumerate() {
            let place = place.field("match.headers").item(i);
            self.header(&header.name, &place.field("name"));
        }
        for (i, mirror) in route.policy.mirrors.iter().enumerate() {
            let place = place.field("route.request_mirror_policies").item(i);
            self.reference(&mirror.cluster, validate, &place.field("cluster"));
        }
        let target = place.field("route");
        let weighted = target.field("weighted_clusters");
        match &route.action {
            RouteAction::Cluster(name) => self.reference(name, validate, &target.field("cluster")),
            RouteAction::Weighted(choices) | RouteAction::WeightedBy { choices, .. } => {
                for (i, choice) in choices.iter().enumerate() {
                    let place = weighted.field("clusters").item(i).field("name");
                    self.reference(&choice.name, validate, &place);
                }
                self.weights(choices, &target);
            }
            RouteAction::ClusterHeader(header) => {
                self.header(header, &target.field("cluster_header"));
            }
            RouteAction::Redirect(_) => {}
            RouteAction::Direct(response) => {
                if !(200..600).contains(&response.status) {
                    let problem = format!("{}: must be from 200 to 599", response.status);
                    self.refuse(&place.field("direct_response.status"), problem);
                }
            }
        }
        if let RouteAction::WeightedBy { header, .. } = &route.action {
            self.header(header, &weighted.field("header_name"));
        }
    }

    /// A header whose value the datapath reads.
    fn header(&mut self, name: &str, place: &Place) {
        if let Some(why) = unmatchable(name) {
            self.refuse(place, format!("{name:?}: cannot be matched on: {why}"));
        }
    }

    fn weights(&mut self, choices: &[WeightedCluster], place: &Place) {
        let place = place.field("weighted_clusters.clusters");
        let sum: u64 = choices.iter().map(|choice| u64::from(choice.weight)).sum();
        if sum == 0 {
            self.refuse(&place, "the weights must not all be 0");
        }
        if sum > u64::from(u32::MAX) {
            let problem = format!("the weights' sum {sum} is more than {}", u32::MAX);
            self.refuse(&place, problem);
        }
    }

    fn reference(&mut self, name: &str, validate: bool, place: &Place) {
        let declared = self.declared.is_none_or(|declared| declared.contains(name));
        if validate && !declared {
            self.refuse(place, format!("{name:?}: no such cluster"));
        }
    }
}

/// Why a route cannot match on a header of this name; `None` if it can.
fn unmatchable(name: &str) -> Option<&'static str> {
    let reserved = RESERVED_HEADERS
        .iter()
        .find(|(reserved, _)| *reserved == name);
    if let Some((_, why)) = reserved {
        Some(why)
    } else if [":method", ":path", ":authority", ":scheme"].contains(&name) {
        None
    } else if name.starts_with("x-envoy-") {
        Some(WRITTEN)
    } else if name.starts_with(':') {
        Some(
            "only :method, :path, :authority and :scheme of the pseudo headers are supported by this datapath",
        )
    } else if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some("must be a header name in lower case")
    } else {
        None
    }
}
