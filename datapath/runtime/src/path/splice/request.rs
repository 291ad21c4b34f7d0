//! Where the bytes of a client's packet belong: frames requests, decides each one, leases an upstream for it.

use core::hint::black_box;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use kmesh_api::exchange::{Client, MODE_KERNEL, MODE_PINNED, MODE_USER, Waiting};
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::splice::Flow;
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::chunked::{self, Followed, Source};
use kmesh_orchestration::http1::{Length, Outcome, begin_request, request_length, scan};
use kmesh_orchestration::memory::{assign, read, write};
use kmesh_orchestration::slot;

use super::cut::cut;
use super::exchange::{held, lease};
use super::packet::Packet;
use super::server::dead;
use crate::counter::count;
use crate::exchange::decide_pool;
use crate::generation;
use crate::maps::{ANSWERED, WAITING};
use crate::slot::word;

/// What becomes of the packet.
pub(super) enum Way {
    /// It goes to whoever has the exchange.
    Holder,
    /// User space serves the request that it begins.
    Anchor,
    /// User space serves everything from here on; the number of a [`Reason`].
    Pin(u32),
    /// It is of a client that was pinned before.
    Pinned,
    /// It is thrown away.
    Nowhere,
}

/// Most bytes that a head's first pieces, and the piece after them, may have: together they fill the scratch buffer.
const PIECE_MAX: u32 = HEAD_MAX as u32 / 2;

impl Way {
    /// As a number: what a function of a BPF program returns is one register.
    #[inline(always)]
    fn number(self) -> u32 {
        match self {
            Self::Holder => 0,
            Self::Anchor => 1,
            Self::Pinned => 2,
            Self::Nowhere => 3,
            Self::Pin(reason) => reason + 4,
        }
    }

    /// What that number says.
    #[inline(always)]
    pub(super) fn from(number: u32) -> Self {
        match number {
            0 => Self::Holder,
            1 => Self::Anchor,
            2 => Self::Pinned,
            3 => Self::Nowhere,
            reason => Self::Pin(reason - 4),
        }
    }
}

/// Decides on new bytes of the client, which begin at `at`; a [`Way`] by its number.
#[inline(never)]
pub(super) fn decide(skb: *mut __sk_buff, flow: &mut Flow, client: &mut Client, at: u32) -> u32 {
    let Some(mut packet) = Packet::again(skb) else {
        return Way::Nowhere.number();
    };
    way(&mut packet, flow, client, at).number()
}

/// Every kind of work stands here once: the verifier follows it once for each place that it is called from.
#[inline(always)]
fn way(packet: &mut Packet, flow: &mut Flow, client: &mut Client, at: u32) -> Way {
    if client.mode == MODE_PINNED {
        return Way::Pinned;
    }
    let is_body = client.remaining > 0 || client.following != 0;
    let begins = !is_body && client.heading == 0;
    if begins && at != 0 {
        return lose(client, Reason::Pipelined);
    }
    write(&mut packet.work.at, at);
    write(&mut packet.work.begins, u32::from(begins));
    write(&mut packet.work.from, at);
    if !is_body && let Err(way) = head(packet, flow, client) {
        return way;
    }
    let end = follow(packet, client);
    let begins = read(&packet.work.begins) != 0;
    let Some(end) = end else {
        return if begins {
            lose(client, Reason::TransferEncoding)
        } else {
            garbled(flow, client)
        };
    };
    if end < packet.length {
        if begins {
            return lose(client, Reason::Pipelined);
        }
        if !tail(packet, client, end) {
            client.remaining = packet.work.remaining;
            client.following = packet.work.following;
            assign(&mut client.chunks, &packet.work.chunks);
            return left(client);
        }
    }
    if read(&packet.work.begins) == 0 {
        sent(flow, client);
        return Way::Holder;
    }
    let Some((image, generation)) = generation::active() else {
        return lose(client, Reason::NoListener);
    };
    match route(packet, flow, client, image, generation) {
        Ok(()) => {
            count(Reason::Remote);
            client.mode = MODE_KERNEL;
            Way::Holder
        }
        Err(reason) => pass(flow, client, packet, reason),
    }
}

