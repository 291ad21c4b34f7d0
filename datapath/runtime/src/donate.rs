//! `pool_donate` and `pool_withdraw`: how the controller puts an upstream into a free list and takes it out.
//!
//! Free lists are guarded by a spin lock that only BPF code can take, so the controller asks these programs (through
//! `BPF_PROG_TEST_RUN`) instead of writing the map.

use aya_ebpf::programs::TcContext;
use kmesh_api::pool::Donation;
use kmesh_api::slot::USER;
use kmesh_orchestration::slot::{self, Cell as _};

use crate::asked::asked;
use crate::backlog::upstream_socket;
use crate::lease::{push, remove};
use crate::slot::{upstream, word};

/// Done.
pub const DONATED: i32 = 0;
/// The slot is not the controller's to give, or its pool is full or gone.
pub const REFUSED: i32 = 1;

/// Takes a slot out of a pool, and retires it if it is free and that pool's own; one that does not lie there is refused.
#[inline(always)]
pub fn withdraw(ctx: &TcContext) -> i32 {
    let Some(asked) = asked::<Donation>(ctx) else {
        return REFUSED;
    };
    let Some(upstream) = upstream(asked.slot) else {
        return REFUSED;
    };
    if !remove(&asked.pool, asked.slot) {
        return REFUSED;
    }
    if upstream.pod == asked.pool.pod && upstream.endpoint == asked.pool.endpoint {
        let cell = word(upstream);
        slot::discard(&cell, cell.load().lease());
    }
    DONATED
}

/// Frees a slot.
#[inline(always)]
pub fn donate(ctx: &TcContext) -> i32 {
    let Some(Donation { slot, .. }) = asked(ctx) else {
        return REFUSED;
    };
    let Some(upstream) = upstream(slot) else {
        return REFUSED;
    };
    let cell = word(upstream);
    let seen = cell.load();
    if seen.state() != USER {
        return REFUSED;
    }
    if upstream.server == 0 {
        upstream.server_socket = upstream_socket(slot).map_or(0, |socket| socket as u64);
    }
    if slot::offer(&cell) && push(upstream, slot, seen.lease()) {
        DONATED
    } else {
        REFUSED
    }
}
