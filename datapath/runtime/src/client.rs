//! What is kept of a client's socket.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use kmesh_api::exchange::Client;

use crate::maps::CLIENT;

/// The state of a socket that a program's context names, null included; none if it is no client's. The caller runs under the socket's lock.
#[inline(always)]
pub(crate) fn of(socket: *mut c_void) -> Option<&'static mut Client> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: a socket of the context, checked for null; the helper refuses one that is not a full socket.
    let client = unsafe {
        bpf_sk_storage_get(
            (&raw const CLIENT).cast_mut().cast(),
            socket,
            core::ptr::null_mut(),
            0,
        )
    };
    // SAFETY: null or a live value of that map, which only the holder of the socket's lock touches.
    unsafe { client.cast::<Client>().as_mut() }
}
