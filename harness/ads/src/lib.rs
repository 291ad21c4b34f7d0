//! A control plane for tests.
//!
//! ```text
//!  World (resources with versions) <- recorded responses, synthetic meshes
//!    '-- Conversation: one stream's state, Delta or SotW, with quirks; no I/O
//!          |-- Link: joined to a client's session under a clock of its own
//!          '-- serve: over gRPC
//! ```
//!
//! [`cases`] is the acceptance list: each public report as a function that says what went wrong.

pub mod cases;
pub mod conversation;
pub mod link;
pub mod network;
pub mod serve;
pub mod synthetic;
pub mod verify;
pub mod world;

pub use conversation::{Conversation, Quirks};
pub use link::Link;
pub use serve::Server;
pub use world::World;
