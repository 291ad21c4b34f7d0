//! O1, the reference: Envoy's routing rules read off the configuration, naively, one after the other.
//!
//! It shares no code with the datapath. Every rule is a linear search, so that it can be checked by reading.

use std::net::SocketAddr;

use kmesh_config::Config;
use kmesh_config::model::{
    HeaderMatch, JOINED_HEADERS, ListenerConfig, ListenerKind, PathMatch, RouteAction,
    RouteConfiguration, RouteRule, ValueMatch, VirtualHostConfig, WeightedCluster,
};

use regex_automata::meta::Regex;

use crate::request::Request;

/// What must happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prediction<'c> {
    /// No virtual host or no route: 404.
    NoRoute,
    /// A route takes it.
    Routed(Routed<'c>),
}

/// A request's route and where it may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed<'c> {
    /// Name of the virtual host.
    pub virtual_host: &'c str,
    /// Position of the route in the virtual host, from 0.
    pub route: usize,
    /// The clusters that can be drawn, in the route's order.
    pub candidates: Vec<Candidate<'c>>,
}

/// A cluster that can be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'c> {
    /// Its name.
    pub cluster: &'c str,
    /// Its share of the sum of all candidates' weights; never 0.
    pub weight: u32,
    /// Its endpoints; if there are none, the answer is 503.
    pub endpoints: &'c [SocketAddr],
}

impl<'c> Prediction<'c> {
    /// Every endpoint that may answer.
    pub fn endpoints(&self) -> impl Iterator<Item = SocketAddr> + use<'_, 'c> {
        let candidates = match self {
            Self::NoRoute => [].as_slice(),
            Self::Routed(routed) => routed.candidates.as_slice(),
        };
        candidates
            .iter()
            .flat_map(|candidate| candidate.endpoints)
            .copied()
    }

    /// Every status that the mesh itself may answer with.
    pub fn statuses(&self) -> Vec<u16> {
        match self {
            Self::NoRoute => vec![404],
            Self::Routed(routed) => {
                let vacant = routed
                    .candidates
                    .iter()
                    .any(|candidate| candidate.endpoints.is_empty());
                if vacant { vec![503] } else { Vec::new() }
            }
        }
    }
}

/// What must happen to a request on an HTTP listener; a TCP listener takes everything, see [`connection`].
pub fn predict<'c>(
    config: &'c Config,
    listener: &'c ListenerConfig,
    request: &Request,
) -> Prediction<'c> {
    let ListenerKind::Http(routes) = &listener.kind else {
        return Prediction::NoRoute;
    };
    let Some(host) = virtual_host(routes, &request.host) else {
        return Prediction::NoRoute;
    };
    let Some(route) = host.routes.iter().position(|route| matches(route, request)) else {
        return Prediction::NoRoute;
    };
    let candidates = match &host.routes[route].action {
        RouteAction::Cluster(name) => vec![candidate(config, name, 1)],
        RouteAction::Weighted(choices) => weighted(config, choices),
    };
    Prediction::Routed(Routed {
        virtual_host: &host.name,
        route,
        candidates,
    })
}

/// Where a connection to a TCP listener may lead; nowhere for an HTTP listener.
pub fn connection<'c>(config: &'c Config, listener: &'c ListenerConfig) -> Vec<Candidate<'c>> {
    match &listener.kind {
        ListenerKind::Tcp(choices) => weighted(config, choices),
        ListenerKind::Http(_) => Vec::new(),
    }
}

fn weighted<'c>(config: &'c Config, choices: &'c [WeightedCluster]) -> Vec<Candidate<'c>> {
    let drawn = choices.iter().filter(|choice| choice.weight > 0);
    drawn
        .map(|choice| candidate(config, &choice.name, choice.weight))
        .collect()
}

fn candidate<'c>(config: &'c Config, name: &'c str, weight: u32) -> Candidate<'c> {
    let found = config.clusters.iter().find(|cluster| cluster.name == name);
    let endpoints = found.map_or([].as_slice(), |cluster| cluster.endpoints.as_slice());
    Candidate {
        cluster: name,
        weight,
        endpoints,
    }
}

/// Exact domain, then the longest suffix, then the longest prefix, then `*`; a wildcard is at least one character.
fn virtual_host<'c>(config: &'c RouteConfiguration, host: &str) -> Option<&'c VirtualHostConfig> {
    let host = host.to_ascii_lowercase();
    let domains = || {
        let all = config.virtual_hosts.iter();
        all.flat_map(|host| {
            host.domains
                .iter()
                .map(move |d| (d.to_ascii_lowercase(), host))
        })
    };
    let exact = domains().find(|(domain, _)| !is_wildcard(domain) && *domain == host);
    let suffix = || {
        let fitting = domains().filter(|(domain, _)| {
            domain.len() > 1
                && domain.starts_with('*')
                && host.len() >= domain.len()
                && host.ends_with(&domain[1..])
        });
        fitting.max_by_key(|(domain, _)| domain.len())
    };
    let prefix = || {
        let fitting = domains().filter(|(domain, _)| {
            !domain.starts_with('*')
                && domain.ends_with('*')
                && host.len() >= domain.len()
                && host.starts_with(&domain[..domain.len() - 1])
        });
        fitting.max_by_key(|(domain, _)| domain.len())
    };
    let any = || domains().find(|(domain, _)| domain == "*");
    exact
        .or_else(suffix)
        .or_else(prefix)
        .or_else(any)
        .map(|(_, host)| host)
}

fn is_wildcard(domain: &str) -> bool {
    domain.starts_with('*') || domain.ends_with('*')
}

fn matches(route: &RouteRule, request: &Request) -> bool {
    let path = match &route.path {
        PathMatch::Prefix(prefix) => request.path().starts_with(prefix.as_str()),
        PathMatch::Separated(prefix) => {
            let rest = request.path().strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Exact(path) => request.path() == path,
    };
    path && route
        .headers
        .iter()
        .all(|header| header_matches(header, request))
}

fn header_matches(header: &HeaderMatch, request: &Request) -> bool {
    let lines = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(&header.name));
    let mut values = lines.map(|(_, value)| value.as_str()).collect::<Vec<_>>();
    if JOINED_HEADERS.contains(&header.name.as_str()) && !values.is_empty() {
        // Empty lines add nothing, not even a comma.
        values.retain(|value| !value.is_empty());
        let joined = values.join(",");
        return value_matches(header, &joined) != header.invert;
    }
    if header.value == ValueMatch::Present {
        return values.is_empty() == header.invert;
    }
    let hit = values.iter().any(|value| value_matches(header, value));
    !values.is_empty() && hit != header.invert
}

fn value_matches(header: &HeaderMatch, value: &str) -> bool {
    let fold = |text: &str| {
        if header.ignore_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let value = fold(value);
    match &header.value {
        ValueMatch::Exact(text) => value == fold(text),
        ValueMatch::Prefix(text) => value.starts_with(&fold(text)),
        ValueMatch::Suffix(text) => value.ends_with(&fold(text)),
        ValueMatch::Contains(text) => value.contains(&fold(text)),
        ValueMatch::Regex(text) => {
            let whole = Regex::new(&format!("^(?:{text})$"));
            whole.is_ok_and(|whole| whole.is_match(&value))
        }
        ValueMatch::Present => true,
    }
}
