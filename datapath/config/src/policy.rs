//! What a route, an HTTP listener or a cluster asks for beyond routing: done in user space, except where it is a no-op.
//!
//! The kernel decides such a request like any other and passes it with the reason of [`RoutePolicy::reason`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kmesh_api::Reason;
use kmesh_api::route::option;
use serde::Serialize;

use crate::model::ValueMatch;

/// What becomes of a route's requests and responses on the way. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoutePolicy {
    /// Longest time from the end of the request to the end of the response; 504 after it. `None`: no limit.
    pub timeout: Option<Duration>,
    /// When to try again.
    pub retry: Option<RetryPolicy>,
    /// What becomes of the path.
    pub path_rewrite: Option<PathRewrite>,
    /// The host that the upstream sees, if not the client's.
    pub host_rewrite: Option<String>,
    /// The host that the upstream sees is the chosen endpoint's name, if it has one.
    pub auto_host_rewrite: bool,
    /// Longest time without a byte either way; 504 after it, or the stream ends. `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// Longest time from the request's first byte to the response's last; 504 after it. `None`: no limit.
    pub max_duration: Option<Duration>,
    /// Header changes of weighted clusters, by cluster name; done before `headers`.
    pub cluster_headers: Vec<(String, HeaderMutations)>,
    /// Header changes of the route, its virtual host and its route configuration, in this order.
    pub headers: Vec<HeaderMutations>,
    /// Clusters that get a copy of each request.
    pub mirrors: Vec<Mirror>,
    /// Failures made on purpose.
    pub fault: Option<Fault>,
    /// Which pages of other origins may read the answers.
    pub cors: Option<Cors>,
    /// gRPC requests may set their own time limit, up to this (zero: any), which then counts instead of `timeout`.
    pub grpc_timeout_max: Option<Duration>,
    /// Protocols that a client may upgrade to, in lower case.
    pub upgrades: Vec<String>,
}

impl RoutePolicy {
    /// Why the kernel leaves this route's requests to user space; `None` if the policy changes nothing.
    ///
    /// Upgrades do not count: the kernel passes a request that asks for one whatever its route says.
    pub fn reason(&self) -> Option<Reason> {
        if self.fault.is_some() {
            Some(Reason::Fault)
        } else if self.timeout.is_some()
            || self.idle_timeout.is_some()
            || self.max_duration.is_some()
        {
            Some(Reason::Timeout)
        } else if self
            .retry
            .as_ref()
            .is_some_and(RetryPolicy::may_need_the_request)
        {
            Some(Reason::Retry)
        } else if self.path_rewrite.is_some()
            || self.host_rewrite.is_some()
            || self.auto_host_rewrite
        {
            Some(Reason::Rewrite)
        } else if !self.headers.is_empty()
            || !self.cluster_headers.is_empty()
            || self.cors.is_some()
        {
            Some(Reason::HeaderMutation)
        } else if !self.mirrors.is_empty() {
            Some(Reason::Mirror)
        } else {
            None
        }
    }
}

/// `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// The origins that are allowed; one that matches `*` allows all.
    pub origins: Vec<Origin>,
    /// `access-control-allow-methods` of preflights; empty: none.
    pub methods: String,
    /// `access-control-allow-headers` of preflights; empty: none.
    pub headers: String,
    /// `access-control-expose-headers`; empty: none.
    pub expose_headers: String,
    /// `access-control-max-age` of preflights; empty: none.
    pub max_age: String,
    /// `access-control-allow-credentials: true` is said.
    pub credentials: bool,
    /// Preflights from origins that are not allowed are answered, without any of these headers, and go no further.
    pub strangers_answered: bool,
}

/// A condition on an origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The values that match.
    pub value: ValueMatch,
    /// ASCII case does not matter.
    pub ignore_case: bool,
}

