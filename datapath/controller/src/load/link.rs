//! A program's attachment that outlives every socket of the daemon, however the daemon ends.
//!
//! When a process is killed the kernel closes its files in one batch, in an order that is nobody's business (`exit_files`, `task_work_run`).
//! A spliced client learns of its anchor's end by a packet, and without the programs at the device that packet goes nowhere. So the descriptor of
//! such an attachment is not among the daemon's files: it lies in the queue of a socket of its own, and goes when that is closed, after the batch.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use aya::programs::MultiProgLink as _;
use aya::programs::tc::SchedClassifierLink;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// An attached program; detached when this is dropped.
pub(super) struct Link {
    _queue: (UnixStream, UnixStream),
}

impl Link {
    /// Takes an attachment out of the daemon's files.
    ///
    /// # Errors
    /// What the kernel says to `socketpair` or `sendmsg`, or that the attachment has no descriptor (no tcx).
    pub(super) fn keep(link: &SchedClassifierLink) -> io::Result<Self> {
        let descriptor = link.fd().map_err(io::Error::other)?.as_raw_fd();
        let queue = UnixStream::pair()?;
        sendmsg::<()>(
            queue.0.as_raw_fd(),
            &[IoSlice::new(b".")],
            &[ControlMessage::ScmRights(&[descriptor])],
            MsgFlags::empty(),
            None,
        )?;
        Ok(Self { _queue: queue })
    }
}