/// Follows the current request through the payload from offset `from` on; the offset of its end, at most the payload's. None if the boundaries are lost.
#[inline(always)]
fn follow(packet: &mut Packet, client: &mut Client) -> Option<u32> {
    packet.work.remaining = client.remaining;
    packet.work.following = client.following;
    assign(&mut packet.work.chunks, &client.chunks);
    let from = read(&packet.work.from);
    let length = packet.length;
    if client.following == 0 {
        let new = u64::from(length.wrapping_sub(from));
        let taken = if client.remaining < new {
            client.remaining
        } else {
            new
        };
        client.remaining -= taken;
        return Some(from.wrapping_add(taken as u32));
    }
    match chunked::follow(&mut client.chunks, &mut Payload(packet), from, length) {
        Followed::End(end) => {
            client.following = 0;
            Some(end)
        }
        Followed::More => Some(length),
        Followed::Fault => None,
    }
}

/// A request's first bytes, or more of a head whose beginning went to user space; learns where the body begins, with `client.remaining` or
/// `client.following` saying how it goes on.
///
/// # Errors
/// What becomes of the packet, if the head does not end in it or nothing can be made of it.
#[inline(always)]
fn head(packet: &mut Packet, flow: &mut Flow, client: &mut Client) -> Result<(), Way> {
    let at = read(&packet.work.at);
    let size = packet.length.wrapping_sub(at);
    let Some((image, generation)) = generation::active() else {
        return Err(lose(client, Reason::NoListener));
    };
    let begins = client.heading == 0;
    let (have, wanted, copied) = if begins {
        const MAX: u32 = HEAD_MAX as u32;
        begin_request(&mut client.head);
        let wanted = if size > MAX { MAX } else { size };
        let to = client.head.bytes.as_mut_ptr();
        (0, wanted, copy::<MAX>(packet, at, to, wanted))
    } else {
        // The scanner's state stands in the tables that it began with.
        if generation != client.heading || client.head.length >= PIECE_MAX {
            return Err(lost(client));
        }
        let have = black_box(client.head.length) & (PIECE_MAX - 1);
        let wanted = if size > PIECE_MAX { PIECE_MAX } else { size };
        // SAFETY: `have` and `wanted` are at most half of the buffer each.
        let to = unsafe { client.head.bytes.as_mut_ptr().add(have as usize) };
        (have, wanted, copy::<PIECE_MAX>(packet, at, to, wanted))
    };
    if !copied {
        return Err(if begins {
            lose(client, Reason::Unreadable)
        } else {
            lost(client)
        });
    }
    client.head.length = have.wrapping_add(wanted);
    write(&mut packet.work.have, have);
    write(&mut packet.work.wanted, wanted);
    let outcome = scan(image, &mut client.head);
    let begins = read(&packet.work.begins) != 0;
    let at = read(&packet.work.at);
    let size = packet.length.wrapping_sub(at);
    let (have, wanted) = (read(&packet.work.have), read(&packet.work.wanted));
    match outcome {
        Outcome::Complete => {}
        Outcome::Partial if begins && size < PIECE_MAX => {
            client.heading = generation;
            return Err(pass(flow, client, packet, Reason::SplitHead));
        }
        Outcome::Partial if begins => return Err(lose(client, Reason::HeadTooLong)),
        Outcome::Partial if wanted == size => return Err(Way::Holder),
        Outcome::Refused(reason) if begins => {
            client.mode = MODE_PINNED;
            client.passed = client.passed.wrapping_add(1);
            return Err(Way::Pin(reason));
        }
        Outcome::Partial | Outcome::Refused(_) => return Err(lost(client)),
    }
    client.heading = 0;
    let body = client.head.end.wrapping_sub(have).wrapping_add(at);
    match request_length(&client.head) {
        Length::Known(total) => client.remaining = total.wrapping_sub(u64::from(client.head.end)),
        Length::Chunked => {
            chunked::begin(&mut client.chunks);
            client.following = 1;
        }
        Length::Unknown(reason) if begins => return Err(lose(client, reason)),
        Length::Unknown(_) => return Err(lost(client)),
    }
    write(&mut packet.work.from, body);
    Ok(())
}

/// Decides on the request in `client.head` and leases an upstream for it.
///
/// # Errors
/// Why user space must serve it.
#[inline(always)]
fn route(
    packet: &mut Packet,
    flow: &mut Flow,
    client: &mut Client,
    image: &Image,
    generation: u64,
) -> Result<(), Reason> {
    if in_flight(flow, packet.acknowledged()) {
        return Err(Reason::Pipelined);
    }
    if !caught_up(flow, client, packet.acknowledged()) {
        return Err(Reason::UserPending);
    }
    // Of any size: the bytes have the two ends' own flow control.
    let pool = decide_pool(client, image, generation, 0)?;
    lease(packet, flow, client, &pool)
}

/// Whether the exchange before is not over for a client that acknowledges `ack`.
#[inline(always)]
fn in_flight(flow: &Flow, ack: u32) -> bool {
    held(flow).is_some_and(|held| held.is_of(flow) && !held.is_over(flow, ack))
}

