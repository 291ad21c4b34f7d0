//! What the program that frames a message finds out, step by step.

use kmesh_api::exchange::Chunks;

/// What a program finds out step by step, each step through [`kmesh_orchestration::memory`]: the next step's check is one check, whatever came before.
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
