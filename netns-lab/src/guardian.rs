//! The process that cleans up when the lab's owner can't: it survives a SIGKILL of the owner.
//!
//! Namespaces and links live only as long as file descriptors and processes do; what outlives a SIGKILL are running
//! children and cgroup directories. The guardian is forked before the first of them exists, waits for the end of a
//! pipe whose other end only the owner has, then kills and removes the lab's cgroup. A child that was forked but has not
//! yet reached `exec` holds a copy of the owner's end; it joins its cgroup before `exec`, so when the pipe ends
//! every child is either in the cgroup or gone.
//!
//! It is a plain `fork` that goes on with async-signal-safe calls only (a re-exec would need the cooperation of every
//! `main` that links this library). It closes everything but the pipe and the cgroup mount, has its own
//! session, and shares the owner's memory copy-on-write until the lab ends, so bring labs up early in a large process.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, chdir, fork, pipe2, read, setsid},
};

use crate::{error::LabError, sweep::sweep};

/// How long the guardian tries to remove the cgroup of killed processes.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the owner writes when it has cleaned up by itself.
const ALL_DONE: u8 = b'q';

/// The owner's handle of its guardian. Dropping it without [`Guardian::dismiss`] makes the guardian clean up.
#[derive(Debug)]
pub(crate) struct Guardian {
    pid: Pid,
    pipe: File,
}

impl Guardian {
    /// Starts a guardian for the directory `name` below the cgroup2 mount `root`; it need not exist yet.
    pub(crate) fn start(root: &File, name: &CString) -> Result<Self, LabError> {
        let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed("pipe2", e))?;
        // SAFETY: the child runs `watch` only, which makes async-signal-safe calls, allocates nothing and never returns.
        match unsafe { fork() }.map_err(|e| failed("fork", e))? {
            ForkResult::Child => watch(read_end.as_fd(), root.as_fd(), name),
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                pipe: File::from(write_end),
            }),
        }
    }

    /// Ends the guardian: the lab has been taken down by its owner.
    pub(crate) fn dismiss(mut self) {
        // Writing fails only if the guardian has been killed; then it is only reaped. ECHILD: SIGCHLD is ignored.
        let _ = self.pipe.write_all(&[ALL_DONE]);
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }

    /// The guardian's pid, for tests and messages.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }
}

fn failed(call: &'static str, errno: Errno) -> LabError {
    LabError::Guardian {
        call,
        source: errno.into(),
    }
}

/// The child's life. Async-signal-safe throughout.
fn watch(pipe: BorrowedFd<'_>, root: BorrowedFd<'_>, name: &CStr) -> ! {
    // Inherited handlers must not run here, and a Ctrl-C is meant for the owner.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    let _ = setsid();
    let _ = chdir(c"/");
    // SAFETY: PR_SET_NAME reads a NUL-terminated string of at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"netns-lab-guard".as_ptr()) };
    close_all_but(pipe.as_raw_fd(), root.as_raw_fd());
    let mut byte = [0];
    let dismissed = loop {
        match read(pipe, &mut byte) {
            Err(Errno::EINTR) => {}
            Ok(1) if byte == [ALL_DONE] => break true,
            _ => break false,
        }
    };
    let clean = dismissed || sweep(root, name, PATIENCE).is_ok();
    // SAFETY: ends this process at once, without the exit handlers that belong to the owner.
    unsafe { libc::_exit(i32::from(!clean)) }
}

fn close_all_but(a: i32, b: i32) {
    let (low, high) = (a.min(b).unsigned_abs(), a.max(b).unsigned_abs());
    let close = |first: u32, last: u32| {
        if first <= last {
            // SAFETY: this process is a fresh fork and uses none of these descriptors again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    if low > 0 {
        close(0, low - 1);
    }
    close(low + 1, high - 1);
    close(high + 1, u32::MAX);
}
