//! Beginning an exchange: deciding where a request goes, and leasing an upstream for it.

use core::ffi::c_void;

use aya_ebpf::bindings::sk_msg_md;
use kmesh_api::exchange::{Client, MODE_KERNEL, SPLICED};
use kmesh_api::limits::{ENDPOINTS_MAX, LEASE_TRIES, MESSAGE_MAX};
use kmesh_api::listener::CLASS_ANCHORED;
use kmesh_api::pool::{PoolKey, Upstream};
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::admit;
use kmesh_orchestration::{decide, listener, slot};

use crate::counter::count;
use crate::dice::KernelDice;
use crate::generation;
use crate::large;
use crate::lease::{begin, pop, push, take};
use crate::message::{redirect, sender};
use crate::owed::{caught_up, in_flight};
use crate::slot::{upstream, word};

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
    let key = decide_pool(client, image, generation, total)?;
    if total > MESSAGE_MAX {
        lease_large(msg, client, &key, total)
    } else {
        lease(msg, client, &key)
    }
}

/// Decides on the request in `client.head`, whose path carries `total` bytes: the pool that it takes an upstream of.
///
/// # Errors
/// Why user space must serve it.
#[inline(always)]
pub(crate) fn decide_pool(
    client: &mut Client,
    image: &Image,
    generation: u64,
    total: u64,
) -> Result<PoolKey, Reason> {
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
    let choice = decide(image, governed.target, &mut client.head, &mut KernelDice)
        .map_err(|undecided| undecided.reason)?;
    let endpoint = &image.endpoints[choice.endpoint as usize & (ENDPOINTS_MAX - 1)];
    // A packet of one family is not made one of the other.
    if client.anchored == SPLICED && endpoint.address.is_v4() != client.original.is_v4() {
        return Err(Reason::NoUpstream);
    }
    let endpoint = endpoint.id;
    if generation::current(image) != generation {
        return Err(Reason::Swapped);
    }
    Ok(PoolKey {
        pod: client.pod,
        endpoint,
    })
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
        if let Some(lease) = take(upstream, key)
            && send(msg, upstream, client, slot, lease)
        {
            return Ok(());
        }
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
    let Some(lease) = take(upstream, key) else {
        return Err(Reason::NoUpstream);
    };
    if !large::admit_request(upstream, slot, lease, total) {
        if slot::put_back(&word(upstream), lease) {
            push(upstream, slot, lease);
        } else {
            slot::discard(&word(upstream), lease);
        }
        return Err(Reason::Large);
    }
    if !send(msg, upstream, client, slot, lease) {
        return Err(Reason::NoUpstream);
    }
    client.sends = 1;
    Ok(())
}

/// Begins the exchange of a taken slot and sends the message to it; `false` if that connection is lost, and the slot is retired.
#[inline(always)]
fn send(
    msg: *mut sk_msg_md,
    upstream: &mut Upstream,
    client: &mut Client,
    slot: u32,
    lease: u64,
) -> bool {
    // In this order: a redirect cannot be taken back.
    upstream.client_socket = sender(msg) as u64;
    if !begin(upstream, client, client.cookie, lease) {
        return false;
    }
    client.slot = slot;
    client.lease = lease;
    let local = upstream.server != 0;
    if !redirect(msg, local, slot) {
        slot::retire(&word(upstream), lease);
        client.lease = 0;
        return false;
    }
    client.sends = 0;
    client.mode = MODE_KERNEL;
    client.redirected = 1;
    count(if local { Reason::Local } else { Reason::Remote });
    true
}