/// `envoy.config.route.v3.RetryPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryPolicy {
    /// What is retried, besides the statuses below.
    pub on: Vec<RetryOn>,
    /// `retriable-status-codes` with the codes.
    pub statuses: Vec<u16>,
    /// gRPC status codes of trailers-only responses (`cancelled`, `unavailable` and others by name).
    pub grpc_statuses: Vec<u16>,
    /// Tries after the first one; not 0.
    pub retries: u32,
    /// Longest time for one try.
    pub per_try_timeout: Option<Duration>,
    /// First back-off interval; the wait is random below it, and it doubles with each try.
    pub base_interval: Duration,
    /// Largest back-off interval.
    pub max_interval: Duration,
    /// How often an endpoint is drawn for another try until it is one that was not tried; at least 1.
    pub picks: u32,
}

impl RetryPolicy {
    /// Whether it may send again what was sent. Otherwise it only means that another endpoint is asked if no connection can be made (or
    /// an HTTP/2 stream is refused), and the kernel sends requests on connections that exist. The gRPC statuses are such of gRPC, which
    /// is HTTP/2 and therefore user space's.
    pub fn may_need_the_request(&self) -> bool {
        let connect_only = |on: &RetryOn| {
            matches!(
                on,
                RetryOn::ConnectFailure | RetryOn::RefusedStream | RetryOn::ResetBeforeRequest
            )
        };
        !self.on.iter().all(connect_only)
            || !self.statuses.is_empty()
            || self.per_try_timeout.is_some()
    }
}

/// A condition for trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RetryOn {
    /// `connect-failure`: no connection could be made.
    ConnectFailure,
    /// `refused-stream`: the upstream refused the HTTP/2 stream.
    RefusedStream,
    /// `reset`: no response at all.
    Reset,
    /// `reset-before-request`: the connection ended before the request was sent.
    ResetBeforeRequest,
    /// `5xx`: any status from 500, or no response.
    ServerError,
    /// `gateway-error`: 502, 503 or 504, or no response.
    GatewayError,
    /// `retriable-4xx`: 409.
    Conflict,
}

/// A change of the path; the query stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathRewrite {
    /// What the route matched, of this length in bytes, is replaced by the text.
    Prefix(usize, String),
    /// Every match of the expression is replaced; `\1` in the substitution stands for the first group.
    Regex {
        /// In RE2's syntax.
        pattern: String,
        /// With `\0` to `\9` for groups and `\\` for a backslash.
        substitution: String,
    },
}

/// Changes to the headers of requests and responses at one level of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderMutations {
    /// For requests.
    pub request: Mutations,
    /// For responses.
    pub response: Mutations,
}

impl HeaderMutations {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// Changes to the headers of one message: first the removals, then the rest in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mutations {
    /// Names to remove, in lower case.
    pub remove: Vec<String>,
    /// Headers to set.
    pub add: Vec<HeaderAddition>,
}

impl Mutations {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// `envoy.config.core.v3.HeaderValueOption`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderAddition {
    /// Name in lower case.
    pub name: String,
    /// Value, with no substitutions in it.
    pub value: String,
    /// What if the header is there, or is not.
    pub action: AppendAction,
}

/// `envoy.config.core.v3.HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AppendAction {
    /// Add another one, or the first.
    Append,
    /// Only if there is none.
    AddIfAbsent,
    /// Replace all, or add.
    Overwrite,
    /// Replace all; nothing if there is none.
    OverwriteIfExists,
}

/// A cluster that gets copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mirror {
    /// Its name.
    pub cluster: String,
    /// How many of the requests.
    pub share: Share,
    /// Whether the copy's host ends in `-shadow`.
    pub host_suffix: bool,
}

/// A part of all requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Share(pub u32);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(1_000_000);
}

/// `envoy.extensions.filters.http.fault.v3.HTTPFault`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Requests wait this long.
    pub delay: Option<(Duration, Share)>,
    /// Requests are answered with this status.
    pub abort: Option<(u16, Share)>,
}

