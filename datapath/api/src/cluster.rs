//! Clusters and endpoints: where a decided request may go.

use crate::Address;

/// Load balancing policy: round robin, `ROUND_ROBIN` in xDS.
pub const LB_ROUND_ROBIN: u32 = 0;
/// Load balancing policy: uniformly random, `RANDOM` in xDS.
pub const LB_RANDOM: u32 = 1;

/// In place of a cluster's index: the configuration names a cluster that is not there. Requests that draw it are answered 503.
pub const NO_CLUSTER: u32 = u32::MAX;

/// A set of endpoints that answer alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cluster {
    /// First endpoint in [`crate::Image::endpoints`].
    pub endpoints_at: u32,
    /// Number of endpoints; 0 = every request is answered 503.
    pub endpoints_count: u32,
    /// One of the `LB_*` numbers.
    pub lb: u32,
    /// Identity that survives configuration changes, below [`crate::limits::CLUSTERS_MAX`]; round-robin counters use it.
    pub id: u32,
}

/// One backend address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Identity that survives configuration changes; upstream pools are keyed by it.
    pub id: u32,
}

/// One choice of a weighted route.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    /// The cluster, an index into [`crate::Image::clusters`], or [`NO_CLUSTER`].
    pub cluster: u32,
    /// Sum of the weights up to and including this one: the choice is the first whose `up_to` exceeds the drawn value.
    pub up_to: u32,
}
