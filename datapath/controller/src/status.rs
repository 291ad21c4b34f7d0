//! Answers `kmeshctl`: one document per connection, on an abstract socket that goes with the daemon.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kmesh_probe::status::{Requests, connections};
use kmesh_probe::{Status, client};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tracing::debug;

use crate::daemon::Daemon;
use crate::upstream;

/// Opens the socket.
///
/// # Errors
/// If another daemon of that name answers in this network namespace.
pub fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind_addr(&client::address(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Answers until the task is aborted.
pub async fn answer(daemon: Arc<Daemon>, listener: UnixListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        let document = serde_json::to_vec(&status(&daemon).await).unwrap_or_default();
        if let Err(error) = stream.write_all(&document).await {
            debug!(%error, "a status reader left early");
        }
    }
}

async fn status(daemon: &Daemon) -> Status {
    let leases = upstream::verify(&daemon.node).await;
    let node = &daemon.node;
    let counts = node.datapath().reason_counts().unwrap_or_default();
    Status {
        name: daemon.options.name.clone(),
        pid: std::process::id(),
        config: daemon.options.config.display().to_string(),
        generation: node.generation().map_or(0, |generation| generation.number),
        refused: daemon.refused(),
        pods: daemon.pod_names(),
        requests: Requests::from_counts(&counts).with_served(node.served.load(Ordering::Relaxed)),
        connections: connections(&counts),
        upstreams: node.upstreams.donated() as u64,
        anchors: node.anchors().len() as u64,
        leases,
    }
}
