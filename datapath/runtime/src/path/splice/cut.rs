//! Cutting off the end of a packet, with the checksum that is left.
#![allow(
    clippy::cast_ptr_alignment,
    reason = "the buffer is aligned, and words are read at multiples of four"
)]

use core::hint::black_box;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_skb_change_tail, bpf_skb_load_bytes};
use kmesh_orchestration::repeat::{Body, repeat};

use super::packet::{AT, IP_AT, Packet, flag, fold16, folded};

/// Where bytes that are cut off are summed up, in [`Scratch::bytes`].
const CUT_AT: usize = 256;
/// How many at a time.
const CUT: u32 = 256;
/// Enough of them for a segment of a device with jumbo frames (9,000 bytes).
const CUTS: u32 = 36;

/// Sums up what is cut off, part by part.
struct Summing {
    packet: Packet,
    from: u32,
    removed: u32,
}

impl Body for Summing {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let at = index.wrapping_mul(CUT);
        if at >= self.removed {
            return false;
        }
        let left = self.removed - at;
        let part = if left > CUT { CUT } else { left };
        let part = (black_box(part - 1) & (CUT - 1)) + 1;
        // The sum is one of words: behind an odd end stand zeros.
        let words = (part + 3) & !3;
        let last = CUT_AT as u32 + words - 4;
        // SAFETY: a word at a multiple of 4 inside of the buffer; the helper checks the offset it reads from.
        unsafe {
            let to = self.packet.bytes.as_mut_ptr();
            to.add(last as usize & 0x1fc).cast::<u32>().write(0);
            let to = to.add(CUT_AT);
            let skb = self.packet.skb();
            if bpf_skb_load_bytes(skb.cast(), self.from.wrapping_add(at), to.cast(), part) != 0 {
                return false;
            }
            let part = bpf_csum_diff(core::ptr::null_mut(), 0, to.cast(), words, 0);
            self.packet.removed += part as u64 & 0xffff_ffff;
        }
        true
    }
}

/// Cuts off the payload behind `keep` bytes; `false` if that cannot be done: a packet that the device will cut into segments stays one.
#[inline(never)]
pub(super) fn cut(skb: *mut __sk_buff, keep: u32) -> bool {
    let Some(mut packet) = Packet::again(skb) else {
        return false;
    };
    // SAFETY: the kernel hands a valid context.
    if unsafe { (*skb).gso_size } != 0 || keep > packet.length {
        return false;
    }
    let from = packet.headers.wrapping_add(keep);
    let removed = packet.length - keep;
    packet.removed = 0;
    let mut summing = Summing {
        packet,
        from,
        removed,
    };
    repeat(CUTS, &mut summing);
    let sum = fold16(folded(packet.removed));
    // Bytes that begin at an odd offset of the segment count in the other half of a word.
    let sum = if keep & 1 == 0 {
        sum
    } else {
        (sum & 0xff) << 8 | sum >> 8
    };
    let before = packet.headers + AT - packet.tcp + packet.length;
    // SAFETY: the kernel hands a valid context.
    if removed > CUT * CUTS || unsafe { bpf_skb_change_tail(skb, from, 0) } != 0 {
        return false;
    }
    packet.header += u64::from(!sum & 0xffff);
    let after = before - removed;
    packet.segment += u64::from(!(before as u16).to_be()) + u64::from((after as u16).to_be());
    // The length of IPv4 counts its header, the one of IPv6 does not.
    let (at, shift) = if packet.v6 == 0 {
        (IP_AT, 0)
    } else {
        (IP_AT + 4, 16)
    };
    let word = packet.word(at);
    let length = u32::from_be(word) >> shift & 0xffff;
    let new =
        u32::from_be(word) & !(0xffff << shift) | (length.wrapping_sub(removed) & 0xffff) << shift;
    let difference = u64::from(!word) + u64::from(new.to_be());
    packet.shorter += difference;
    packet.write_word(at, new.to_be());
    packet.length = keep;
    packet.plan.clear = flag::FIN;
    true
}
