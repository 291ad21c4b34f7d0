//! `pool_donate` and `pool_withdraw`: how the controller puts an upstream into a free list and takes it out.
//!
//! Free lists are guarded by a spin lock that only BPF code can take, so the controller asks these programs (through
//! `BPF_PROG_TEST_RUN`) instead of writing the map.

use aya_ebpf::programs::TcContext;
use kmesh_api::pool::{Donation, FREE, PoolKey, RETIRED, USER};

use crate::asked::asked;
use crate::backlog::upstream_socket;
use crate::lease::{push, remove, upstream};

/// Done.
pub const DONATED: i32 = 0;
/// The slot is not the controller's to give, or its pool is full or gone.
pub const REFUSED: i32 = 1;

/// The slot named after the packet's Ethernet header.
#[inline(always)]
fn slot(ctx: &TcContext) -> Option<u32> {
    Some(asked::<Donation>(ctx)?.slot)
}

/// Retires a slot that lies in its free list; one that is leased is refused.
#[inline(always)]
pub fn withdraw(ctx: &TcContext) -> i32 {
    let Some(slot) = slot(ctx) else {
        return REFUSED;
    };
    let Some(upstream) = upstream(slot) else {
        return REFUSED;
    };
    let key = PoolKey {
        pod: upstream.pod,
        endpoint: upstream.endpoint,
    };
    if !remove(&key, slot) {
        return REFUSED;
    }
    upstream.state = RETIRED;
    DONATED
}

/// Frees a slot.
#[inline(always)]
pub fn donate(ctx: &TcContext) -> i32 {
    let Some(slot) = slot(ctx) else {
        return REFUSED;
    };
    let Some(upstream) = upstream(slot) else {
        return REFUSED;
    };
    if upstream.state != USER {
        return REFUSED;
    }
    let key = PoolKey {
        pod: upstream.pod,
        endpoint: upstream.endpoint,
    };
    if upstream.server == 0 {
        upstream.server_socket = upstream_socket(slot).map_or(0, |socket| socket as u64);
    }
    upstream.state = FREE;
    if push(&key, slot) {
        return DONATED;
    }
    upstream.state = RETIRED;
    REFUSED
}
