//! How far the application behind a socket has read, from fields that no helper exposes; the loader sets their offsets from BTF.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;

use crate::probe_read::{is_empty_list, pointer, read};

/// Offset of `tcp_sock.copied_seq`.
#[unsafe(no_mangle)]
static SHORTCUT_COPIED_SEQ: u32 = 0;
/// Offset of `tcp_sock.write_seq`.
#[unsafe(no_mangle)]
static SHORTCUT_WRITE_SEQ: u32 = 0;
/// Offset of `sock.sk_user_data`, where a socket in a socket map keeps its `sk_psock`.
#[unsafe(no_mangle)]
static SHORTCUT_USER_DATA: u32 = 0;
/// Offset of `sk_psock.ingress_msg`, the list of redirected messages that wait to be read.
#[unsafe(no_mangle)]
static SHORTCUT_INGRESS: u32 = 0;

/// The state of a socket whose lock is held.
pub(crate) struct Reader {
    /// TCP sequence number up to which its application has read.
    pub(crate) consumed: u32,
    /// TCP sequence number after the last byte its application ever sent by TCP.
    pub(crate) written: u32,
    /// Whether no redirected byte waits to be read.
    pub(crate) empty: bool,
}

/// Looks at `socket`; none if it is not TCP.
#[inline(always)]
pub(crate) fn look(socket: *mut c_void) -> Option<Reader> {
    // SAFETY: the helper takes any socket pointer and answers null for one that is not TCP.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) }.cast::<c_void>();
    if tcp.is_null() {
        return None;
    }
    // A `tcp_sock` begins with its `sock`.
    let psock = pointer(tcp.cast_const(), &raw const SHORTCUT_USER_DATA)?;
    Some(Reader {
        consumed: read(tcp.cast_const(), &raw const SHORTCUT_COPIED_SEQ)?,
        written: read(tcp.cast_const(), &raw const SHORTCUT_WRITE_SEQ)?,
        empty: is_empty_list(psock, &raw const SHORTCUT_INGRESS)?,
    })
}
