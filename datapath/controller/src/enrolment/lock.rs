//! One daemon for a cgroup: locks in a folder that only the daemon's user can open.
//!
//! A lock on something that a pod can open, such as its cgroup, is one that the pod can hold.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// A lock that this process has; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Locks `key` in `folder`; `None` if another process has it.
    ///
    /// # Errors
    /// If the folder does not take the lock's file.
    pub fn take(folder: &Path, key: &str) -> io::Result<Option<Self>> {
        let path = folder.join(key);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)?;
            let number = file.metadata()?.ino();
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(error.into()),
            };
            // Whoever had it before removed the file with it: a lock on a file without a name keeps nobody away.
            if fs::metadata(&path).is_ok_and(|now| now.ino() == number) {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is held, so that no other file of this name can be meant. One that stays is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_lock_is_one_holders_at_a_time_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path(), "7").unwrap();
        assert!(first.is_some());
        assert!(Lock::take(folder.path(), "7").unwrap().is_none(), "held");
        assert!(Lock::take(folder.path(), "8").unwrap().is_some(), "another");
        drop(first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Lock::take(folder.path(), "7").unwrap().is_some(), "again");
    }

    #[test]
    fn holders_that_come_and_go_never_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, most, taken) = Default::default();
        let (inside, most, taken): (AtomicU32, AtomicU32, AtomicU32) = (inside, most, taken);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if let Some(_lock) = Lock::take(folder.path(), "7").unwrap() {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            taken.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert!(taken.into_inner() > 4);
    }
}
