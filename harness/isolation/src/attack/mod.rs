//! What a pod can do to others, without any right on the node.

mod flood;
mod leave;
mod loopback;
mod own;
mod raw;
mod thief;

use serde::{Deserialize, Serialize};

pub use flood::{Flood, flood};
pub use leave::{Leave, leave};
pub use own::{mptcp, reuse, selves};
pub use raw::forge;
pub use thief::{Ends, thief};

/// What an attacker did, and got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deeds {
    /// Connections that it made, or packets that it forged.
    pub made: u64,
    /// Connections or requests that it was refused, or that broke off.
    pub refused: u64,
    /// Requests of others that came to it.
    pub taken: u64,
    /// Answers to others, or to other requests, that came to it.
    pub foreign: u64,
}

impl Deeds {
    /// Adds what another attacker did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.made += other.made;
        self.refused += other.refused;
        self.taken += other.taken;
        self.foreign += other.foreign;
    }
}
