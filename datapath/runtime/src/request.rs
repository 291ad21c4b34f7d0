//! `sk_msg` on client sockets: frames requests, decides each one, leases an upstream, redirects.
//!
//! What cannot be finished here returns `SK_PASS`: the bytes travel to the pod's anchor and user space serves the request. A
//! path is chosen at a request boundary and kept to the end of that message.
//!
//! A head that comes in pieces is user space's, and this program scans it along to know where the request ends. Holding it
//! back with `bpf_msg_cork_bytes` loses data on Linux 6.18 and before: `tcp_bpf_send_verdict` frees the cork buffer after the
//! first redirect out of it with whatever else is in it, and after a part was sent, the next piece is copied to where the
//! buffer's first piece ended before (`sg.copybreak`), so pipelined requests come out as a mixture of old and new bytes.
//!
//! A redirect sticks to its message: `msg->sk_redir` and `msg->apply_bytes` are not cleared before the program runs on the rest
//! of it, so `SK_PASS` there means "redirect again, to the same socket". Requests that share a send with one that was redirected
//! reach the anchor by a redirect to the client's own socket, which is what `SK_PASS` means otherwise.

use aya_ebpf::bindings::{sk_action, sk_msg_md};
use aya_ebpf::helpers::generated::{bpf_msg_apply_bytes, bpf_sk_storage_get};
use aya_ebpf::programs::SkMsgContext;
use core::ffi::c_void;
use kmesh_api::Reason;
use kmesh_api::exchange::{Client, MODE_PINNED, MODE_USER, Spilled};
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::pool::{LEASED, LINGERING, RELAY};
use kmesh_orchestration::http1::chunked::{self, Followed};
use kmesh_orchestration::http1::{Length, Outcome, begin_request, request_length, scan};

use crate::counter::{count, count_number};
use crate::exchange::route;
use crate::generation;
use crate::large;
use crate::lease::upstream;
use crate::maps::{CLIENT, SPILLED};
use crate::message::{copy, follow, redirect, redirect_to_anchor, sender};
use crate::owed::{is_owed, wait_for};
use crate::unfolded::unfolded;

const PASS: u32 = sk_action::SK_PASS;

/// A client sends. Runs once for every part of a message that its verdict on the part before does not cover.
#[inline(always)]
pub fn client_request(ctx: &SkMsgContext) -> u32 {
    let msg = ctx.msg;
    let socket = sender(msg);
    if socket.is_null() {
        return PASS;
    }
    // SAFETY: `socket` is the context's socket, checked for null.
    let client = unsafe {
        bpf_sk_storage_get(
            (&raw const CLIENT).cast_mut().cast(),
            socket,
            core::ptr::null_mut(),
            0,
        )
    };
    // SAFETY: null or a live value of that map; the sender holds the socket's lock.
    let Some(client) = (unsafe { client.cast::<Client>().as_mut() }) else {
        return PASS;
    };
    if client.anchored == 0 {
        // A socket that was disconnected and is used for something else: it stays in the map until it closes.
        return PASS;
    }
    // SAFETY: the kernel hands a valid context.
    let size = unsafe { (*msg).size };
    let follows_redirect = client.rest == size;
    client.part = size;
    client.redirected = 0;
    let verdict = verdict(msg, socket, client, size);
    let part = client.part;
    client.rest = 0;
    if verdict != PASS {
        return verdict;
    }
    if client.redirected != 0 || follows_redirect {
        client.rest = size.wrapping_sub(part);
    }
    if client.redirected == 0 && follows_redirect && !redirect_to_anchor(msg, client.cookie) {
        // The client's socket left its map: it is closing.
        return sk_action::SK_DROP;
    }
    // SAFETY: the kernel hands a valid context. Bytes after this part run the program again.
    unsafe { bpf_msg_apply_bytes(msg, part) };
    PASS
}

