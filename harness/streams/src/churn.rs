//! Rewrites the configuration while messages flow, and tells the client which generations may be in force.
//!
//! The client must not accept an answer that was wrong at its time, nor refuse one that was right. So it gets two numbers
//! through a file: the generation that the daemon has confirmed, written after the confirmation, and the newest, written
//! before the daemon can read it. A request is routed by something between the first, read before it is sent, and the
//! second, read when its answer comes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use kmesh_probe::client::StatusError;
use serde_json::Value;

/// How long a configuration stays after it is in force.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the daemon may take to put one in force.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two questions for the daemon's status.
const POLL: Duration = Duration::from_millis(10);

/// The client's side of the file.
#[derive(Debug)]
pub struct Reader<'f>(pub &'f File);

impl Reader<'_> {
    /// The generation that is surely in force, or has been.
    pub fn in_force(&self) -> u64 {
        self.number(0)
    }

    /// The newest generation that may be in force.
    pub fn latest(&self) -> u64 {
        self.number(8)
    }

    fn number(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        // A file of 16 bytes that is open: nothing there can fail but the disk, and 0 to 0 would be found out.
        let _ = self.0.read_exact_at(&mut bytes, at);
        u64::from_le_bytes(bytes)
    }
}

/// Why the configuration could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum ChurnError {
    /// A file could not be written.
    #[error("{path} cannot be written")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The daemon has no status, maybe because it has ended.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The daemon did not take a configuration.
    #[error(
        "kmeshd {daemon} had not put generation {generation} in force after {} s; refused: {refused}",
        PATIENCE.as_secs()
    )]
    NotTaken {
        /// The daemon's name.
        daemon: String,
        /// The generation.
        generation: u64,
        /// What it refuses, if anything.
        refused: String,
    },
}

/// Where things are.
#[derive(Debug)]
pub struct Places<'p> {
    /// Name of the daemon.
    pub daemon: &'p str,
    /// Its configuration file.
    pub config: &'p Path,
    /// The file of the generations.
    pub generations: &'p Path,
}

/// Rewrites until `stop` says something or is dropped. Returns the last generation.
///
/// # Errors
/// [`ChurnError`].
pub fn rewrite(
    places: &Places<'_>,
    resources: impl Fn(u64) -> Value,
    stop: &Receiver<()>,
) -> Result<u64, ChurnError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ChurnError::File { path, source }
    };
    let file = File::options()
        .write(true)
        .open(places.generations)
        .map_err(failed(places.generations))?;
    let tell = |at: u64, generation: u64| {
        file.write_all_at(&generation.to_le_bytes(), at)
            .map_err(failed(places.generations))
    };
    let mut generation = 0;
    while stop.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        let before = kmesh_probe::client::status(places.daemon)?.generation;
        generation += 1;
        tell(8, generation)?;
        replace(places.config, &resources(generation)).map_err(failed(places.config))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = kmesh_probe::client::status(places.daemon)?;
            if status.generation > before {
                break;
            }
            if Instant::now() > deadline {
                return Err(ChurnError::NotTaken {
                    daemon: places.daemon.to_owned(),
                    generation,
                    refused: status.refused.unwrap_or_else(|| "nothing".to_owned()),
                });
            }
            thread::park_timeout(POLL);
        }
        tell(0, generation)?;
    }
    Ok(generation)
}

/// Writes a file so that a reader sees the old or the new one.
///
/// # Errors
/// Of the file system.
pub fn replace(path: &Path, document: &Value) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, document.to_string())?;
    fs::rename(new, path)
}
