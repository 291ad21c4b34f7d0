//! Listeners: which service address is governed, and how.

use crate::Address;

/// The endpoint is chosen when the application connects; the application's own socket goes straight to it.
pub const CLASS_OPAQUE: u32 = 1;
/// The connection is anchored in the pod and every request on it is routed on its own.
pub const CLASS_ANCHORED: u32 = 2;

/// One service address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Listener {
    /// The virtual address that applications connect to.
    pub address: Address,
    /// `CLASS_OPAQUE` or `CLASS_ANCHORED`; 0 = vacant.
    pub class: u32,
    /// Opaque: first of the weighted clusters in [`crate::Image::weights`]. Anchored: the route configuration.
    pub target: u32,
    /// Opaque: number of weighted clusters.
    pub count: u32,
}
