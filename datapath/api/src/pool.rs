//! Upstream connections and the free lists that lease them.
//!
//! A slot is one upstream connection. Its record is shared memory (`BPF_F_MMAPABLE`): [`crate::slot::Word`] says who owns the other fields.

use crate::Address;
use crate::exchange::Chunks;
use crate::head::Head;
use crate::limits::{POOL_MAX, RESPONSE_HEAD_MAX};
use crate::slot::Word;

/// One upstream connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Upstream {
    /// State, health and lease, changed by `kmesh_orchestration::slot` only.
    pub word: Word,
    /// The client pod's number.
    pub pod: u32,
    /// The endpoint's stable id.
    pub endpoint: u32,
    /// Cookie of the server's accepted socket when it is on this node, enrolled, and proven to be the far end; 0 = reach it through TCP.
    pub server: u64,
    /// The socket that requests are redirected to, the server's or the upstream itself: its address in the kernel, good for reading while it
    /// is in its map.
    pub server_socket: u64,
    /// Cookie of the leaseholder's socket.
    pub client: u64,
    /// The leaseholder's socket: its address in the kernel, good for reading while the lease is open.
    pub client_socket: u64,
    /// Bytes of the response that are still to come, its head included; 0 if nobody knows, or has looked yet. A relayed response of known
    /// length needs no more than this to be carried.
    pub remaining: u64,
    /// 1 if the request was HEAD: its response has no body.
    pub head_request: u32,
    /// 1 once the first byte of the response has been seen.
    pub answered: u32,
    /// Sends that a response has come in so far which has a [`Place`]; 0 = it needs none.
    pub sends: u32,
    reserved: u32,
    /// The accepted socket that claims to be the server, written by `sockops` in `USER` once at most; the controller checks it.
    pub claim: Claim,
    /// The chunked body of the current response.
    pub chunks: Chunks,
    /// Scratch for the response head; one exchange at a time, so one user at a time.
    pub head: Head<RESPONSE_HEAD_MAX>,
}

/// An upstream socket whose server is elsewhere: value of `SLOTS`, keyed by the socket's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Its slot.
    pub slot: u32,
    /// 1 once `next` is known.
    pub begun: u32,
    /// TCP sequence number of the first byte that the verdict program has not seen.
    pub next: u32,
    reserved: u32,
}

impl Arrivals {
    /// Of the socket of `slot`, which the program has seen nothing of.
    pub fn new(slot: u32) -> Self {
        Self {
            slot,
            ..Self::default()
        }
    }
}

/// A TCP connection as its accepting side will see it: key of `EXPECTED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Connection {
    /// The upstream's own address.
    pub client: Address,
    /// The endpoint's address.
    pub server: Address,
}

/// What the controller announces of a connection that it is about to open: value of `EXPECTED`. Whoever recognises the connection removes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Expected {
    /// Cookie of the network namespace where the endpoint's address belongs.
    pub netns: u64,
    /// Number of the slot's connection (`kmesh_orchestration::slot::open`).
    pub lease: u64,
    /// The slot.
    pub slot: u32,
    /// Padding; zero.
    pub reserved: u32,
}

/// How far the two directions of a TCP connection have come, as one end counts: sequence numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sequences {
    /// Of the next byte that this end sends.
    pub sent: u32,
    /// Of the next byte that this end receives.
    pub received: u32,
}

impl Sequences {
    /// Whether the other end of the same connection counts `other`, nothing being under way.
    pub const fn is_mirrored_by(self, other: Self) -> bool {
        self.sent == other.received && self.received == other.sent
    }
}

/// An accepted socket that has an announced connection's addresses, in the announced namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Claim {
    /// Its cookie; 0 = nobody claims to be the server. Written last.
    pub server: u64,
    /// Its address in the kernel.
    pub socket: u64,
    /// What it counted when the connection was established.
    pub sequences: Sequences,
}

/// Key of a free list.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PoolKey {
    /// The client pod's index.
    pub pod: u32,
    /// The endpoint's stable id.
    pub endpoint: u32,
}

/// What a `bpf_spin_lock` is to the verifier: the name and the size count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct bpf_spin_lock {
    /// The lock word.
    pub val: u32,
}

/// A pool's free slots, last in first out, so that idle connections stay idle and can be closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pool {
    /// Guards the rest; only kernel programs take it.
    pub lock: bpf_spin_lock,
    /// Number of free slots.
    pub count: u32,
    /// The free slots.
    pub slots: [u32; POOL_MAX],
}

/// What `pool_donate` and `pool_withdraw` are told (their test-run input after a 14-byte Ethernet header).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Donation {
    /// The slot that becomes free, or is to be free no more.
    pub slot: u32,
    /// The pool that it is to be taken out of; its own if it is donated.
    pub pool: PoolKey,
}

/// What lets one message over `MESSAGE_MAX` through the kernel: taken until its exchange is over and its reader has read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Guards `slot` and `lease`; only kernel programs take it.
    pub lock: bpf_spin_lock,
    /// The slot of the exchange that has the place.
    pub slot: u32,
    /// Number of that exchange's lease; 0 = nobody has had the place.
    pub lease: u64,
    /// The reader's socket: its address in the kernel.
    pub reader: u64,
    /// The reader's cookie, to see whether the socket at that address is still the reader.
    pub cookie: u64,
    /// 1 if the reader is the upstream itself, which sends the message to another node.
    pub sends_on: u32,
    reserved: u32,
}
