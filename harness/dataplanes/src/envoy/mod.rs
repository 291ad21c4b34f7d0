//! The real Envoy as a sidecar: its configuration, its process, its admin interface.

mod bootstrap;
mod profile;
mod sidecar;

pub use profile::EnvoyProfile;

pub(crate) use bootstrap::{both, inbound, outbound};
pub(crate) use sidecar::Sidecar;
