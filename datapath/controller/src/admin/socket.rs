//! Sockets by path, in folders that only the daemon's user enters; both ends ask the kernel who the other one is.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kmesh_probe::client;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;
use tracing::warn;

use crate::enrolment::Lock;
use crate::rundir;

/// How long accepting rests after a failure: descriptors do not come back by asking at once.
const PAUSE: Duration = Duration::from_millis(50);

/// A listening socket that this process alone has; its name goes when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Given up so that one more connection can be accepted when there are no descriptors.
    spare: Option<fs::File>,
    _lock: Lock,
}

impl Socket {
    /// Listens as `kind` of the daemon `name`.
    ///
    /// # Errors
    /// If somebody else does, or the folder is not the daemon's user's alone.
    pub fn listen(run_dir: &Path, name: &str, kind: &str) -> Result<Self> {
        let path = client::socket(run_dir, name, kind)?;
        let folder = rundir::own(run_dir.to_owned())?.join(name);
        let folder = rundir::own(folder)?;
        let Some(lock) = Lock::take(&folder, &format!("{kind}.lock"))? else {
            bail!(
                "another process is the {kind} of the kmeshd named {name}: give this one another --name, or --replace the one that runs"
            );
        };
        // Left behind by one that was killed: who has the lock has the name.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            path,
            spare: spare(),
            _lock: lock,
        })
    }

    /// The next connection of a process of root's or of this process's user.
    pub async fn accept(&mut self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if self.spare.is_none() {
                        self.spare = spare();
                    }
                    match trusted(&stream) {
                        Ok(()) => return stream,
                        Err(error) => {
                            warn!("{}: refused a process: {error}", self.path.display());
                        }
                    }
                }
                // With the spare descriptor it works at once.
                Err(_) if self.spare.take().is_some() => {}
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // While the lock is held. What cannot be removed is removed by the next who listens.
        let _ = fs::remove_file(&self.path);
    }
}

fn spare() -> Option<fs::File> {
    fs::File::open("/dev/null").ok()
}

/// Checks that the other end is root's or this process's user's.
///
/// # Errors
/// If it is not, naming the user.
pub(super) fn trusted(stream: &UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    client::check_user(peer)
}
