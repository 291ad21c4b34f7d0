//! `sockops`: sockets enter the maps when their connection is established and leave traces when it closes.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock_ops,
};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_setsockopt, bpf_sk_storage_get, bpf_sock_hash_update,
};
use aya_ebpf::programs::SockOpsContext;
use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{Ordering, compiler_fence};
use kmesh_api::Reason;
use kmesh_api::exchange::{SPLICED, Server};
use kmesh_api::limits::UPSTREAM_SEGMENTS;
use kmesh_api::pod::{Anchored, AnchoredKey};
use kmesh_api::pool::{Connection, Sequences};
use kmesh_api::slot::USER;
use kmesh_orchestration::slot::{self, Cell as _};

use crate::client;
use crate::counter::count;
use crate::maps::{ANCHORED, ANSWERED, CLIENTS, EXPECTED, GONE, SERVER, SERVERS, SPILLED, WAITING};
use crate::path::splice;
use crate::share;
use crate::slot::{upstream, word};
use crate::sock_ops::{local, remote, socket};

const TCP_CLOSE: u32 = 7;
const CREATE: u64 = 1;

/// 1 if an announced connection may be recognised in any namespace, which a test does to show why it may not; set by the loader.
#[unsafe(no_mangle)]
static EXPECTED_ANYWHERE: u32 = 0;

/// Dispatches the callbacks that matter.
#[inline(always)]
pub fn callback(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => active(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => passive(ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == TCP_CLOSE => closed(ctx),
        _ => {}
    }
}

/// An application's connection to its anchor is up: from here on its sends are routed.
#[inline(always)]
fn active(ctx: &SockOpsContext) {
    let Some(client) = client::of(socket(ctx)) else {
        return;
    };
    if client.anchored == 0 {
        return;
    }
    if client.anchored == SPLICED {
        let _ = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32);
        return;
    }
    // SAFETY: the context is the one this program was called with.
    client.cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let key = AnchoredKey {
        pod: client.pod,
        client: local(ctx),
    };
    let value = Anchored {
        cookie: client.cookie,
        original: client.original,
        reserved: 0,
        device: 0,
    };
    // The anchor closes what it knows nothing of. The kernel must not carry requests of it meanwhile.
    // One unit of the pod's share belongs to each entry: a predecessor's on the same addresses is taken over.
    if ANCHORED.remove(key).is_err() && !share::take(client.pod) {
        count(Reason::OverShare);
        return;
    }
    if ANCHORED.insert(key, value, 0).is_err() {
        share::give(client.pod);
        count(Reason::AnchorFull);
        return;
    }
    let _ = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32);
    let mut key = client.cookie;
    let clients = (&raw const CLIENTS).cast_mut().cast();
    if !insert(ctx, clients, (&raw mut key).cast()) {
        count(Reason::ClientsFull);
    }
}

