//! The configuration as the datapath understands it: typed, and nothing in it that the datapath cannot do. It serialises to JSON, which is what
//! data planes that are not ours get (`scenarios/arms`).

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::policy::{ClusterPolicy, HttpOptions, RoutePolicy};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Where it comes from, for messages: a file name or a URI.
    pub origin: String,
    /// The listeners, in configuration order.
    pub listeners: Vec<ListenerConfig>,
    /// The clusters, in configuration order.
    pub clusters: Vec<ClusterConfig>,
}

impl Config {
    /// The position of the cluster with that name.
    pub fn cluster(&self, name: &str) -> Option<usize> {
        self.clusters
            .iter()
            .position(|cluster| cluster.name == name)
    }
}

/// A service address and what happens to connections to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerConfig {
    /// Unique name.
    pub name: String,
    /// The address that applications connect to.
    pub address: SocketAddr,
    /// What is spoken there.
    pub kind: ListenerKind,
}

impl ListenerConfig {
    /// Where its requests in plain text go; `None` if it takes none.
    pub fn routes(&self) -> Option<&RouteConfiguration> {
        match &self.kind {
            ListenerKind::Http(routes) => Some(routes),
            ListenerKind::Sniffed(sniffed) => match sniffed.plain_http() {
                ListenerKind::Http(routes) => Some(routes),
                _ => None,
            },
            _ => None,
        }
    }

    /// The virtual hosts; a TCP listener has none.
    pub fn virtual_hosts(&self) -> &[VirtualHostConfig] {
        self.routes().map_or(&[], |routes| &routes.virtual_hosts)
    }

    /// Whether it is known where it is.
    pub fn has_address(&self) -> bool {
        self.address.port() != 0
    }
}

/// What a listener does with its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ListenerKind {
    /// HTTP connection manager: each request is routed on its own.
    Http(RouteConfiguration),
    /// TCP proxy: each connection goes to one of these clusters, by weight.
    Tcp(Vec<WeightedCluster>),
    /// Connections are told apart by their first bytes.
    Sniffed(Sniffed),
    /// Its configuration was refused, or waits for a part of it: its connections are refused.
    Closed,
    /// What connections to the pods get that nobody in the mesh carries: nothing is to be done to them.
    Inbound,
    /// What connections to addresses get that no other listener governs: they go on to where they want if one of these clusters says
    /// so, and are refused otherwise.
    Strangers(Vec<WeightedCluster>),
}

impl ListenerKind {
    /// Closes the HTTP chains whose routes are such.
    pub(crate) fn close_routes(&mut self, such: &dyn Fn(&RouteConfiguration) -> bool) {
        match self {
            Self::Http(config) if such(config) => *self = Self::Closed,
            Self::Sniffed(sniffed) => {
                let chains = sniffed.chains.iter_mut().map(|(_, kind)| kind);
                let chains = chains.chain(sniffed.otherwise.as_deref_mut());
                chains.for_each(|kind| kind.close_routes(such));
            }
            _ => {}
        }
    }

    /// All chains that take connections, by themselves or among others.
    pub fn chains(&self) -> Vec<&Self> {
        match self {
            Self::Sniffed(sniffed) => {
                let chains = sniffed.chains.iter().map(|(_, kind)| kind);
                chains.chain(sniffed.otherwise.as_deref()).collect()
            }
            kind => vec![kind],
        }
    }
}

/// Chains for connections that are told apart by their first bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sniffed {
    /// The chains: `Http`, `Tcp` or `Closed`.
    pub chains: Vec<(ChainMatch, ListenerKind)>,
    /// For what no chain matches; without it such connections are closed.
    pub otherwise: Option<Box<ListenerKind>>,
}

/// Which connections a chain takes; each condition that is empty holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChainMatch {
    /// `raw_buffer` or `tls`.
    pub transport: String,
    /// Names that a TLS client asks for: exact, or with a wildcard `*.` at the front.
    pub server_names: Vec<String>,
    /// Protocols that the client speaks (`http/1.1`, `h2c`) or, in TLS, offers.
    pub protocols: Vec<String>,
}

/// What the first bytes of a connection say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// They are TLS.
    pub tls: bool,
    /// The name that a TLS client asks for, in lower case.
    pub server_name: Option<String>,
    /// What it speaks or offers.
    pub protocols: Vec<String>,
}

