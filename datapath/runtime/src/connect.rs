//! `cgroup/connect4|6` and `cgroup/getpeername4|6`: where a pod's connection goes, and what it believes.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockAddrContext;
use kmesh_api::exchange::{ANCHORED, MODE_KERNEL, SPLICED};
use kmesh_api::limits::{CLUSTERS_MAX, ENDPOINTS_MAX};
use kmesh_api::listener::{CLASS_OPAQUE, Listener};
use kmesh_api::{Address, Image, Reason};
use kmesh_orchestration::{Dice as _, balance, listener};

use crate::counter::count;
use crate::dice::KernelDice;
use crate::generation;
use crate::maps::{CLIENT, PODS};

/// `connect` proceeds.
pub const ALLOW: i32 = 1;
/// `connect` fails with `EPERM`.
pub const REFUSE: i32 = 0;

const IPPROTO_TCP: u32 = 6;

/// The destination of an IPv4 call.
#[inline(always)]
pub fn destination4(ctx: &SockAddrContext) -> Address {
    let sock_addr = ctx.sock_addr;
    // SAFETY: the kernel hands a valid context; its words are read whole.
    unsafe { Address::v4((*sock_addr).user_ip4, port((*sock_addr).user_port)) }
}

/// The destination of an IPv6 call.
#[inline(always)]
pub fn destination6(ctx: &SockAddrContext) -> Address {
    let sock_addr = ctx.sock_addr;
    // SAFETY: as above; the verifier wants the words read one by one.
    unsafe {
        let ip = &raw const (*sock_addr).user_ip6;
        let ip = [(*ip)[0], (*ip)[1], (*ip)[2], (*ip)[3]];
        Address::v6(ip, port((*sock_addr).user_port))
    }
}

/// `user_port` holds the port's two bytes in network order in its low half.
#[inline(always)]
const fn port(user_port: u32) -> u32 {
    (user_port as u16).swap_bytes() as u32
}

/// Redirects to `to`, in the socket's own family.
#[inline(always)]
fn redirect(sock_addr: *mut bpf_sock_addr, to: &Address, v6: bool) {
    let port = u32::from((to.port as u16).swap_bytes());
    // SAFETY: the kernel hands a valid context; these fields are writable in connect hooks.
    unsafe {
        if v6 {
            let ip = &raw mut (*sock_addr).user_ip6;
            (*ip)[0] = to.ip_be[0];
            (*ip)[1] = to.ip_be[1];
            (*ip)[2] = to.ip_be[2];
            (*ip)[3] = to.ip_be[3];
        } else {
            (*sock_addr).user_ip4 = to.ip_be[3];
        }
        (*sock_addr).user_port = port;
    }
}

/// A pod connects: an opaque listener's endpoint is chosen here, an anchored one's connection goes to the pod's anchor.
///
/// Fail closed: a governed address that has nowhere to go is refused, never left to the original address.
#[inline(always)]
pub fn connect(ctx: &SockAddrContext, to: Address, v6: bool) -> i32 {
    let sock_addr = ctx.sock_addr;
    // SAFETY: the kernel hands a valid context.
    if unsafe { (*sock_addr).protocol } != IPPROTO_TCP {
        return ALLOW;
    }
    let Some((image, generation)) = generation::active() else {
        return ungoverned(ctx);
    };
    let Some(number) = listener::find(image, &to) else {
        if image.strangers_refused != 0 && !to.is_loopback() {
            count(Reason::OpaqueRefused);
            return REFUSE;
        }
        return ungoverned(ctx);
    };
    let governed = listener::at(image, number);
    let chosen = if governed.class == CLASS_OPAQUE {
        endpoint(image, governed)
    } else {
        anchor(ctx, &to)
    };
    let opaque = governed.class == CLASS_OPAQUE;
    let refusal = if opaque {
        Reason::OpaqueRefused
    } else {
        Reason::AnchorRefused
    };
    let Some(chosen) = chosen else {
        count(refusal);
        return REFUSE;
    };
    // Port 0 stands for the address that the application asked for.
    let chosen = if chosen.port == 0 { to } else { chosen };
    // An IPv4 socket cannot reach an IPv6 endpoint; an IPv6 socket reaches IPv4 through the mapped address.
    if generation::current(image) != generation || !v6 && !chosen.is_v4() {
        count(refusal);
        return REFUSE;
    }
    // SAFETY: the socket belongs to the context; the storage is created if it is not there.
    let client = unsafe { CLIENT.get_or_insert_ptr_mut(ctx, None) };
    if client.is_null() {
        count(refusal);
        return REFUSE;
    }
    // SAFETY: checked for null; the calling task owns the connecting socket.
    let client = unsafe { &mut *client };
    client.original = to;
    if opaque {
        client.anchored = 0;
    }
    client.mode = MODE_KERNEL;
    client.remaining = 0;
    client.lease = 0;
    client.passed = 0;
    client.heading = 0;
    client.following = 0;
    client.rest = 0;
    client.listener = number;
    client.generation = generation;
    // A spliced connection keeps its service's address: its packets find their way.
    if client.anchored != SPLICED {
        redirect(sock_addr, &chosen, v6);
    }
    count(if opaque {
        Reason::Opaque
    } else {
        Reason::Anchored
    });
    ALLOW
}

