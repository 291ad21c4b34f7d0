//! `verify`: the judges of routing decisions against each other.

mod decisions;

pub use decisions::{Options, Outcome, decisions};
