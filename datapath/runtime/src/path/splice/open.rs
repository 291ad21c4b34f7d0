//! Handshakes: a connection enters the tables with its first packet, and its options are taken from the packets that negotiate them.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use kmesh_api::exchange::{Client, SPLICED};
use kmesh_api::pod::{Anchored, AnchoredKey};
use kmesh_api::pool::bpf_spin_lock;
use kmesh_api::splice::{ANCHOR, Flow, FlowKey, Offsets, Peer, SACK, SCALING, TIMESTAMPS};
use kmesh_api::{Address, Reason};
use kmesh_orchestration::memory::assign;

use super::flow::{flow, peer, seam, to_anchor};
use super::packet::{Packet, flag, splice};
use super::{DROP, NEXT};
use crate::client;
use crate::counter::count;
use crate::maps::{ANCHORED, ENTRIES, FLOWS, PEERS, SLOTS};

/// Ports that are tried for the far end of an anchor's connection, should clients of one port speak to one address's several ports.
const PORT_TRIES: u32 = 8;
const NO_EXIST: u64 = 1;

/// A socket of the pod sends its first packet.
#[inline(never)]
pub(super) fn begins(skb: *mut __sk_buff) -> i32 {
    let Some(mut packet) = Packet::again(skb) else {
        return NEXT;
    };
    let packet = &mut packet;
    // SAFETY: the context is the one this program was called with.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    if cookie == 0 {
        return NEXT;
    }
    packet.read_options();
    // SAFETY: the value is copied at once.
    if let Some(slot) = unsafe { SLOTS.get(cookie) }.map(|arrivals| arrivals.slot) {
        return upstream(packet, slot, cookie);
    }
    let Some(client) = client_of(packet) else {
        return NEXT;
    };
    if client.anchored != SPLICED || client.original != packet.key.remote {
        return NEXT;
    }
    client.cookie = cookie;
    client.device = packet.key.device;
    let mut known = flow(&packet.key);
    if known.as_ref().is_none_or(|flow| flow.cookie != cookie) {
        if !enter(packet, client) {
            count(Reason::AnchorFull);
            return DROP;
        }
        known = flow(&packet.key);
    }
    let Some(flow) = known else { return DROP };
    // What ECN says is between a socket and one peer; this one's peers change.
    packet.plan.clear = flag::ECE | flag::CWR;
    to_anchor(packet, flow, &Offsets::default())
}

/// A client's socket closes. Nobody but it knows of a connection that no anchor took; of one that an anchor took, `kmeshd` forgets the entries.
#[inline(always)]
pub fn closed(client: &Client, local: Address, remote: Address) {
    let key = FlowKey {
        device: client.device,
        local,
        remote,
    };
    let Some(flow) = flow(&key) else { return };
    if flow.cookie != client.cookie || flow.open != 0 {
        return;
    }
    let _ = ANCHORED.remove(AnchoredKey {
        pod: flow.pod,
        client: flow.anchor.remote,
    });
    let _ = PEERS.remove(flow.anchor);
    let _ = FLOWS.remove(key);
}

/// Per-socket state of the client that sends the packet.
#[inline(always)]
pub(super) fn client_of(packet: &Packet) -> Option<&'static mut Client> {
    let skb: *mut __sk_buff = packet.skb();
    // SAFETY: the kernel hands a valid context; the field is a socket or null.
    client::of(unsafe { (*skb).__bindgen_anon_2.sk }.cast())
}

/// What enters the tables, in scratch memory: a program's stack has 512 bytes.
#[repr(C)]
pub struct Entry {
    /// A [`Flow`]; by its type the verifier would find a lock in a per-CPU map and refuse it.
    flow: [u64; size_of::<Flow>() / 8],
    peer: Peer,
    anchored: Anchored,
    key: AnchoredKey,
}

#[inline(always)]
fn flow_of(entry: &Entry) -> &'static mut Flow {
    // SAFETY: as long as a `Flow` and aligned as one, plain numbers, and live as `entry` is.
    unsafe { &mut *(&raw const entry.flow).cast_mut().cast() }
}

/// The scratch memory of the CPU; soft interrupts are off.
#[inline(always)]
fn entry() -> Option<&'static mut Entry> {
    let entry = ENTRIES.get_ptr_mut(0)?;
    // SAFETY: a live per-CPU value that nobody else uses meanwhile.
    Some(unsafe { &mut *entry })
}

