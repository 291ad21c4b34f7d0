//! Numbers that are written to memory and read back from it, whatever the compiler knows of them.
//!
//! In a map's value the verifier forgets a number that is written: what follows is checked once for all numbers, not once for each
//! way that led there. The compiler must not keep such a number in a register, so every access is volatile.

/// The number in memory.
#[inline(always)]
pub fn read<T: Copy>(from: &T) -> T {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(from) }
}

/// Writes one.
#[inline(always)]
pub fn write<T: Copy>(to: &mut T, number: T) {
    // SAFETY: a reference is valid to write.
    unsafe { core::ptr::write_volatile(to, number) }
}

/// Copies a record of words. The compiler would call a function that goes byte by byte, backwards if need be, and that compares two
/// addresses to find out, which verifiers before Linux 6.12 refuse.
///
/// `T` is aligned to 4 bytes and a multiple of that long, which is checked when this is compiled.
#[inline(always)]
pub fn assign<T: Copy>(to: &mut T, from: &T) {
    const WORD: usize = size_of::<u32>();
    const { assert!(align_of::<T>() >= WORD && size_of::<T>().is_multiple_of(WORD)) };
    let from = (&raw const *from).cast::<u32>();
    let to = (&raw mut *to).cast::<u32>();
    for i in 0..size_of::<T>() / WORD {
        // SAFETY: word `i` of two records of the same length; both are aligned to words, and a word may have any value. Padding is never
        // read: records that the kernel and the controller share have none (`kmesh_api`).
        unsafe { to.add(i).write_volatile(from.add(i).read()) };
    }
}
