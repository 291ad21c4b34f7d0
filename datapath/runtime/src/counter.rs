//! Counters by reason, one slot per CPU.

use kmesh_api::Reason;

use crate::maps::REASON_COUNTS;

/// Counts one.
#[inline(always)]
pub fn count(reason: Reason) {
    count_number(reason as u32);
}

/// Counts one for a reason's number.
#[inline(always)]
pub fn count_number(reason: u32) {
    if let Some(slot) = REASON_COUNTS.get_ptr_mut(reason) {
        // SAFETY: a per-CPU slot of a map that lives as long as the program. A preempted increment may lose one
        // count, which a per-CPU counter without atomics accepts.
        unsafe { *slot += 1 };
    }
}