impl Sniffed {
    /// The chain that takes a connection: the one with the most specific name, then transport, then protocol.
    ///
    /// Envoy, `FilterChainManagerImpl::findFilterChain`: what was chosen at one step is not taken back at the next.
    pub fn chain(&self, seen: &Seen) -> &ListenerKind {
        static NONE: ListenerKind = ListenerKind::Closed;
        let otherwise = self.otherwise.as_deref().unwrap_or(&NONE);
        let name = seen.server_name.as_deref().unwrap_or_default();
        let fit = |chain: &ChainMatch| {
            chain
                .server_names
                .iter()
                .filter_map(|own| name_fit(own, name))
                .max()
        };
        let best = self.chains.iter().filter_map(|(chain, _)| fit(chain)).max();
        let named = self.chains.iter().filter(|(chain, _)| match best {
            Some(best) => fit(chain) == Some(best),
            None => chain.server_names.is_empty(),
        });
        let named: Vec<_> = named.collect();
        let transport = if seen.tls { "tls" } else { "raw_buffer" };
        let told = named.iter().any(|(chain, _)| chain.transport == transport);
        let carried = named
            .into_iter()
            .filter(|(chain, _)| chain.transport == if told { transport } else { "" });
        let carried: Vec<_> = carried.collect();
        let speaks = |chain: &ChainMatch| {
            let spoken = |own: &String| seen.protocols.contains(own);
            chain.protocols.iter().any(spoken)
        };
        let found = carried.iter().find(|(chain, _)| speaks(chain));
        let found = found.or_else(|| carried.iter().find(|(chain, _)| chain.protocols.is_empty()));
        found.map_or(otherwise, |(_, kind)| kind)
    }

    /// The chain of a client that speaks HTTP/1.1 in plain text.
    pub fn plain_http(&self) -> &ListenerKind {
        self.chain(&Seen {
            protocols: vec!["http/1.1".to_owned()],
            ..Seen::default()
        })
    }
}

/// How well `name` fits a chain's own: more for a longer one, most for the same.
fn name_fit(own: &str, name: &str) -> Option<usize> {
    if own.eq_ignore_ascii_case(name) {
        return Some(usize::MAX);
    }
    let suffix = own.strip_prefix('*')?;
    let at = name.len().checked_sub(suffix.len())?;
    let fits = at > 0 && name.get(at..)?.eq_ignore_ascii_case(suffix);
    fits.then_some(suffix.len())
}

/// The virtual hosts of an HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteConfiguration {
    /// Name, for messages; may be empty.
    pub name: String,
    /// The virtual hosts; which one serves a host depends on the domains only, not on the order.
    pub virtual_hosts: Vec<VirtualHostConfig>,
    /// What the listener asks for besides routing.
    pub options: HttpOptions,
}

/// Routes for a set of domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualHostConfig {
    /// Unique name within the route configuration.
    pub name: String,
    /// `name`, `*suffix`, `prefix*` or `*`; compared in lower case.
    pub domains: Vec<String>,
    /// The routes; the first that matches serves a request.
    pub routes: Vec<RouteRule>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteRule {
    /// Name, for messages; may be empty.
    pub name: String,
    /// Which paths it serves.
    pub path: PathMatch,
    /// ASCII case does not matter in the path; means nothing to [`PathMatch::Regex`].
    pub ignore_case: bool,
    /// Conditions on headers, all of which must hold.
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters, all of which must hold.
    pub query: Vec<QueryMatch>,
    /// The share of requests that it serves of those it matches otherwise; `None`: all.
    pub fraction: Option<Fraction>,
    /// It serves gRPC requests only: `content-type` is `application/grpc` or begins with `application/grpc+`.
    pub grpc: bool,
    /// What becomes of its requests.
    pub action: RouteAction,
    /// What becomes of them on the way.
    pub policy: RoutePolicy,
}

impl RouteRule {
    /// A route without a name and without conditions besides the path.
    pub fn to(path: PathMatch, action: RouteAction) -> Self {
        Self {
            name: String::new(),
            path,
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
            grpc: false,
            action,
            policy: RoutePolicy::default(),
        }
    }

    /// Whether nothing but the path decides.
    pub fn is_unconditional(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty() && self.fraction.is_none() && !self.grpc
    }
}

/// A condition on the path, query excluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathMatch {
    /// The path starts with it.
    Prefix(String),
    /// The path equals it.
    Exact(String),
    /// The path equals it or starts with it and a slash; it has no slash at its end.
    Separated(String),
    /// All of the path matches this expression, in RE2's syntax.
    Regex(String),
}

/// A condition on the first query parameter of a name; names and values are compared as they are sent, undecoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// Name, case matters.
    pub name: String,
    /// The values that match; a parameter without `=` has the empty one.
    pub value: ValueMatch,
    /// ASCII case does not matter in the value; not for [`ValueMatch::Regex`].
    pub ignore_case: bool,
    /// With [`ValueMatch::Present`]: the parameter is absent.
    pub invert: bool,
}

