//! `verify`: the judges of routing decisions against each other, and the byte streams against their plan.

mod decisions;
mod streams;

pub use decisions::{Options, Outcome, decisions};
pub use streams::{StreamOptions, StreamOutcome, streams};
