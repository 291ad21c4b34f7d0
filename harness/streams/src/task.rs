//! What the client program can be asked to do in its pod: sockets are governed by the cgroup of the process that makes them,
//! so everything that is to travel through an arm starts there.

use serde::{Deserialize, Serialize};

use crate::bulk::{self, Stall, Transfer};
use crate::client::{self, Job};
use crate::raw::{self, Dialogue};

/// One task; its outcome is one line of JSON on stdout.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// The stream checker's client: [`crate::finding::Tally`].
    Messages(Job),
    /// Bytes as they are: a list of [`raw::Heard`].
    Raw(Vec<Dialogue>),
    /// Readers that do not read: [`bulk::Stalled`].
    Stall(Stall),
    /// Timed transfers: seconds of each.
    Transfer(Transfer),
}

/// Does a task; what it found out, as JSON.
///
/// # Errors
/// If the task can't be done; what the peers do is no error but in the outcome.
pub fn run(task: &Task) -> anyhow::Result<String> {
    Ok(match task {
        Task::Messages(job) => serde_json::to_string(&client::run(job)?)?,
        Task::Stall(task) => serde_json::to_string(&bulk::stall(task)?)?,
        Task::Transfer(task) => serde_json::to_string(&bulk::transfer(task)?)?,
        Task::Raw(dialogues) => serde_json::to_string(&raw::run(dialogues))?,
    })
}
