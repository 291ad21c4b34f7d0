//! `sk_msg`: every send of a socket in `SOCKETS`, under that socket's lock.

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action, sk_msg_md};
use aya_ebpf::helpers::generated::{bpf_msg_redirect_hash, bpf_sk_storage_get};
use aya_ebpf::programs::SkMsgContext;
use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};
use kmesh_api::limits::MESSAGE_MAX;
use kmesh_api::shortcut::{ACTIVE, End, Half, Sent, UNREAD_MAX};

use crate::maps::{HALF, OUTCOMES, PAIRS, SOCKETS};
use crate::reader;

/// Sends the message past TCP if nothing can be overtaken and the reader keeps up; by TCP otherwise.
#[inline(always)]
pub(crate) fn send(ctx: &SkMsgContext) -> u32 {
    let outcome = decide(ctx.msg);
    if let Some(slot) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: a per-CPU slot of a map that lives as long as the program. A preempted increment may lose one count.
        unsafe { *slot += 1 };
    }
    // After a successful redirect this means "where the redirect said", otherwise "by TCP".
    sk_action::SK_PASS
}

#[inline(always)]
fn half(socket: *mut c_void) -> Option<&'static Half> {
    // SAFETY: `socket` is the context's socket, checked for null.
    let half = unsafe {
        bpf_sk_storage_get(
            (&raw const HALF).cast_mut().cast(),
            socket,
            core::ptr::null_mut(),
            0,
        )
    };
    // SAFETY: null or a live value of that map; the sender holds the socket's lock.
    unsafe { half.cast::<Half>().as_ref() }
}

#[inline(always)]
fn decide(msg: *mut sk_msg_md) -> Sent {
    // SAFETY: the kernel hands a valid context; the field is a socket or null.
    let socket: *mut c_void = unsafe { (*msg).__bindgen_anon_3.sk.cast() };
    if socket.is_null() {
        return Sent::Unpaired;
    }
    let Some(half) = half(socket) else {
        return Sent::Unpaired;
    };
    let Some(pair) = PAIRS.get_ptr_mut(half.pair) else {
        return Sent::Unpaired;
    };
    // SAFETY: a live value of that map. The fields are written by one end each and read by the other, so both are reached by
    // pointers and volatile accesses, never by references that would claim them alone.
    let (own, other) = unsafe {
        let (active, passive) = (&raw mut (*pair).active, &raw mut (*pair).passive);
        if half.side == ACTIVE {
            (active, passive)
        } else {
            (passive, active)
        }
    };
    let Some(reader) = reader::look(socket) else {
        return Sent::Unpaired;
    };
    note(own, other, &reader);
    // SAFETY: the kernel hands a valid context.
    let size = u64::from(unsafe { (*msg).size });
    // SAFETY: as above.
    let (consumed, emptied, sent, mut key) = unsafe {
        (
            read_volatile(&raw const (*other).consumed),
            read_volatile(&raw const (*other).emptied),
            read_volatile(&raw const (*own).sent),
            read_volatile(&raw const (*other).cookie),
        )
    };
    if size > MESSAGE_MAX {
        return Sent::Large;
    }
    if consumed != reader.written {
        return Sent::InFlight;
    }
    if sent.wrapping_sub(emptied).wrapping_add(size) > UNREAD_MAX {
        return Sent::Unread;
    }
    // SAFETY: the kernel hands a valid context; `key` is of the map's key type.
    let verdict = unsafe {
        let map = (&raw const SOCKETS).cast_mut().cast();
        bpf_msg_redirect_hash(msg, map, (&raw mut key).cast(), u64::from(BPF_F_INGRESS))
    };
    if verdict != i64::from(sk_action::SK_PASS) {
        return Sent::Gone;
    }
    // SAFETY: as above; only this end writes the field.
    unsafe { write_volatile(&raw mut (*own).sent, sent.wrapping_add(size)) };
    Sent::Shortcut
}

/// Tells the other end how far this one has read.
///
/// A message that the other end has decided on but not queued yet counts as read if the queue is empty: the bound on unread bytes may
/// be missed by one message, never by more, because from then on the queue is not empty.
#[inline(always)]
fn note(own: *mut End, other: *mut End, reader: &reader::Reader) {
    // SAFETY: both point into a live map value; only this end writes its fields.
    unsafe {
        write_volatile(&raw mut (*own).consumed, reader.consumed);
        if reader.empty {
            let sent = read_volatile(&raw const (*other).sent);
            write_volatile(&raw mut (*own).emptied, sent);
        }
    }
}
