//! `sk_skb/stream_verdict` on upstream sockets whose server is elsewhere: moves responses into the client's queue.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, sk_action};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::{bpf_sk_redirect_hash, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use kmesh_api::Reason;
use kmesh_api::limits::RESPONSE_HEAD_MAX;
use kmesh_api::pool::{DEAD, LEASED, RETIRED};
use kmesh_orchestration::http1::begin_response;
use kmesh_orchestration::http1::chunked::{self, Source};

use crate::counter::count;
use crate::generation;
use crate::lease::upstream;
use crate::maps::{CLIENTS, SLOTS};
use crate::overlap::trim;
use crate::response::{advance, begin, out_of_turn, relay};
use crate::unfolded::{ONE, unfolded};

const PASS: u32 = sk_action::SK_PASS;

/// Bytes arrived on an upstream. `SK_PASS` leaves them to the controller.
#[inline(always)]
pub fn upstream_response(ctx: &SkBuffContext) -> u32 {
    // SAFETY: the context is the one this program was called with.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(arrivals) = SLOTS.get_ptr_mut(cookie) else {
        return PASS;
    };
    // SAFETY: a live map value; packets of a socket come one after the other, and the controller removes it after the socket closed.
    let arrivals = unsafe { &mut *arrivals };
    let slot = arrivals.slot;
    let Some(upstream) = upstream(slot) else {
        return PASS;
    };
    if !trim(ctx, arrivals) {
        // Whoever waits for a response on this connection is told that it broke.
        upstream.dead = DEAD;
        return sk_action::SK_DROP;
    }
    if upstream.state != LEASED {
        return out_of_turn(upstream);
    }
    let size = ctx.len();
    if upstream.remaining == 0 {
        if upstream.pipelined != 0 {
            return relay(upstream, slot);
        }
        let wanted = if size > RESPONSE_HEAD_MAX as u32 {
            RESPONSE_HEAD_MAX as u32
        } else {
            size
        };
        if wanted < unfolded(&ONE) {
            return PASS;
        }
        begin_response(&mut upstream.head);
        upstream.head.length = wanted;
        // SAFETY: the buffer has RESPONSE_HEAD_MAX bytes and `wanted` is not more.
        let failed = unsafe {
            bpf_skb_load_bytes(
                ctx.as_ptr().cast_const(),
                0,
                upstream.head.bytes.as_mut_ptr().cast(),
                wanted,
            )
        };
        if failed != 0 {
            return relay(upstream, slot);
        }
        let Some((image, _)) = generation::active() else {
            return relay(upstream, slot);
        };
        if !begin(image, upstream, |chunks, from| {
            chunked::follow(chunks, &mut Packet(ctx), from, size)
        }) {
            return relay(upstream, slot);
        }
    }
    if u64::from(size) > upstream.remaining {
        // More than the response: the server speaks out of turn and its connection is no longer in step.
        return relay(upstream, slot);
    }
    let mut key = upstream.client;
    // SAFETY: the kernel hands a valid context; `key` is of the map's key type.
    let verdict = unsafe {
        let map = (&raw const CLIENTS).cast_mut().cast();
        let skb = ctx.as_ptr().cast::<__sk_buff>();
        bpf_sk_redirect_hash(skb, map, (&raw mut key).cast(), u64::from(BPF_F_INGRESS))
    };
    if verdict != i64::from(PASS) {
        upstream.state = RETIRED;
        count(Reason::ClientGone);
        return PASS;
    }
    advance(upstream, slot, size);
    PASS
}

/// The bytes of a socket buffer, wherever they lie.
struct Packet<'a>(&'a SkBuffContext);

impl Source for Packet<'_> {
    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        let mut byte = 0u8;
        // SAFETY: the helper checks the offset; `byte` has the one byte asked for.
        let failed = unsafe {
            bpf_skb_load_bytes(self.0.as_ptr().cast_const(), at, (&raw mut byte).cast(), 1)
        };
        (failed == 0).then_some(byte)
    }
}
