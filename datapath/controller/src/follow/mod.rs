//! The files that the daemon follows: when they change, and what is in them.
//!
//! A file that vanishes, is replaced by something that is no file, or is too large is refused like one with a mistake in it: what
//! runs goes on, and the next good version takes effect.

mod read;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use self::read::{FileError, read};

/// How often a file is looked at without being told that it changed: its directory may have been replaced, or its file system does not
/// tell.
const LOOK: Duration = Duration::from_secs(1);

/// When it or its permissions changed (seconds, nanoseconds), how large and which: what tells a changed file.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let now = std::fs::metadata(path).ok()?;
    Some((now.ctime(), now.ctime_nsec(), now.len(), now.ino()))
}

/// A file that is followed.
pub struct Followed {
    path: PathBuf,
    seen: Stamp,
    /// Changes with every SIGHUP.
    asked: watch::Receiver<u64>,
    told: Option<Told>,
    /// Whether it is to be read again although it has not changed.
    again: bool,
}

impl Followed {
    /// Follows the file at `path`, which is about to be read; whoever changes `asked` has it read again.
    pub fn new(path: &Path, asked: watch::Receiver<u64>) -> Self {
        Self {
            path: path.to_owned(),
            seen: stamp(path),
            asked,
            told: None,
            again: false,
        }
    }

    /// The file could not be read, which may have nothing to do with the file: it counts as changed when it is looked at next.
    pub fn try_again(&mut self) {
        self.again = true;
    }

    /// Waits until the file has changed or somebody asks for it.
    pub async fn changed(&mut self) {
        loop {
            if self.told.is_none() {
                // Without it the file is looked at all the same.
                self.told = Told::new(&self.path).ok();
            }
            let now = stamp(&self.path);
            if now != self.seen {
                self.seen = now;
                self.again = false;
                return;
            }
            let told = async {
                if let Some(told) = self.told.as_mut() {
                    timeout(LOOK, told.wait()).await.unwrap_or(Ok(()))
                } else {
                    sleep(LOOK).await;
                    Ok(())
                }
            };
            tokio::select! {
                told = told => if told.is_err() {
                    self.told = None;
                },
                asked = self.asked.changed() => match asked {
                    Ok(()) => {
                        self.seen = stamp(&self.path);
                        self.again = false;
                        return;
                    }
                    // Nobody can ask any more.
                    Err(_) => sleep(LOOK).await,
                },
            }
            if std::mem::take(&mut self.again) {
                self.seen = stamp(&self.path);
                return;
            }
        }
    }
}

/// Says when something in a file's directory changes.
struct Told {
    watch: Inotify,
    /// Readable when `watch` is.
    ready: AsyncFd<OwnedFd>,
}

impl Told {
    fn new(path: &Path) -> io::Result<Self> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        watch.add_watch(directory.unwrap_or(Path::new(".")), flags)?;
        let ready = watch.as_fd().try_clone_to_owned()?;
        Ok(Self {
            // SAFETY: the descriptor is owned by the value and stays open as long as it.
            ready: unsafe { AsyncFd::register(ready) }?,
            watch,
        })
    }

    /// Waits until something in the directory changed.
    ///
    /// # Errors
    /// If it is not the directory at that path any more.
    async fn wait(&mut self) -> io::Result<()> {
        let gone = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        loop {
            let mut ready = self.ready.readable().await?;
            match self.watch.read_events() {
                Ok(events) if events.iter().any(|event| event.mask.intersects(gone)) => {
                    return Err(io::ErrorKind::NotFound.into());
                }
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn noticed(followed: &mut Followed, what: &str) {
        let patience = Duration::from_secs(10);
        let noticed = timeout(patience, followed.changed()).await;
        assert!(noticed.is_ok(), "{what}");
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("directory");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("file");
        let (ask, asked) = watch::channel(0);
        let mut followed = Followed::new(&path, asked);
        fs::write(&path, "1").unwrap();
        noticed(&mut followed, "created").await;
        fs::write(&path, "22").unwrap();
        noticed(&mut followed, "written").await;
        fs::write(directory.join("new"), "333").unwrap();
        fs::rename(directory.join("new"), &path).unwrap();
        noticed(&mut followed, "replaced").await;
        fs::remove_file(&path).unwrap();
        noticed(&mut followed, "removed").await;
        fs::remove_dir(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(&path, "4444").unwrap();
        noticed(&mut followed, "in another directory of that name").await;
        fs::write(&path, "55555").unwrap();
        noticed(&mut followed, "written there").await;
        ask.send_replace(1);
        noticed(&mut followed, "asked for").await;
        let quiet = timeout(Duration::from_millis(50), followed.changed()).await;
        assert!(quiet.is_err(), "nothing happened");
    }
}
