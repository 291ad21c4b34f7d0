//! The splice path: packets are rewritten at the pod's device between the client's and its peer's sequence space.
//!
//! ```text
//!  client socket ──> egress ──> device ──> server           the exchange has a lease
//!                      └─────> ingress ──> anchor socket    it has none: the packet turns round at the device
//! ```
//! The sockets are plain TCP: no socket map, no other `recvmsg`. Flow control, retransmission and windows are those of the two ends.
//! `packet` reads and writes headers, `plan` says how, `cut` shortens, `work` keeps what framing finds out; `client` follows what a client sends, `server` what an upstream receives, `anchor` what `kmeshd`'s own
//! sockets send, `exchange` changes the holder of an exchange, `open` learns from handshakes, `flow` finds the records and moves numbers.

mod anchor;
mod client;
mod cut;
mod exchange;
mod flow;
mod open;
mod packet;
mod plan;
mod request;
mod response;
mod server;
mod work;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use kmesh_api::splice::ANCHOR;

use self::flow::{flow, go, peer};
pub use self::open::{Entry, closed};
pub use self::packet::Scratch;
use self::packet::{Packet, flag};

/// `TCX_NEXT`, `TC_ACT_UNSPEC`: the programs behind this one decide.
pub const NEXT: i32 = -1;
/// `TCX_DROP`, `TC_ACT_SHOT`.
pub const DROP: i32 = 2;
/// Marks a packet that turned round at the device, until its receiver's program has seen it: a mark of a packet from elsewhere does
/// not survive the crossing of namespaces (`skb_scrub_packet`).
const TURNED: u32 = 0x6b6d_6573;

/// Not this one's packet.
const OTHERS: i32 = i32::MIN;

/// A packet leaves the pod.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    let Some(packet) = Packet::read(skb, true) else {
        return NEXT;
    };
    if packet.flags() & (flag::SYN | flag::ACK) == flag::SYN {
        return carry_out(skb, open::begins(skb));
    }
    let verdict = client::sends(skb);
    if verdict != OTHERS {
        return carry_out(skb, verdict);
    }
    let Some(peer) = peer(&packet.key) else {
        return NEXT;
    };
    let verdict = if peer.slot == ANCHOR {
        anchor::sends(skb, &peer.client)
    } else {
        server::own(skb, peer.slot)
    };
    carry_out(skb, verdict)
}

/// Does what was decided.
#[inline(always)]
fn carry_out(skb: *mut __sk_buff, verdict: i32) -> i32 {
    match verdict {
        go::ON => plan::carry_out(skb, 0),
        go::BACK => plan::carry_out(skb, TURNED),
        _ => verdict,
    }
}

/// A packet arrives at the pod.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    let Some(packet) = Packet::read(skb, false) else {
        return NEXT;
    };
    match peer(&packet.key) {
        Some(peer) if peer.slot == ANCHOR => turned(skb),
        Some(peer) => carry_out(skb, server::arrives(skb, peer.slot)),
        None if flow(&packet.key).is_some() => turned(skb),
        None => NEXT,
    }
}

/// Only this device's own packets reach an anchor, or a client as its service's.
#[inline(always)]
fn turned(skb: *mut __sk_buff) -> i32 {
    // SAFETY: the kernel hands a valid context; its fields are read and written whole.
    unsafe {
        if (*skb).mark != TURNED {
            return DROP;
        }
        (*skb).mark = 0;
    }
    NEXT
}
