//! Virtual hosts, routes and their predicates.

/// Send to one cluster.
pub const ACTION_CLUSTER: u32 = 1;
/// Send to one of several clusters by weight.
pub const ACTION_WEIGHTED: u32 = 2;
/// Send to the cluster that a header names.
pub const ACTION_CLUSTER_HEADER: u32 = 3;
/// Answer with a redirect, which user space does.
pub const ACTION_REDIRECT: u32 = 4;
/// Answer from the configuration, which user space does.
pub const ACTION_DIRECT: u32 = 5;

/// Ids of the header names that every configuration knows, because framing needs them. Ids from
/// [`name::CONFIGURED`] are the configuration's own.
pub mod name {
    /// `host`.
    pub const HOST: u32 = 1;
    /// `content-length`.
    pub const CONTENT_LENGTH: u32 = 2;
    /// `transfer-encoding`.
    pub const TRANSFER_ENCODING: u32 = 3;
    /// `connection`, and `proxy-connection`, which Envoy obeys alike.
    pub const CONNECTION: u32 = 4;
    /// `upgrade`.
    pub const UPGRADE: u32 = 5;
    /// `expect`.
    pub const EXPECT: u32 = 6;
    /// `:method`. It and the next two are not lines of the head: they are found when the head is complete, if asked for.
    pub const METHOD: u32 = 7;
    /// `:path`, the query included.
    pub const PATH: u32 = 8;
    /// `:authority`.
    pub const AUTHORITY: u32 = 9;
    /// Not a header: a predicate of this name is on the drawn number, see [`super::Predicate`].
    pub const FRACTION: u32 = 10;
    /// First id of a name that a route asks about: of a header or of a query parameter.
    pub const CONFIGURED: u32 = 11;
    /// The built-in names with their ids.
    pub const BUILT_IN: [(&[u8], u32); 7] = [
        (b"host", HOST),
        (b"content-length", CONTENT_LENGTH),
        (b"transfer-encoding", TRANSFER_ENCODING),
        (b"connection", CONNECTION),
        (b"proxy-connection", CONNECTION),
        (b"upgrade", UPGRADE),
        (b"expect", EXPECT),
    ];
    /// Value of `transfer-encoding` that the framing understands.
    pub const VALUE_CHUNKED: u32 = 1;
    /// Value of `connection` that changes nothing on HTTP/1.1.
    pub const VALUE_KEEP_ALIVE: u32 = 1;
    /// Value of `connection` that ends the connection after this message.
    pub const VALUE_CLOSE: u32 = 2;
}

/// A header name that the configuration asks about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    /// Root node of the automaton over its values; 0 = only presence counts.
    pub values: u32,
    /// 1 if several lines of it are one value, joined with commas; 0 if each line is a value of its own.
    pub joined: u32,
}

/// The hosts of one HTTP listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteConfig {
    /// Root of the automaton over hosts: `end` = virtual host + 1 for an exact domain, `pass` for a prefix (`svc.*`).
    pub hosts: u32,
    /// Root of the automaton over reversed hosts: `pass` = virtual host + 1 for a suffix (`*.svc`).
    pub suffixes: u32,
    /// The virtual host of `*`, plus one; 0 = none.
    pub any: u32,
    /// Bits of [`option`].
    pub options: u32,
}

/// What an HTTP listener asks for before its routes are looked at, as bits of [`RouteConfig::options`].
pub mod option {
    /// The host's port does not count when it is compared with domains.
    pub const IGNORE_PORT: u32 = 1;
    /// Paths are brought into their normal form: user space gets those that may not have it.
    pub const NORMAL_PATH: u32 = 2;
    /// Of several slashes in a row only one stays: user space gets paths with such.
    pub const SINGLE_SLASHES: u32 = 4;
    /// Something is made of escaped slashes: user space gets paths with a percent sign.
    pub const ESCAPED_SLASHES: u32 = 8;
    /// The options that are about paths.
    pub const PATHS: u32 = NORMAL_PATH | SINGLE_SLASHES | ESCAPED_SLASHES;
}

/// A virtual host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct VirtualHost {
    /// Root of the automaton over paths: `end` and `pass` point to candidate lists (index + 1).
    pub paths: u32,
    /// Root of the automaton over paths by regular expressions: `end` points to the candidates of a path that ends there
    /// (index + 1). 0 = there are none.
    pub expressions: u32,
}

/// Marks the last entry of a candidate list.
pub const CANDIDATE_LAST: u32 = 1 << 31;

/// A route.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Route {
    /// First of its predicates.
    pub predicates_at: u32,
    /// Number of predicates, all of which must hold.
    pub predicates_count: u32,
    /// One of the `ACTION_*` numbers.
    pub action: u32,
    /// The cluster, the first of the weighted choices, or the id of the header that names the cluster.
    pub target: u32,
    /// Number of weighted choices.
    pub count: u32,
    /// Sum of the weights. With [`ACTION_CLUSTER_HEADER`], the number of clusters: the ids of their names among the header's values
    /// are 1 to `total`, in the clusters' order.
    pub total: u32,
    /// Number of the [`crate::Reason`] why user space serves its requests; 0 = the kernel may.
    pub passed: u32,
    /// Id of the header whose number the weighted choice draws; 0 = a random one.
    pub number_from: u32,
}

/// Predicate flag: it holds if the header is absent.
pub const HOLDS_ABSENT: u32 = 1;
/// Predicate flag: it holds if the header is there and no occurrence matches.
pub const HOLDS_OTHER: u32 = 2;
/// Predicate flag: it holds if an occurrence of the header matches.
pub const HOLDS_MATCH: u32 = 4;

/// A condition on a header or on a query parameter. An occurrence of `name` matches if it has the value `value` or one of
/// `patterns`; which occurrences there are says [`Name::joined`]. `flags` say what follows from it.
///
/// With [`name::FRACTION`] it holds if the drawn number modulo `patterns` is below `value`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Predicate {
    /// The name's id.
    pub name: u32,
    /// The value's id in that name's automaton, from 1; 0 = none.
    pub value: u32,
    /// Bits of the name's patterns: bits of the `pass` of the node that a value ends in.
    pub patterns: u32,
    /// `HOLDS_*` bits.
    pub flags: u32,
}
