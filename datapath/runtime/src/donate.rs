//! `pool_donate`: how the controller puts an upstream into a free list.
//!
//! Free lists are guarded by a spin lock that only BPF code can take, so the controller asks this program (through
//! `BPF_PROG_TEST_RUN`) instead of writing the map.

use aya_ebpf::programs::TcContext;
use kmesh_api::pool::{Donation, FREE, PoolKey, RETIRED, USER};

use crate::lease::{push, upstream};

/// Done.
pub const DONATED: i32 = 0;
/// The slot is not the controller's to give, or its pool is full or gone.
pub const REFUSED: i32 = 1;

/// Frees the slot named after the packet's Ethernet header.
#[inline(always)]
pub fn donate(ctx: &TcContext) -> i32 {
    const ETHERNET: usize = 14;
    let Ok(donation) = ctx.load::<[u8; size_of::<Donation>()]>(ETHERNET) else {
        return REFUSED;
    };
    let slot = u32::from_ne_bytes(donation);
    let Some(upstream) = upstream(slot) else {
        return REFUSED;
    };
    if upstream.state != USER {
        return REFUSED;
    }
    let key = PoolKey { pod: upstream.pod, endpoint: upstream.endpoint };
    upstream.state = FREE;
    if push(&key, slot) {
        return DONATED;
    }
    upstream.state = RETIRED;
    REFUSED
}