/// The mesh has nothing to say about this connection. A socket that was connected to a governed address before (a failed
/// attempt, or `AF_UNSPEC`) must not keep what that left behind.
#[inline(always)]
fn ungoverned(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the socket belongs to the context.
    let client = unsafe { CLIENT.get_ptr_mut(ctx) };
    if !client.is_null() {
        // SAFETY: checked for null; the calling task owns the connecting socket.
        unsafe {
            (*client).anchored = 0;
            (*client).original.port = 0;
        }
    }
    ALLOW
}

#[inline(always)]
fn endpoint(image: &Image, governed: &Listener) -> Option<Address> {
    let total = image.weights[total_at(governed)].up_to;
    if total == 0 {
        return None;
    }
    let drawn = KernelDice.random() % total;
    let cluster = balance::weighted(image, governed.target, governed.count, drawn)?;
    let cluster = &image.clusters[cluster as usize & (CLUSTERS_MAX - 1)];
    let endpoint = balance::endpoint(cluster, &mut KernelDice).ok()?;
    Some(image.endpoints[endpoint as usize & (ENDPOINTS_MAX - 1)].address)
}

/// The last weight's `up_to` is the sum.
#[inline(always)]
const fn total_at(governed: &Listener) -> usize {
    (governed.target.wrapping_add(governed.count).wrapping_sub(1)) as usize
        & (kmesh_api::limits::WEIGHTS_MAX - 1)
}

#[inline(always)]
fn anchor(ctx: &SockAddrContext, to: &Address) -> Option<Address> {
    // SAFETY: the context is the one this program was called with.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: entries are removed only after the pod's programs were detached.
    let pod = unsafe { PODS.get(cookie) }?;
    let anchor = if to.is_v4() { pod.anchor4 } else { pod.anchor6 };
    // SAFETY: as in `connect`.
    let client = unsafe { CLIENT.get_or_insert_ptr_mut(ctx, None) };
    if anchor.port == 0 || client.is_null() {
        return None;
    }
    // SAFETY: checked for null; the calling task owns the connecting socket.
    unsafe {
        (*client).pod = pod.index;
        (*client).anchor = anchor;
        (*client).anchored = if pod.spliced == 0 { ANCHORED } else { SPLICED };
    }
    Some(anchor)
}

/// `getpeername`: the service address that the application connected to.
#[inline(always)]
pub fn peer_name(ctx: &SockAddrContext, v6: bool) -> i32 {
    // SAFETY: the socket belongs to the context.
    let client = unsafe { CLIENT.get_ptr_mut(ctx) };
    if !client.is_null() {
        // SAFETY: checked for null.
        let original = unsafe { (*client).original };
        if original.port != 0 {
            redirect(ctx.sock_addr, &original, v6);
        }
    }
    ALLOW
}
