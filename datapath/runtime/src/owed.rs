//! What a client still waits for, and who may answer it next.
//!
//! A socket's redirected bytes are read before its TCP bytes, so kernel and user space may each answer only when the other's answers
//! cannot be overtaken.

use core::ffi::c_void;

use kmesh_api::exchange::{Client, Waiting};
use kmesh_orchestration::slot::{self, Cell as _};

use crate::backlog;
use crate::maps::{ANSWERED, WAITING};
use crate::slot::{upstream, word};
use crate::tcp;

/// Whether an answer of the kernel's is not in the client's queue yet.
#[inline(always)]
pub(crate) fn is_owed(client: &Client, socket: *mut c_void) -> bool {
    client.lease != 0 && (in_flight(client) || backlog::queued(socket).unwrap_or(0) != 0)
}

/// Whether the client's last lease has not seen its whole response yet.
#[inline(always)]
pub(crate) fn in_flight(client: &Client) -> bool {
    if client.lease == 0 {
        return false;
    }
    let Some(upstream) = upstream(client.slot) else {
        return false;
    };
    let seen = word(upstream).load();
    seen.is_open() && seen.lease() == client.lease
}

/// Tells user space which exchange comes before the request passed to it, and leaves that exchange's response to it as well unless
/// it has begun: redirected bytes are queued some time after the program's verdict, and user space cannot see when.
/// `false` if there is no room to tell it.
#[inline(always)]
pub(crate) fn wait_for(client: &Client) -> bool {
    let waiting = Waiting {
        lease: client.lease,
        slot: client.slot,
        reserved: 0,
    };
    if WAITING.insert(client.cookie, waiting, 0).is_err() {
        return false;
    }
    if let Some(upstream) = upstream(client.slot) {
        slot::defer(&word(upstream), client.lease);
    }
    true
}

/// Whether the application has read everything that user space answered: then the kernel may answer again without
/// overtaking (a socket's redirected bytes are read before its TCP bytes).
#[inline(always)]
pub(crate) fn caught_up(client: &Client, socket: *mut c_void) -> bool {
    // SAFETY: the value is read at once; only this client's close removes it.
    let Some(answered) = (unsafe { ANSWERED.get(client.cookie) }) else {
        return client.passed == 0;
    };
    answered.requests == client.passed && tcp::bytes_consumed(socket) == Some(answered.bytes)
}
