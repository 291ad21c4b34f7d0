//! The ADS client: what a control plane serves, as resources that the configuration reader takes one by one.
//!
//! ```text
//!  bytes --Decoder--> Resource --Session--> Store --> Snapshot (type URL, name, version, JSON tree)
//!                                 ^  |
//!                     responses --'  '--> requests: subscriptions, ACK, NACK
//! ```
//!
//! Nothing here performs I/O but [`transport`] and [`client`]: a [`Session`] is told of responses and of time, and says
//! what to send. Nothing that a control plane sends is dropped: what the descriptors don't know stands in the tree under
//! `#NUMBER`, where a reader that refuses unknown fields meets it.

pub mod backoff;
pub mod brake;
#[cfg(feature = "client")]
pub mod client;
pub mod descriptors;
pub mod kind;
pub mod needs;
pub mod node;
pub mod resource;
pub mod session;
pub mod snapshot;
pub mod store;
#[cfg(feature = "client")]
pub mod transport;
pub mod tree;
pub mod wire;

#[cfg(feature = "client")]
pub use client::{Client, Subscription};
pub use kind::Kind;
pub use node::Identity;
pub use resource::{Decoder, Resource};
pub use session::{Protocol, Session};
pub use snapshot::Snapshot;
pub use store::{Answer, Judge, Store};
#[cfg(feature = "client")]
pub use transport::Settings;
