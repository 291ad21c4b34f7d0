//! Shares: no pod takes so much of the node's tables that others find no room.
//!
//! One lock for the node's sum and every pod's part of it: connections come and go some ten thousand times a second, requests do not count.

use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use aya_ebpf::programs::TcContext;
use kmesh_api::share::{NodeUse, PodUse, admits};

use crate::asked::asked;
use crate::maps::{NODE_USE, POD_USE};

/// Anchored connections that this node has room for, set by the loader.
#[unsafe(no_mangle)]
static CONNECTIONS_MAX: u32 = 0;

/// The pod's part and the sum.
#[inline(always)]
fn parts(pod: u32) -> Option<(*mut NodeUse, *mut PodUse)> {
    let node = NODE_USE.get_ptr_mut(0)?;
    let own = POD_USE.get_ptr_mut(pod)?;
    Some((node, own))
}

/// Counts one more anchored connection of the pod; `false` if it has its share, or is not enrolled any more.
#[inline(always)]
pub(crate) fn take(pod: u32) -> bool {
    let Some((node, own)) = parts(pod) else {
        return false;
    };
    // SAFETY: a constant of this object, set before it was loaded.
    let most = unsafe { read_volatile(&raw const CONNECTIONS_MAX) };
    let mut taken = false;
    // SAFETY: live map values; the lock is in the first and guards both, and nothing is called while it is held.
    unsafe {
        bpf_spin_lock((&raw mut (*node).lock).cast());
        if (*own).released == 0 && admits((*own).connections, (*node).connections, most) {
            (*own).connections += 1;
            (*node).connections += 1;
            taken = true;
        } else {
            (*own).refused += 1;
        }
        bpf_spin_unlock((&raw mut (*node).lock).cast());
    }
    taken
}

/// Counts one less.
#[inline(always)]
pub(crate) fn give(pod: u32) {
    let Some((node, own)) = parts(pod) else {
        return;
    };
    // SAFETY: as in `take`.
    unsafe {
        bpf_spin_lock((&raw mut (*node).lock).cast());
        // A released pod's connections were given back all at once.
        if (*own).released == 0 && (*own).connections > 0 && (*node).connections > 0 {
            (*own).connections -= 1;
            (*node).connections -= 1;
        }
        bpf_spin_unlock((&raw mut (*node).lock).cast());
    }
}

/// `share_give`: counts one less of the pod whose number follows the packet's Ethernet header.
#[inline(always)]
pub fn given(ctx: &TcContext) -> i32 {
    if let Some(pod) = asked::<u32>(ctx) {
        give(pod);
    }
    0
}

/// `share_release`: gives back all that the pod has whose number follows the packet's Ethernet header; from then on it gets nothing.
#[inline(always)]
pub fn release(ctx: &TcContext) -> i32 {
    let Some((node, own)) = asked::<u32>(ctx).and_then(parts) else {
        return 1;
    };
    // SAFETY: as in `take`.
    unsafe {
        bpf_spin_lock((&raw mut (*node).lock).cast());
        if (*own).released == 0 {
            (*own).released = 1;
            (*node).connections = (*node).connections.saturating_sub((*own).connections);
            (*own).connections = 0;
        }
        bpf_spin_unlock((&raw mut (*node).lock).cast());
    }
    0
}
