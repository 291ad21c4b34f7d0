//! `verify`: the judges of routing decisions against each other, the byte streams against their plan, one pod against another,
//! the ADS client against control planes that fail.

mod bulk;
mod decisions;
mod isolation;
mod peers;
mod streams;

use crate::binaries::Programs;
use kmesh_streams::lab;

pub use bulk::{BulkOutcome, bulk};
pub use decisions::{Options, Outcome, decisions};
pub use isolation::{IsolationOptions, IsolationOutcome, PathOutcome, isolation};
pub use peers::{PeersOutcome, peers};
pub use streams::{StreamOptions, StreamOutcome, streams};

/// A lab of ours with these programs; everything else is up to who uses it.
fn options(programs: &Programs) -> lab::Options {
    lab::Options {
        seconds: 0.0,
        seed: 1,
        workers: 0,
        only: None,
        arms: programs.arms.clone(),
        server: programs.streams_server.clone(),
        client: programs.streams_client.clone(),
        http2: false,
    }
}
