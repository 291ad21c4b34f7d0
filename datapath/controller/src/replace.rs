//! Restart and upgrade without a failed request: the successor takes the new connections, the predecessor keeps its own.
//!
//! ```text
//!  successor                                   predecessor
//!  loads, compiles          -- replace -->     releases names and locks
//!  enrols the pods          <-- yours --
//!  (both are attached)      -- attached -->    detaches its connect programs
//!  serves                   <-- done --        leaves when its last connection ends
//! ```
//! Each has its own programs and maps, so the two may be of different versions, and a connection stays with the programs it
//! began with. While both are attached the older program routes a connection first, and the newer one finds an address that
//! is no service's. Envoy's hot restart works the same way, its `--parent-shutdown-time-s` is `--drain` here.
//!
//! If the successor fails before it is attached, the predecessor takes everything back.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::daemon::Daemon;

/// How long the other daemon may take for its part.
const PATIENCE: Duration = Duration::from_secs(30);

fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("kmeshd/{name}/replace"))
}

/// Opens the socket where a successor announces itself.
///
/// # Errors
/// If another daemon of that name listens in this network namespace.
pub fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind_addr(&address(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// One end of the conversation.
struct Conversation(BufReader<UnixStream>);

impl Conversation {
    async fn say(&mut self, word: &str) -> io::Result<()> {
        let line = format!("{word}\n");
        self.0.get_mut().write_all(line.as_bytes()).await
    }

    async fn hear(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line))
            .await
            .with_context(|| format!("the other kmeshd did not say {word:?} in time"))??;
        if line.trim_end() != word {
            bail!(
                "the other kmeshd said {:?} instead of {word:?}",
                line.trim_end()
            );
        }
        Ok(())
    }
}

/// The successor's side: between [`Successor::announce`] and [`Successor::attached`] the pods are enrolled.
pub struct Successor(Conversation);

impl Successor {
    /// Asks the daemon of that name to make room; `None` if there is none.
    ///
    /// # Errors
    /// If it does not answer as it should.
    pub async fn announce(name: &str) -> Result<Option<Self>> {
        let Ok(stream) = std::os::unix::net::UnixStream::connect_addr(&address(name)?) else {
            return Ok(None);
        };
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let mut conversation = Conversation(BufReader::new(stream));
        conversation.say("replace").await?;
        conversation.hear("yours").await?;
        Ok(Some(Self(conversation)))
    }

    /// New connections are this daemon's from here on.
    ///
    /// # Errors
    /// If the predecessor is gone or silent; then it is not in the way either.
    pub async fn attached(mut self) -> Result<()> {
        self.0.say("attached").await?;
        self.0.hear("done").await
    }
}

/// The predecessor's side: returns when a successor has taken over and the last connection has ended, or after `drain`.
///
/// # Errors
/// If the names cannot be taken back from a successor that failed.
pub async fn follow(daemon: Arc<Daemon>, listener: UnixListener, drain: Duration) -> Result<()> {
    let mut listener = Some(listener);
    loop {
        let open = match listener.take() {
            Some(open) => open,
            None => listen(&daemon.options.name)?,
        };
        let Ok((stream, _)) = open.accept().await else {
            listener = Some(open);
            continue;
        };
        // The socket has no file whose permissions would keep others away.
        let own = nix::unistd::geteuid().as_raw();
        if !(stream.peer_cred()).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own) {
            warn!("somebody else's process asked to replace this daemon");
            listener = Some(open);
            continue;
        }
        let mut conversation = Conversation(BufReader::new(stream));
        if conversation.hear("replace").await.is_err() {
            listener = Some(open);
            continue;
        }
        drop(open);
        daemon.set_leaving(true).await;
        let handed = async {
            conversation.say("yours").await?;
            conversation.hear("attached").await
        };
        if let Err(error) = handed.await {
            warn!(
                error = format!("{error:#}"),
                "the successor failed: staying"
            );
            daemon.set_leaving(false).await;
            continue;
        }
        daemon.forgo_connects();
        // The successor serves whether it hears this or not.
        let _ = conversation.say("done").await;
        info!("replaced: leaving with the last connection");
        drained(&daemon, drain).await;
        return Ok(());
    }
}

/// Waits for the last anchored connection, but not longer than `drain`.
async fn drained(daemon: &Daemon, drain: Duration) {
    /// Longer than a connection takes from its first packet to the anchor.
    const LOOK: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + drain;
    let mut quiet = 0;
    while quiet < 2 && Instant::now() < deadline {
        sleep(LOOK).await;
        let node = &daemon.node;
        let anchored = node.datapath().anchored.keys().count();
        let anchors = node.anchors().len();
        debug!(anchored, anchors, "connections are left");
        let idle = anchored == 0 && anchors == 0;
        quiet = if idle { quiet + 1 } else { 0 };
    }
}