/// What becomes of the first `client.part` bytes of the message.
#[inline(always)]
fn verdict(msg: *mut sk_msg_md, socket: *mut c_void, client: &mut Client, size: u32) -> u32 {
    if client.mode == MODE_PINNED {
        count(Reason::Pinned);
        return PASS;
    }
    if client.remaining > 0 {
        return body(msg, client, size);
    }
    if client.heading != 0 {
        return piece(msg, client, size);
    }
    if client.following != 0 {
        return chunks(msg, client, 0, size);
    }
    let wanted = if size > HEAD_MAX as u32 {
        HEAD_MAX as u32
    } else {
        size
    };
    begin_request(&mut client.head);
    client.head.length = wanted;
    if !copy(msg, client.head.bytes.as_mut_ptr(), wanted) {
        return pin(client, socket, Reason::Unreadable as u32);
    }
    let Some((image, generation)) = generation::active() else {
        return pin(client, socket, Reason::NoListener as u32);
    };
    match scan(image, &mut client.head) {
        Outcome::Complete => {}
        Outcome::Partial if size < PIECE_MAX => {
            client.heading = generation;
            return pass(client, socket, Reason::SplitHead);
        }
        Outcome::Partial => return pin(client, socket, Reason::HeadTooLong as u32),
        Outcome::Refused(reason) => return pin(client, socket, reason),
    }
    let total = match request_length(&client.head) {
        Length::Known(total) => total,
        Length::Chunked => {
            chunked::begin(&mut client.chunks);
            match follow(msg, &mut client.chunks, client.head.end, size) {
                Followed::End(at) if client.chunks.trailers == 0 => u64::from(at),
                Followed::End(at) => {
                    client.part = at;
                    return pass(client, socket, Reason::TransferEncoding);
                }
                Followed::More => {
                    client.following = 1;
                    client.part = client.chunks.to;
                    return pass(client, socket, Reason::TransferEncoding);
                }
                Followed::Fault => return pin(client, socket, Reason::TransferEncoding as u32),
            }
        }
        Length::Unknown(reason) => return pin(client, socket, reason as u32),
    };
    let part = if total < u64::from(size) {
        total as u32
    } else {
        size
    };
    client.remaining = total - u64::from(part);
    client.part = part;
    match route(msg, socket, client, image, generation, total) {
        Ok(()) => PASS,
        Err(reason) => pass(client, socket, reason),
    }
}

/// What a head's first pieces have less of, and the piece after them no more: together they fit into the scratch buffer.
const PIECE_MAX: u32 = HEAD_MAX as u32 / 2;
/// Lets every verifier see that a length is less than [`PIECE_MAX`], a power of two.
static PIECE_MASK: u32 = PIECE_MAX - 1;

/// More of a head whose beginning went to user space. All of the request does, and this finds its end.
#[inline(always)]
fn piece(msg: *mut sk_msg_md, client: &mut Client, size: u32) -> u32 {
    let have = client.head.length;
    let wanted = if size > PIECE_MAX { PIECE_MAX } else { size };
    // The scanner's state stands in the tables that it began with.
    let Some((image, generation)) = generation::active() else {
        return lose(client);
    };
    if generation != client.heading || have >= PIECE_MAX {
        return lose(client);
    }
    let offset = have & unfolded(&PIECE_MASK);
    // SAFETY: `offset` and `wanted` are at most half of the buffer each.
    let to = unsafe { client.head.bytes.as_mut_ptr().add(offset as usize) };
    if !copy(msg, to, wanted) {
        return lose(client);
    }
    client.head.length = have.wrapping_add(wanted);
    match scan(image, &mut client.head) {
        Outcome::Complete => {}
        Outcome::Partial if wanted == size => return PASS,
        Outcome::Partial | Outcome::Refused(_) => return lose(client),
    }
    client.heading = 0;
    let total = match request_length(&client.head) {
        Length::Known(total) => total,
        Length::Chunked => {
            chunked::begin(&mut client.chunks);
            return chunks(msg, client, client.head.end.wrapping_sub(have), size);
        }
        Length::Unknown(_) => return lose(client),
    };
    let rest = total.wrapping_sub(u64::from(have));
    let part = if rest < u64::from(size) {
        rest as u32
    } else {
        size
    };
    client.remaining = rest.wrapping_sub(u64::from(part));
    client.part = part;
    PASS
}

