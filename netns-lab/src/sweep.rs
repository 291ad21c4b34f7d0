//! Kills everything in a cgroup and removes it with all below. The guardian runs this in a forked child of a
//! possibly multi-threaded process, so **nothing here allocates, locks or panics**; `down` and `gc` use it too.

use std::{
    ffi::CStr,
    os::fd::{AsRawFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, read, unlinkat, write},
};

/// How deep cgroups may be nested in a lab's directory; deeper ones are left and reported as busy.
const MAX_DEPTH: usize = 8;
/// Longest wait between two attempts; an event of the kernel ends it earlier.
const RETRY_MS: i32 = 20;
/// `d_type` and `d_name` in `struct linux_dirent64`, after two u64 and a u16 length (at 16).
const DIRENT_TYPE: usize = 18;
const DIRENT_NAME: usize = 19;

/// Kills what is in `parent/name`, waits until it is gone, removes the directory. It is no error if there is none.
///
/// # Errors
/// `EBUSY` if processes are left after `patience`; otherwise the errno of the step that failed.
pub(crate) fn sweep(parent: BorrowedFd<'_>, name: &CStr, patience: Duration) -> Result<(), Errno> {
    let started = Instant::now();
    loop {
        let directory = match openat(
            parent,
            name,
            OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Err(Errno::ENOENT) => return Ok(()),
            opened => opened?,
        };
        match kill_all(&directory) {
            Err(Errno::ENOENT | Errno::ENODEV) | Ok(()) => {}
            Err(errno) => return Err(errno),
        }
        remove_children(&directory, 0);
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if started.elapsed() < patience => wait_for_event(&directory),
            Err(errno) => return Err(errno),
        }
    }
}

fn kill_all(directory: impl std::os::fd::AsFd) -> Result<(), Errno> {
    let kill = openat(
        directory,
        c"cgroup.kill",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    write(&kill, b"1").map(drop)
}

/// Removes empty cgroups below, deepest first. What can't be removed yet makes the parent's rmdir say EBUSY,
/// and the caller tries again, so errors (and entries skipped because the directory changed) don't matter here.
fn remove_children(directory: &std::os::fd::OwnedFd, depth: usize) {
    let mut buffer = [0_u8; 2048];
    loop {
        // SAFETY: the buffer is writable for the length given, and the fd is open.
        let filled = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                directory.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        let Some(mut entries) = usize::try_from(filled)
            .ok()
            .filter(|n| *n > 0)
            .and_then(|n| buffer.get(..n))
        else {
            return;
        };
        while let Some((entry, rest)) = next_entry(entries) {
            entries = rest;
            let Some(name) = child_directory(entry) else {
                continue;
            };
            if depth < MAX_DEPTH
                && let Ok(child) = openat(
                    directory,
                    name,
                    OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
            {
                remove_children(&child, depth + 1);
            }
            let _ = unlinkat(directory, name, UnlinkatFlags::RemoveDir);
        }
    }
}

/// Splits off the first `struct linux_dirent64`.
fn next_entry(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]) as usize;
    if length <= DIRENT_NAME {
        return None;
    }
    entries.split_at_checked(length)
}

/// The name, if the entry is a directory other than `.` and `..`.
fn child_directory(entry: &[u8]) -> Option<&CStr> {
    if *entry.get(DIRENT_TYPE)? != libc::DT_DIR {
        return None;
    }
    let name = CStr::from_bytes_until_nul(entry.get(DIRENT_NAME..)?).ok()?;
    (name != c"." && name != c"..").then_some(name)
}

/// Waits for a change of `cgroup.events` (the last process has gone), at most [`RETRY_MS`].
fn wait_for_event(directory: &std::os::fd::OwnedFd) {
    let Ok(events) = openat(directory, c"cgroup.events", OFlag::O_CLOEXEC, Mode::empty()) else {
        return;
    };
    // Reading arms the notification.
    let mut text = [0; 128];
    let _ = read(&events, &mut text);
    let mut poll = libc::pollfd {
        fd: events.as_raw_fd(),
        events: libc::POLLPRI,
        revents: 0,
    };
    // SAFETY: one valid pollfd, whose fd outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, RETRY_MS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirent(kind: u8, name: &str, length: u16) -> Vec<u8> {
        let mut entry = vec![0; usize::from(length)];
        entry[16..18].copy_from_slice(&length.to_ne_bytes());
        entry[DIRENT_TYPE] = kind;
        entry[DIRENT_NAME..DIRENT_NAME + name.len()].copy_from_slice(name.as_bytes());
        entry
    }

    #[test]
    fn only_real_child_directories_are_taken() {
        let all = [
            dirent(libc::DT_DIR, ".", 24),
            dirent(libc::DT_REG, "cgroup.procs", 32),
            dirent(libc::DT_DIR, "client", 32),
            dirent(libc::DT_DIR, "..", 24),
        ]
        .concat();
        let (mut rest, mut found) = (all.as_slice(), Vec::new());
        while let Some((entry, next)) = next_entry(rest) {
            found.extend(child_directory(entry));
            rest = next;
        }
        assert_eq!(found, [c"client"]);
    }

    #[test]
    fn a_broken_buffer_ends_the_walk() {
        assert!(next_entry(&[]).is_none());
        assert!(next_entry(&dirent(libc::DT_DIR, "x", 24)[..20]).is_none());
        assert!(
            next_entry(&[0; 64]).is_none(),
            "a length of zero must not loop"
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_swept() {
        let root = std::fs::File::open("/tmp").unwrap();
        let root = std::os::fd::AsFd::as_fd(&root);
        assert_eq!(
            sweep(root, c"netns-lab-no-such-directory", Duration::ZERO),
            Ok(())
        );
    }
}
