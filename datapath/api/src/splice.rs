//! The splice path: TCP connections whose packets are rewritten between the client's sequence space and its peer's.
//!
//! A client's socket has its handshake with an anchor. From then on each packet of it goes to the *holder* of its exchange: the anchor, or
//! a leased upstream. Sequence numbers, acknowledgements and timestamps move by the offsets that the change of holder fixed.

use crate::Address;
use crate::pool::bpf_spin_lock;

/// A TCP connection as the device of its pod sees it: key of `FLOWS` and `PEERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Address of the pod's `struct net_device` in the kernel: no other namespace has it, so no other pod can forge this key.
    pub device: u64,
    /// The pod's side.
    pub local: Address,
    /// The other side.
    pub remote: Address,
}

/// [`Flow::holder`]: the anchor has the exchange.
pub const ANCHOR: u32 = u32::MAX;

/// Both ends negotiated timestamps (RFC 7323).
pub const TIMESTAMPS: u32 = 1;
/// Both ends negotiated selective acknowledgements (RFC 2018).
pub const SACK: u32 = 2;
/// Both ends negotiated window scaling (RFC 7323).
pub const SCALING: u32 = 4;

/// How a client's numbers map to its holder's. All arithmetic is modulo 2^32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Added to a client's sequence number, and taken from what the holder acknowledges.
    pub out: u32,
    /// Added to the holder's sequence number, and taken from what the client acknowledges.
    pub inward: u32,
    /// Added to a client's timestamp, and taken from the holder's echo of it.
    pub time_out: u32,
    /// Added to the holder's timestamp, and taken from the client's echo of it.
    pub time_in: u32,
}

/// A spliced client connection: value of `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Guards what both directions write: everything but `cookie`, `pod`, `key`, `anchor` and `scale_*`.
    pub lock: bpf_spin_lock,
    /// The slot of the upstream that the client's packets go to and come from, or [`ANCHOR`].
    pub holder: u32,
    /// Number of the lease on that slot.
    pub lease: u64,
    /// The client socket's cookie.
    pub cookie: u64,
    /// The mapping to the holder.
    pub offsets: Offsets,
    /// First byte of the client's that no packet has brought yet, by its sequence number.
    pub next_out: u32,
    /// The byte after the last that the client was sent.
    pub next_in: u32,
    /// What of the client's bytes was acknowledged to it.
    pub acknowledged: u32,
    /// The latest timestamp that the client was sent.
    pub time_seen: u32,
    /// Where the client's timestamps stand against the kernel's clock.
    pub time_base: u32,
    /// [`TIMESTAMPS`], [`SACK`], [`SCALING`].
    pub options: u32,
    /// Shift of the windows that the client announces.
    pub scale_out: u32,
    /// Shift that the client applies to the windows it is told.
    pub scale_in: u32,
    /// Largest segment that the client may send, bytes: what its anchor announced.
    pub segment: u32,
    /// What the anchor expects next of the client, in the anchor's numbers.
    pub anchor_out: u32,
    /// The anchor's next byte.
    pub anchor_in: u32,
    /// The anchor's first byte.
    pub anchor_first: u32,
    /// What of the anchor's bytes was acknowledged to it.
    pub anchor_acknowledged: u32,
    /// The latest timestamp of the anchor.
    pub anchor_time: u32,
    /// 1: from `split` on the client's bytes go to the anchor, which answers when the lease is over.
    pub pinned: u32,
    /// The client's first byte that goes to the anchor.
    pub split: u32,
    /// The connection between the anchor and what it takes for its client, as the pod's device sees it.
    pub anchor: FlowKey,
    /// The client's pod.
    pub pod: u32,
    /// 1 once the anchor answered the handshake.
    pub open: u32,
    /// 1: the client sends no more, and the upstream that holds its exchange was told: the two stay together to the end.
    pub closing: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 48 && size_of::<Flow>().is_multiple_of(8));

/// What a packet's addresses belong to if not to a client: value of `PEERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// The slot of an upstream, or [`ANCHOR`].
    pub slot: u32,
    /// Padding; zero.
    pub reserved: u32,
    /// Of an anchor's side: the client's flow.
    pub client: FlowKey,
}

/// What is being looked for in a response.
pub mod framing {
    /// Its head, or more of it.
    pub const HEAD: u32 = 0;
    /// Its end is known.
    pub const KNOWN: u32 = 1;
    /// The end of a chunked body.
    pub const CHUNKED: u32 = 2;
    /// The end of the connection.
    pub const CLOSE: u32 = 3;
}

/// An upstream connection whose packets a client's lease takes over: value of `SEAMS`, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Seam {
    /// Its socket's cookie, set by the controller before the handshake; 0 = the slot is not spliced.
    pub cookie: u64,
    /// The connection as the pod's device sees it.
    pub key: FlowKey,
    /// The leaseholder's flow.
    pub client: FlowKey,
    /// Ethernet header of what leaves: two bytes without meaning, then 14 of it, so that what follows them in a packet is aligned.
    pub ethernet: [u32; 4],
    /// What the server expects next.
    pub next_out: u32,
    /// The server's next byte that nobody has.
    pub next_in: u32,
    /// The server's latest timestamp.
    pub time_seen: u32,
    /// Where this side's timestamps stand against the kernel's clock.
    pub time_base: u32,
    /// [`TIMESTAMPS`], [`SACK`], [`SCALING`].
    pub options: u32,
    /// Shift of the windows that this side announced it would announce.
    pub scale_out: u32,
    /// Shift of the windows that the server announces.
    pub scale_in: u32,
    /// Largest segment that the server takes, bytes: what it announced.
    pub segment: u32,
    /// One of [`framing`].
    pub framing: u32,
    /// Up to where the response has been framed, by the server's sequence number.
    pub framed: u32,
    /// The byte after the response; valid while `complete` is 1.
    pub end: u32,
    /// 1 once `end` is known.
    pub complete: u32,
    /// 1: the server has not been sent the acknowledgement of the last response.
    pub owed: u32,
}
