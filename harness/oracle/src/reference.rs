//! O1, the reference: Envoy's routing rules read off the configuration, naively, one after the other.
//!
//! It shares no code with the datapath. Every rule is a linear search, so that it can be checked by reading.

use std::net::SocketAddr;

use kmesh_config::Config;
use kmesh_config::model::{
    HeaderMatch, JOINED_HEADERS, ListenerConfig, ListenerKind, PathMatch, PathRedirect, QueryMatch,
    Redirect, RouteAction, RouteConfiguration, RouteRule, ValueMatch, VirtualHostConfig,
    WeightedCluster,
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
    /// A route answers it by itself.
    Answered(Answered<'c>),
}

/// A request's route that answers by itself, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<'c> {
    /// Name of the virtual host.
    pub virtual_host: &'c str,
    /// Position of the route in the virtual host, from 0.
    pub route: usize,
    /// The status.
    pub status: u16,
    /// The value of `location` if it is a redirect, else the body.
    pub text: String,
}

/// A request's route and where it may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed<'c> {
    /// Name of the virtual host.
    pub virtual_host: &'c str,
    /// Position of the route in the virtual host, from 0.
    pub route: usize,
    /// The clusters that can be drawn, in the route's order; none if a header should name the cluster and does not: 503.
    pub candidates: Vec<Candidate<'c>>,
    /// What is drawn is in the request, if it is a number, not in the dice.
    pub by_header: bool,
}

impl<'c> Routed<'c> {
    /// The cluster that this number draws, taken modulo the sum of the weights.
    pub fn drawn(&self, number: u32) -> Option<&Candidate<'c>> {
        let total: u32 = self
            .candidates
            .iter()
            .map(|candidate| candidate.weight)
            .sum();
        let mut left = number.checked_rem(total)?;
        self.candidates.iter().find(|candidate| {
            let found = left < candidate.weight;
            left = left.wrapping_sub(candidate.weight);
            found
        })
    }
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
            Self::NoRoute | Self::Answered(_) => [].as_slice(),
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
                if vacant || routed.candidates.is_empty() {
                    vec![503]
                } else {
                    Vec::new()
                }
            }
            Self::Answered(answered) => vec![answered.status],
        }
    }
}

/// What must happen to a request on an HTTP listener; a TCP listener takes everything, see [`connection`]. `drawn` is the request's
/// random number, of which shares of requests are taken.
pub fn predict<'c>(
    config: &'c Config,
    listener: &'c ListenerConfig,
    request: &Request,
    drawn: u32,
) -> Prediction<'c> {
    let ListenerKind::Http(routes) = &listener.kind else {
        return Prediction::NoRoute;
    };
    let Some(host) = virtual_host(routes, &request.host) else {
        return Prediction::NoRoute;
    };
    let matching = |route: &RouteRule| matches(route, request, drawn);
    let Some(route) = host.routes.iter().position(matching) else {
        return Prediction::NoRoute;
    };
    let answered = |status, text| {
        Prediction::Answered(Answered {
            virtual_host: &host.name,
            route,
            status,
            text,
        })
    };
    let rule = &host.routes[route];
    let candidates = match &rule.action {
        RouteAction::Cluster(name) => vec![candidate(config, name, 1)],
        RouteAction::Weighted(choices) => weighted(config, choices),
        RouteAction::WeightedBy { header, choices } => {
            weighted_by(config, choices, header, request)
        }
        RouteAction::ClusterHeader(header) => {
            let named = values(header, request).into_iter().next();
            let known = config
                .clusters
                .iter()
                .find(|cluster| Some(cluster.name.as_str()) == named.as_deref());
            let chosen = known.map(|cluster| candidate(config, &cluster.name, 1));
            chosen.into_iter().collect()
        }
        RouteAction::Redirect(redirect) => {
            return answered(redirect.status, location(redirect, &rule.path, request));
        }
        RouteAction::Direct(response) => {
            return answered(response.status, request.seen_of(&response.body));
        }
    };
    Prediction::Routed(Routed {
        virtual_host: &host.name,
        route,
        candidates,
        by_header: matches!(rule.action, RouteAction::WeightedBy { .. }),
    })
}

