//! Which accepted socket is the far end of an upstream.
//!
//! Addresses prove nothing: any pod can have any address in a namespace that it controls. So an announced connection is recognised in the
//! announced pod's namespace only, and believed only if its two ends count the same bytes: both initial sequence numbers are 32 bits that
//! the kernels of client and server draw by secrets (RFC 6528), and nobody but the two ends, and who sees their packets, knows them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use kmesh_api::pool::Sequences;
use tokio::net::TcpStream;
use tracing::warn;

use super::Record;
use crate::defence::{Defence, Without};

/// What the upstream's own socket counts, right after its handshake and before anything is sent on it.
///
/// # Errors
/// What the socket says; reading them takes `CAP_NET_ADMIN` over its namespace (`TCP_REPAIR`).
pub(super) fn sequences(stream: &TcpStream) -> io::Result<Sequences> {
    // include/uapi/linux/tcp.h
    const TCP_RECV_QUEUE: libc::c_int = 1;
    const TCP_SEND_QUEUE: libc::c_int = 2;
    let _repairing = Repairing::begin(stream)?;
    set(stream, libc::TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)?;
    let sent = get(stream, libc::TCP_QUEUE_SEQ)?;
    set(stream, libc::TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)?;
    let received = get(stream, libc::TCP_QUEUE_SEQ)?;
    Ok(Sequences { sent, received })
}

/// The server's socket on this node that claims to be the far end, if it is.
pub(super) fn server(record: Record, own: Sequences, without: &Without) -> Option<(u64, u64)> {
    let claim = record.claim()?;
    if claim.sequences.is_mirrored_by(own) || without.is_off(Defence::Sequences) {
        return Some((claim.server, claim.socket));
    }
    warn!(
        ?claim.sequences,
        ?own,
        "a socket has an upstream's addresses and is not its far end: the upstream is taken for one to another node"
    );
    None
}

/// A socket in repair mode; out of it when dropped, without the window probe that ends a real repair.
struct Repairing<'a>(&'a TcpStream);

impl<'a> Repairing<'a> {
    fn begin(stream: &'a TcpStream) -> io::Result<Self> {
        set(stream, libc::TCP_REPAIR, 1)?;
        Ok(Self(stream))
    }
}

impl Drop for Repairing<'_> {
    fn drop(&mut self) {
        const TCP_REPAIR_OFF_NO_WP: libc::c_int = -1;
        if let Err(error) = set(self.0, libc::TCP_REPAIR, TCP_REPAIR_OFF_NO_WP) {
            warn!(%error, "an upstream stays in repair mode");
        }
    }
}

fn set(socket: impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: a live descriptor, and the value is as long as said.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn get(socket: impl AsFd, option: libc::c_int) -> io::Result<u32> {
    let mut value = 0_u32;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: a live descriptor; the pointers are to live variables of the size said.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if failed == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}
