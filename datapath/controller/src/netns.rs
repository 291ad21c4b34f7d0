//! A thread that lives in a pod's network namespace and makes sockets there.
//!
//! A socket belongs to the namespace of the thread that creates it, for ever; the controller's other threads may use it
//! from outside. So one thread per pod enters the namespace once and serves requests.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use nix::sched::{CloneFlags, setns};

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the thread; the thread ends when it is dropped.
pub struct Netns {
    jobs: Sender<Job>,
}

impl Netns {
    /// Enters the namespace at `path` (for example `/proc/<pid>/ns/net`).
    ///
    /// # Errors
    /// If the path cannot be opened or is not a network namespace.
    pub fn enter(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let (jobs, work) = channel::<Job>();
        let (entered, result) = channel();
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let outcome = setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
                let failed = outcome.is_err();
                if entered.send(outcome).is_err() || failed {
                    return;
                }
                while let Ok(job) = work.recv() {
                    job();
                }
            })?;
        result.recv().map_err(|_| gone())??;
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
}

fn gone() -> io::Error {
    io::Error::other("the thread of the network namespace is gone")
}