/// Where a connection to a TCP listener may lead; nowhere for an HTTP listener.
pub fn connection<'c>(config: &'c Config, listener: &'c ListenerConfig) -> Vec<Candidate<'c>> {
    match &listener.kind {
        ListenerKind::Tcp(choices) => weighted(config, choices),
        _ => Vec::new(),
    }
}

fn weighted<'c>(config: &'c Config, choices: &'c [WeightedCluster]) -> Vec<Candidate<'c>> {
    let drawn = choices.iter().filter(|choice| choice.weight > 0);
    drawn
        .map(|choice| candidate(config, &choice.name, choice.weight))
        .collect()
}

/// All that can be drawn, or the one that the number in the header draws.
fn weighted_by<'c>(
    config: &'c Config,
    choices: &'c [WeightedCluster],
    header: &str,
    request: &Request,
) -> Vec<Candidate<'c>> {
    let mut candidates = weighted(config, choices);
    let total: u64 = candidates.iter().map(|c| u64::from(c.weight)).sum();
    if let [value] = values(header, request).as_slice()
        && let Some(number) = value.parse::<u64>().ok().filter(|_| total > 0)
    {
        // Rust's own parser takes what `absl::SimpleAtoi` takes: digits, perhaps after a plus.
        let mut left = number % total;
        candidates.retain(|candidate| {
            let found = left < u64::from(candidate.weight);
            left = if found {
                u64::MAX
            } else {
                left.saturating_sub(u64::from(candidate.weight))
            };
            found
        });
    }
    candidates
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
    let mut host = host.to_ascii_lowercase();
    if config.options.ignore_port
        && let Some((before, _)) = host
            .rsplit_once(':')
            .filter(|(_, port)| !port.contains(']'))
    {
        host = before.to_owned();
    }
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

fn matches(route: &RouteRule, request: &Request, drawn: u32) -> bool {
    let fold = |text: &str| fold(text, route.ignore_case);
    let asked = fold(request.path());
    let path = match &route.path {
        PathMatch::Prefix(prefix) => asked.starts_with(&fold(prefix)),
        PathMatch::Separated(prefix) => {
            let rest = asked.strip_prefix(&fold(prefix));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Exact(path) => asked == fold(path),
        PathMatch::Regex(text) => regex_matches(text, request.path()),
    };
    let headers = |header: &HeaderMatch| header_matches(header, request);
    let query = |query: &QueryMatch| query_matches(query, request);
    let grpc = |kind: &String| kind == "application/grpc" || kind.starts_with("application/grpc+");
    path && route
        .fraction
        .is_none_or(|fraction| drawn % fraction.denominator < fraction.numerator)
        && route.headers.iter().all(headers)
        && route.query.iter().all(query)
        && (!route.grpc || values("content-type", request).iter().any(grpc))
}

fn fold(text: &str, ignore_case: bool) -> String {
    if ignore_case {
        text.to_ascii_lowercase()
    } else {
        text.to_owned()
    }
}

/// The request's scheme: what the client says in one `x-forwarded-proto`, if it is one that Envoy knows.
pub(crate) fn scheme(request: &Request) -> &'static str {
    let said = lines("x-forwarded-proto", request);
    let https = matches!(said.as_slice(), [one] if one == "https");
    if https { "https" } else { "http" }
}

/// The values of a header, by its name in lower case.
fn values(name: &str, request: &Request) -> Vec<String> {
    match name {
        ":method" => return vec![request.method.clone()],
        ":path" => return vec![request.target.clone()],
        ":authority" => return vec![request.host.clone()],
        ":scheme" => return vec![scheme(request).to_owned()],
        _ => {}
    }
    let mut values = lines(name, request);
    if JOINED_HEADERS.contains(&name) && !values.is_empty() {
        // Empty lines add nothing, not even a comma.
        values.retain(|value| !value.is_empty());
        values = vec![values.join(",")];
    }
    values
}