/// Whether user space has answered everything that was passed to it, and the client has all of that.
#[inline(always)]
fn caught_up(flow: &Flow, client: &Client, ack: u32) -> bool {
    if flow.holder != kmesh_api::splice::ANCHOR {
        return true;
    }
    // SAFETY: the value is read at once; only this client's close removes it.
    let Some(answered) = (unsafe { ANSWERED.get(client.cookie) }) else {
        return client.passed == 0;
    };
    let sent = flow.anchor_in.wrapping_sub(flow.anchor_first);
    answered.requests == client.passed && answered.bytes as u32 == sent && ack == flow.next_in
}

/// Gives the request to user space, which answers it after what is still under way.
#[inline(always)]
fn pass(flow: &mut Flow, client: &mut Client, packet: &Packet, reason: Reason) -> Way {
    client.passed = client.passed.wrapping_add(1);
    if in_flight(flow, packet.acknowledged()) {
        let waiting = Waiting::new(flow.lease, flow.holder);
        client.mode = MODE_PINNED;
        if WAITING.insert(client.cookie, waiting, 0).is_err() {
            // Its answer could not be kept from overtaking; nobody gets the request.
            count(Reason::WaitingFull);
            return Way::Nowhere;
        }
        return Way::Pin(reason as u32);
    }
    count(reason);
    client.mode = MODE_USER;
    Way::Anchor
}

/// The boundaries of requests are lost, or two lie in one packet: user space serves the rest of the connection.
#[inline(always)]
fn lose(client: &mut Client, reason: Reason) -> Way {
    client.passed = client.passed.wrapping_add(1);
    client.mode = MODE_PINNED;
    Way::Pin(reason as u32)
}

/// A chunked body went wrong in its middle: user space answers if it has the request, and otherwise ends the exchange, whose server never gets the rest.
#[inline(always)]
fn garbled(flow: &Flow, client: &mut Client) -> Way {
    if client.mode == MODE_USER {
        return left(client);
    }
    count(Reason::TransferEncoding);
    if let Some(held) = held(flow)
        && held.is_of(flow)
    {
        dead(held.slot, held.upstream);
    }
    Way::Nowhere
}

/// A packet ends one request, before offset `end`, and begins another. An upstream must not get the second: it is cut off, and the client, whose
/// TCP gets no acknowledgement of it, sends it again.
#[inline(always)]
fn tail(packet: &Packet, client: &Client, end: u32) -> bool {
    client.mode != MODE_USER && cut(packet.skb(), end)
}

/// What [`tail`] did not cut: user space takes both requests if the first is its own already.
#[inline(always)]
fn left(client: &mut Client) -> Way {
    count(Reason::Pipelined);
    if client.mode == MODE_USER {
        client.mode = MODE_PINNED;
        client.passed = client.passed.wrapping_add(1);
        return Way::Pinned;
    }
    // A packet of several segments: sent again, it comes in single ones.
    Way::Nowhere
}

/// The request's last byte is on its way.
#[inline(always)]
fn sent(flow: &Flow, client: &Client) {
    if client.remaining == 0
        && client.following == 0
        && let Some(held) = held(flow)
    {
        slot::sent(&word(held.upstream), flow.lease);
    }
}

/// The boundaries of a request that is user space's already are lost: so is the rest of the connection.
#[inline(always)]
fn lost(client: &mut Client) -> Way {
    client.mode = MODE_PINNED;
    Way::Pin(Reason::Pinned as u32)
}

/// Copies payload from offset `at`, 1 to `MAX` bytes, which is a power of two; `to` has room for them.
#[inline(always)]
pub(super) fn copy<const MAX: u32>(packet: &Packet, at: u32, to: *mut u8, wanted: u32) -> bool {
    if wanted == 0 {
        return false;
    }
    // The mask says to the verifier what the callers know; the compiler, which knows it too, must not take it out.
    let wanted = (black_box(wanted - 1) & (MAX - 1)) + 1;
    // SAFETY: the helper checks the offset; the callers bound `wanted` by the room at `to`.
    unsafe {
        bpf_skb_load_bytes(
            packet.skb().cast_const().cast(),
            packet.headers.wrapping_add(at),
            to.cast(),
            wanted,
        ) == 0
    }
}

/// A packet's payload, wherever it lies.
pub(super) struct Payload<'a>(pub(super) &'a Packet);

impl Source for Payload<'_> {
    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        let mut byte = 0u8;
        copy::<1>(self.0, at, &raw mut byte, 1).then_some(byte)
    }
}
