//! Loads and drives the datapath: enrols pods, swaps configurations, opens upstreams, and serves in user space what the
//! kernel passes.
//!
//! Data flows one way: configuration -> tables -> kernel. Back come only counters, upstream states and the requests
//! that the kernel left to [`fallback`].

pub mod admin;
pub mod buffers;
pub mod configuration;
pub mod control_plane;
pub mod daemon;
pub mod defence;
pub mod enrolment;
pub mod fallback;
pub mod follow;
pub mod generation;
pub mod guard;
pub mod load;
pub mod log;
pub mod netns;
pub mod node;
pub mod path;
pub mod pods;
pub mod privilege;
pub mod replace;
pub mod rundir;
pub mod shares;
pub mod source;
pub mod splice;
pub mod status;
pub mod supervise;
pub mod systemd;
pub mod told;
pub mod upstream;
