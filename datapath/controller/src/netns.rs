//! A thread that lives in a pod's network namespace and makes sockets there.
//!
//! A socket belongs to the namespace of the thread that creates it, for ever; the controller's other threads may use it
//! from outside. So one thread per pod enters the namespace once and serves requests. Whatever of a pod may be slow happens there too,
//! so that a slow pod makes nobody wait who does not want something of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the thread; the thread ends when it is dropped.
pub struct Netns {
    jobs: Sender<Job>,
}

impl Netns {
    /// Starts a thread, still in the daemon's own namespace; a job moves it ([`enter`]).
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (jobs, work) = channel::<Job>();
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                while let Ok(job) = work.recv() {
                    job();
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs `work` inside the namespace and waits for its result. Meant for what takes microseconds: making sockets.
    ///
    /// # Errors
    /// If the thread is gone.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (sender, result) = channel();
        let job: Job = Box::new(move || {
            // The receiver waits below; if it is gone nobody needs the result.
            let _ = sender.send(work());
        });
        self.jobs.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// Runs `work` inside the namespace, however long it takes.
    ///
    /// # Errors
    /// If the thread is gone, which it also is when `work` panicked.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (sender, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // As above.
            let _ = sender.send(work());
        });
        self.jobs.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }
}

/// Moves the calling thread into the network namespace at `path` (for example `/proc/<pid>/ns/net`), for ever; returns its file.
///
/// # Errors
/// If the path cannot be opened or is not a network namespace.
pub fn enter(path: &Path) -> io::Result<File> {
    // Whatever stands at the path must not make the thread wait for a writer.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    setns(&file, CloneFlags::CLONE_NEWNET)?;
    Ok(file)
}

fn gone() -> io::Error {
    io::Error::other("the thread of the network namespace is gone")
}
