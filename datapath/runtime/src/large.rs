//! Places for large messages.
//!
//! A redirect has no flow control: when the reader stops, all of the message lies in its queue. Up to `MESSAGE_MAX` bytes anybody may
//! let lie. A longer message needs one of a few places, which it keeps until it was read (on the way to another node: acknowledged), so that
//! readers who stop hold no more than these; whoever finds none travels by TCP. The choice falls at the message's head. One that comes in too many sends
//! leaves its place half-way, and user space sends the rest on when the reader has read the beginning: a reader
//! with parts of one message in both its queues might wait for ever (ARCHITECTURE, "What a socket map changes").

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use kmesh_api::limits::{LARGE_MAX, LARGE_PLACES, LARGE_SENDS_MAX, MESSAGE_MAX};
use kmesh_api::pool::{Place, Upstream};
use kmesh_api::slot::{LEASED, LINGERING, TAKEN};
use kmesh_orchestration::slot::Cell as _;

use crate::backlog::has_unread;
use crate::maps::PLACES;
use crate::probe_read::{field, pointer, read};
use crate::slot::{upstream, word};

/// How many places this node has memory for, set by the loader.
#[unsafe(no_mangle)]
static PLACES_USED: u32 = 0;
/// Offset of `sock.__sk_common.skc_cookie`, set by the loader.
#[unsafe(no_mangle)]
static SOCK_COOKIE: u32 = 0;
/// Offset of `sock.sk_wmem_queued`, set by the loader.
#[unsafe(no_mangle)]
static SOCK_WMEM_QUEUED: u32 = 0;
/// Offset of `sock.sk_memcg`, set by the loader.
#[unsafe(no_mangle)]
static SOCK_MEMCG: u32 = 0;
/// Offset of the counter that the memory controller charges sockets to (`mem_cgroup.memory`, or `tcpmem` of version 1), set by the loader.
#[unsafe(no_mangle)]
static MEMCG_COUNTER: u32 = 0;
/// Offset of `page_counter.usage`, set by the loader.
#[unsafe(no_mangle)]
static COUNTER_USAGE: u32 = 0;
/// Offset of `page_counter.max`, set by the loader.
#[unsafe(no_mangle)]
static COUNTER_MAX: u32 = 0;
/// Offset of `page_counter.parent`, set by the loader.
#[unsafe(no_mangle)]
static COUNTER_PARENT: u32 = 0;

/// Gives the response that `exchange` has begun a place at its leaseholder's; `false` if it must go by TCP.
#[inline(always)]
pub(crate) fn admit_response(exchange: &mut Upstream, slot: u32, lease: u64) -> bool {
    let reader = exchange.client_socket as *const c_void;
    let total = exchange.remaining;
    if total <= MESSAGE_MAX || total > LARGE_MAX || !claim(reader, total, slot, lease, false) {
        return false;
    }
    exchange.sends = 1;
    exchange.answered = 1;
    true
}

/// Gives a request of `total` bytes a place at its server's, or on the connection to it, in the exchange that begins with this lease, which
/// was just taken; `false` if it must go by TCP.
#[inline(always)]
pub(crate) fn admit_request(exchange: &Upstream, slot: u32, lease: u64, total: u64) -> bool {
    let reader = exchange.server_socket as *const c_void;
    claim(reader, total, slot, lease, exchange.server == 0)
}

/// Counts one more send of a message; `false` if the rest of it must go by TCP. `sends` is 0 for a message that has no place.
#[inline(always)]
pub(crate) fn count_send(sends: &mut u32) -> bool {
    if *sends == 0 {
        return true;
    }
    *sends = sends.wrapping_add(1);
    *sends <= LARGE_SENDS_MAX
}

