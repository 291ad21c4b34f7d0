//! What the programs put into ring buffers, and how user space reads it.

use crate::limits::UPSTREAMS_MAX;

/// The slot that a record of `RELAYS` names: an upstream whose response user space must finish.
///
/// A record is the slot's number, 4 bytes in native order. Anything else is no record.
pub fn relay(record: &[u8]) -> Option<u32> {
    let slot = u32::from_ne_bytes(record.try_into().ok()?);
    ((slot as usize) < UPSTREAMS_MAX).then_some(slot)
}

/// The socket cookie that a record of `GONE` names: a spliced client that closed.
///
/// A record is the cookie, 8 bytes in native order, and never 0. Anything else is no record.
pub fn cookie(record: &[u8]) -> Option<u64> {
    let cookie = u64::from_ne_bytes(record.try_into().ok()?);
    (cookie != 0).then_some(cookie)
}
