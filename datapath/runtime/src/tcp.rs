//! Fields of `struct tcp_sock` that no helper exposes, read at offsets that the controller takes from the kernel's BTF.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;

use crate::probe_read::read;

/// Offset of `tcp_sock.rcv_nxt`, set by the loader.
#[unsafe(no_mangle)]
static TCP_RCV_NXT: u32 = 0;
/// Offset of `tcp_sock.copied_seq`, set by the loader.
#[unsafe(no_mangle)]
static TCP_COPIED_SEQ: u32 = 0;
/// Offset of `tcp_sock.bytes_received`, set by the loader.
#[unsafe(no_mangle)]
static TCP_BYTES_RECEIVED: u32 = 0;

/// The first byte of the stream that `socket`'s application has not read, by its sequence number.
#[inline(always)]
pub(crate) fn first_unread(socket: *mut c_void) -> Option<u32> {
    read(readable(socket)?, &raw const TCP_COPIED_SEQ)
}

/// The socket as an address that can be read from; none if it is not TCP.
#[inline(always)]
pub(crate) fn readable(socket: *mut c_void) -> Option<*const c_void> {
    // SAFETY: the helper takes any socket pointer and answers null for one that is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) }.cast::<c_void>();
    if tcp.is_null() { None } else { Some(tcp) }
}

/// Bytes that arrived on `socket` through TCP, if the application has read them all.
#[inline(always)]
pub(crate) fn bytes_consumed(socket: *mut c_void) -> Option<u64> {
    let tcp = readable(socket)?;
    let next: u32 = read(tcp, &raw const TCP_RCV_NXT)?;
    let copied: u32 = read(tcp, &raw const TCP_COPIED_SEQ)?;
    let received: u64 = read(tcp, &raw const TCP_BYTES_RECEIVED)?;
    if next == copied { Some(received) } else { None }
}
