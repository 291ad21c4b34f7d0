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
    // SAFETY: the helper checks the address it reads; `value` is as long as said.
    let failed = unsafe {
        let from = field(structure, offset);
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from)
    };
    if failed == 0 { Some(value) } else { None }
}

/// Where that field is.
#[inline(always)]
pub(crate) fn field(structure: *const c_void, offset: *const u32) -> *const c_void {
    // SAFETY: `offset` is a constant of this object.
    let offset = unsafe { read_volatile(offset) };
    structure.wrapping_byte_add(offset as usize)
}

/// What that field points to. The three lowest bits may be flags, as in `sock.sk_user_data` (`SK_USER_DATA_PTRMASK`).
#[inline(always)]
pub(crate) fn pointer(structure: *const c_void, offset: *const u32) -> Option<*const c_void> {
    const FLAGS: usize = 7;
    let address: usize = read(structure, offset)?;
    Some((address & !FLAGS) as *const c_void)
}

/// Whether that field heads an empty list: one that points to itself (`INIT_LIST_HEAD`).
#[inline(always)]
pub(crate) fn is_empty_list(structure: *const c_void, offset: *const u32) -> Option<bool> {
    let first: usize = read(structure, offset)?;
    Some(first == field(structure, offset) as usize)
}