/// More of a chunked request that user space serves, from `begin` on.
#[inline(always)]
fn chunks(msg: *mut sk_msg_md, client: &mut Client, begin: u32, size: u32) -> u32 {
    match follow(msg, &mut client.chunks, begin, size) {
        Followed::End(at) => {
            client.following = 0;
            client.part = at;
            PASS
        }
        Followed::More => {
            client.following = 1;
            client.part = client.chunks.to;
            PASS
        }
        Followed::Fault => lose(client),
    }
}

/// The boundaries of a request that is user space's already are lost: so is the rest of the connection.
#[inline(always)]
fn lose(client: &mut Client) -> u32 {
    client.mode = MODE_PINNED;
    PASS
}

/// More of the current request: it goes where its head went.
#[inline(always)]
fn body(msg: *mut sk_msg_md, client: &mut Client, size: u32) -> u32 {
    let part = if client.remaining < u64::from(size) {
        client.remaining as u32
    } else {
        size
    };
    client.part = part;
    client.remaining -= u64::from(part);
    if client.mode == MODE_USER {
        return PASS;
    }
    if !large::count_send(&mut client.sends) && spill(client, part) {
        return PASS;
    }
    if let Some(leased) = upstream(client.slot)
        && (leased.state == LEASED || leased.state == RELAY || leased.state == LINGERING)
        && leased.client == client.cookie
        && leased.lease == client.lease
        && redirect(msg, leased.server != 0, client.slot)
    {
        if client.remaining == 0 {
            leased.sending = 0;
        }
        client.redirected = 1;
        return PASS;
    }
    // The upstream died under the request. The bytes have nowhere to go; the controller ends the connection.
    count(Reason::UpstreamGone);
    sk_action::SK_DROP
}

/// Leaves the rest of a request, of which `part` bytes are at hand, to user space; `false` if there is no room to tell it, and the rest
/// goes where its beginning went.
#[inline(always)]
fn spill(client: &mut Client, part: u32) -> bool {
    let spilled = Spilled {
        lease: client.lease,
        left: client.remaining.wrapping_add(u64::from(part)),
        slot: client.slot,
        reserved: 0,
    };
    client.sends = 0;
    if SPILLED.insert(client.cookie, spilled, 0).is_err() {
        return false;
    }
    client.mode = MODE_USER;
    true
}

/// The kernel lost the message boundaries: user space serves this connection from here on.
#[inline(always)]
fn pin(client: &mut Client, socket: *mut c_void, reason: u32) -> u32 {
    count_number(reason);
    leave(client, socket, MODE_PINNED)
}

/// User space serves this request.
#[inline(always)]
fn pass(client: &mut Client, socket: *mut c_void, reason: Reason) -> u32 {
    count(reason);
    leave(client, socket, MODE_USER)
}

/// Gives the request to user space, which answers it after what the kernel still has for this client.
#[inline(always)]
fn leave(client: &mut Client, socket: *mut c_void, mode: u32) -> u32 {
    if is_owed(client, socket) && !wait_for(client) {
        return refuse(client);
    }
    client.passed = client.passed.wrapping_add(1);
    client.mode = mode;
    PASS
}

/// User space could not be told to answer this request after the one in flight, so nobody gets it: `sendmsg` fails, this one
/// and (Linux 6.18: `tcp_bpf_send_verdict` keeps the verdict) all that follow. What is in flight is still answered.
#[inline(always)]
fn refuse(client: &mut Client) -> u32 {
    count(Reason::WaitingFull);
    client.remaining = 0;
    sk_action::SK_DROP
}
