//! What the kernel still has to put into a client's queue.
//!
//! An answer from another node is redirected in the receiving soft interrupt, but `sk_psock_backlog` queues it, in a worker
//! that a busy machine may run milliseconds later. Bytes that user space sends meanwhile would be read first. So whoever lets
//! user space answer asks here whether anything is on its way.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_skc_to_tcp_sock};
use aya_ebpf::programs::TcContext;

use crate::maps::CLIENTS;
use crate::probe_read::read;

/// Offset of `sock.sk_user_data`, set by the loader.
#[unsafe(no_mangle)]
static SOCK_USER_DATA: u32 = 0;
/// Offset of `sk_psock.ingress_skb.qlen`, set by the loader.
#[unsafe(no_mangle)]
static PSOCK_BACKLOG: u32 = 0;
/// Low bits of `sk_user_data` that say what it points to (`SK_USER_DATA_PTRMASK`).
const FLAGS: usize = 7;

/// Buffers that were redirected to `socket`, which is in a socket map, and are not in its queue yet.
///
/// One is counted until after its last byte was queued, so the application may have read it already: good for deciding to
/// wait, not for deciding that a client is ahead of its answers.
#[inline(always)]
pub(crate) fn queued(socket: *mut c_void) -> Option<u32> {
    // SAFETY: the helper takes any socket pointer and answers null for one that is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) }.cast::<c_void>();
    if tcp.is_null() {
        return None;
    }
    let user_data: usize = read(tcp, &raw const SOCK_USER_DATA)?;
    let psock = (user_data & !FLAGS) as *const c_void;
    read(psock, &raw const PSOCK_BACKLOG)
}

/// `client_backlog`: the same for the client whose cookie follows the packet's Ethernet header. 0 if there is no such client.
#[inline(always)]
pub fn of_client(ctx: &TcContext) -> i32 {
    const ETHERNET: usize = 14;
    let Ok(mut cookie) = ctx.load::<[u8; size_of::<u64>()]>(ETHERNET) else {
        return 0;
    };
    // SAFETY: `cookie` is of the map's key type; what is found is released below.
    let socket = unsafe {
        let clients = (&raw const CLIENTS).cast_mut().cast();
        bpf_map_lookup_elem(clients, (&raw mut cookie).cast())
    };
    if socket.is_null() {
        return 0;
    }
    let queued = queued(socket);
    // SAFETY: the lookup took a reference, given back once.
    unsafe { bpf_sk_release(socket) };
    match queued {
        Some(queued) if queued < i32::MAX as u32 => queued as i32,
        _ => 0,
    }
}
