//! Array maps as shared memory: the controller and the kernel programs look at the same bytes.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;

/// A memory-mapped array map (`BPF_F_MMAPABLE`) of `T`.
///
/// Values are handed out as raw pointers, because the kernel changes them at any time; callers read and write single
/// fields with atomics or volatile accesses.
pub struct Shared<T> {
    base: NonNull<u8>,
    length: usize,
    count: usize,
    value: PhantomData<T>,
}

// SAFETY: the mapping is process-wide memory that is only handed out as raw pointers.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// `kernel/bpf/arraymap.c` rounds element sizes up to 8 bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps the array map behind `map`, which has `count` values.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let length = Self::STRIDE * count;
        // SAFETY: a fresh shared mapping of a file; the result is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            base,
            length,
            count,
            value: PhantomData,
        })
    }

    /// The value at `index`; `None` past the end.
    pub fn at(&self, index: usize) -> Option<NonNull<T>> {
        if index >= self.count {
            return None;
        }
        // SAFETY: the offset lies inside the mapping, because `index` is below `count`.
        Some(unsafe { self.base.add(index * Self::STRIDE) }.cast())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`, which nothing points into any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