/// A server accepted a connection that the controller announced: if it is the far end, which the controller checks, its answers can skip TCP.
#[inline(always)]
fn passive(ctx: &SockOpsContext) {
    let connection = Connection {
        client: remote(ctx),
        server: local(ctx),
    };
    // SAFETY: the value is copied at once.
    let Some(expected) = (unsafe { EXPECTED.get(connection) }).copied() else {
        return;
    };
    // SAFETY: the context is the one this program was called with.
    let (netns, cookie) = unsafe {
        (
            bpf_get_netns_cookie(ctx.as_ptr()),
            bpf_get_socket_cookie(ctx.as_ptr()),
        )
    };
    // SAFETY: a constant of this object, set before it was loaded.
    let anywhere = unsafe { read_volatile(&raw const EXPECTED_ANYWHERE) } != 0;
    // Any pod can have these addresses in a namespace of its own. An announcement serves once: who removes it has it.
    if netns != expected.netns && !anywhere || EXPECTED.remove(connection).is_err() {
        return;
    }
    let slot = expected.slot;
    let Some(upstream) = upstream(slot) else {
        return;
    };
    let seen = word(upstream).load();
    if seen.state() != USER || seen.lease() != expected.lease {
        return;
    }
    let socket = socket(ctx);
    if socket.is_null() {
        return;
    }
    // SAFETY: `socket` is the context's socket, checked for null.
    let server = unsafe {
        bpf_sk_storage_get(
            (&raw const SERVER).cast_mut().cast(),
            socket,
            core::ptr::null_mut(),
            CREATE,
        )
    };
    // SAFETY: null or a live value of that map; sockops runs under the socket's lock.
    let Some(server) = (unsafe { server.cast::<Server>().as_mut() }) else {
        return;
    };
    server.cookie = cookie;
    server.slot = slot;
    let mut key = slot;
    if !insert(
        ctx,
        (&raw const SERVERS).cast_mut().cast(),
        (&raw mut key).cast(),
    ) {
        return;
    }
    clamp(ctx);
    upstream.claim.socket = socket as u64;
    upstream.claim.sequences = sequences(ctx);
    compiler_fence(Ordering::Release);
    // SAFETY: a live field; the controller looks at the others once this is set.
    unsafe { write_volatile(&raw mut upstream.claim.server, cookie) };
}

/// How far the connection has come.
#[inline(always)]
fn sequences(ctx: &SockOpsContext) -> Sequences {
    // SAFETY: the kernel hands a valid context, whose words are read whole.
    unsafe {
        Sequences {
            sent: read_volatile(&raw const (*ctx.ops).snd_nxt),
            received: read_volatile(&raw const (*ctx.ops).rcv_nxt),
        }
    }
}

/// Keeps the server from queueing for an upstream what its window can never take: the kernel sizes a send buffer by the congestion
/// window (`tcp_sndbuf_expand`), which grows without regard to the receiver's, to megabytes behind a client that stopped reading.
#[inline(always)]
fn clamp(ctx: &SockOpsContext) {
    const IPPROTO_TCP: i32 = 6;
    /// `include/uapi/linux/bpf.h`.
    const TCP_BPF_SNDCWND_CLAMP: i32 = 1002;
    let mut segments = UPSTREAM_SEGMENTS;
    // SAFETY: the context is the one this program was called with, and the value is as long as said.
    unsafe {
        bpf_setsockopt(
            ctx.ops.cast(),
            IPPROTO_TCP,
            TCP_BPF_SNDCWND_CLAMP,
            (&raw mut segments).cast(),
            size_of::<u32>() as i32,
        )
    };
}

#[inline(always)]
fn insert(ctx: &SockOpsContext, map: *mut c_void, key: *mut c_void) -> bool {
    // SAFETY: `map` is a sockhash of this object and `key` points to its key type.
    unsafe { bpf_sock_hash_update(ctx.ops.cast::<bpf_sock_ops>(), map, key, 0) == 0 }
}

/// A client socket closed: an exchange it leaves unfinished ends its lease, as Envoy resets the upstream.
#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    let Some(client) = client::of(socket(ctx)) else {
        return;
    };
    if client.anchored == 0 {
        return;
    }
    if client.anchored == SPLICED {
        splice::closed(client, local(ctx), remote(ctx));
        // Should the buffer be full, the anchor stays until its peer's silence is noticed.
        let _ = GONE.output(client.cookie, 0);
    } else {
        let key = AnchoredKey {
            pod: client.pod,
            client: local(ctx),
        };
        if ANCHORED.remove(key).is_ok() {
            share::give(client.pod);
        }
    }
    let _ = WAITING.remove(client.cookie);
    let _ = SPILLED.remove(client.cookie);
    let _ = ANSWERED.remove(client.cookie);
    if client.lease == 0 {
        return;
    }
    if let Some(upstream) = upstream(client.slot)
        && slot::abandon(&word(upstream), client.lease)
    {
        count(Reason::ClientGone);
    }
}
