//! Message length (RFC 9112 section 6): where a message ends, as far as its head tells.

use kmesh_api::Reason;
use kmesh_api::head::{Head, flag};
use kmesh_api::limits::LARGE_MAX;

/// Where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After this many bytes, the head included.
    Known(u64),
    /// With its last chunk, which [`super::chunked`] finds.
    Chunked,
    /// The head does not tell the kernel; from here on only user space follows the stream.
    Unknown(Reason),
}

/// The length of a request.
#[inline(always)]
pub fn request_length<const N: usize>(head: &Head<N>) -> Length {
    let flags = head.flags;
    if flags & (flag::UPGRADE | flag::CONNECT_METHOD) != 0 {
        return Length::Unknown(Reason::Upgrade);
    }
    if flags & flag::HOST == 0 {
        return Length::Unknown(Reason::Malformed);
    }
    if flags & flag::CHUNKED != 0 {
        return Length::Chunked;
    }
    Length::Known(u64::from(head.end).wrapping_add(head.content_length))
}

/// Whether the kernel path may carry a request of `total` bytes: it forwards bytes as they are, without flow control.
///
/// # Errors
/// Why not: hop-by-hop wishes of the client, `100 Continue`, or size.
#[inline(always)]
pub fn admit<const N: usize>(head: &Head<N>, total: u64) -> Result<(), Reason> {
    if head.flags & flag::CONNECTION != 0 {
        return Err(Reason::Connection);
    }
    if head.flags & flag::EXPECT != 0 {
        return Err(Reason::Expect);
    }
    if total > LARGE_MAX {
        return Err(Reason::Large);
    }
    Ok(())
}

/// The length of the response to a request; `to_head` if that was a HEAD request.
///
/// 1xx is left to user space: another response follows it. So is a body that ends with the connection, and one where there is none
/// (RFC 9110 section 8.6).
#[inline(always)]
pub fn response_length<const N: usize>(head: &Head<N>, to_head: bool) -> Length {
    let end = u64::from(head.end);
    if head.status < 200 {
        return Length::Unknown(Reason::Relayed);
    }
    if head.status == 204 && (head.flags & flag::CHUNKED != 0 || head.content_length != 0) {
        return Length::Unknown(Reason::Relayed);
    }
    if to_head || head.status == 204 || head.status == 304 {
        return Length::Known(end);
    }
    if head.flags & flag::CHUNKED != 0 {
        return Length::Chunked;
    }
    if head.flags & flag::CONTENT_LENGTH == 0 {
        return Length::Unknown(Reason::Relayed);
    }
    Length::Known(end.wrapping_add(head.content_length))
}
