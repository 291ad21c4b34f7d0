//! How much a connection of the user-space path may hold.
//!
//! Left alone, the kernel grows a socket's buffers with its throughput, to megabytes. Here each client has two sockets more than
//! without a mesh, and behind a client that stops reading they all fill up. Inside a node, or between two near ones, small buffers
//! carry as much as large ones: a window is empty again after a round trip of tens of microseconds.

use std::io;

use kmesh_api::limits::{LARGE_MAX as LARGE_MESSAGE, UPSTREAM_WINDOW};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;
use socket2::SockRef;
use std::os::fd::AsFd;

/// A connection's buffers, bytes as `SO_RCVBUF` and `SO_SNDBUF` take them; the kernel doubles them for its bookkeeping
/// (`man 7 socket`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// `None`: as large as the kernel makes it.
    receive: Option<usize>,
    send: usize,
}

/// Longest segment between a client and its anchor, bytes. The loopback device has segments of 64 KiB, as much as an anchor's send
/// buffer: then each waits for the acknowledgement of the one before, which the client delays for 40 ms because it has not
/// seen two (`__tcp_ack_snd_check`).
pub const ANCHOR_SEGMENT: u32 = 16 << 10;

/// Clients of large responses that have a large send buffer at once: with few, speed counts, with many, memory.
pub const LARGE_MAX: usize = 16;

impl Buffers {
    /// Towards the client. What it receives is the kernel's to bound (`tcp_rmem`): when a receive buffer of fixed size overflows,
    /// which small segments behind large ones can make it do, Linux takes the window back that it gave
    /// (`tcp_select_window`, `ICSK_ACK_NOMEM`), and since 6.17 `tcp_sequence` drops what was sent into it with the ACKs it
    /// carries (commits 1d2fbaad7cd8, 9ca48d616ed7; 0e24d17bd966 of 2026 accepts them again). Then an answer that is not acknowledged and a pipelined request that is not read wait for each other.
    pub const ANCHOR: Self = Self {
        receive: None,
        send: 48 << 10,
    };
    /// Towards the client of a large response, for [`LARGE_MAX`] of them at once. Linux does not go beyond `net.core.wmem_max`, 208 KiB
    /// where nobody changed it.
    pub const ANCHOR_LARGE: Self = Self {
        receive: None,
        send: 512 << 10,
    };
    /// Towards the server.
    pub const UPSTREAM: Self = Self {
        receive: Some(UPSTREAM_WINDOW),
        send: 128 << 10,
    };

    /// Fixes the buffers of `socket`.
    ///
    /// # Errors
    /// If the kernel refuses; a limit lower than these (`net.core.rmem_max`, `wmem_max`) is no error but a smaller buffer.
    pub fn fix(self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        if let Some(receive) = self.receive {
            socket.set_recv_buffer_size(receive)?;
        }
        socket.set_send_buffer_size(self.send)
    }

    /// Lets the send buffer of `socket` hold the largest message that the kernel may redirect to it. A redirect finds the other socket's
    /// buffer full only to say `EAGAIN` to a sender whose own socket stays writable (`tcp_bpf_sendmsg_redir`), so it must never be.
    ///
    /// # Errors
    /// If the kernel refuses, which takes `CAP_NET_ADMIN` because `net.core.wmem_max` does not count.
    pub fn hold_any(socket: &impl AsFd) -> io::Result<()> {
        // Doubled by the kernel, so there is as much again for the bookkeeping.
        setsockopt(socket, SndBufForce, &(LARGE_MESSAGE as usize))?;
        // The pod's `tcp_notsent_lowat` would be a limit of its own (`tcp_stream_memory_free`).
        SockRef::from(socket).set_tcp_notsent_lowat(u32::MAX)
    }
}
