//! Which listener governs a destination address.

use kmesh_api::limits::{LISTENER_PROBES, LISTENER_SLOTS, LISTENERS_MAX};
use kmesh_api::listener::Listener;
use kmesh_api::{Address, Image};

use crate::repeat::{Body, repeat};

struct Probe<'a> {
    image: &'a Image,
    address: &'a Address,
    hash: u32,
    found: &'a mut u32,
}

impl Body for Probe<'_> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let slot = self.hash.wrapping_add(index) as usize & (LISTENER_SLOTS - 1);
        let listener = self.image.listener_slots[slot];
        if listener == 0 {
            return false;
        }
        if at(self.image, listener - 1).address == *self.address {
            *self.found = listener;
            return false;
        }
        true
    }
}

/// The listener with that index.
#[inline(always)]
pub fn at(image: &Image, index: u32) -> &Listener {
    &image.listeners[index as usize & (LISTENERS_MAX - 1)]
}

/// Index of the listener that governs `address`: the one bound to exactly this address, or else the one bound to all addresses of its
/// port, which does not take what a pod sends to itself.
#[inline(always)]
pub fn find(image: &Image, address: &Address) -> Option<u32> {
    let mut found = bound_to(image, address);
    if found == 0 && !address.is_loopback() {
        found = bound_to(image, &address.any());
    }
    found.checked_sub(1)
}

/// Index plus one of the listener bound to exactly `address`; 0 = none.
#[inline(always)]
fn bound_to(image: &Image, address: &Address) -> u32 {
    let mut found = 0;
    repeat(
        LISTENER_PROBES,
        &mut Probe {
            image,
            address,
            hash: address.hash(),
            found: &mut found,
        },
    );
    found
}
