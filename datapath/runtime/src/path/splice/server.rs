//! What arrives on an upstream connection, and what its own socket in `kmeshd` still sends.

use aya_ebpf::bindings::__sk_buff;
use kmesh_api::Reason;
use kmesh_api::pool::Upstream;
use kmesh_api::slot::{DEAD, LEASED, LINGERING, TAKEN, USER};
use kmesh_api::splice::{Flow, Seam, framing};
use kmesh_orchestration::memory::assign;
use kmesh_orchestration::slot;

use super::flow::{before, flow, from_upstream, go, later, locked, seam};
use super::open::negotiated;
use super::packet::{Packet, flag};
use super::response::{Framed, follow, unwanted};
use super::{DROP, NEXT};
use crate::counter::count;
use crate::maps::RELAYS;
use crate::slot::{seen, upstream, word};

/// A packet from the server of a slot.
#[inline(never)]
pub(super) fn arrives(skb: *mut __sk_buff, slot: u32) -> i32 {
    let (Some(mut packet), Some(upstream), Some(seam)) =
        (Packet::again(skb), upstream(slot), seam(slot))
    else {
        return DROP;
    };
    let packet = &mut packet;
    packet.read_options();
    if packet.flags() & flag::SYN != 0 {
        answered(packet, seam);
        return NEXT;
    }
    match seen(upstream).state() {
        USER => {
            track(packet, seam);
            NEXT
        }
        LEASED | LINGERING => leased(packet, slot, upstream, seam),
        _ => {
            idle(packet, slot, upstream, seam);
            DROP
        }
    }
}

/// The server accepts the connection.
#[inline(always)]
fn answered(packet: &Packet, seam: &mut Seam) {
    seam.next_in = packet.sequence().wrapping_add(1);
    seam.options &= negotiated(packet);
    seam.scale_in = packet.options.scale;
    seam.segment = packet.options.segment;
    if seam.options & kmesh_api::splice::SCALING == 0 {
        seam.scale_in = 0;
        seam.scale_out = 0;
    }
    if let Some((time, _)) = packet.times() {
        seam.time_seen = time;
    }
}

/// User space has the connection; these are the numbers that a lease will begin with.
#[inline(always)]
fn track(packet: &Packet, seam: &mut Seam) {
    seam.next_in = later(seam.next_in, packet.sequence().wrapping_add(packet.length));
    if let Some((time, _)) = packet.times() {
        seam.time_seen = later(seam.time_seen, time);
    }
}

/// Nobody has the connection: what comes is old, or its end.
#[inline(always)]
fn idle(packet: &Packet, slot: u32, upstream: &mut Upstream, seam: &mut Seam) {
    let ends = packet.flags() & (flag::FIN | flag::RST) != 0;
    let new = before(seam.next_in, packet.sequence().wrapping_add(packet.length));
    if ends || (packet.length > 0 && new) {
        dead(slot, upstream);
    } else if packet.length > 0 {
        // Sent again because nobody acknowledged it.
        seam.owed = 1;
        let _ = RELAYS.output(slot, 0);
    }
}

/// Nobody leases it again, and whoever waits for its answer is told.
#[inline(always)]
pub(super) fn dead(slot: u32, upstream: &mut Upstream) {
    let lease = seen(upstream).lease();
    slot::mark(&word(upstream), lease, DEAD);
    // Should the buffer be full, the reaper finds the state.
    let _ = RELAYS.output(slot, 0);
}

