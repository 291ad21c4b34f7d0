//! The user-space path: everything that the kernel passes instead of guessing.
//!
//! A passed request arrives at the pod's anchor, is decided by the same code and tables as in the kernel, and is served
//! over an upstream that the kernel gets afterwards.

mod accept;
mod age;
mod anchor;
mod anchors;
mod arrive;
mod back;
mod body;
mod carry;
mod cors;
mod exchange;
mod front;
mod head;
mod headers;
mod listening;
mod local;
mod mirror;
mod normal;
mod peek;
mod phrase;
mod plan;
mod relay;
mod reply;
mod retry;
mod rewrite;
mod serve;
mod sniff;
mod spill;
mod stream;
mod time;
mod tunnel;
mod upgrade;

pub use self::accept::accept;
pub use self::age::follow_age;
pub use self::anchor::Anchor;
pub use self::anchors::Anchors;
pub use self::exchange::{Idle, Shared};
pub use self::relay::{cut, relay, reset};
pub use self::rewrite::Rewrite;
