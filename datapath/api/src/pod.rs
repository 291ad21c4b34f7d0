//! Enrolled pods, known to the kernel by the cookie of their network namespace.

use crate::Address;

/// An enrolled pod. Written by the controller only: nothing a pod does enrols or releases it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pod {
    /// Number of this enrolment, from 1 and never given again; half of a pool's key.
    pub index: u32,
    /// The pod's IPv4 anchor, port 0 if it has none.
    pub anchor4: Address,
    /// The pod's IPv6 anchor, port 0 if it has none.
    pub anchor6: Address,
    /// 1: the pod's anchored connections are spliced.
    pub spliced: u32,
}

/// A client connection as its anchor sees it: key of `ANCHORED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AnchoredKey {
    /// The pod's index.
    pub pod: u32,
    /// The client socket's own address: the anchor's `accept` reports it as the peer.
    pub client: Address,
}

/// What the anchor needs to know about a client connection: value of `ANCHORED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchored {
    /// The client socket's cookie: its key in `CLIENTS`, `WAITING` and `ANSWERED`.
    pub cookie: u64,
    /// The service address the application asked for.
    pub original: Address,
    /// Padding; zero.
    pub reserved: u32,
    /// The pod's device of a spliced connection ([`crate::splice::FlowKey::device`]).
    pub device: u64,
}
