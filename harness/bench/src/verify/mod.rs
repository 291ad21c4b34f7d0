//! `verify`: the judges of routing decisions against each other, and the byte streams against their plan.

mod bulk;
mod decisions;
mod peers;
mod streams;

pub use bulk::{BulkOutcome, bulk};
pub use decisions::{Options, Outcome, decisions};
pub use peers::{PeersOutcome, peers};
pub use streams::{StreamOptions, StreamOutcome, streams};
