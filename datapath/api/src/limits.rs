//! Every size of the ABI, each with its reason. Counts that index an array are powers of two, so that the kernel
//! programs bound an index with a mask, which the verifier understands and the CPU does in one cycle.

/// Longest request head the kernel reads, bytes. Longer heads are served in user space (Envoy's own limit is 60 KiB):
/// browsers and service clients stay well under 4 KiB, and this buffer exists once per client socket.
pub const HEAD_MAX: usize = 4096;
/// Longest response head the kernel reads, bytes; one buffer per upstream slot.
pub const RESPONSE_HEAD_MAX: usize = 1024;
/// Most header lines in a head; Envoy's default `max_headers_count`.
pub const HEADERS_MAX: u32 = 100;
/// Most occurrences of headers that the configuration asks about, in one request.
pub const FOUND_MAX: usize = 32;
/// Distinct header names that one configuration can ask about, the built-in ones included.
pub const NAMES_MAX: usize = 256;

/// Patterns (prefix, suffix, contains, regex, range) on the values of one header or query parameter: bits of a node's `pass`.
pub const VALUE_PATTERNS_MAX: usize = 32;

/// Automaton nodes: hosts, paths, header names and header values share them.
pub const NODES_MAX: usize = 1 << 17;
/// Automaton transitions, row-displaced; twice the nodes keeps the packing fast at full load.
pub const CELLS_MAX: usize = 1 << 18;
/// States of the automaton that one virtual host's path expressions become. Expressions that begin alike and differ later
/// add up; only such as begin with `.*` and have more than one further part multiply. It bounds what one virtual
/// host takes of [`NODES_MAX`], and the time to compile it.
pub const EXPRESSION_STATES_MAX: usize = 1 << 16;
/// Entries in all candidate lists together.
pub const CANDIDATES_MAX: usize = 1 << 17;
/// Longest single candidate list: what one request may have to try.
pub const CANDIDATE_LIST_MAX: u32 = 4096;
/// Routes in one configuration, all virtual hosts together.
pub const ROUTES_MAX: usize = 1 << 14;
/// Header predicates in one configuration.
pub const PREDICATES_MAX: usize = 1 << 15;
/// Predicates on one route: the inner bound of the decision loop.
pub const ROUTE_PREDICATES_MAX: u32 = 32;
/// Virtual hosts in one configuration.
pub const VIRTUAL_HOSTS_MAX: usize = 1 << 13;
/// Route configurations (one per HTTP listener).
pub const ROUTE_CONFIGS_MAX: usize = 1 << 12;
/// Clusters in one configuration.
pub const CLUSTERS_MAX: usize = 1 << 13;
/// Cluster choices in all weighted routes together.
pub const WEIGHTS_MAX: usize = 1 << 14;
/// Cluster choices on one route.
pub const ROUTE_WEIGHTS_MAX: u32 = 64;
/// Endpoints in one configuration, all clusters together.
pub const ENDPOINTS_MAX: usize = 1 << 14;
/// Listeners (service address and port).
pub const LISTENERS_MAX: usize = 1 << 13;
/// Slots of the listener hash: four times the listeners keeps probe sequences short.
pub const LISTENER_SLOTS: usize = LISTENERS_MAX * 4;
/// Longest probe sequence in the listener hash; the compiler refuses a table that needs more.
pub const LISTENER_PROBES: u32 = 32;

/// Upstream connections that exist at once on a node.
pub const UPSTREAMS_MAX: usize = 1 << 13;
/// Receive buffer of an upstream's socket, bytes as `SO_RCVBUF` takes them: a window of 64 KiB is 10 Gbit/s at a round trip of 50 us.
pub const UPSTREAM_WINDOW: usize = 64 << 10;
/// Segments that a server on this node has in flight to an upstream at most: what the window takes, in Ethernet's segments of 1448 bytes,
/// and a little more.
pub const UPSTREAM_SEGMENTS: u32 = 64;
/// Free upstream connections one pod keeps to one endpoint; Envoy's default `max_connections` is 1024.
pub const POOL_MAX: usize = 1024;
/// (pod, endpoint) pairs with a pool.
pub const POOLS_MAX: u32 = 1 << 14;
/// Pods on a node; the kubelet's default is 110.
pub const PODS_MAX: u32 = 1024;
/// Anchored client connections on a node.
pub const CLIENTS_MAX: u32 = 1 << 16;
/// Stale free-list entries a request skips before it goes to user space.
pub const LEASE_TRIES: u32 = 4;
/// Largest message (head and body) that takes the in-kernel path without a place, bytes. The redirect has no flow control, so this and
/// "one exchange in flight per client" bound the memory a slow reader can hold.
pub const MESSAGE_MAX: u64 = 64 * 1024;
/// Largest message that the kernel takes while there is a place for it (`runtime/large.rs`), bytes: a body of 16 MiB and its head.
pub const LARGE_MAX: u64 = (16 << 20) + MESSAGE_MAX;
/// Messages over [`MESSAGE_MAX`] that the kernel carries at once, and so the readers that may let one lie.
pub const LARGE_PLACES: u32 = 4;
/// Sends that a message over [`MESSAGE_MAX`] may come in before the rest of it goes by TCP. Each costs the kernel a `struct sk_msg` (0.7 KiB)
/// until it is read, so this bounds what a place holds when the pieces are small; at 256 bytes a piece it is the same as [`LARGE_MAX`].
pub const LARGE_SENDS_MAX: u32 = 1 << 16;
/// Requests that have left their place in this way and that user space has not found yet: one for each connection, so that nobody's share of
/// connections is worth more than another's.
pub const SPILLED_MAX: u32 = CLIENTS_MAX;
