//! Constants for checks that every verifier has to see.
//!
//! The compiler drops a check of which it knows the outcome and may test a copy of a number instead of the number. Verifiers before 6.9 do not
//! connect a spilled number with its copy (Linux 8ecfc371d829), those before 6.8 learn nothing from `!=` (d028f87517d6). A check
//! against a constant that is read at run time stays where it is written; the verifier knows the value all the same, since the
//! map of constants is frozen.

use core::ptr::read_volatile;

/// 1: `number < unfolded(&ONE)` says that a number is 0, and to every verifier that it is at least 1 otherwise.
pub(crate) static ONE: u32 = 1;

/// The constant, which the verifier knows and the compiler does not.
#[inline(always)]
pub(crate) fn unfolded(constant: &'static u32) -> u32 {
    // SAFETY: a reference is valid for a read.
    unsafe { read_volatile(constant) }
}
