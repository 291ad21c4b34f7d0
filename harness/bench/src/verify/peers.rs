//! Real peers through each arm.

use kmesh_streams::lab::CheckError;
use kmesh_streams::peers::{self, Outcome};
use serde::Serialize;

use crate::binaries::Programs;
use crate::summary::Status;

/// What came of it; the object on stdout.
#[derive(Clone, Debug, Serialize)]
pub struct PeersOutcome {
    /// Pairs of a client and a server that came to something in every arm.
    pub compared: usize,
    /// Those with a difference that has no known reason.
    pub mismatches: usize,
    /// Clients that are not installed or not built, by name.
    pub missing: Vec<String>,
    /// Every pair.
    pub peers: Vec<Outcome>,
}

impl PeersOutcome {
    /// Whether every difference has a reason.
    pub fn status(&self) -> Status {
        if self.mismatches == 0 {
            Status::Held
        } else {
            Status::Missed
        }
    }

    /// As a Markdown table.
    pub fn table(&self) -> String {
        peers::table(&self.peers)
    }
}

/// Lets them meet.
///
/// # Errors
/// If an arm can't be brought up.
pub fn peers(arms: &[String], programs: &Programs) -> Result<PeersOutcome, CheckError> {
    let options = super::options(programs);
    let rows = peers::meet(&peers::SERVERS, arms, &options)?;
    let of = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
    let mut missing: Vec<String> = rows
        .iter()
        .filter(|row| row.verdict == "missing")
        .map(|row| format!("{} with {}", row.client, row.server))
        .collect();
    missing.sort();
    Ok(PeersOutcome {
        compared: rows.len() - missing.len(),
        mismatches: of("UNEXPLAINED"),
        missing,
        peers: rows,
    })
}