/// A packet for the client that has the lease.
#[inline(always)]
fn leased(
    packet: &mut Packet,
    slot: u32,
    upstream: &'static mut Upstream,
    seam: &'static mut Seam,
) -> i32 {
    let Some(flow) = flow(&seam.client) else {
        dead(slot, upstream);
        return DROP;
    };
    if flow.holder != slot || seen(upstream).lease() != flow.lease {
        return DROP;
    }
    let flags = packet.flags();
    if flags & flag::RST != 0 {
        count(Reason::UpstreamGone);
        dead(slot, upstream);
        return DROP;
    }
    if packet.length > 0 {
        match follow(packet, upstream, seam) {
            // Whatever the client has of an answer, it gets no other.
            Framed::Taken => upstream.answered = 1,
            Framed::Later => return DROP,
            Framed::Fault => {
                dead(slot, upstream);
                return DROP;
            }
        }
    }
    if flags & flag::FIN != 0 {
        let end = packet.sequence().wrapping_add(packet.length);
        if seam.framing == framing::CLOSE && end == seam.framed {
            // The end of the connection is the end of the body.
            seam.end = end.wrapping_add(1);
            seam.complete = 1;
        } else if seam.complete == 0 || before(seam.framed, seam.end) {
            // The server left with an answer owed.
            dead(slot, upstream);
            packet.plan.clear = flag::FIN;
            if packet.length == 0 {
                return DROP;
            }
        } else if flow.closing == 0 && upstream.head.flags & kmesh_api::head::flag::CONNECTION == 0
        {
            unwanted(upstream);
            packet.plan.clear = flag::FIN;
            if packet.length == 0 {
                return DROP;
            }
        }
    }
    deliver(packet, flow, seam)
}

/// The packet goes to the client.
#[inline(always)]
fn deliver(packet: &mut Packet, flow: &mut Flow, seam: &mut Seam) -> i32 {
    let next = packet
        .sequence()
        .wrapping_add(packet.length)
        .wrapping_add(packet.flags() & flag::FIN & !packet.plan.clear);
    let ack = packet.acknowledged();
    let time = packet.times().map(|(time, _)| time);
    if let Some(time) = time {
        seam.time_seen = later(seam.time_seen, time);
    }
    let by = locked(flow, |flow| {
        let by = flow.offsets;
        flow.next_in = later(flow.next_in, next.wrapping_add(by.inward));
        flow.acknowledged = later(flow.acknowledged, ack.wrapping_sub(by.out));
        if let Some(time) = time {
            flow.time_seen = later(flow.time_seen, time.wrapping_add(by.time_in));
        }
        by
    });
    let window = packet.window() << (seam.scale_in & 15);
    // At its end a request leaves its server behind: the next server's window is not known yet, and no window is taken back.
    let window = if flow.acknowledged == flow.next_out && window > FIRST_WINDOW {
        FIRST_WINDOW
    } else {
        window
    };
    from_upstream(packet, flow, &seam.client, &by, window)
}

/// What any server takes at first, bytes: Linux announces 64 KiB (`tcp_select_initial_window`).
const FIRST_WINDOW: u32 = 60_000;

/// A packet of the upstream's own socket, which knows nothing of what its leaseholders sent: its numbers are brought up to date.
#[inline(never)]
pub(super) fn own(skb: *mut __sk_buff, slot: u32) -> i32 {
    let (Some(mut packet), Some(upstream), Some(seam)) =
        (Packet::again(skb), upstream(slot), seam(slot))
    else {
        return DROP;
    };
    let packet = &mut packet;
    packet.read_options();
    let flags = packet.flags();
    let state = seen(upstream).state();
    if state == USER && flags & flag::RST == 0 {
        let next = packet
            .sequence()
            .wrapping_add(packet.length)
            .wrapping_add(flags & flag::FIN);
        seam.next_out = later(seam.next_out, next);
        return NEXT;
    }
    if (state == LEASED || state == TAKEN) && flags & flag::RST == 0 {
        return DROP;
    }
    let (sequence, ack, window) = (packet.sequence(), packet.acknowledged(), packet.window());
    let plan = &mut packet.plan;
    plan.sequence = seam.next_out.wrapping_sub(sequence);
    plan.acknowledged = seam.next_in.wrapping_sub(ack);
    plan.time = 0;
    plan.echo = 0;
    plan.window = window;
    assign(&mut plan.from, &seam.key.local);
    assign(&mut plan.to, &seam.key.remote);
    seam.owed = 0;
    go::ON
}
