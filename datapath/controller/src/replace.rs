//! Restart and upgrade without a failed request: the successor takes the new connections, the predecessor keeps its own.
//!
//! ```text
//!  successor                                        predecessor
//!  loads, compiles          -- POST /replace -->    releases its name and locks
//!  enrols the pods          <-- 200 --
//!  (both are attached)      -- POST /attached -->   detaches its connect programs from these pods
//!  serves                   <-- 200 --              leaves when its last connection ends
//! ```
//! Each has its own programs and maps, so the two may be of different versions, and a connection stays with the programs it
//! began with. While both are attached the older program routes a connection first, and the newer one finds an address that
//! is no service's. Envoy's hot restart works the same way, its `--parent-shutdown-time-s` is `--drain` here.
//!
//! If the successor fails before it is attached, the predecessor takes everything back. A pod that the successor could not enrol stays
//! with the predecessor until the successor, which goes on trying, has it, or until `--drain` is over.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::Method;
use kmesh_probe::client;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::admin::{Client, DAEMON, PATIENCE};
use crate::daemon::Daemon;

/// A successor asks for room.
pub struct Offer {
    /// There is room.
    pub yours: oneshot::Sender<()>,
    /// What it has enrolled, again whenever that changes; ends with the successor.
    pub attached: mpsc::Receiver<Attached>,
}

/// A successor has pods.
pub struct Attached {
    /// The ids of their cgroups.
    pub cgroups: BTreeSet<u64>,
    /// They are its own.
    pub done: oneshot::Sender<()>,
}

/// The successor's side: between [`Successor::announce`] and [`Successor::attached`] the pods are enrolled.
pub struct Successor(Client);

impl Successor {
    /// Asks the daemon of that name to make room; `None` if there is none.
    ///
    /// # Errors
    /// If it does not answer as it should.
    pub async fn announce(run_dir: &Path, name: &str) -> Result<Option<Self>> {
        let path = client::socket(run_dir, name, DAEMON)?;
        let Some(mut predecessor) = Client::connect(&path).await? else {
            return Ok(None);
        };
        let answer = predecessor.call(Method::POST, "/replace", "").await;
        answer.context("the kmeshd that runs does not make room")?;
        Ok(Some(Self(predecessor)))
    }

    /// New connections of the pods with these cgroups are this daemon's from here on.
    ///
    /// # Errors
    /// If the predecessor is gone or silent; then it is not in the way either.
    pub async fn attached(&mut self, cgroups: &BTreeSet<u64>) -> Result<()> {
        let cgroups = serde_json::to_vec(cgroups)?;
        self.0.call(Method::POST, "/attached", cgroups).await?;
        Ok(())
    }
}

/// The predecessor's side: returns when a successor has taken over and the last connection has ended, or after `drain`.
pub async fn follow(daemon: Arc<Daemon>, mut offers: mpsc::Receiver<Offer>, drain: Duration) {
    loop {
        let Some(mut offer) = offers.recv().await else {
            // The daemon holds the other end.
            return std::future::pending().await;
        };
        daemon.set_leaving(true).await;
        // If it is gone by now, nothing comes.
        let _ = offer.yours.send(());
        let Ok(Some(attached)) = timeout(PATIENCE, offer.attached.recv()).await else {
            warn!("the successor failed: staying");
            daemon.set_leaving(false).await;
            continue;
        };
        info!("replaced: leaving with the last connection");
        let end = Instant::now() + drain;
        let _ = timeout(drain, hand_over(&daemon, attached, offer.attached)).await;
        drained(&daemon, end).await;
        return;
    }
}

/// Leaves pods to the successor until it has all of them or is gone.
async fn hand_over(daemon: &Daemon, first: Attached, mut more: mpsc::Receiver<Attached>) {
    let mut next = Some(first);
    while let Some(Attached { cgroups, done }) = next {
        let left = daemon.enrolment.forgo_connects(&cgroups).await;
        // The successor serves whether it hears this or not.
        let _ = done.send(());
        if left.is_empty() {
            return;
        }
        let left = left.join(" ");
        warn!("staying for pods that the successor has not enrolled yet: {left}");
        next = more.recv().await;
    }
    warn!("the successor is gone");
}

/// Waits for the last anchored connection, but not beyond `deadline`.
async fn drained(daemon: &Daemon, deadline: Instant) {
    const LOOK: Duration = Duration::from_millis(200);
    /// 3 s: longer than a connection takes from its first packet to the anchor, also if that is sent twice again (RFC 6298 section 2.1).
    const QUIET: u32 = 15;
    let mut quiet = 0;
    while quiet < QUIET && Instant::now() < deadline {
        sleep(LOOK).await;
        let node = &daemon.node;
        let anchored = node.datapath().anchored.keys().count();
        let anchors = node.anchors().len();
        debug!(anchored, anchors, "connections are left");
        let idle = anchored == 0 && anchors == 0;
        quiet = if idle { quiet + 1 } else { 0 };
    }
}
