//! Leases: taking an upstream from its pool's free list and giving it back.

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use kmesh_api::Reason;
use kmesh_api::exchange::Client;
use kmesh_api::head::flag;
use kmesh_api::limits::{POOL_MAX, UPSTREAMS_MAX};
use kmesh_api::pool::{PoolKey, Upstream};
use kmesh_api::slot::FREE;
use kmesh_orchestration::slot::{self, Cell as _};

use crate::counter::count;
use crate::maps::POOLS;
use crate::slot::word;

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

/// Puts a free slot into its pool; retires it and says `false` if the pool is full or gone.
#[inline(always)]
pub fn push(upstream: &mut Upstream, slot: u32, lease: u64) -> bool {
    let key = PoolKey {
        pod: upstream.pod,
        endpoint: upstream.endpoint,
    };
    let mut pushed = false;
    if let Some(pool) = POOLS.get_ptr_mut(key) {
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
    }
    if !pushed {
        slot::discard(&word(upstream), lease);
    }
    pushed
}

/// Takes `slot` out of the pool wherever it lies; `false` if it is not there.
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

/// Takes a slot that was in the pool of `key` for a lease and returns the lease's number; `None` if the slot is not to be used.
///
/// What lies in a pool is free and that pool's own, or a defect: then it is counted, dropped from the pool and left to the controller's checker.
#[inline(always)]
pub(crate) fn take(upstream: &mut Upstream, key: &PoolKey) -> Option<u64> {
    let cell = word(upstream);
    let seen = cell.load();
    if seen.state() != FREE || upstream.pod != key.pod || upstream.endpoint != key.endpoint {
        count(Reason::SlotWrong);
        return None;
    }
    let lease = slot::take(&cell, seen);
    if lease.is_none() {
        slot::discard(&cell, seen.lease());
    }
    lease
}

/// Begins the exchange of a taken slot for the client with that cookie; `false` if its connection died meanwhile, and the slot is retired.
#[inline(always)]
pub(crate) fn begin(upstream: &mut Upstream, client: &Client, cookie: u64, lease: u64) -> bool {
    upstream.client = cookie;
    upstream.remaining = 0;
    upstream.answered = 0;
    upstream.sends = 0;
    upstream.head_request = u32::from(client.head.flags & flag::HEAD_METHOD != 0);
    let sending = client.remaining > 0 || client.following != 0;
    if !slot::begin(&word(upstream), lease, sending) {
        slot::discard(&word(upstream), lease);
        return false;
    }
    true
}

/// Ends a lease: the response is complete.
#[inline(always)]
pub fn give_back(upstream: &mut Upstream, slot: u32, lease: u64) {
    if slot::end(&word(upstream), lease) == Some(FREE) {
        push(upstream, slot, lease);
    }
}
