//! What the daemon says of itself.

use std::sync::atomic::Ordering;

use kmesh_probe::Status;
use kmesh_probe::status::{Requests, connections};

use crate::daemon::Daemon;
use crate::{log, upstream};

/// The status document.
pub async fn status(daemon: &Daemon) -> Status {
    let leases = upstream::verify(&daemon.node).await;
    let node = &daemon.node;
    let counts = node.datapath().reason_counts().unwrap_or_default();
    Status {
        name: daemon.options.name.clone(),
        pid: std::process::id(),
        config: daemon.options.config.to_string(),
        generation: node.generation().map_or(0, |generation| generation.number),
        refused: daemon.refused(),
        down: daemon.supervisor.report(),
        log: log::counts(),
        pods: daemon.enrolment.names(),
        requests: Requests::from_counts(&counts).with_served(node.served.load(Ordering::Relaxed)),
        connections: connections(&counts),
        upstreams: node.upstreams.donated() as u64,
        anchors: node.anchors().len() as u64,
        leases,
        shares: daemon.enrolment.shares(),
    }
}
