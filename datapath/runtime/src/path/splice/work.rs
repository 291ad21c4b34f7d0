//! What the program that frames a message finds out, step by step.

use kmesh_api::exchange::Chunks;

/// What a program finds out step by step. Each step writes and reads it as memory that anyone may change: a number that the verifier knows nothing of
/// makes the next step's check one check, whatever came before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    /// Offset of the first new byte in the payload.
    pub at: u32,
    /// 1: a request begins there.
    pub begins: u32,
    /// Offset of what is to be followed.
    pub from: u32,
    /// Bytes of the head that came before.
    pub have: u32,
    /// Bytes of the head that came now.
    pub wanted: u32,
    /// `Client::following` before the packet, should it have to come again.
    pub following: u32,
    /// `Client::remaining` before it.
    pub remaining: u64,
    /// `Client::chunks` before it.
    pub chunks: Chunks,
}

/// Reads a field of [`Work`].
#[inline(always)]
pub(super) fn known(field: &u32) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(field) }
}

/// Writes one.
#[inline(always)]
pub(super) fn learn(field: &mut u32, value: u32) {
    // SAFETY: a reference is valid to write.
    unsafe { core::ptr::write_volatile(field, value) }
}
