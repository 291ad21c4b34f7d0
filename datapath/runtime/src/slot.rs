//! The records of upstream slots, and the compare-and-swap that changes their state.

use core::ptr::read_volatile;

use kmesh_api::pool::Upstream;
use kmesh_api::slot::Word;
use kmesh_orchestration::slot::Cell;

use crate::maps::UPSTREAMS;

/// The record of a slot.
#[inline(always)]
pub fn upstream(slot: u32) -> Option<&'static mut Upstream> {
    let upstream = UPSTREAMS.get_ptr_mut(slot)?;
    // SAFETY: a live array value; its word says who owns each of the other fields.
    Some(unsafe { &mut *upstream })
}

/// The word of a record as it is now.
#[inline(always)]
pub(crate) fn seen(upstream: &Upstream) -> Word {
    // SAFETY: a live map value, aligned, and read as one word.
    unsafe { read_volatile(&raw const upstream.word) }
}

/// A record's word, in memory that programs and user space share.
#[derive(Clone, Copy)]
pub struct Shared(*mut Word);

/// The word of a record.
#[inline(always)]
pub fn word(upstream: &mut Upstream) -> Shared {
    Shared(&raw mut upstream.word)
}

impl Cell for Shared {
    #[inline(always)]
    fn load(&self) -> Word {
        // SAFETY: a live map value, aligned, and read as one word.
        unsafe { read_volatile(self.0) }
    }

    #[inline(always)]
    fn exchange(&self, from: Word, to: Word) -> bool {
        // SAFETY: as for `load`.
        unsafe { compare_exchange(self.0.cast(), from.0, to.0) == from.0 }
    }
}

/// Writes `to` if the word is `from`; says what it was. `core` has no compare-and-swap for this target, the machine does (`BPF_CMPXCHG`, Linux
/// 5.12), with full order: nothing before it is seen after it, and the other way round.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, from: u64, to: u64) -> u64 {
    let seen;
    // SAFETY: the caller's word is live and aligned.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {to})",
            word = in(reg) word,
            to = in(reg) to,
            inout("r0") from => seen,
            options(nostack),
        );
    }
    seen
}

/// So that the crate can be read by tools of the host; nothing runs there.
#[cfg(not(target_arch = "bpf"))]
unsafe fn compare_exchange(_: *mut u64, _: u64, _: u64) -> u64 {
    unreachable!("the programs run in the kernel only")
}
