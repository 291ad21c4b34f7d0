//! Leases: taking an upstream from its pool's free list and giving it back.
//!
//! A pool is one map value: a lock, a count and a stack of slots. Only kernel programs touch it, so the lock suffices.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use kmesh_api::limits::{POOL_MAX, UPSTREAMS_MAX};
use kmesh_api::pool::{ALIVE, FREE, LINGERING, PoolKey, RETIRED, Upstream};

use crate::maps::{POOLS, UPSTREAMS};

/// The record of a slot.
#[inline(always)]
pub fn upstream(slot: u32) -> Option<&'static mut Upstream> {
    let upstream = UPSTREAMS.get_ptr_mut(slot)?;
    // SAFETY: a live array value; each field has one writer at a time (see `kmesh_api::pool`).
    Some(unsafe { &mut *upstream })
}

/// Takes a free slot out of the pool.
#[inline(always)]
pub fn pop(key: &PoolKey) -> Option<u32> {
    let pool = POOLS.get_ptr_mut(key)?;
    let mut slot = u32::MAX;
    // SAFETY: a live map value; the lock is its first field, and nothing is called while it is held.
    unsafe {
        bpf_spin_lock((&raw mut (*pool).lock).cast());
        let count = (*pool).count;
        if count > 0 && count <= POOL_MAX as u32 {
            let top = count - 1;
            slot = (*pool).slots[top as usize & (POOL_MAX - 1)];
            (*pool).count = top;
        }
        bpf_spin_unlock((&raw mut (*pool).lock).cast());
    }
    if (slot as usize) < UPSTREAMS_MAX {
        Some(slot)
    } else {
        None
    }
}

/// Puts a slot into its pool; `false` if the pool is full or gone.
#[inline(always)]
pub fn push(key: &PoolKey, slot: u32) -> bool {
    let Some(pool) = POOLS.get_ptr_mut(key) else {
        return false;
    };
    let mut pushed = false;
    // SAFETY: as in `pop`.
    unsafe {
        bpf_spin_lock((&raw mut (*pool).lock).cast());
        let count = (*pool).count;
        if count < POOL_MAX as u32 {
            (*pool).slots[count as usize & (POOL_MAX - 1)] = slot;
            (*pool).count = count + 1;
            pushed = true;
        }
        bpf_spin_unlock((&raw mut (*pool).lock).cast());
    }
    pushed
}

/// Takes `slot` out of its pool wherever it lies; `false` if it is not there.
#[inline(always)]
pub fn remove(key: &PoolKey, slot: u32) -> bool {
    let Some(pool) = POOLS.get_ptr_mut(key) else {
        return false;
    };
    let mut removed = false;
    // SAFETY: as in `pop`.
    unsafe {
        bpf_spin_lock((&raw mut (*pool).lock).cast());
        let count = (*pool).count;
        let mut at = 0;
        // No helper may be called under the lock, so this is a plain bounded loop and not `bpf_loop`.
        while at < POOL_MAX {
            if at as u32 >= count {
                break;
            }
            if (*pool).slots[at] == slot {
                let top = count - 1;
                (*pool).slots[at] = (*pool).slots[top as usize & (POOL_MAX - 1)];
                (*pool).count = top;
                removed = true;
                break;
            }
            at += 1;
        }
        bpf_spin_unlock((&raw mut (*pool).lock).cast());
    }
    removed
}

/// Ends a lease: the response is complete.
#[inline(always)]
pub fn give_back(upstream: &mut Upstream, slot: u32) {
    upstream.done = upstream.lease;
    // Before anyone else can take it; the controller looks meanwhile (`Record::open_lease`).
    compiler_fence(Ordering::Release);
    let key = PoolKey {
        pod: upstream.pod,
        endpoint: upstream.endpoint,
    };
    if upstream.sending != 0 {
        upstream.state = LINGERING;
        return;
    }
    upstream.state = FREE;
    if upstream.dead != ALIVE || !push(&key, slot) {
        upstream.state = RETIRED;
    }
}
