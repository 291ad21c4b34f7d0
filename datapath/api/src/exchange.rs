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

/// [`Client::anchored`]: the connection was sent to the pod's anchor, and its socket is in a socket map.
pub const ANCHORED: u32 = 1;
/// [`Client::anchored`]: the connection is rewritten packet by packet.
pub const SPLICED: u32 = 2;

/// Phases of a chunked body, in the order of the grammar (RFC 9112 section 7.1).
pub mod chunk {
    /// No body is being followed.
    pub const NONE: u32 = 0;
    /// First digit of a chunk's size.
    pub const SIZE: u32 = 1;
    /// Further digits, or what ends them.
    pub const SIZE_MORE: u32 = 2;
    /// An extension, up to the line's end.
    pub const EXTENSION: u32 = 3;
    /// LF after a size.
    pub const SIZE_FEED: u32 = 4;
    /// Bytes of a chunk.
    pub const DATA: u32 = 5;
    /// CR after a chunk.
    pub const DATA_RETURN: u32 = 6;
    /// LF after a chunk.
    pub const DATA_FEED: u32 = 7;
    /// First byte of a trailer line, or of the empty line.
    pub const TRAILER: u32 = 8;
    /// Rest of a trailer line.
    pub const TRAILER_LINE: u32 = 9;
    /// LF after a trailer line.
    pub const TRAILER_FEED: u32 = 10;
    /// LF that ends the body.
    pub const LAST_FEED: u32 = 11;
    /// The body is complete.
    pub const DONE: u32 = 12;
    /// Not a chunked body.
    pub const FAULT: u32 = 13;
}

/// How far a chunked body has been followed. In a map value for the reason that [`Head`] is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// One of [`chunk`].
    pub phase: u32,
    /// 1 once a trailer line began.
    pub trailers: u32,
    /// Offset of the next byte in the piece at hand.
    pub position: u32,
    /// End of the piece at hand.
    pub to: u32,
    /// Bytes left of the current chunk; while its size is read, the digits so far.
    pub left: u64,
}

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
    /// 0, [`ANCHORED`] or [`SPLICED`].
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
    /// 1 while more of a chunked request that user space serves is to come.
    pub following: u32,
    /// Sends that the current request has come in which has a place for large messages; 0 = it needs none.
    pub sends: u32,
    /// Sends so far: tells whether the connection is used.
    pub activity: u32,
    /// The chunked body of the current request, if it has one and user space serves it.
    pub chunks: Chunks,
    /// The anchor of a spliced connection.
    pub anchor: Address,
    reserved_anchor: u32,
    /// The pod's device, once a spliced connection has sent its first packet ([`crate::splice::FlowKey::device`]).
    pub device: u64,
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

/// `client_backlog`, `server_backlog`: something that was redirected to the socket is not in its queue yet.
pub const QUEUEING: i32 = 1;
/// `client_backlog`, `server_backlog`: something that was redirected to the socket lies in its queue.
pub const UNREAD: i32 = 2;

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

impl Waiting {
    /// The exchange of this lease on this slot.
    #[inline(always)]
    pub const fn new(lease: u64, slot: u32) -> Self {
        Self {
            lease,
            slot,
            reserved: 0,
        }
    }
}

/// A request of which user space must send the rest on: value of `SPILLED`, keyed by the client's cookie. All that the client's connection
/// brings next belongs to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Spilled {
    /// The lease that it began with.
    pub lease: u64,
    /// Bytes that are left.
    pub left: u64,
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
