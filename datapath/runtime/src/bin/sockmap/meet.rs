//! `sockops`: the two ends of a connection find each other when it is established.
//!
//! The active end comes first: its handshake's last segment, which establishes the passive end, leaves after this hook. An end that
//! arrives at nobody's meeting (its peer is elsewhere, or its address was translated) stays with plain TCP.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock_ops,
};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::{bpf_sk_storage_get, bpf_sock_hash_update};
use aya_ebpf::programs::SockOpsContext;
use kmesh_api::shortcut::{ACTIVE, End, Half, Meeting, PASSIVE, Pair};

use crate::maps::{HALF, MEETINGS, PAIRS, SOCKETS};
use crate::sock_ops::{local, remote, socket};

const TCP_CLOSE: u32 = 7;
const CREATE: u64 = 1;

/// Dispatches the callbacks that matter.
#[inline(always)]
pub(crate) fn callback(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => active(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => passive(ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == TCP_CLOSE => closed(ctx),
        _ => {}
    }
}

#[inline(always)]
fn half(ctx: &SockOpsContext, flags: u64) -> Option<&'static mut Half> {
    let socket = socket(ctx);
    if socket.is_null() {
        return None;
    }
    // SAFETY: `socket` is the context's socket, checked for null.
    let half = unsafe {
        bpf_sk_storage_get(
            (&raw const HALF).cast_mut().cast(),
            socket,
            core::ptr::null_mut(),
            flags,
        )
    };
    // SAFETY: null or a live value of that map; sockops runs under the socket's lock.
    unsafe { half.cast::<Half>().as_mut() }
}

#[inline(always)]
fn active(ctx: &SockOpsContext) {
    // SAFETY: the context is the one this program was called with.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let (client_start, server_start) = sequence(ctx);
    let meeting = Meeting {
        client: local(ctx),
        client_start,
        server_start,
    };
    if !insert(ctx, cookie) {
        return;
    }
    let Some(half) = half(ctx, CREATE) else {
        return;
    };
    half.pair = cookie;
    half.side = ACTIVE;
    half.meeting = meeting;
    let _ = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32);
    // With a full map the connection stays unpaired, which the counters show.
    let _ = MEETINGS.insert(meeting, cookie, 0);
}

#[inline(always)]
fn passive(ctx: &SockOpsContext) {
    let (server_start, client_start) = sequence(ctx);
    let meeting = Meeting {
        client: remote(ctx),
        client_start,
        server_start,
    };
    // SAFETY: the value is copied at once; nobody else removes a meeting while both its ends live.
    let Some(active) = (unsafe { MEETINGS.get(meeting) }).copied() else {
        return;
    };
    let _ = MEETINGS.remove(meeting);
    // SAFETY: the context is the one this program was called with.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if !insert(ctx, cookie) {
        return;
    }
    let Some(half) = half(ctx, CREATE) else {
        return;
    };
    half.pair = active;
    half.side = PASSIVE;
    let end = |cookie, consumed| End {
        cookie,
        consumed,
        ..End::default()
    };
    // Neither has read, or been sent, a byte.
    let pair = Pair {
        active: end(active, server_start),
        passive: end(cookie, client_start),
    };
    let _ = PAIRS.insert(active, pair, 0);
}

/// Next sequence numbers to send and to receive. At establishment these are the first after the SYNs.
#[inline(always)]
fn sequence(ctx: &SockOpsContext) -> (u32, u32) {
    // SAFETY: the kernel hands a valid context.
    unsafe { ((*ctx.ops).snd_nxt, (*ctx.ops).rcv_nxt) }
}

#[inline(always)]
fn insert(ctx: &SockOpsContext, cookie: u64) -> bool {
    let mut key = cookie;
    // SAFETY: the map is a sockhash of this object and `key` is of its key type.
    unsafe {
        let map = (&raw const SOCKETS).cast_mut().cast();
        bpf_sock_hash_update(
            ctx.ops.cast::<bpf_sock_ops>(),
            map,
            (&raw mut key).cast(),
            0,
        ) == 0
    }
}

/// An active socket closed: its pair and its meeting, if nobody came, are over. Sockets leave `SOCKETS` by themselves.
#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    let Some(half) = half(ctx, 0) else { return };
    if half.side != ACTIVE {
        return;
    }
    let _ = PAIRS.remove(half.pair);
    let _ = MEETINGS.remove(half.meeting);
}
