//! Virtual hosts, routes and their predicates.

/// Send to one cluster.
pub const ACTION_CLUSTER: u32 = 1;
/// Send to one of several clusters by weight.
pub const ACTION_WEIGHTED: u32 = 2;

/// Ids of the header names that every configuration knows, because framing needs them. Ids from
/// [`name::CONFIGURED`] are the configuration's own.
pub mod name {
    /// `host`.
    pub const HOST: u32 = 1;
    /// `content-length`.
    pub const CONTENT_LENGTH: u32 = 2;
    /// `transfer-encoding`.
    pub const TRANSFER_ENCODING: u32 = 3;
    /// `connection`.
    pub const CONNECTION: u32 = 4;
    /// `upgrade`.
    pub const UPGRADE: u32 = 5;
    /// `expect`.
    pub const EXPECT: u32 = 6;
    /// First id of a name that a route asks about.
    pub const CONFIGURED: u32 = 7;
    /// The built-in names with their ids.
    pub const BUILT_IN: [(&[u8], u32); 6] = [
        (b"host", HOST),
        (b"content-length", CONTENT_LENGTH),
        (b"transfer-encoding", TRANSFER_ENCODING),
        (b"connection", CONNECTION),
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
    /// Padding; zero.
    pub reserved: u32,
}

/// A virtual host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct VirtualHost {
    /// Root of the automaton over paths: `end` and `pass` point to candidate lists (index + 1).
    pub paths: u32,
    /// Padding; zero.
    pub reserved: u32,
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
    /// The cluster, or the first of the weighted choices.
    pub target: u32,
    /// Number of weighted choices.
    pub count: u32,
    /// Sum of the weights.
    pub total: u32,
    /// Number of the [`crate::Reason`] why user space serves its requests; 0 = the kernel may.
    pub passed: u32,
    /// Padding; zero.
    pub reserved: u32,
}

/// Predicate flag: it holds if the header is there at all.
pub const PREDICATE_PRESENT: u32 = 1;
/// Predicate flag: it holds if the header is there and does not match; with [`PREDICATE_PRESENT`], if it is absent.
pub const PREDICATE_INVERT: u32 = 2;

/// A condition on a header: some occurrence of `name` matches, or all of them joined do: see [`Name::joined`]. One matches
/// if it has the value `value` or one of `patterns`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Predicate {
    /// The header name's id.
    pub name: u32,
    /// The value's id in that name's automaton, from 1; 0 = none.
    pub value: u32,
    /// Bits of the name's patterns: bits of the `pass` of the node that a value ends in.
    pub patterns: u32,
    /// `PREDICATE_*` bits.
    pub flags: u32,
}