/// The values of a header's lines.
fn lines(name: &str, request: &Request) -> Vec<String> {
    let lines = request
        .headers
        .iter()
        .filter(|(line, _)| line.eq_ignore_ascii_case(name));
    lines.map(|(_, value)| value.clone()).collect()
}

fn header_matches(header: &HeaderMatch, request: &Request) -> bool {
    let mut values = values(&header.name, request);
    if values.is_empty() && header.missing_is_empty {
        values.push(String::new());
    }
    if header.value == ValueMatch::Present {
        return values.is_empty() == header.invert;
    }
    let matches = |value: &String| value_matches(&header.value, header.ignore_case, value);
    !values.is_empty() && values.iter().any(matches) != header.invert
}

fn query_matches(query: &QueryMatch, request: &Request) -> bool {
    let parameters = request.target.split_once('?').map(|(_, query)| query);
    let mut parameters = parameters.into_iter().flat_map(|query| query.split('&'));
    let first = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name == query.name).then_some(value)
    });
    match first {
        None => query.value == ValueMatch::Present && query.invert,
        Some(_) if query.value == ValueMatch::Present => !query.invert,
        Some(value) => value_matches(&query.value, query.ignore_case, value),
    }
}

fn value_matches(matching: &ValueMatch, ignore_case: bool, value: &str) -> bool {
    let fold = |text: &str| fold(text, ignore_case);
    let value = fold(value);
    match matching {
        ValueMatch::Exact(text) => value == fold(text),
        ValueMatch::Prefix(text) => value.starts_with(&fold(text)),
        ValueMatch::Suffix(text) => value.ends_with(&fold(text)),
        ValueMatch::Contains(text) => value.contains(&fold(text)),
        ValueMatch::Regex(text) => regex_matches(text, &value),
        // Rust's own parser takes what `absl::SimpleAtoi` takes: digits, perhaps after a sign.
        ValueMatch::Range { start, end } => value
            .parse::<i64>()
            .is_ok_and(|number| (*start..*end).contains(&number)),
        ValueMatch::Present => true,
    }
}

fn regex_matches(text: &str, value: &str) -> bool {
    let whole = Regex::new(&format!("^(?:{text})$"));
    whole.is_ok_and(|whole| whole.is_match(value))
}

/// Where a redirect leads.
fn location(redirect: &Redirect, matched: &PathMatch, request: &Request) -> String {
    let asked = scheme(request);
    let scheme = redirect.scheme.clone().unwrap_or(asked.to_owned());
    let mut host = request.host.clone();
    let has_port = host.rfind(':').is_some_and(|at| !host[at..].contains(']'));
    let (bare, port) = match host.rfind(':') {
        Some(at) if has_port => host.split_at(at),
        _ => (host.as_str(), ""),
    };
    let default = if asked == "https" { ":443" } else { ":80" };
    if redirect.port.is_some() || scheme != asked && port == default {
        host = bare.to_owned();
    }
    if let Some(other) = &redirect.host {
        host.clone_from(other);
    }
    let port = redirect
        .port
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let mut target = request.target.clone();
    let mut strip = redirect.strip_query;
    let query = target[request.path().len()..].to_owned();
    match &redirect.path {
        PathRedirect::Keep => {}
        PathRedirect::Whole(whole) if whole.contains('?') => {
            target.clone_from(whole);
            strip = false;
        }
        PathRedirect::Whole(whole) => target = format!("{whole}{query}"),
        PathRedirect::Prefix(prefix) => {
            let replaced = match matched {
                PathMatch::Prefix(text) | PathMatch::Separated(text) => text.len(),
                PathMatch::Exact(_) | PathMatch::Regex(_) => request.path().len(),
            };
            target.replace_range(..replaced, prefix);
        }
    }
    if strip && let Some(at) = target.find('?') {
        target.truncate(at);
    }
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    format!("{scheme}://{host}{port}{target}")
}
