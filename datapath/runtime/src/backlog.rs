//! What the kernel still has to put into a client's queue.
//!
//! An answer from another node is redirected in the receiving soft interrupt, but `sk_psock_backlog` queues it, in a worker
//! that a busy machine may run milliseconds later. Bytes that user space sends meanwhile would be read first. So whoever lets
//! user space answer asks here whether anything is on its way.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_skc_to_tcp_sock};
use aya_ebpf::programs::TcContext;

use kmesh_api::exchange::{QUEUEING, UNREAD};

use crate::maps::{CLIENTS, SERVERS};
use crate::probe_read::read;

/// Offset of `sock.sk_user_data`, set by the loader.
#[unsafe(no_mangle)]
static SOCK_USER_DATA: u32 = 0;
/// Offset of `sk_psock.ingress_skb.qlen`, set by the loader.
#[unsafe(no_mangle)]
static PSOCK_BACKLOG: u32 = 0;
/// Offset of `sk_psock.ingress_msg`, set by the loader.
#[unsafe(no_mangle)]
static PSOCK_INGRESS: u32 = 0;
/// Low bits of `sk_user_data` that say what it points to (`SK_USER_DATA_PTRMASK`).
const FLAGS: usize = 7;

/// Buffers that were redirected to `socket`, which is in a socket map, and are not in its queue yet.
///
/// One is counted until after its last byte was queued, so the application may have read it already: good for deciding to
/// wait, not for deciding that a client is ahead of its answers.
#[inline(always)]
pub(crate) fn queued(socket: *mut c_void) -> Option<u32> {
    read(psock(readable(socket)?)?, &raw const PSOCK_BACKLOG)
}

/// The socket as an address that can be read from.
#[inline(always)]
fn readable(socket: *mut c_void) -> Option<*const c_void> {
    // SAFETY: the helper takes any socket pointer and answers null for one that is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) }.cast::<c_void>();
    if tcp.is_null() { None } else { Some(tcp) }
}

/// Whether something that was redirected to `socket`, which is in a socket map, lies in its queue.
#[inline(always)]
pub(crate) fn has_unread(socket: *const c_void) -> Option<bool> {
    let psock = psock(socket)?;
    // An empty list's head points to itself (`INIT_LIST_HEAD`).
    let first: usize = read(psock, &raw const PSOCK_INGRESS)?;
    // SAFETY: a constant of this object, set before it was loaded.
    let head =
        (psock as usize).wrapping_add(unsafe { read_volatile(&raw const PSOCK_INGRESS) } as usize);
    Some(first != head)
}

/// The `struct sk_psock` of a socket in a socket map.
#[inline(always)]
fn psock(socket: *const c_void) -> Option<*const c_void> {
    let user_data: usize = read(socket, &raw const SOCK_USER_DATA)?;
    Some((user_data & !FLAGS) as *const c_void)
}

/// `client_backlog`: whether any of them are left ([`QUEUEING`]), and whether the queue holds anything ([`UNREAD`]), for the client whose cookie
/// follows the packet's Ethernet header. 0 if there is no such client.
#[inline(always)]
pub fn of_client(ctx: &TcContext) -> i32 {
    let Some(mut cookie) = asked::<u64>(ctx) else {
        return 0;
    };
    // SAFETY: `cookie` is of the map's key type; `backlog` releases what is found.
    let socket = unsafe {
        let clients = (&raw const CLIENTS).cast_mut().cast();
        bpf_map_lookup_elem(clients, (&raw mut cookie).cast())
    };
    backlog(socket)
}

/// `server_backlog`: the same for the server whose slot follows the header.
#[inline(always)]
pub fn of_server(ctx: &TcContext) -> i32 {
    let Some(mut slot) = asked::<u32>(ctx) else {
        return 0;
    };
    // SAFETY: `slot` is of the map's key type; `backlog` releases what is found.
    let socket = unsafe {
        let servers = (&raw const SERVERS).cast_mut().cast();
        bpf_map_lookup_elem(servers, (&raw mut slot).cast())
    };
    backlog(socket)
}

#[inline(always)]
fn asked<T>(ctx: &TcContext) -> Option<T> {
    const ETHERNET: usize = 14;
    ctx.load(ETHERNET).ok()
}

/// Takes a socket that was looked up, or null.
#[inline(always)]
fn backlog(socket: *mut c_void) -> i32 {
    if socket.is_null() {
        return 0;
    }
    let queueing = queued(socket).is_some_and(|left| left != 0);
    let unread = readable(socket).and_then(has_unread).unwrap_or(false);
    // SAFETY: the lookup took a reference, given back once.
    unsafe { bpf_sk_release(socket) };
    (if queueing { QUEUEING } else { 0 }) | (if unread { UNREAD } else { 0 })
}