/// What an HTTP listener asks for as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of the configuration, and any combination means something"
)]
pub struct HttpOptions {
    /// What clients speak.
    pub codec: Codec,
    /// Failures for requests that match no route.
    pub fault: Option<Fault>,
    /// A route to a cluster that is not configured is a mistake; otherwise its requests are answered 503.
    pub validate_clusters: bool,
    /// The route configuration came by its name (RDS).
    pub rds: bool,
    /// Ports of hosts do not count when virtual hosts are chosen.
    pub ignore_port: bool,
    /// What paths are before routes are looked at.
    pub paths: PathOptions,
    /// Requests without an `x-request-id` get one.
    pub request_id: bool,
    /// The client's address is appended to `x-forwarded-for`.
    pub forwarded_for: bool,
    /// HTTP/2 requests that a connection may have at once; `None`: no limit of the configuration's.
    pub max_concurrent_streams: Option<u32>,
}

/// What an HTTP listener makes of paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PathOptions {
    /// `normalize_path`.
    pub normalize: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
}

/// `HttpConnectionManager.PathWithEscapedSlashesAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum EscapedSlashes {
    /// `%2F` and `%5C` stay.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// The client is sent to the path without escapes.
    Redirect,
    /// They become slashes.
    Unescape,
}

impl HttpOptions {
    /// Nothing is asked for.
    pub const NONE: Self = Self {
        codec: Codec::Auto,
        fault: None,
        validate_clusters: true,
        rds: false,
        ignore_port: false,
        paths: PathOptions {
            normalize: false,
            merge_slashes: false,
            escaped_slashes: EscapedSlashes::Keep,
        },
        request_id: false,
        forwarded_for: false,
        max_concurrent_streams: None,
    };

    /// Whether a request is the same with and without them.
    pub fn change_nothing(&self) -> bool {
        let plain = Self {
            validate_clusters: self.validate_clusters,
            rds: self.rds,
            max_concurrent_streams: self.max_concurrent_streams,
            ignore_port: self.ignore_port,
            ..Self::default()
        };
        *self == plain
    }

    /// Why the kernel leaves all requests of the listener to user space, if it does.
    pub fn reason(&self) -> Option<Reason> {
        (self.request_id || self.forwarded_for).then_some(Reason::HeaderMutation)
    }

    /// As bits of `kmesh_api::route::option`.
    pub fn bits(&self) -> u32 {
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        bit(self.ignore_port, option::IGNORE_PORT)
            | bit(self.paths.normalize, option::NORMAL_PATH)
            | bit(self.paths.merge_slashes, option::SINGLE_SLASHES)
            | bit(
                self.paths.escaped_slashes != EscapedSlashes::Keep,
                option::ESCAPED_SLASHES,
            )
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self::NONE
    }
}

/// `HttpConnectionManager.CodecType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Codec {
    /// HTTP/1.1, or HTTP/2 if the connection begins with its preface.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What a cluster asks for besides its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterPolicy {
    /// The endpoints speak HTTP/2 with prior knowledge (gRPC); otherwise HTTP/1.1.
    pub http2: bool,
    /// A connection unused for this long is closed; Envoy's default is 1 h. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Circuit breaker: HTTP/2 requests at once. Envoy's default is 1024.
    pub max_requests: u32,
    /// Circuit breaker: retries at once. Envoy's default is 3.
    pub max_retries: u32,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// An HTTP/2 client's requests go by HTTP/2, others by HTTP/1.1; `http2` is false then.
    pub like_client: bool,
    /// Names of endpoints, for `auto_host_rewrite`.
    pub hostnames: BTreeMap<SocketAddr, String>,
    /// A connection carries one request only: `max_requests_per_connection` is set, or there is no endpoint to keep it for.
    pub single_use: bool,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Discovery {
    /// The configuration.
    #[default]
    Static,
    /// The address that the application asked for. The one endpoint in the tables has port 0.
    Original,
    /// Names that are looked up.
    Names(Vec<Name>),
}

/// A name with a port that a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Name {
    /// The name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self {
            http2: false,
            idle_timeout: Some(Duration::from_hours(1)),
            max_requests: 1024,
            max_retries: 3,
            discovery: Discovery::default(),
            like_client: false,
            hostnames: BTreeMap::new(),
            single_use: false,
        }
    }
}
