//! What the daemon does when it is called.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Call, Service};
use crate::daemon::Daemon;
use crate::replace::{Attached, Offer};
use crate::status::status;

/// One connection to the daemon.
pub struct Calls {
    daemon: Arc<Daemon>,
    /// Set once the other end is a successor; its end says that the successor is gone.
    successor: Mutex<Option<mpsc::Sender<Attached>>>,
}

impl Calls {
    /// A connection on which nothing was said yet.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self {
            daemon,
            successor: Mutex::default(),
        }
    }

    /// Asks the daemon to make room.
    async fn replace(&self) -> Answer {
        let (sender, attached) = mpsc::channel(1);
        let (yours, made_room) = oneshot::channel();
        let offer = Offer { yours, attached };
        if self.daemon.offers.try_send(offer).is_err() || made_room.await.is_err() {
            return Answer::refused("another kmeshd is replacing this one");
        }
        *(self.successor.lock()).unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Answer::ok("")
    }

    /// Passes on which pods the successor has.
    async fn attached(&self, body: &[u8]) -> Answer {
        let cgroups: BTreeSet<u64> = match serde_json::from_slice(body) {
            Ok(cgroups) => cgroups,
            Err(error) => return Answer::senseless(error.to_string()),
        };
        let successor = self.successor.lock();
        let successor = successor.unwrap_or_else(PoisonError::into_inner).clone();
        let (done, left) = oneshot::channel();
        let Some(successor) = successor else {
            return Answer::refused("nobody asked to replace this kmeshd on this connection");
        };
        if successor.send(Attached { cgroups, done }).await.is_err() || left.await.is_err() {
            return Answer::refused("this kmeshd is not being replaced any more");
        }
        Answer::ok("")
    }
}

impl Service for Calls {
    async fn answer(&self, call: Call) -> Answer {
        match (&call.method, call.path.as_str()) {
            (&Method::GET, "/status") => match serde_json::to_vec(&status(&self.daemon).await) {
                Ok(document) => Answer::ok(document),
                Err(error) => Answer::senseless(error.to_string()),
            },
            (&Method::POST, "/replace") => self.replace().await,
            (&Method::POST, "/attached") => self.attached(&call.body).await,
            _ => Answer::unknown(),
        }
    }
}
