//! Segments that bring bytes which were there already.
//!
//! A sender that retransmits does not cut its segments where the first ones ended, so a buffer of a TCP receive queue may begin before
//! the end of the one before it. `tcp_recvmsg` skips what it has read; `tcp_read_skb`, which feeds verdict programs, hands over the whole
//! buffer (Linux 6.18). Unless the bytes are cut off here, a response has them twice, and what follows it on the
//! connection is read from the wrong byte on.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_adjust_room;
use aya_ebpf::programs::SkBuffContext;
use kmesh_api::pool::Arrivals;

use crate::probe_read::{field, read};
use crate::tcp::first_unread;

/// Offset of `sk_buff.cb`, where TCP has its `struct tcp_skb_cb`, set by the loader.
#[unsafe(no_mangle)]
static SKB_CB: u32 = 0;
/// Offset of `tcp_skb_cb.seq`, set by the loader.
#[unsafe(no_mangle)]
static TCP_CB_SEQ: u32 = 0;
/// Offset of `tcp_skb_cb.end_seq`, set by the loader.
#[unsafe(no_mangle)]
static TCP_CB_END_SEQ: u32 = 0;

/// Most bytes that `bpf_skb_adjust_room` takes off at once (`sk_skb_adjust_room`).
const PART: u32 = 0xfff;
/// Enough of them for a segment of 64 KiB and one byte.
const PARTS: u32 = 17;

/// Cuts off what the program has seen before; `false` if that cannot be done, and the stream is out of step.
#[inline(always)]
pub(crate) fn trim(ctx: &SkBuffContext, arrivals: &mut Arrivals) -> bool {
    let skb = ctx.as_ptr();
    let control = field(skb, &raw const SKB_CB);
    let (Some(from), Some(to)) = (
        read::<u32>(control, &raw const TCP_CB_SEQ),
        read::<u32>(control, &raw const TCP_CB_END_SEQ),
    ) else {
        return false;
    };
    let next = if arrivals.begun == 0 {
        // User space has read all that came before the socket was in the map.
        match socket(ctx).and_then(first_unread) {
            Some(next) => next,
            None => return false,
        }
    } else {
        arrivals.next
    };
    arrivals.begun = 1;
    arrivals.next = to;
    // Sequence numbers wrap: their order is the sign of their difference (RFC 9293 section 3.4).
    let overlap = next.wrapping_sub(from);
    if overlap.cast_signed() <= 0 {
        return true;
    }
    if overlap >= ctx.len() {
        return false;
    }
    let mut left = overlap;
    // A segment has no more than PARTS parts; what is longer is refused below.
    for _ in 0..PARTS {
        if left == 0 {
            break;
        }
        let part = if left > PART { PART } else { left };
        // SAFETY: the kernel hands a valid context; nothing points into the packet.
        let failed =
            unsafe { bpf_skb_adjust_room(skb.cast(), part.cast_signed().wrapping_neg(), 0, 0) };
        if failed != 0 {
            return false;
        }
        left = left.wrapping_sub(part);
    }
    left == 0
}

/// The socket that the packet came for.
#[inline(always)]
fn socket(ctx: &SkBuffContext) -> Option<*mut c_void> {
    // SAFETY: the kernel hands a valid context; the field is a socket or null.
    let socket = unsafe { (*ctx.as_ptr().cast::<__sk_buff>()).__bindgen_anon_2.sk };
    if socket.is_null() {
        None
    } else {
        Some(socket.cast())
    }
}
