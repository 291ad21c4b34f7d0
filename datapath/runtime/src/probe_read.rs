//! Reading structures of the kernel at offsets that the controller takes from its BTF.
//!
//! Also a module of `bin/sockmap`, which links no library of ours.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// The field of `structure` at the offset that the loader put into `offset`.
#[inline(always)]
pub(crate) fn read<T: Default>(structure: *const c_void, offset: *const u32) -> Option<T> {
    let mut value = T::default();
    // SAFETY: `offset` is a constant of this object; the helper checks the address it reads.
    let failed = unsafe {
        let from = structure
            .cast::<u8>()
            .wrapping_add(read_volatile(offset) as usize);
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from.cast())
    };
    if failed == 0 { Some(value) } else { None }
}
