//! The user-space path: everything that the kernel passes instead of guessing.
//!
//! A passed request arrives at the pod's anchor, is decided by the same code and tables as in the kernel, and is served
//! over an upstream that the kernel gets afterwards.

mod anchor;
mod exchange;
mod head;
mod relay;
mod serve;

pub use self::anchor::{Anchor, accept};
pub use self::exchange::Idle;
pub use self::relay::{cut, relay, reset};
