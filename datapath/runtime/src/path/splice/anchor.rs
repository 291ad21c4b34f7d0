//! What an anchor's socket sends: it reaches the client while the anchor has the exchange, or when nobody else can answer any more.

use aya_ebpf::bindings::__sk_buff;
use kmesh_api::slot::{DEAD, RETIRED};
use kmesh_api::splice::{ANCHOR, Flow, FlowKey, Offsets};

use super::DROP;
use super::exchange::held;
use super::flow::{before, flow, from_anchor, later, locked};
use super::open::negotiated;
use super::packet::{Packet, flag};
use crate::slot::seen;

/// A packet of the anchor that takes `key` for its client.
#[inline(never)]
pub(super) fn sends(skb: *mut __sk_buff, key: &FlowKey) -> i32 {
    let (Some(mut packet), Some(flow)) = (Packet::again(skb), flow(key)) else {
        return DROP;
    };
    let packet = &mut packet;
    packet.read_options();
    let flags = packet.flags();
    if flags & flag::SYN != 0 {
        accepts(packet, flow);
        return from_anchor(packet, key, &Offsets::default());
    }
    if flow.open == 0 {
        // Nobody listens.
        return from_anchor(packet, key, &Offsets::default());
    }
    let next = packet.sequence().wrapping_add(packet.length);
    if flow.holder != ANCHOR && !takes_over(packet, flow) {
        return DROP;
    }
    let time = packet.times().map(|(time, _)| time);
    let by = locked(flow, |flow| {
        let by = flow.offsets;
        let to = next.wrapping_add(flags & flag::FIN);
        flow.anchor_in = later(flow.anchor_in, next);
        flow.next_in = later(flow.next_in, to.wrapping_add(by.inward));
        by
    });
    if flags & flag::ACK != 0 {
        flow.acknowledged = later(
            flow.acknowledged,
            packet.acknowledged().wrapping_sub(by.out),
        );
    }
    if let Some(time) = time {
        flow.anchor_time = later(flow.anchor_time, time);
        flow.time_seen = later(flow.time_seen, time.wrapping_add(by.time_in));
    }
    from_anchor(packet, key, &by)
}

/// The anchor accepts the connection.
#[inline(always)]
fn accepts(packet: &Packet, flow: &mut Flow) {
    let sequence = packet.sequence();
    flow.next_in = sequence.wrapping_add(1);
    flow.anchor_first = flow.next_in;
    flow.anchor_in = flow.next_in;
    flow.anchor_acknowledged = sequence;
    flow.anchor_out = packet.acknowledged();
    flow.acknowledged = packet.acknowledged();
    flow.options &= negotiated(packet);
    flow.scale_in = packet.options.scale;
    flow.segment = packet.options.segment;
    if flow.options & kmesh_api::splice::SCALING == 0 {
        flow.scale_in = 0;
        flow.scale_out = 0;
    }
    if let Some((time, _)) = packet.times() {
        flow.time_seen = time;
        flow.anchor_time = time;
    }
    flow.open = 1;
}

/// Whether the anchor may speak although an upstream has the exchange: the upstream is dead, or `kmeshd` ends the connection.
#[inline(always)]
fn takes_over(packet: &Packet, flow: &mut Flow) -> bool {
    let flags = packet.flags();
    let ends = flags & (flag::FIN | flag::RST) != 0;
    let gone = held(flow).is_none_or(|held| {
        let now = seen(held.upstream);
        now.lease() != flow.lease || now.health() == DEAD || now.state() == RETIRED
    });
    if !(ends || gone && packet.length > 0) {
        return false;
    }
    if before(packet.sequence(), flow.anchor_in) {
        // Old bytes.
        return false;
    }
    let by = Offsets {
        out: flow.anchor_out.wrapping_sub(if flow.pinned != 0 {
            flow.split
        } else {
            flow.next_out
        }),
        inward: flow.next_in.wrapping_sub(flow.anchor_in),
        time_out: 0,
        time_in: flow.time_seen.wrapping_sub(flow.anchor_time),
    };
    locked(flow, |flow| {
        flow.holder = ANCHOR;
        flow.offsets = by;
    });
    true
}
