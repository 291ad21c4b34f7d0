//! Sessions over the network, on a thread of their own: what a control plane sends is decoded and judged there, never on
//! the threads that serve traffic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::backoff::{Backoff, REFUSED_MAX, UNREACHABLE_MAX};
use crate::session::Status;
use crate::transport::{Connection, Duplex, Settings, TransportError};
use crate::{Decoder, Identity, Judge, Session, Snapshot};

/// Speaks to one control plane for any number of pods. Ends when dropped.
pub struct Client {
    handle: Handle,
    connection: Arc<Connection>,
    decoder: Arc<Decoder>,
    judge: Arc<dyn Judge + Send + Sync>,
    settings: Settings,
    _stop: oneshot::Sender<()>,
}

/// One pod's configuration, kept up to date. Its stream ends when it is dropped.
pub struct Subscription {
    session: Arc<Mutex<Session>>,
    snapshots: watch::Receiver<Option<Snapshot>>,
    task: AbortHandle,
}

impl Client {
    /// Starts the thread; connects when there is a pod to speak for. `judge` is asked about every resource.
    ///
    /// # Errors
    /// If the settings can't be used, or the thread can't be started.
    pub fn start(
        settings: Settings,
        judge: Arc<dyn Judge + Send + Sync>,
    ) -> Result<Self, TransportError> {
        settings.check()?;
        let failed =
            |error: std::io::Error| TransportError::Settings(format!("no thread for xDS: {error}"));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new()
            .name("xds".to_owned())
            .spawn(move || {
                // Dropped: the client is gone.
                let _ = runtime.block_on(stopped);
            })
            .map_err(failed)?;
        Ok(Self {
            handle,
            connection: Arc::new(Connection::new(settings.clone())),
            decoder: Arc::default(),
            judge,
            settings,
            _stop: stop,
        })
    }

    /// Opens a stream for this pod, and another one each time it ends.
    pub fn subscribe(&self, identity: &Identity) -> Subscription {
        let session = Session::new(self.settings.protocol, identity, Arc::clone(&self.decoder));
        let session = Arc::new(Mutex::new(session));
        let (publish, snapshots) = watch::channel(None);
        let driver = Driver {
            node: identity.id(),
            session: Arc::clone(&session),
            connection: Arc::clone(&self.connection),
            judge: Arc::clone(&self.judge),
            publish,
        };
        let task = self.handle.spawn(driver.run()).abort_handle();
        Subscription {
            session,
            snapshots,
            task,
        }
    }

    /// How many different resources all pods' sessions hold.
    pub fn resources(&self) -> usize {
        self.decoder.held()
    }

    /// How many connections were made so far: one, unless they broke.
    pub fn connections(&self) -> u64 {
        let connection = Arc::clone(&self.connection);
        let (answer, answered) = std::sync::mpsc::channel();
        self.handle
            .spawn(async move { answer.send(connection.made().await) });
        answered.recv().unwrap_or_default()
    }
}

impl Subscription {
    /// The states in force, the last one first; none before the first is complete.
    pub fn snapshots(&self) -> watch::Receiver<Option<Snapshot>> {
        self.snapshots.clone()
    }

    /// How the stream is doing.
    pub fn status(&self) -> Status {
        locked(&self.session).status(Instant::now())
    }

    /// Reads the session: each resource with version, answer and what is in force.
    pub fn read<T>(&self, read: impl FnOnce(&Session) -> T) -> T {
        read(&locked(&self.session))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drives one session.
struct Driver {
    node: String,
    session: Arc<Mutex<Session>>,
    connection: Arc<Connection>,
    judge: Arc<dyn Judge + Send + Sync>,
    publish: watch::Sender<Option<Snapshot>>,
}

impl Driver {
    async fn run(self) {
        let mut backoff = Backoff::default();
        let mut reported = String::new();
        loop {
            let error = self.stream(&mut backoff).await;
            locked(&self.session).disconnected(Instant::now(), &error.to_string());
            if reported != error.to_string() {
                warn!(node = %self.node, %error, "no stream: what was served stays in force");
                reported = error.to_string();
            }
            let most = if error.refused() {
                REFUSED_MAX
            } else {
                UNREACHABLE_MAX
            };
            tokio::time::sleep(backoff.wait(most, rand::random())).await;
        }
    }

    /// One stream, from its first request to its end.
    async fn stream(&self, backoff: &mut Backoff) -> TransportError {
        let (requests, outgoing) = mpsc::unbounded_channel();
        locked(&self.session).connected(Instant::now());
        self.transmit(&requests);
        let mut duplex = match self.connection.open(outgoing).await {
            Ok(duplex) => duplex,
            Err(error) => return error,
        };
        info!(node = %self.node, connection = duplex.connection, "stream open");
        let error = self.converse(&mut duplex, &requests, backoff).await;
        self.connection.lost(duplex.connection, &error).await;
        error
    }

    async fn converse(
        &self,
        duplex: &mut Duplex,
        requests: &mpsc::UnboundedSender<crate::session::Request>,
        backoff: &mut Backoff,
    ) -> TransportError {
        loop {
            let timeout = locked(&self.session).poll_timeout();
            let response = match timeout {
                Some(at) => tokio::time::timeout_at(at.into(), duplex.responses.next())
                    .await
                    .ok(),
                None => Some(duplex.responses.next().await),
            };
            let now = Instant::now();
            match response {
                Some(Ok(response)) => {
                    backoff.succeeded();
                    locked(&self.session).received(response, &*self.judge, now);
                }
                Some(Err(error)) => return error,
                None => locked(&self.session).tick(now),
            }
            self.transmit(requests);
            let snapshot = locked(&self.session).poll_snapshot();
            if let Some(snapshot) = snapshot {
                self.publish.send_replace(Some(snapshot));
            }
        }
    }

    fn transmit(&self, requests: &mpsc::UnboundedSender<crate::session::Request>) {
        let mut session = locked(&self.session);
        while let Some(request) = session.poll_transmit(Instant::now()) {
            // Closed: the stream is over, which its responses say.
            if requests.send(request).is_err() {
                return;
            }
        }
    }
}
