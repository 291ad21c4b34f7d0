//! The records of spliced connections, and numbers that move from one sequence space to another.

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use kmesh_api::splice::{Flow, FlowKey, Offsets, Peer, Seam};
use kmesh_orchestration::memory::assign;

use super::packet::Packet;
use super::plan::Plan;
use crate::maps::{FLOWS, PEERS, SEAMS};

/// The client's record.
#[inline(always)]
pub(super) fn flow(key: &FlowKey) -> Option<&'static mut Flow> {
    let flow = FLOWS.get_ptr_mut(key)?;
    // SAFETY: a live map value; what both directions write is guarded by its lock.
    Some(unsafe { &mut *flow })
}

/// Whose addresses these are, if not a client's.
#[inline(always)]
pub(super) fn peer(key: &FlowKey) -> Option<&'static Peer> {
    // SAFETY: written once, when the connection is opened.
    unsafe { PEERS.get(key) }
}

/// The spliced part of an upstream's record.
#[inline(always)]
pub(super) fn seam(slot: u32) -> Option<&'static mut Seam> {
    let seam = SEAMS.get_ptr_mut(slot)?;
    // SAFETY: a live array value; the slot's state says who writes it.
    Some(unsafe { &mut *seam })
}

/// Takes the flow's lock for `work`, which must not call a helper.
#[inline(always)]
pub(super) fn locked<R>(flow: &mut Flow, work: impl FnOnce(&mut Flow) -> R) -> R {
    let lock = (&raw mut flow.lock).cast();
    // SAFETY: the first field of a live map value; no helper is called before it is released.
    unsafe { bpf_spin_lock(lock) };
    let result = work(flow);
    // SAFETY: as above.
    unsafe { bpf_spin_unlock(lock) };
    result
}

/// `a` comes before `b` (RFC 9293 section 3.4).
#[inline(always)]
pub(super) fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

/// The later of two.
#[inline(always)]
pub(super) fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

/// Where a packet goes: what a program's first half leaves to its second.
pub(super) mod go {
    /// As planned, on its way.
    pub(in crate::path::splice) const ON: i32 = 100;
    /// As planned, back to the device.
    pub(in crate::path::splice) const BACK: i32 = 101;
}

/// A client's numbers become its holder's.
#[inline(always)]
fn outward(plan: &mut Plan, by: &Offsets) {
    plan.sequence = by.out;
    plan.acknowledged = by.inward.wrapping_neg();
    plan.time = by.time_out;
    plan.echo = by.time_in.wrapping_neg();
}

/// The holder's numbers become its client's.
#[inline(always)]
fn inward(plan: &mut Plan, by: &Offsets) {
    plan.sequence = by.inward;
    plan.acknowledged = by.out.wrapping_neg();
    plan.time = by.time_in;
    plan.echo = by.time_out.wrapping_neg();
}

/// Sends a client's packet to its upstream.
#[inline(always)]
pub(super) fn to_upstream(packet: &mut Packet, flow: &Flow, by: &Offsets, seam: &Seam) -> i32 {
    let window = (packet.window() << (flow.scale_out & 15)) >> (seam.scale_out & 15);
    let plan = &mut packet.plan;
    outward(plan, by);
    plan.window = window;
    assign(&mut plan.from, &seam.key.local);
    assign(&mut plan.to, &seam.key.remote);
    plan.has_ethernet = 1;
    assign(&mut plan.ethernet, &seam.ethernet);
    go::ON
}

/// The plan of a client's packet for its anchor.
#[inline(always)]
fn anchored(plan: &mut Plan, window: u32, flow: &Flow, by: &Offsets) {
    outward(plan, by);
    plan.window = window;
    assign(&mut plan.from, &flow.anchor.remote);
    assign(&mut plan.to, &flow.anchor.local);
}

/// Sends a client's packet to its anchor.
#[inline(always)]
pub(super) fn to_anchor(packet: &mut Packet, flow: &Flow, by: &Offsets) -> i32 {
    let window = packet.window();
    anchored(&mut packet.plan, window, flow, by);
    go::BACK
}

/// Sends a copy of a client's packet to its anchor before it goes elsewhere.
#[inline(always)]
pub(super) fn copy_to_anchor(packet: &mut Packet, flow: &Flow, by: &Offsets) {
    let window = packet.window();
    anchored(&mut packet.copy, window, flow, by);
    packet.copy.clear = 0;
    packet.copy.has_ethernet = 0;
    packet.copies = 1;
}

/// Sends an upstream's packet to its client.
#[inline(always)]
pub(super) fn from_upstream(
    packet: &mut Packet,
    flow: &Flow,
    key: &FlowKey,
    by: &Offsets,
    window: u32,
) -> i32 {
    let plan = &mut packet.plan;
    inward(plan, by);
    plan.window = window >> (flow.scale_in & 15);
    assign(&mut plan.from, &key.remote);
    assign(&mut plan.to, &key.local);
    go::ON
}

/// Sends an anchor's packet to its client.
#[inline(always)]
pub(super) fn from_anchor(packet: &mut Packet, key: &FlowKey, by: &Offsets) -> i32 {
    let window = packet.window();
    let plan = &mut packet.plan;
    inward(plan, by);
    plan.window = window;
    assign(&mut plan.from, &key.remote);
    assign(&mut plan.to, &key.local);
    go::BACK
}