/// Takes a free place for a message of `total` bytes to `reader`, in the exchange with that number; `sends_on` if that socket does
/// not read it but sends it to another node.
/// A function of its own, because the callers' stacks have no room for what it keeps there.
#[inline(never)]
fn claim(reader: *const c_void, total: u64, slot: u32, lease: u64, sends_on: bool) -> bool {
    let Some(cookie) = read::<u64>(reader, &raw const SOCK_COOKIE) else {
        return false;
    };
    if !has_room(reader, total) {
        return false;
    }
    // SAFETY: a constant of this object, set before it was loaded.
    let places = unsafe { read_volatile(&raw const PLACES_USED) };
    // A few at most, and a place that somebody else takes in this moment is as good as taken.
    for number in 0..LARGE_PLACES {
        if number >= places {
            break;
        }
        let Some(place) = PLACES.get_ptr_mut(number) else {
            break;
        };
        // SAFETY: a live array value, here and below; every field is one word.
        let seen = unsafe {
            (
                read_volatile(&raw const (*place).slot),
                read_volatile(&raw const (*place).lease),
            )
        };
        if is_taken(place, seen.0, seen.1) {
            continue;
        }
        let mut taken = false;
        // SAFETY: the lock belongs to this value, and nothing is called while it is held.
        unsafe {
            bpf_spin_lock((&raw mut (*place).lock).cast());
            if (*place).slot == seen.0 && (*place).lease == seen.1 {
                (*place).slot = slot;
                (*place).lease = lease;
                (*place).reader = reader as u64;
                (*place).cookie = cookie;
                (*place).sends_on = u32::from(sends_on);
                taken = true;
            }
            bpf_spin_unlock((&raw mut (*place).lock).cast());
        }
        if taken {
            return true;
        }
    }
    false
}

/// Whether the exchange that has the place goes on, or has ended and its reader has not read everything.
#[inline(always)]
fn is_taken(place: *const Place, slot: u32, lease: u64) -> bool {
    if lease == 0 {
        return false;
    }
    if let Some(exchange) = upstream(slot) {
        let seen = word(exchange).load();
        let state = seen.state();
        let goes_on = state == TAKEN || state == LEASED || state == LINGERING;
        if goes_on && seen.lease() == lease {
            return true;
        }
    }
    // SAFETY: a live array value; whoever takes the place meanwhile has a lease of its own, and then this place is not free.
    let (reader, cookie, sends_on) = unsafe {
        (
            read_volatile(&raw const (*place).reader),
            read_volatile(&raw const (*place).cookie),
            read_volatile(&raw const (*place).sends_on),
        )
    };
    let reader = reader as *const c_void;
    // A closed socket's memory may be another socket's by now, or nothing's.
    if read::<u64>(reader, &raw const SOCK_COOKIE) != Some(cookie) {
        return false;
    }
    if sends_on == 0 {
        has_unread(reader).unwrap_or(false)
    } else {
        // What was sent counts until it was acknowledged.
        read::<u32>(reader, &raw const SOCK_WMEM_QUEUED).is_some_and(|left| left != 0)
    }
}

/// Memory cgroups above a socket's that are looked at; a container of Kubernetes has six.
const LEVELS: u32 = 10;

/// Whether the reader's memory cgroups would bear `total` bytes twice: what is redirected to a queue that may not grow is lost.
#[inline(always)]
fn has_room(reader: *const c_void, total: u64) -> bool {
    const PAGE: u64 = 4096;
    let wanted = total * 2 / PAGE;
    let Some(group) = pointer(reader, &raw const SOCK_MEMCG) else {
        return false;
    };
    if group.is_null() {
        return true;
    }
    let mut counter = field(group, &raw const MEMCG_COUNTER);
    for _ in 0..LEVELS {
        let (Some(usage), Some(most), Some(parent)) = (
            read::<u64>(counter, &raw const COUNTER_USAGE),
            read::<u64>(counter, &raw const COUNTER_MAX),
            pointer(counter, &raw const COUNTER_PARENT),
        ) else {
            return false;
        };
        if most < usage.wrapping_add(wanted) {
            return false;
        }
        if parent.is_null() {
            return true;
        }
        counter = parent;
    }
    false
}
