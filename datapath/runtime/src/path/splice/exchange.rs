//! The holder of an exchange changes: at a request's first byte, and when nothing is under way.

use kmesh_api::Reason;
use kmesh_api::exchange::Client;
use kmesh_api::limits::LEASE_TRIES;
use kmesh_api::pool::{PoolKey, Upstream};
use kmesh_api::splice::{ANCHOR, Flow, FlowKey, Offsets, Seam, framing};

use kmesh_orchestration::http1::begin_response;
use kmesh_orchestration::memory::assign;
use kmesh_orchestration::slot;

use super::flow::{before, copy_to_anchor, locked, seam};
use super::packet::Packet;
use crate::lease::{begin, give_back, pop, take};
use crate::slot::{seen, upstream, word};

/// The upstream that holds the client's exchange.
pub(super) struct Held {
    /// Its slot.
    pub(super) slot: u32,
    /// Its record.
    pub(super) upstream: &'static mut Upstream,
    /// The spliced part of it.
    pub(super) seam: &'static mut Seam,
}

/// The upstream that holds the exchange; none if the anchor does.
#[inline(always)]
pub(super) fn held(flow: &Flow) -> Option<Held> {
    if flow.holder == ANCHOR {
        return None;
    }
    Some(Held {
        slot: flow.holder,
        upstream: upstream(flow.holder)?,
        seam: seam(flow.holder)?,
    })
}

impl Held {
    /// Whether the flow still has the lease.
    #[inline(always)]
    pub(super) fn is_of(&self, flow: &Flow) -> bool {
        seen(self.upstream).lease() == flow.lease
    }

    /// Whether the exchange is over for a client that acknowledges `ack`: the request was sent and acknowledged, and the client has the response.
    #[inline(always)]
    pub(super) fn is_over(&self, flow: &Flow, ack: u32) -> bool {
        let has = ack.wrapping_sub(flow.offsets.inward);
        let sent = if flow.pinned != 0 {
            flow.split
        } else {
            flow.next_out
        };
        self.seam.complete != 0
            && flow.closing == 0
            && !before(has, self.seam.end)
            && !seen(self.upstream).is_sending()
            && flow.acknowledged == sent
    }

    /// Ends the lease of an exchange that is over. The client's next byte is `sequence`; the server is yet to be told of `ack` if it is `owed`.
    #[inline(always)]
    pub(super) fn release(self, flow: &mut Flow, sequence: u32, ack: u32, owed: bool) {
        if !self.is_of(flow) {
            return;
        }
        self.seam.next_out = sequence.wrapping_add(flow.offsets.out);
        self.seam.next_in = ack.wrapping_sub(flow.offsets.inward);
        self.seam.owed = u32::from(owed);
        give_back(self.upstream, self.slot, flow.lease);
        // Not the flow's any more, whoever has it next.
        flow.lease = 0;
    }
}

/// The mapping to the anchor for a client whose next byte is `sequence` and who acknowledges `ack`.
#[inline(always)]
fn anchor_offsets(flow: &Flow, sequence: u32, ack: u32) -> Offsets {
    Offsets {
        out: flow.anchor_out.wrapping_sub(sequence),
        inward: ack.wrapping_sub(flow.anchor_in),
        time_out: 0,
        time_in: flow.time_seen.wrapping_sub(flow.anchor_time),
    }
}

/// The anchor takes the exchange.
#[inline(always)]
pub(super) fn give_to_anchor(flow: &mut Flow, sequence: u32, ack: u32) {
    let from = if flow.pinned != 0 {
        flow.split
    } else {
        sequence
    };
    let offsets = anchor_offsets(flow, from, ack);
    locked(flow, |flow| {
        flow.holder = ANCHOR;
        flow.offsets = offsets;
    });
}

/// The mapping for what a pinned client sends to its anchor while an upstream still holds its exchange.
#[inline(always)]
pub(super) fn split_offsets(flow: &Flow, ack: u32) -> Offsets {
    anchor_offsets(flow, flow.split, ack)
}

/// From `sequence` on the client's bytes go to the anchor, for good.
#[inline(always)]
pub(super) fn pin(flow: &mut Flow, sequence: u32) {
    if flow.pinned != 0 {
        return;
    }
    if flow.holder == ANCHOR {
        flow.anchor_out = sequence.wrapping_add(flow.offsets.out);
    }
    flow.split = sequence;
    flow.pinned = 1;
}

