//! `sk_msg` on servers' accepted sockets: sends a leased exchange's response straight into the client's receive queue.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action};
use aya_ebpf::helpers::generated::{
    bpf_msg_apply_bytes, bpf_msg_redirect_hash, bpf_sk_storage_get,
};
use aya_ebpf::programs::SkMsgContext;
use kmesh_api::exchange::{Chunks, Server};
use kmesh_api::head::flag;
use kmesh_api::limits::{MESSAGE_MAX, RESPONSE_HEAD_MAX};
use kmesh_api::pool::Upstream;
use kmesh_api::slot::{DEAD, FREE, LEASED, TAKEN, UNWANTED, Word};
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::chunked::{self, Followed};
use kmesh_orchestration::http1::{Length, Outcome, begin_response, response_length, scan};
use kmesh_orchestration::slot::{self, Cell as _};

use crate::counter::count;
use crate::generation;
use crate::large;
use crate::lease::give_back;
use crate::maps::{CLIENTS, RELAYS, SERVER};
use crate::message::{copy, follow, sender};
use crate::slot::{upstream, word};

const PASS: u32 = sk_action::SK_PASS;

/// A server sends.
#[inline(always)]
pub fn server_response(ctx: &SkMsgContext) -> u32 {
    let msg = ctx.msg;
    let socket = sender(msg);
    if socket.is_null() {
        return PASS;
    }
    // SAFETY: `socket` is the context's socket, checked for null.
    let server = unsafe {
        bpf_sk_storage_get(
            (&raw const SERVER).cast_mut().cast(),
            socket,
            core::ptr::null_mut(),
            0,
        )
    };
    // SAFETY: null or a live value of that map; the sender holds the socket's lock.
    let Some(server) = (unsafe { server.cast::<Server>().as_mut() }) else {
        return PASS;
    };
    // SAFETY: the kernel hands a valid context.
    let size = unsafe { (*msg).size };
    let follows_redirect = server.rest == size;
    server.rest = 0;
    if follows_redirect {
        // `SK_PASS` would send these bytes after the response (see `request`). Its upstream is not used again.
        return sk_action::SK_DROP;
    }
    let slot = server.slot;
    let Some(upstream) = upstream(slot) else {
        return PASS;
    };
    if upstream.server != server.cookie {
        return PASS;
    }
    let seen = word(upstream).load();
    let lease = seen.lease();
    if seen.state() != LEASED {
        return out_of_turn(upstream, seen);
    }
    if upstream.remaining == 0 {
        if seen.is_pipelined() {
            return relay(upstream, slot, lease);
        }
        let wanted = if size > RESPONSE_HEAD_MAX as u32 {
            RESPONSE_HEAD_MAX as u32
        } else {
            size
        };
        begin_response(&mut upstream.head);
        upstream.head.length = wanted;
        if !copy(msg, upstream.head.bytes.as_mut_ptr(), wanted) {
            return relay(upstream, slot, lease);
        }
        let Some((image, _)) = generation::active() else {
            return relay(upstream, slot, lease);
        };
        if !begin(image, upstream, |chunks, from| {
            follow(msg, chunks, from, size)
        }) && !large::admit_response(upstream, slot, lease)
        {
            return relay(upstream, slot, lease);
        }
        if upstream.remaining < u64::from(size) {
            // More than the response: user space carries what belongs to it and does not use the upstream again.
            return relay(upstream, slot, lease);
        }
    } else if !large::count_send(&mut upstream.sends) {
        return relay(upstream, slot, lease);
    }
    let rest = upstream.remaining;
    let part = if rest < u64::from(size) {
        rest as u32
    } else {
        size
    };
    let Some(mut key) = leaseholder(upstream, lease) else {
        return PASS;
    };
    // SAFETY: the kernel hands a valid context; `key` is of the map's key type.
    let verdict = unsafe {
        bpf_msg_apply_bytes(msg, part);
        let map = (&raw const CLIENTS).cast_mut().cast();
        bpf_msg_redirect_hash(msg, map, (&raw mut key).cast(), u64::from(BPF_F_INGRESS))
    };
    if verdict != i64::from(PASS) {
        // The client is gone. The server's bytes travel to the controller, which closes the upstream.
        slot::retire(&word(upstream), lease);
        count(Reason::ClientGone);
        return PASS;
    }
    if part < size {
        server.rest = size.wrapping_sub(part);
        slot::mark(&word(upstream), lease, UNWANTED);
    }
    advance(upstream, slot, lease, part);
    PASS
}

/// Reads the response head that lies in the scratch buffer; `false` if user space must finish this response.
///
/// `follow` looks for the end of a chunked body in the message at hand, from an offset on. A body that comes in more pieces may
/// become of any size, and only TCP has flow control: that one is user space's.
#[inline(always)]
pub fn begin(
    image: &Image,
    upstream: &mut Upstream,
    follow: impl FnOnce(&mut Chunks, u32) -> Followed,
) -> bool {
    if scan(image, &mut upstream.head) != Outcome::Complete
        || upstream.head.flags & flag::CONNECTION != 0
    {
        return false;
    }
    let total = match response_length(&upstream.head, upstream.head_request != 0) {
        Length::Known(total) => total,
        Length::Chunked => {
            chunked::begin(&mut upstream.chunks);
            match follow(&mut upstream.chunks, upstream.head.end) {
                Followed::End(at) if upstream.chunks.trailers == 0 => u64::from(at),
                _ => return false,
            }
        }
        Length::Unknown(_) => return false,
    };
    if total > MESSAGE_MAX {
        // User space need not read the head again.
        upstream.remaining = total;
        return false;
    }
    upstream.remaining = total;
    upstream.answered = 1;
    true
}

/// Accounts for `part` bytes on their way to the client; the last of them ends the lease.
#[inline(always)]
pub fn advance(upstream: &mut Upstream, slot: u32, lease: u64, part: u32) {
    upstream.remaining = upstream.remaining.wrapping_sub(u64::from(part));
    if upstream.remaining == 0 {
        give_back(upstream, slot, lease);
    }
}

/// Cookie of the client that holds the lease; `None` if the lease is over: then these bytes answer nobody.
#[inline(always)]
pub(crate) fn leaseholder(upstream: &mut Upstream, lease: u64) -> Option<u64> {
    // SAFETY: a live field. Read first: the next leaseholder is named after its lease has a number.
    let client = unsafe { read_volatile(&raw const upstream.client) };
    let seen = word(upstream).load();
    (seen.state() == LEASED && seen.lease() == lease).then_some(client)
}

/// Bytes that answer no leased exchange: the user-space path's, or, on a free slot, ones that nobody asked for; then the
/// connection is out of step and must not be leased again.
#[inline(always)]
pub fn out_of_turn(upstream: &mut Upstream, seen: Word) -> u32 {
    if seen.state() == FREE || seen.state() == TAKEN {
        slot::mark(&word(upstream), seen.lease(), DEAD);
    }
    PASS
}

/// From here on this exchange's response travels by TCP, with TCP's flow control, and user space relays it.
#[inline(always)]
pub fn relay(upstream: &mut Upstream, slot: u32, lease: u64) -> u32 {
    upstream.answered = 1;
    if !slot::relay(&word(upstream), lease) {
        return PASS;
    }
    count(Reason::Relayed);
    // Should the buffer be full, the reaper finds the state.
    let _ = RELAYS.output(slot, 0);
    PASS
}
