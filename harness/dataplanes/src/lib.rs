//! The arms: how a pod's traffic travels.
//!
//! An [`Arm`] brings up a lab of its own from an [`ArmPlan`], the same plan for every arm: same topology, same addresses,
//! same servers, same Envoy v3 resources. What differs is only what carries the traffic:
//!
//! | arm | carried by | connections |
//! |---|---|---|
//! | `direct`, `direct-aa` | nothing; the client connects to the endpoints | 1 |
//! | `dnat` | nftables, as kube-proxy does | 1 |
//! | `envoy-client` | a real Envoy beside the client | 2 |
//! | `envoy-both` | a real Envoy beside the client and beside each server | 3 |
//! | `envoy-both-sockmap` | the same, with sockets that skip TCP within the node | 3 |
//! | `kmesh`, `kmesh-remote`, `kmesh-splice`, `kmesh-l4` | `kmeshd`'s programs in the kernel | 1 and a pool |
//! | any other name | an [`External`]: whatever a TOML file describes | its own |
//!
//! Everything an arm starts dies with its lab, and the lab dies with this process, however that ends.

mod arm;
mod arms;
mod beside;
mod binaries;
mod envoy;
mod error;
mod external;
mod http;
mod kmeshd;
mod nft;
mod plan;
mod program;
mod resources;
mod running;
mod shortcut;
mod stage;

pub use arm::{Arm, ArmCounters, CpuTime, MessageCounters, Restart, RunningArm};
pub use arms::{NAMES, arm};
pub use binaries::Binaries;
pub use envoy::EnvoyProfile;
pub use error::ArmError;
pub use external::{DescriptionError, External};
pub use plan::{ArmPlan, NextHop, Placement, ServerKind, ServerSpec};
pub use resources::{Protocol, Resources, ResourcesError, Service};