/// Enters a client's connection into the tables.
#[inline(always)]
fn enter(packet: &Packet, client: &Client) -> bool {
    let key = &packet.key;
    let Some(entry) = entry() else { return false };
    if !anchor_connection(key, client, entry) {
        return false;
    }
    let options = &packet.options;
    let flow = flow_of(entry);
    flow.lock = bpf_spin_lock::default();
    flow.holder = ANCHOR;
    flow.lease = 0;
    flow.cookie = client.cookie;
    flow.offsets = Offsets::default();
    flow.next_out = packet.sequence().wrapping_add(1);
    flow.next_in = 0;
    flow.acknowledged = packet.sequence();
    flow.time_seen = 0;
    flow.time_base = time_base(packet);
    flow.options = negotiated(packet);
    flow.scale_out = options.scale;
    flow.scale_in = 0;
    flow.anchor_acknowledged = 0;
    flow.anchor_first = 0;
    flow.pinned = 0;
    flow.pod = client.pod;
    flow.open = 0;
    flow.closing = 0;
    splice(key.local.port);
    splice(client.anchor.port);
    entry.key.pod = client.pod;
    assign(&mut entry.key.client, &flow.anchor.remote);
    entry.anchored.cookie = client.cookie;
    assign(&mut entry.anchored.original, &client.original);
    entry.anchored.device = key.device;
    FLOWS.insert(key, flow_of(entry), 0).is_ok()
        && ANCHORED.insert(entry.key, entry.anchored, 0).is_ok()
}

/// Addresses for the anchor's side that no other client of the pod has.
#[inline(always)]
fn anchor_connection(key: &FlowKey, client: &Client, entry: &mut Entry) -> bool {
    entry.peer.slot = ANCHOR;
    assign(&mut entry.peer.client, key);
    let anchor = &mut flow_of(entry).anchor;
    anchor.device = key.device;
    assign(&mut anchor.local, &client.anchor);
    assign(&mut anchor.remote.ip_be, &key.remote.ip_be);
    for i in 0..PORT_TRIES {
        // From the client's own port on, in steps that meet every port.
        let port = key.local.port.wrapping_add(i * 8191) & 0xffff;
        if port == 0 {
            continue;
        }
        anchor.remote.port = port;
        if PEERS.insert(*anchor, entry.peer, NO_EXIST).is_ok() {
            return true;
        }
        // One that this client's predecessor on the same addresses left.
        if peer(anchor).is_some_and(|there| there.slot == ANCHOR && there.client == *key) {
            return true;
        }
    }
    false
}

/// `kmeshd` opens an upstream.
#[inline(always)]
fn upstream(packet: &Packet, slot: u32, cookie: u64) -> i32 {
    let key = &packet.key;
    let (Some(seam), Some(entry)) = (seam(slot), entry()) else {
        return NEXT;
    };
    let options = &packet.options;
    assign(&mut seam.key, key);
    assign(&mut seam.ethernet, &packet.ethernet());
    seam.next_out = packet.sequence().wrapping_add(1);
    seam.next_in = 0;
    seam.time_seen = 0;
    seam.time_base = time_base(packet);
    seam.options = negotiated(packet);
    seam.scale_out = options.scale;
    seam.complete = 0;
    seam.owed = 0;
    seam.cookie = cookie;
    entry.peer.slot = slot;
    splice(key.local.port);
    // Without the entry the connection is like any other, and never the kernel's.
    if PEERS.insert(key, entry.peer, 0).is_err() {
        seam.cookie = 0;
    }
    NEXT
}

/// The options that a SYN offers.
#[inline(always)]
pub(super) fn negotiated(packet: &Packet) -> u32 {
    let options = &packet.options;
    let mut offered = 0;
    if options.time_at != 0 {
        offered |= TIMESTAMPS;
    }
    if options.selective != 0 {
        offered |= SACK;
    }
    if options.scales != 0 {
        offered |= SCALING;
    }
    offered
}

/// Where a socket's timestamps stand against the clock: `tcp_sock.tsoffset`. A packet's timestamp is that of `skb_mstamp_ns`, which the
/// program reads as `tstamp` (`tcp_skb_timestamp_ts`).
#[inline(always)]
fn time_base(packet: &Packet) -> u32 {
    const MILLISECOND: u64 = 1_000_000;
    let skb = packet.skb();
    // SAFETY: the kernel hands a valid context.
    let sent = unsafe { (*skb).tstamp };
    let time = packet.times().map_or(0, |(time, _)| time);
    time.wrapping_sub((sent / MILLISECOND) as u32)
}
