//! Beginning an exchange: deciding where a request goes, and leasing an upstream for it.

use core::ffi::c_void;
use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::bindings::sk_msg_md;
use kmesh_api::exchange::{Client, MODE_KERNEL};
use kmesh_api::head::flag;
use kmesh_api::limits::{ENDPOINTS_MAX, LEASE_TRIES, MESSAGE_MAX};
use kmesh_api::listener::CLASS_ANCHORED;
use kmesh_api::pool::{ALIVE, LEASED, PoolKey, RETIRED, Upstream};
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::admit;
use kmesh_orchestration::{decide, listener};

use crate::counter::count;
use crate::dice::KernelDice;
use crate::generation;
use crate::large;
use crate::lease::{pop, push, upstream};
use crate::message::{redirect, sender};
use crate::owed::{caught_up, in_flight};

/// Decides on the request in `client.head`, of `total` bytes, and sends its beginning to the upstream it leases.
///
/// # Errors
/// Why user space must serve it.
#[inline(always)]
pub(crate) fn route(
    msg: *mut sk_msg_md,
    socket: *mut c_void,
    client: &mut Client,
    image: &Image,
    generation: u64,
    total: u64,
) -> Result<(), Reason> {
    if in_flight(client) {
        return Err(Reason::Pipelined);
    }
    if !caught_up(client, socket) {
        return Err(Reason::UserPending);
    }
    admit(&client.head, total)?;
    if client.generation != generation {
        let Some(number) = listener::find(image, &client.original) else {
            return Err(Reason::NoListener);
        };
        client.listener = number;
        client.generation = generation;
    }
    let governed = listener::at(image, client.listener);
    if governed.class != CLASS_ANCHORED {
        return Err(Reason::NoListener);
    }
    let choice = decide(image, governed.target, &client.head, &mut KernelDice)
        .map_err(|undecided| undecided.reason)?;
    let endpoint = image.endpoints[choice.endpoint as usize & (ENDPOINTS_MAX - 1)].id;
    if generation::current(image) != generation {
        return Err(Reason::Swapped);
    }
    let key = PoolKey {
        pod: client.pod,
        endpoint,
    };
    if total > MESSAGE_MAX {
        lease_large(msg, client, &key, total)
    } else {
        lease(msg, client, &key)
    }
}

/// Leases an upstream and sends the message to it. Entries whose connection died are retired on the way.
#[inline(always)]
fn lease(msg: *mut sk_msg_md, client: &mut Client, key: &PoolKey) -> Result<(), Reason> {
    // Dead entries are rare; after LEASE_TRIES of them user space serves the request and cleans up.
    for _ in 0..LEASE_TRIES {
        let Some(slot) = pop(key) else {
            return Err(Reason::NoUpstream);
        };
        let Some(upstream) = upstream(slot) else {
            return Err(Reason::NoUpstream);
        };
        let local = upstream.server != 0;
        if upstream.dead == ALIVE && redirect(msg, local, slot) {
            begin_exchange(upstream, client, sender(msg), slot);
            count(if local { Reason::Local } else { Reason::Remote });
            return Ok(());
        }
        upstream.state = RETIRED;
    }
    Err(Reason::NoUpstream)
}

/// The same for a request that needs a place. One try: whoever finds none has another way.
#[inline(always)]
fn lease_large(
    msg: *mut sk_msg_md,
    client: &mut Client,
    key: &PoolKey,
    total: u64,
) -> Result<(), Reason> {
    let Some(slot) = pop(key) else {
        return Err(Reason::NoUpstream);
    };
    let Some(upstream) = upstream(slot) else {
        return Err(Reason::NoUpstream);
    };
    if upstream.dead == ALIVE {
        if !large::admit_request(upstream, slot, total) {
            if !push(key, slot) {
                upstream.state = RETIRED;
            }
            return Err(Reason::Large);
        }
        let local = upstream.server != 0;
        if redirect(msg, local, slot) {
            begin_exchange(upstream, client, sender(msg), slot);
            client.sends = 1;
            count(if local { Reason::Local } else { Reason::Remote });
            return Ok(());
        }
        // Nobody has that lease any more, nor its place.
        upstream.lease = upstream.lease.wrapping_add(1);
    }
    upstream.state = RETIRED;
    Err(Reason::NoUpstream)
}

#[inline(always)]
fn begin_exchange(upstream: &mut Upstream, client: &mut Client, socket: *mut c_void, slot: u32) {
    upstream.client = client.cookie;
    upstream.client_socket = socket as u64;
    // The controller looks meanwhile (`Record::open_lease`).
    compiler_fence(Ordering::Release);
    upstream.lease = upstream.lease.wrapping_add(1);
    upstream.remaining = 0;
    upstream.answered = 0;
    upstream.pipelined = 0;
    upstream.sends = 0;
    upstream.sending = u32::from(client.remaining > 0);
    upstream.head_request = u32::from(client.head.flags & flag::HEAD_METHOD != 0);
    upstream.state = LEASED;
    client.slot = slot;
    client.lease = upstream.lease;
    client.sends = 0;
    client.mode = MODE_KERNEL;
    client.redirected = 1;
}
