//! What the kernel still has to put into a client's queue.
//!
//! An answer from another node is redirected in the receiving soft interrupt, but `sk_psock_backlog` queues it, in a worker
//! that a busy machine may run milliseconds later. Bytes that user space sends meanwhile would be read first. So whoever lets
//! user space answer asks here whether anything is on its way.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::helpers::generated::{bpf_map_lookup_elem, bpf_sk_release, bpf_sk_storage_get};
use aya_ebpf::programs::TcContext;
use kmesh_api::exchange::{Client, QUEUEING, UNREAD};

use crate::asked::asked;
use crate::maps::{CLIENT, CLIENTS, SERVERS, UPSTREAM_SOCKETS};
use crate::probe_read::{is_empty_list, pointer, read};
use crate::tcp::readable;

/// Offset of `sock.sk_user_data`, set by the loader.
#[unsafe(no_mangle)]
static SOCK_USER_DATA: u32 = 0;
/// Offset of `sk_psock.ingress_skb.qlen`, set by the loader.
#[unsafe(no_mangle)]
static PSOCK_BACKLOG: u32 = 0;
/// Offset of `sk_psock.ingress_msg`, set by the loader.
#[unsafe(no_mangle)]
static PSOCK_INGRESS: u32 = 0;

/// Buffers that were redirected to `socket`, which is in a socket map, and are not in its queue yet.
///
/// One is counted until after its last byte was queued, so the application may have read it already: good for deciding to
/// wait, not for deciding that a client is ahead of its answers.
#[inline(always)]
pub(crate) fn queued(socket: *mut c_void) -> Option<u32> {
    read(psock(readable(socket)?)?, &raw const PSOCK_BACKLOG)
}

/// Whether something that was redirected to `socket`, which is in a socket map, lies in its queue.
#[inline(always)]
pub(crate) fn has_unread(socket: *const c_void) -> Option<bool> {
    Some(!is_empty_list(psock(socket)?, &raw const PSOCK_INGRESS)?)
}

/// The `struct sk_psock` of a socket in a socket map.
#[inline(always)]
fn psock(socket: *const c_void) -> Option<*const c_void> {
    pointer(socket, &raw const SOCK_USER_DATA)
}

/// `client_backlog`: whether any of them are left ([`QUEUEING`]), and whether the queue holds anything ([`UNREAD`]), for the client whose cookie
/// follows the packet's Ethernet header. 0 if there is no such client.
#[inline(always)]
pub fn of_client(ctx: &TcContext) -> i32 {
    of::<u64>(ctx, (&raw const CLIENTS).cast_mut().cast())
}

/// `server_backlog`: the same for the server whose slot follows the header.
#[inline(always)]
pub fn of_server(ctx: &TcContext) -> i32 {
    of::<u32>(ctx, (&raw const SERVERS).cast_mut().cast())
}

/// `client_activity`: how often the client has sent whose cookie follows the header, without the highest bit; -1 if there is no such client.
#[inline(always)]
pub fn activity(ctx: &TcContext) -> i32 {
    let Some(key) = asked::<u64>(ctx) else {
        return -1;
    };
    let look = |socket| {
        // SAFETY: `socket` was just looked up and is held.
        let client = unsafe {
            bpf_sk_storage_get((&raw const CLIENT).cast_mut().cast(), socket, null_mut(), 0)
        };
        // SAFETY: null or a live value of that map, of which one word is read.
        let client = unsafe { client.cast::<Client>().as_ref() };
        client.map_or(-1, |client| (client.activity & 0x7fff_ffff).cast_signed())
    };
    with_socket((&raw const CLIENTS).cast_mut().cast(), key, look).unwrap_or(-1)
}

/// The same for the socket in `sockets`, a sockhash, whose key, a `K`, follows the header.
#[inline(always)]
fn of<K>(ctx: &TcContext, sockets: *mut c_void) -> i32 {
    let Some(key) = asked::<K>(ctx) else {
        return 0;
    };
    let look = |socket| {
        let queueing = queued(socket).is_some_and(|left| left != 0);
        let unread = readable(socket).and_then(has_unread).unwrap_or(false);
        (if queueing { QUEUEING } else { 0 }) | (if unread { UNREAD } else { 0 })
    };
    with_socket(sockets, key, look).unwrap_or(0)
}

/// Address of the socket that responses of `slot` come to from another node, good for reading while it is in its map.
#[inline(always)]
pub(crate) fn upstream_socket(slot: u32) -> Option<*const c_void> {
    with_socket(
        (&raw const UPSTREAM_SOCKETS).cast_mut().cast(),
        slot,
        readable,
    )?
}

/// What `look` says of the socket of `key` in `sockets`, a sockhash whose keys are `K`s.
#[inline(always)]
fn with_socket<K, T>(
    sockets: *mut c_void,
    mut key: K,
    look: impl FnOnce(*mut c_void) -> T,
) -> Option<T> {
    // SAFETY: `key` is of the map's key type; what is found is released below.
    let socket = unsafe { bpf_map_lookup_elem(sockets, (&raw mut key).cast()) };
    if socket.is_null() {
        return None;
    }
    let seen = look(socket);
    // SAFETY: the lookup took a reference, given back once.
    unsafe { bpf_sk_release(socket) };
    Some(seen)
}