/// A share of requests, drawn for each request; the same number decides about all shares and weights of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fraction {
    /// How many out of `denominator` requests.
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

/// A condition on a header: one of its lines matches, or, for [`JOINED_HEADERS`], all of them joined do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// Name in lower case.
    pub name: String,
    /// The values that match.
    pub value: ValueMatch,
    /// ASCII case does not matter; not for [`ValueMatch::Regex`].
    pub ignore_case: bool,
    /// The header is there and does not match; with [`ValueMatch::Present`]: it is absent.
    pub invert: bool,
    /// An absent header counts as an empty one; not for [`ValueMatch::Present`].
    pub missing_is_empty: bool,
}

impl HeaderMatch {
    /// The header has this value.
    pub fn exact(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: ValueMatch::Exact(value.to_owned()),
            ignore_case: false,
            invert: false,
            missing_is_empty: false,
        }
    }
}

/// A condition on a header's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ValueMatch {
    /// It equals this.
    Exact(String),
    /// It starts with this.
    Prefix(String),
    /// It ends with this.
    Suffix(String),
    /// This is somewhere in it.
    Contains(String),
    /// All of it matches this expression, in RE2's syntax.
    Regex(String),
    /// It is a decimal number from `start` up to and not including `end`.
    Range {
        /// The lowest.
        start: i64,
        /// Above the highest.
        end: i64,
    },
    /// Whatever it is.
    Present,
}

/// Headers of which several lines are one value, joined with commas; of any other, each line is a value of its own.
///
/// Envoy keeps some headers in slots of their own and appends to a slot that is filled (`source/common/http/header_map_impl.cc`);
/// these are the ones of them that reach the router unchanged, as found by asking Envoy 1.40.
pub const JOINED_HEADERS: [&str; 28] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authentication",
    "authorization",
    "cache-control",
    "cdn-loop",
    "content-encoding",
    "content-type",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "proxy-status",
    "referer",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
];

/// What becomes of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RouteAction {
    /// To one cluster.
    Cluster(String),
    /// To one of several, drawn by weight for each request.
    Weighted(Vec<WeightedCluster>),
    /// To one of several by weight; what is drawn is the number in a request header, if it has one such line and that
    /// is a number.
    WeightedBy {
        /// The header's name in lower case.
        header: String,
        /// The clusters.
        choices: Vec<WeightedCluster>,
    },
    /// To the cluster whose name is the value of this header (name in lower case); 503 if there is none.
    ClusterHeader(String),
    /// Answered with another place to go.
    Redirect(Redirect),
    /// Answered here.
    Direct(DirectResponse),
}

impl RouteAction {
    /// The clusters that the configuration names and requests can reach: those of weight 0 are not among them.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Cluster(name) => (Some(name.as_str()), [].as_slice()),
            Self::Weighted(choices) | Self::WeightedBy { choices, .. } => {
                (None, choices.as_slice())
            }
            Self::ClusterHeader(_) | Self::Redirect(_) | Self::Direct(_) => (None, [].as_slice()),
        };
        let drawn = several.iter().filter(|choice| choice.weight > 0);
        one.into_iter()
            .chain(drawn.map(|choice| choice.name.as_str()))
    }
}

/// An answer that sends the client elsewhere; what is `None` stays as the request has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<String>,
    /// The host; if it has no port, none is given.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u32>,
    /// The path.
    pub path: PathRedirect,
    /// Leave the query away, unless `path` brings its own.
    pub strip_query: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a redirect does to the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathRedirect {
    /// Nothing.
    Keep,
    /// Replaces it; a query in it replaces the request's.
    Whole(String),
    /// Replaces the part that the route matched.
    Prefix(String),
}

/// An answer from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// The body; may be empty.
    pub body: String,
}

/// A choice among clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedCluster {
    /// The cluster's name.
    pub name: String,
    /// Its share of the sum of the weights.
    pub weight: u32,
}

/// A set of endpoints that answer alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterConfig {
    /// Unique name.
    pub name: String,
    /// How requests are spread over the endpoints.
    pub lb: LbPolicy,
    /// The endpoints; with none, requests are answered 503.
    pub endpoints: Vec<SocketAddr>,
    /// Circuit breaker: connections to the cluster that may exist at once. Envoy's default is 1024.
    pub max_connections: u32,
    /// Circuit breaker: requests that may wait for a connection. Envoy's default is 1024.
    pub max_pending_requests: u32,
    /// How long opening a connection may take. Envoy's default is 5 s.
    pub connect_timeout: Duration,
    /// Protocol, idle connections and further limits.
    pub policy: ClusterPolicy,
}

/// How requests are spread over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LbPolicy {
    /// In turn.
    RoundRobin,
    /// At random, all equally likely.
    Random,
}
