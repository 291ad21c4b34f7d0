//! Pods, services and links made of network namespaces.
//!
//! A [`Lab`] is built from a [`Topology`]: one bridge, and per pod a network namespace, a veth pair and a cgroup.
//! It needs root and cgroup2, leaves nothing in /run/netns, and is gone when its process is gone: namespaces are held
//! by file descriptors only, and a guardian process kills and removes the cgroups should the owner
//! be killed (see `guardian.rs`).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let topology = netns_lab::Topology::from_toml("[[pods]]\nname = 'web'\n[[pods]]\nname = 'client'")?;
//! let lab = netns_lab::Lab::up(&topology)?;
//! let web = lab.pod("web")?;
//! let mut nginx = web.command("nginx");
//! nginx.args(["-g", "daemon off;"]);
//! let _nginx = web.spawn(nginx)?;
//! let address = (web.ipv4(), 80);
//! let stream = lab.pod("client")?.run(|| std::net::TcpStream::connect(address))??;
//! # drop(stream);
//! lab.down()?;
//! # Ok(())
//! # }
//! ```

mod address;
mod cgroup;
pub mod control;
mod error;
mod guardian;
mod identity;
mod lab;
mod leftovers;
mod link;
mod namespace;
mod network;
mod placement;
mod pod;
mod spawner;
mod sweep;
mod topology;

pub use address::{GATEWAY4, GATEWAY6};
pub use cgroup::{CpuUsage, cgroup2_mount};
pub use error::LabError;
pub use identity::{Identity, Owner, OwnerState, PREFIX};
pub use lab::{Lab, Service};
pub use leftovers::{FoundLab, find_labs};
pub use placement::{LAB_VARIABLE, POD_VARIABLE};
pub use pod::Pod;
pub use topology::{MAX_NAME, MAX_PODS, PodSpec, Problem, ServiceSpec, Topology, TopologyError};
