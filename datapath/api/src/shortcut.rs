//! What the sockmap arm's programs and its loader share: two ends of one TCP connection on this node, and how far each has read.

use crate::Address;
use crate::limits::MESSAGE_MAX;

/// Connections that can be short-circuited at once; three times the clients of the largest scenario.
pub const PAIRS_MAX: usize = 1 << 16;
/// Most bytes that wait unread at one end past TCP: the redirect has no flow control of its own.
pub const UNREAD_MAX: u64 = MESSAGE_MAX;

/// Where the two ends of a connection meet: what both see of it, whatever address translation lies between.
///
/// The initial sequence numbers are 64 random bits that no NAT of this lab changes (RFC 9293, section 3.4.1), so a reused port or a
/// translated one never leads to somebody else's socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meeting {
    /// The client's own address and port.
    pub client: Address,
    /// First sequence number after the client's SYN.
    pub client_start: u32,
    /// First sequence number after the server's SYN.
    pub server_start: u32,
}

/// The end that connected.
pub const ACTIVE: u32 = 0;
/// The end that accepted.
pub const PASSIVE: u32 = 1;

/// In a socket's storage: which pair it belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Cookie of the pair's active socket; its key in `PAIRS`.
    pub pair: u64,
    /// [`ACTIVE`] or [`PASSIVE`].
    pub side: u32,
    /// Where an active socket waits for its other end.
    pub meeting: Meeting,
    /// Zero.
    pub reserved: [u32; 2],
}

/// One end of a pair. Every field is written by this end only, under its socket's lock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its socket's key in `SOCKETS`.
    pub cookie: u64,
    /// Bytes it has sent past TCP.
    pub sent: u64,
    /// The other end's `sent` at the last moment this end was seen to have none of it unread.
    pub emptied: u64,
    /// The TCP sequence number up to which its application had read at its last send.
    pub consumed: u32,
    /// Zero.
    pub reserved: u32,
}

/// Both ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The end that connected.
    pub active: End,
    /// The end that accepted.
    pub passive: End,
}

/// What became of a message; indexes `OUTCOMES`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Straight into the other end's receive queue.
    Shortcut = 0,
    /// By TCP: the other end is not on this node, or not yet established.
    Unpaired = 1,
    /// By TCP: longer than [`MESSAGE_MAX`].
    Large = 2,
    /// By TCP: earlier bytes went by TCP and are not known to have been read.
    InFlight = 3,
    /// By TCP: the other end has [`UNREAD_MAX`] bytes unread.
    Unread = 4,
    /// By TCP: the other end is closing.
    Gone = 5,
}

impl Sent {
    /// All outcomes with their names in reports, by number.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Shortcut, "shortcut"),
        (Self::Unpaired, "unpaired"),
        (Self::Large, "large"),
        (Self::InFlight, "tcp_in_flight"),
        (Self::Unread, "unread"),
        (Self::Gone, "gone"),
    ];
}

const _: () = assert!(size_of::<Meeting>() == 28 && size_of::<Half>() == 48);
const _: () = assert!(size_of::<End>() == 32 && size_of::<Pair>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcomes_number_is_its_place() {
        for (place, (outcome, _)) in Sent::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
    }
}
