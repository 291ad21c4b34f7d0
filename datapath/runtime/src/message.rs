//! What a program may do with the message of an `sk_msg` hook: read it, and point it at another socket.

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action, sk_msg_md};
use aya_ebpf::helpers::generated::{
    bpf_msg_pull_data, bpf_msg_redirect_hash, bpf_probe_read_kernel,
};
use core::ffi::c_void;
use kmesh_api::exchange::Chunks;
use kmesh_orchestration::http1::chunked::{self, Followed, Source};

use crate::maps::{CLIENTS, SERVERS, UPSTREAM_SOCKETS};

const PASS: u32 = sk_action::SK_PASS;

/// The socket that sends `msg`.
#[inline(always)]
pub(crate) fn sender(msg: *mut sk_msg_md) -> *mut c_void {
    // SAFETY: the kernel hands a valid context; the field is a socket or null.
    unsafe { (*msg).__bindgen_anon_3.sk.cast() }
}

/// Makes the first `wanted` bytes of `msg` readable and copies them to `to`; `false` if that fails.
#[inline(always)]
pub(crate) fn copy(msg: *mut sk_msg_md, to: *mut u8, wanted: u32) -> bool {
    // SAFETY: the kernel hands a valid context; `to` has room for `wanted` bytes, which the callers bound.
    unsafe {
        let linear =
            (*msg).__bindgen_anon_2.data_end as usize - (*msg).__bindgen_anon_1.data as usize;
        if linear < wanted as usize && bpf_msg_pull_data(msg, 0, wanted, 0) != 0 {
            return false;
        }
        let data = (*msg).__bindgen_anon_1.data;
        bpf_probe_read_kernel(to.cast(), wanted, data.cast_const()) == 0
    }
}

/// Most bytes of a message that are followed at once: looking at them takes one piece of memory, which the kernel may have to
/// make first. The program runs again on what is behind them.
const PORTION: u32 = 1 << 15;

/// Follows a chunked body through the bytes `from..size` of `msg`, but only up to [`PORTION`]; `chunks.to` says how far it came.
#[inline(always)]
pub(crate) fn follow(msg: *mut sk_msg_md, chunks: &mut Chunks, from: u32, size: u32) -> Followed {
    let to = if size > PORTION { PORTION } else { size };
    // SAFETY: the kernel hands a valid context.
    let data = unsafe {
        let linear =
            (*msg).__bindgen_anon_2.data_end as usize - (*msg).__bindgen_anon_1.data as usize;
        if linear < to as usize && bpf_msg_pull_data(msg, 0, to, 0) != 0 {
            return Followed::Fault;
        }
        (*msg).__bindgen_anon_1.data
    };
    chunked::follow(chunks, &mut Linear(data.cast()), from, to)
}

/// A message in one piece of memory.
struct Linear(*const u8);

impl Source for Linear {
    #[inline(always)]
    fn byte(&mut self, at: u32) -> Option<u8> {
        let mut byte = 0u8;
        // The mask tells the verifier what is so anyway: an offset of a packet pointer has 16 bits.
        let at = at as usize & (PORTION as usize - 1);
        // SAFETY: the helper checks the address; `byte` has the one byte asked for.
        let failed =
            unsafe { bpf_probe_read_kernel((&raw mut byte).cast(), 1, self.0.add(at).cast()) };
        (failed == 0).then_some(byte)
    }
}

/// Sends the message on through the client's own connection.
#[inline(always)]
pub(crate) fn redirect_to_anchor(msg: *mut sk_msg_md, cookie: u64) -> bool {
    let mut key = cookie;
    // SAFETY: the kernel hands a valid context; `key` is of the map's key type.
    let verdict = unsafe {
        let map = (&raw const CLIENTS).cast_mut().cast();
        bpf_msg_redirect_hash(msg, map, (&raw mut key).cast(), 0)
    };
    verdict == i64::from(PASS)
}

/// Points the message at the leased upstream; `false` if its socket is gone.
#[inline(always)]
pub(crate) fn redirect(msg: *mut sk_msg_md, local: bool, slot: u32) -> bool {
    let mut key = slot;
    // SAFETY: the kernel hands a valid context; `key` is of the maps' key type.
    let verdict = unsafe {
        if local {
            let map = (&raw const SERVERS).cast_mut().cast();
            bpf_msg_redirect_hash(msg, map, (&raw mut key).cast(), u64::from(BPF_F_INGRESS))
        } else {
            let map = (&raw const UPSTREAM_SOCKETS).cast_mut().cast();
            bpf_msg_redirect_hash(msg, map, (&raw mut key).cast(), 0)
        }
    };
    verdict == i64::from(PASS)
}
