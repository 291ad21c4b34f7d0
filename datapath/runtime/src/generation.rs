//! The active configuration.

use core::ptr::read_volatile;

use kmesh_api::Image;

use crate::maps::{ACTIVE, IMAGES};

/// The active image and its generation at this moment; `None` before the first configuration.
#[inline(always)]
pub fn active() -> Option<(&'static Image, u64)> {
    let active = *ACTIVE.get(0)? & 1;
    let image = IMAGES.get(active)?;
    let generation = current(image);
    if generation == 0 {
        None
    } else {
        Some((image, generation))
    }
}

/// The image's generation now: 0 while it is rewritten, and different afterwards.
#[inline(always)]
pub fn current(image: &Image) -> u64 {
    // SAFETY: a plain aligned field of a live map value; volatile because user space writes it.
    unsafe { read_volatile(&raw const image.generation) }
}
