//! Where a response ends, followed through the packets of an upstream.
//!
//! A packet may bring bytes again or leave a gap. A response of known length needs to be looked at up to the end of its head only; a
//! chunked one to its end, and behind a gap nothing can be looked at: such a packet is thrown away and the server sends it again.

use kmesh_api::Image;
use kmesh_api::head::{flag, phase};
use kmesh_api::limits::RESPONSE_HEAD_MAX;
use kmesh_api::pool::Upstream;
use kmesh_api::slot::UNWANTED;
use kmesh_api::splice::{Seam, framing};
use kmesh_orchestration::http1::chunked::{self, Followed};
use kmesh_orchestration::http1::{Length, Outcome, begin_response, response_length, scan, slide};
use kmesh_orchestration::memory::{read, write};
use kmesh_orchestration::repeat::{Body, repeat};
use kmesh_orchestration::slot;

use super::flow::{before, later};
use super::packet::Packet;
use super::request::{Payload, copy};
use crate::generation;
use crate::slot::{seen, word};

/// What following came to.
pub(super) enum Framed {
    /// The packet may go on.
    Taken,
    /// Not now: what comes before it is missing, or it has to come apart.
    Later,
    /// Not a response that can be followed, or more than one.
    Fault,
}

/// Follows the response through a packet with payload.
#[inline(always)]
pub(super) fn follow(packet: &mut Packet, upstream: &mut Upstream, seam: &mut Seam) -> Framed {
    let sequence = packet.sequence();
    let next = sequence.wrapping_add(packet.length);
    if seam.framing == framing::HEAD || seam.framing == framing::CHUNKED {
        if before(seam.framed, sequence) {
            return Framed::Later;
        }
        let at = seam.framed.wrapping_sub(sequence);
        if at < packet.length {
            let framed = if seam.framing == framing::HEAD {
                head(packet, upstream, seam, at)
            } else {
                chunks(packet, upstream, seam, at)
            };
            if !matches!(framed, Framed::Taken) {
                return framed;
            }
        }
    }
    if seam.complete != 0 && before(seam.end, next) {
        return Framed::Fault;
    }
    seam.framed = later(seam.framed, next);
    Framed::Taken
}

/// Bytes of a head that are scanned at once.
const WINDOW: u32 = RESPONSE_HEAD_MAX as u32;
/// Enough of them for a packet of 64 KiB.
const WINDOWS: u32 = (64 << 10) / WINDOW + 1;

/// Scans a head window by window.
struct Windows<'a> {
    packet: Packet,
    upstream: &'a mut Upstream,
    image: &'a Image,
}

impl Body for Windows<'_> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let at = read(&self.packet.work.from);
        let left = self.packet.length.wrapping_sub(at);
        if left == 0 || left > self.packet.length {
            return false;
        }
        let wanted = if left > WINDOW { WINDOW } else { left };
        slide(&mut self.upstream.head);
        let to = self.upstream.head.bytes.as_mut_ptr();
        if !copy::<WINDOW>(&self.packet, at, to, wanted) {
            refuse_head(self.upstream);
            return false;
        }
        self.upstream.head.length = wanted;
        let more = matches!(scan(self.image, &mut self.upstream.head), Outcome::Partial);
        if more {
            write(&mut self.packet.work.from, at.wrapping_add(wanted));
        }
        more
    }
}

#[inline(always)]
fn refuse_head(upstream: &mut Upstream) {
    upstream.head.phase = phase::FAULT;
}

/// The head, or more of it, from offset `at` of the payload.
#[inline(always)]
fn head(packet: &mut Packet, upstream: &mut Upstream, seam: &mut Seam, at: u32) -> Framed {
    let Some((image, _)) = generation::active() else {
        return Framed::Fault;
    };
    write(&mut packet.work.from, at);
    repeat(
        WINDOWS,
        &mut Windows {
            packet: *packet,
            upstream,
            image,
        },
    );
    if upstream.head.phase < phase::DONE {
        return Framed::Taken;
    }
    if upstream.head.phase != phase::DONE {
        return Framed::Fault;
    }
    // The offset of the last window; the head's end is counted from it.
    let at = read(&packet.work.from);
    let begin = packet.sequence().wrapping_add(at);
    let end = upstream.head.end;
    if upstream.head.status < 200 {
        // Another response follows (RFC 9110 section 15.2).
        begin_response(&mut upstream.head);
        seam.framed = begin.wrapping_add(end);
        return if at.wrapping_add(end) == packet.length {
            Framed::Taken
        } else {
            Framed::Later
        };
    }
    if upstream.head.flags & flag::CONNECTION != 0 {
        unwanted(upstream);
    }
    match response_length(&upstream.head, upstream.head_request != 0) {
        Length::Known(total) => {
            seam.framing = framing::KNOWN;
            // Modulo 2^32, as sequence numbers are: `complete` waits until the end is less than a window away.
            seam.end = begin.wrapping_add(total as u32);
            upstream.remaining = total;
            settle(upstream, seam, total)
        }
        Length::Chunked => {
            seam.framing = framing::CHUNKED;
            chunked::begin(&mut upstream.chunks);
            chunks(packet, upstream, seam, at.wrapping_add(end))
        }
        Length::Unknown(_) => {
            seam.framing = framing::CLOSE;
            unwanted(upstream);
            Framed::Taken
        }
    }
}

/// Half of the sequence numbers: a response that is longer ends where no comparison can tell.
const COMPARABLE: u64 = 1 << 30;

#[inline(always)]
fn settle(upstream: &mut Upstream, seam: &mut Seam, total: u64) -> Framed {
    if total < COMPARABLE {
        seam.complete = 1;
    } else {
        // Too long to compare: the connection is not used again, and the client's next request finds it in flight until it closes.
        unwanted(upstream);
    }
    Framed::Taken
}

/// A chunked body, from offset `at` of the payload.
#[inline(always)]
fn chunks(packet: &Packet, upstream: &mut Upstream, seam: &mut Seam, at: u32) -> Framed {
    let to = packet.length;
    match chunked::follow(&mut upstream.chunks, &mut Payload(packet), at, to) {
        Followed::End(end) => {
            seam.end = packet.sequence().wrapping_add(end);
            seam.complete = 1;
            seam.framing = framing::KNOWN;
            Framed::Taken
        }
        Followed::More => Framed::Taken,
        Followed::Fault => Framed::Fault,
    }
}

/// The connection is not leased again.
#[inline(always)]
pub(super) fn unwanted(upstream: &mut Upstream) {
    let lease = seen(upstream).lease();
    slot::mark(&word(upstream), lease, UNWANTED);
}
