//! What a `sockops` program is told about its socket.
//!
//! Also a module of `bin/sockmap`, which links no library of ours.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::programs::SockOpsContext;
use kmesh_api::Address;

const AF_INET: u32 = 2;

/// The socket, or null.
#[inline(always)]
pub(crate) fn socket(ctx: &SockOpsContext) -> *mut c_void {
    // SAFETY: the kernel hands a valid context; the field is a socket or null.
    unsafe { (*ctx.ops).__bindgen_anon_2.sk.cast() }
}

/// Its own address.
#[inline(always)]
pub(crate) fn local(ctx: &SockOpsContext) -> Address {
    let port = ctx.local_port();
    if ctx.family() == AF_INET {
        Address::v4(ctx.local_ip4(), port)
    } else {
        // SAFETY: the kernel hands a valid context.
        Address::v6(unsafe { words(&raw const (*ctx.ops).local_ip6) }, port)
    }
}

/// Its peer's address.
#[inline(always)]
pub(crate) fn remote(ctx: &SockOpsContext) -> Address {
    let port = u32::from_be(ctx.remote_port());
    if ctx.family() == AF_INET {
        Address::v4(ctx.remote_ip4(), port)
    } else {
        // SAFETY: the kernel hands a valid context.
        Address::v6(unsafe { words(&raw const (*ctx.ops).remote_ip6) }, port)
    }
}

/// Reads an address word by word: the verifier takes context loads only at constant offsets, so they must not be
/// merged into a copy.
#[inline(always)]
unsafe fn words(ip: *const [u32; 4]) -> [u32; 4] {
    let word = ip.cast::<u32>();
    // SAFETY: the caller passes an address field of the context.
    unsafe {
        [
            read_volatile(word),
            read_volatile(word.add(1)),
            read_volatile(word.add(2)),
            read_volatile(word.add(3)),
        ]
    }
}
