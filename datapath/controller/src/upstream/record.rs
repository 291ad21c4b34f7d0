//! The record of an upstream, shared with the kernel programs, field by field.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kmesh_api::pool::Upstream;

/// A view of one record in shared memory.
#[derive(Clone, Copy)]
pub struct Record(NonNull<Upstream>);

// SAFETY: all accesses are atomic, to memory that lives as long as the datapath.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident / $set:ident: $int:ty, $atomic:ty;)*) => {$(
        $(#[$doc])*
        pub fn $field(self) -> $int {
            self.atomic(|record| {
                // SAFETY: a live, aligned field that both sides access as one word.
                unsafe { <$atomic>::from_ptr(&raw mut (*record).$field) }.load(Ordering::SeqCst)
            })
        }

        #[doc = concat!("Sets `", stringify!($field), "`.")]
        pub fn $set(self, value: $int) {
            self.atomic(|record| {
                // SAFETY: as for the getter.
                unsafe { <$atomic>::from_ptr(&raw mut (*record).$field) }
                    .store(value, Ordering::SeqCst);
            });
        }
    )*};
}

impl Record {
    /// The record at `address`, which must stay mapped for as long as the datapath lives.
    pub fn new(address: NonNull<Upstream>) -> Self {
        Self(address)
    }

    fn atomic<R>(self, access: impl FnOnce(*mut Upstream) -> R) -> R {
        access(self.0.as_ptr())
    }

    fields! {
        /// One of the states in `kmesh_api::pool`.
        state / set_state: u32, AtomicU32;
        /// `ALIVE`, `DEAD` or `UNWANTED`.
        dead / set_dead: u32, AtomicU32;
        /// The client pod.
        pod / set_pod: u32, AtomicU32;
        /// The endpoint's id.
        endpoint / set_endpoint: u32, AtomicU32;
        /// Cookie of the server's socket on this node, 0 = elsewhere.
        server / set_server: u64, AtomicU64;
        /// Cookie of the leaseholder.
        client / set_client: u64, AtomicU64;
        /// Number of the last lease.
        lease / set_lease: u64, AtomicU64;
        /// Number of the last lease that is done.
        done / set_done: u64, AtomicU64;
        /// Response bytes still to come in the kernel.
        remaining / set_remaining: u64, AtomicU64;
        /// 1 if the request was HEAD.
        head_request / set_head_request: u32, AtomicU32;
        /// 1 while the client still owes bytes of its request.
        sending / set_sending: u32, AtomicU32;
        /// 1 once the response has begun.
        answered / set_answered: u32, AtomicU32;
    }
}
