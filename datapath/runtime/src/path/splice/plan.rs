//! What becomes of a packet's headers: decided by one half of a program, carried out by the other, so that the verifier follows the rewriting once.

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS};
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_redirect};
use kmesh_api::Address;

use super::packet::{Packet, flag};
use super::{DROP, NEXT, TURNED};

/// What becomes of a packet's headers: numbers are added to what they are, everything else is set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plan {
    /// To the sequence number.
    pub sequence: u32,
    /// To the acknowledgement, and to the blocks of a selective one.
    pub acknowledged: u32,
    /// To the timestamp.
    pub time: u32,
    /// To its echo.
    pub echo: u32,
    /// The window, scaled.
    pub window: u32,
    /// Flags to clear.
    pub clear: u32,
    /// Sender.
    pub from: Address,
    /// Receiver.
    pub to: Address,
    /// 1: `ethernet` is set.
    pub has_ethernet: u32,
    /// The Ethernet header.
    pub ethernet: [u32; 4],
}

impl Packet {
    /// Carries out a plan; `false` if the packet is spoiled.
    #[inline(always)]
    fn apply(&mut self, plan: &Plan, turns: bool) -> bool {
        if plan.clear != 0 {
            self.clear_flags(plan.clear);
        }
        self.set_sequence(self.sequence().wrapping_add(plan.sequence));
        if self.flags() & flag::ACK != 0 {
            self.set_acknowledged(self.acknowledged().wrapping_add(plan.acknowledged));
        }
        self.move_blocks(plan.acknowledged);
        if let Some((time, echo)) = self.times() {
            self.set_times(time.wrapping_add(plan.time), echo.wrapping_add(plan.echo));
        }
        self.set_window(plan.window);
        self.set_ends(&plan.from, &plan.to);
        if plan.has_ethernet != 0 {
            self.set_ethernet(&plan.ethernet);
        }
        if turns {
            self.turn_ethernet();
        }
        self.write()
    }

    /// Makes the packet one that the device receives; the verdict.
    #[inline(always)]
    fn turn(&self, mark: u32) -> i32 {
        // SAFETY: the kernel hands a valid context; its fields are read and written whole.
        unsafe {
            (*self.skb()).mark = mark;
            bpf_redirect((*self.skb()).ifindex, u64::from(BPF_F_INGRESS)) as i32
        }
    }
}

/// Carries out the plan in scratch memory, and the copy's before it.
#[inline(never)]
pub(super) fn carry_out(skb: *mut __sk_buff, mark: u32) -> i32 {
    let Some(mut packet) = Packet::again(skb) else {
        return DROP;
    };
    if packet.copies != 0 {
        let copy = packet.copy;
        if !packet.apply(&copy, true) {
            return DROP;
        }
        // SAFETY: the kernel hands a valid context; the headers are read again from scratch memory, not from the packet.
        unsafe {
            (*skb).mark = TURNED;
            bpf_clone_redirect(skb, (*skb).ifindex, u64::from(BPF_F_INGRESS));
            (*skb).mark = 0;
        }
        // What the copy moved is moved already.
        let plan = &mut packet.plan;
        plan.sequence = plan.sequence.wrapping_sub(copy.sequence);
        plan.acknowledged = plan.acknowledged.wrapping_sub(copy.acknowledged);
        plan.time = plan.time.wrapping_sub(copy.time);
        plan.echo = plan.echo.wrapping_sub(copy.echo);
    }
    let turns = mark != 0;
    let plan = &raw const packet.plan;
    // SAFETY: the plan is not changed by carrying it out.
    if !packet.apply(unsafe { &*plan }, turns) {
        return DROP;
    }
    if turns { packet.turn(mark) } else { NEXT }
}
