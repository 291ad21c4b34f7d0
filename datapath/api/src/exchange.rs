//! One client connection's progress: kept in the client socket's local storage, touched only under its socket lock.

use crate::Address;
use crate::head::Head;
use crate::limits::HEAD_MAX;

/// Bytes of the current message go to the leased upstream.
pub const MODE_KERNEL: u32 = 0;
/// Bytes of the current message go to the anchor.
pub const MODE_USER: u32 = 1;
/// All bytes go to the anchor from here on: the kernel lost the message boundaries or the client pipelines.
pub const MODE_PINNED: u32 = 2;

/// A client socket under the mesh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Client {
    /// The socket's cookie: its key in `CLIENTS`.
    pub cookie: u64,
    /// The service address the application asked for; what `getpeername` answers.
    pub original: Address,
    /// The pod's index.
    pub pod: u32,
    /// 1 once the connection is anchored.
    pub anchored: u32,
    /// One of the `MODE_*` numbers.
    pub mode: u32,
    /// Request bytes still to come for the current message.
    pub remaining: u64,
    /// The slot last leased.
    pub slot: u32,
    /// Listener index in the image of `generation`.
    pub listener: u32,
    /// Number of that lease; 0 = never leased.
    pub lease: u64,
    /// Generation that `listener` belongs to.
    pub generation: u64,
    /// Requests passed to the anchor so far.
    pub passed: u64,
    /// Generation whose tables began to scan a head that comes in pieces, while more of it is to come; 0 = none is.
    pub heading: u64,
    /// Bytes of the message at hand that follow a redirected part of it; 0 = no part of it was redirected.
    pub rest: u32,
    /// Bytes of the message at hand that the current verdict is about.
    pub part: u32,
    /// 1 if the current verdict is a redirect to an upstream.
    pub redirected: u32,
    /// Padding; zero.
    pub reserved: u32,
    /// Scratch for the request head.
    pub head: Head<HEAD_MAX>,
}

/// A server's accepted socket that a leased upstream ends in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    /// The socket's cookie.
    pub cookie: u64,
    /// Its slot in `UPSTREAMS`.
    pub slot: u32,
    /// Bytes of the message at hand that follow the end of a response; 0 = none.
    pub rest: u32,
}

/// What a passed request must wait for: value of `WAITING`, keyed by the client's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// The lease that was in flight when the client pipelined the passed request.
    pub lease: u64,
    /// The slot of that lease.
    pub slot: u32,
    /// Padding; zero.
    pub reserved: u32,
}

/// How far user space has answered a client: value of `ANSWERED`, keyed by the client's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// Passed requests answered completely.
    pub requests: u64,
    /// Bytes written to the anchor's socket in all.
    pub bytes: u64,
}