/// Leases an upstream of the pool for the request that the packet begins.
///
/// # Errors
/// Why user space must serve it.
#[inline(always)]
pub(super) fn lease(
    packet: &mut Packet,
    flow: &mut Flow,
    client: &mut Client,
    pool: &PoolKey,
) -> Result<(), Reason> {
    let (sequence, ack) = (packet.sequence(), packet.acknowledged());
    if flow.holder == ANCHOR && before(flow.anchor_acknowledged, flow.anchor_first) {
        // The anchor has not seen the end of the handshake yet.
        return Err(Reason::UserPending);
    }
    // The exchange before is over: its upstream may be the one that this request gets.
    if let Some(held) = held(flow) {
        held.release(flow, sequence, ack, true);
    }
    let (slot, lease) = find(pool, flow.options, flow.segment)?;
    let (Some(upstream), Some(seam)) = (upstream(slot), seam(slot)) else {
        return Err(Reason::NoUpstream);
    };
    occupy(seam, &packet.key);
    begin_response(&mut upstream.head);
    if !begin(upstream, client, flow.cookie, lease) {
        return Err(Reason::NoUpstream);
    }
    if flow.holder == ANCHOR {
        leave_anchor(packet, flow, sequence, ack);
    }
    let offsets = Offsets {
        out: seam.next_out.wrapping_sub(sequence),
        inward: ack.wrapping_sub(seam.next_in),
        time_out: seam.time_base.wrapping_sub(flow.time_base),
        time_in: flow.time_seen.wrapping_sub(seam.time_seen),
    };
    locked(flow, |flow| {
        flow.holder = slot;
        flow.lease = lease;
        flow.offsets = offsets;
    });
    client.slot = slot;
    client.lease = lease;
    Ok(())
}

/// Takes an upstream that the flow can have; its slot and the lease that may begin. Entries whose connection died, or negotiated other options or take only shorter segments, are retired on the way.
#[inline(always)]
fn find(pool: &PoolKey, options: u32, segment: u32) -> Result<(u32, u64), Reason> {
    // Dead entries are rare; after LEASE_TRIES of them user space serves the request and cleans up.
    for _ in 0..LEASE_TRIES {
        let Some(slot) = pop(pool) else {
            return Err(Reason::NoUpstream);
        };
        let (Some(upstream), Some(seam)) = (upstream(slot), seam(slot)) else {
            return Err(Reason::NoUpstream);
        };
        let Some(lease) = take(upstream, pool) else {
            continue;
        };
        if seam.cookie != 0 && seam.options == options && seam.segment >= segment {
            return Ok((slot, lease));
        }
        slot::discard(&word(upstream), lease);
    }
    Err(Reason::NoUpstream)
}

/// The anchor had the exchange before: it remembers where it stands.
#[inline(always)]
fn leave_anchor(packet: &mut Packet, flow: &mut Flow, sequence: u32, ack: u32) {
    flow.anchor_out = sequence.wrapping_add(flow.offsets.out);
    flow.anchor_in = ack.wrapping_sub(flow.offsets.inward);
    if flow.anchor_acknowledged != flow.anchor_in {
        acknowledge_anchor(packet, flow);
    }
}

/// Tells the anchor what its client has of it, which only the packet at hand says: a copy of it, as old bytes (RFC 9293 section 3.10.7.4: they are
/// thrown away, their acknowledgement counts).
#[inline(always)]
fn acknowledge_anchor(packet: &mut Packet, flow: &mut Flow) {
    let by = flow.offsets;
    let old = Offsets {
        out: by.out.wrapping_sub(packet.length),
        ..by
    };
    copy_to_anchor(packet, flow, &old);
    flow.anchor_acknowledged = flow.anchor_in;
}

/// The seam of a taken slot is the client's.
#[inline(always)]
fn occupy(seam: &mut Seam, key: &FlowKey) {
    assign(&mut seam.client, key);
    seam.framing = framing::HEAD;
    seam.framed = seam.next_in;
    seam.complete = 0;
    seam.owed = 0;
}
