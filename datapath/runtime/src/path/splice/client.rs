//! What a client's socket sends: acknowledgements go to whoever has the exchange, bytes where their request was decided to go.

use aya_ebpf::bindings::__sk_buff;
use kmesh_api::Reason;
use kmesh_api::splice::{ANCHOR, Flow, Offsets};
use kmesh_orchestration::slot;

use super::exchange::{Held, give_to_anchor, held, pin, split_offsets};
use super::flow::{before, flow, to_anchor, to_upstream};
use super::open::client_of;
use super::packet::{Packet, flag};
use super::request::{Way, decide};
use super::response::unwanted;
use super::{DROP, OTHERS};
use crate::counter::{count, count_number};
use crate::slot::word;

/// A packet of the client.
#[inline(never)]
pub(super) fn sends(skb: *mut __sk_buff) -> i32 {
    let Some(mut packet) = Packet::again(skb) else {
        return OTHERS;
    };
    let Some(flow) = flow(&packet.key) else {
        return OTHERS;
    };
    let packet = &mut packet;
    packet.read_options();
    let flags = packet.flags();
    if flags & flag::RST != 0 {
        return breaks_off(packet, flow);
    }
    if flow.open == 0 {
        return to_anchor(packet, flow, &Offsets::default());
    }
    let at = flow.next_out.wrapping_sub(packet.sequence());
    if at.cast_signed() < 0 {
        // Bytes that no packet has brought: not of this connection.
        return DROP;
    }
    if at >= packet.length {
        if flags & flag::FIN != 0 && at == packet.length {
            ends(packet, flow)
        } else {
            seen_before(packet, flow)
        }
    } else {
        bytes(packet, flow, at)
    }
}

/// The exchange's holder gets the packet as it is.
#[inline(always)]
fn to_holder(packet: &mut Packet, flow: &mut Flow) -> i32 {
    let by = flow.offsets;
    match held(flow) {
        Some(held) if held.is_of(flow) => {
            held.seam.told = packet.acknowledged().wrapping_sub(by.inward);
            to_upstream(packet, flow, &by, held.seam)
        }
        Some(_) => DROP,
        None => {
            let acknowledged = packet.acknowledged().wrapping_sub(by.inward);
            if before(flow.anchor_acknowledged, acknowledged) {
                flow.anchor_acknowledged = acknowledged;
            }
            to_anchor(packet, flow, &by)
        }
    }
}

/// An acknowledgement, or bytes that an earlier packet brought. The acknowledgement of a whole response ends the lease.
#[inline(always)]
fn seen_before(packet: &mut Packet, flow: &mut Flow) -> i32 {
    let (sequence, ack) = (packet.sequence(), packet.acknowledged());
    if flow.pinned != 0 && packet.length > 0 && !before(sequence, flow.split) {
        return pinned(packet, flow);
    }
    let verdict = to_holder(packet, flow);
    end_lease(flow, ack, false);
    verdict
}

/// Ends the lease if the client has the response.
#[inline(always)]
fn end_lease(flow: &mut Flow, ack: u32, owed: bool) {
    if let Some(held) = held(flow)
        && held.is_over(flow, ack)
    {
        let next = if flow.pinned != 0 {
            flow.split
        } else {
            flow.next_out
        };
        held.release(flow, next, ack, owed);
        give_to_anchor(flow, next, ack);
    }
}

/// Bytes of a client that user space serves from `split` on.
#[inline(always)]
fn pinned(packet: &mut Packet, flow: &mut Flow) -> i32 {
    let ack = packet.acknowledged();
    if before(packet.sequence(), flow.split) {
        // What the upstream has to get and what the anchor has to get in one: sent again, it comes apart.
        return DROP;
    }
    end_lease(flow, ack, true);
    if flow.holder == ANCHOR {
        return to_holder(packet, flow);
    }
    // What the client has of the upstream's answer is no business of the anchor's.
    let by = split_offsets(flow, ack);
    to_anchor(packet, flow, &by)
}

/// New bytes, from offset `at` of the packet on.
#[inline(always)]
fn bytes(packet: &mut Packet, flow: &mut Flow, at: u32) -> i32 {
    let ack = packet.acknowledged();
    let boundary = flow.next_out;
    let way = if flow.pinned != 0 {
        Way::Pinned
    } else {
        match client_of(packet) {
            Some(client) => Way::from(decide(packet.skb(), flow, client, at)),
            None => Way::Pin(Reason::Unreadable as u32),
        }
    };
    // What was cut off is not on its way.
    let closing = packet.flags() & flag::FIN & !packet.plan.clear;
    let next = packet
        .sequence()
        .wrapping_add(packet.length)
        .wrapping_add(closing);
    match way {
        Way::Holder => {
            flow.next_out = next;
            if closing != 0
                && let Some(held) = held(flow)
            {
                unwanted(held.upstream);
                flow.closing = 1;
            }
            to_holder(packet, flow)
        }
        Way::Anchor => {
            if let Some(held) = held(flow) {
                held.release(flow, boundary, ack, true);
                give_to_anchor(flow, boundary, ack);
            }
            flow.next_out = next;
            to_holder(packet, flow)
        }
        Way::Pin(reason) => {
            count_number(reason);
            pin(flow, boundary);
            flow.next_out = next;
            pinned(packet, flow)
        }
        Way::Pinned => {
            pin(flow, boundary);
            flow.next_out = next;
            pinned(packet, flow)
        }
        Way::Nowhere => DROP,
    }
}

/// The client sends no more. With an exchange under way its server is told, as without a mesh; otherwise the anchor.
#[inline(always)]
fn ends(packet: &mut Packet, flow: &mut Flow) -> i32 {
    let ack = packet.acknowledged();
    if flow.pinned != 0 {
        flow.next_out = flow.next_out.wrapping_add(1);
        return pinned(packet, flow);
    }
    end_lease(flow, ack, true);
    if let Some(held) = held(flow) {
        unwanted(held.upstream);
        flow.closing = 1;
    }
    // The end has a sequence number of its own (RFC 9293 section 3.4).
    flow.next_out = flow.next_out.wrapping_add(1);
    to_holder(packet, flow)
}

/// The client is gone: whoever had its exchange is told by the end of the connection.
#[inline(always)]
fn breaks_off(packet: &mut Packet, flow: &mut Flow) -> i32 {
    if let Some(mut held) = held(flow) {
        abandon(&mut held, flow);
        let next = flow.next_out;
        let ack = flow.next_in;
        give_to_anchor(flow, next, ack);
        // What an anchor expects next is what makes it believe a reset (RFC 5961 section 3.2).
        let mut by = flow.offsets;
        by.out = by.out.wrapping_add(next.wrapping_sub(packet.sequence()));
        return to_anchor(packet, flow, &by);
    }
    let by = flow.offsets;
    to_anchor(packet, flow, &by)
}

#[inline(always)]
fn abandon(held: &mut Held, flow: &Flow) {
    if slot::abandon(&word(held.upstream), flow.lease) {
        count(Reason::ClientGone);
    }
}
