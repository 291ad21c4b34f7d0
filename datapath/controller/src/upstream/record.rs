//! The record of an upstream, shared with the kernel programs, field by field.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kmesh_api::pool::{ALIVE, LEASED, RELAY, UNWANTED, Upstream};

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

    /// Makes sure that no further lease is taken, unless the far end died: who waits for its answer must be told that.
    pub fn set_unwanted(self) {
        self.atomic(|record| {
            // SAFETY: as for the getters.
            let dead = unsafe { AtomicU32::from_ptr(&raw mut (*record).dead) };
            let _ = dead.compare_exchange(ALIVE, UNWANTED, Ordering::SeqCst, Ordering::SeqCst);
        });
    }

    /// The lease that `client` holds and whose answer is not complete.
    ///
    /// One look at several fields that the kernel programs write meanwhile. `begin_exchange` names the client before it
    /// counts the lease and `give_back` ends the lease before anyone can take the next, so a lease that was open at the third
    /// look and is the same at the first and the last is that client's.
    pub fn open_lease(self, client: u64) -> Option<u64> {
        let lease = self.lease();
        let own = self.client() == client && self.done() != lease;
        (own && matches!(self.state(), LEASED | RELAY) && self.lease() == lease).then_some(lease)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use kmesh_api::pool::{DEAD, FREE, VACANT};

    use super::*;

    /// A record of its own memory.
    fn vacant() -> (Box<Upstream>, Record) {
        // SAFETY: numbers and arrays of numbers only, all of which may be zero.
        let mut upstream: Box<Upstream> = unsafe { Box::new_zeroed().assume_init() };
        assert_eq!(upstream.state, VACANT);
        let record = Record::new(NonNull::from(&mut *upstream));
        (upstream, record)
    }

    /// As `begin_exchange` does.
    fn begin(record: Record, client: u64) {
        record.set_client(client);
        record.set_lease(record.lease() + 1);
        record.set_state(LEASED);
    }

    /// As `give_back` does.
    fn end(record: Record) {
        record.set_done(record.lease());
        record.set_state(FREE);
    }

    #[test]
    fn a_lease_is_open_from_its_begin_to_its_end_and_its_holders_only() {
        let (_memory, record) = vacant();
        assert_eq!(record.open_lease(0), None);
        begin(record, 7);
        assert_eq!(
            (record.open_lease(7), record.open_lease(8)),
            (Some(1), None)
        );
        record.set_state(RELAY);
        assert_eq!(record.open_lease(7), Some(1));
        end(record);
        assert_eq!(record.open_lease(7), None);
        begin(record, 8);
        assert_eq!(
            (record.open_lease(7), record.open_lease(8)),
            (None, Some(2))
        );
    }

    #[test]
    fn who_has_ended_holds_nothing_while_others_come_and_go() {
        let (_memory, record) = vacant();
        let stop = AtomicBool::new(false);
        let looks = thread::scope(|scope| {
            scope.spawn(|| {
                // The first client comes back now and then, and its exchanges have all ended when it is named.
                while !stop.load(Ordering::SeqCst) {
                    let lease = record.lease() + 1;
                    record.set_client(1);
                    record.set_done(lease);
                    record.set_lease(lease);
                    record.set_state(LEASED);
                    end(record);
                    begin(record, 2);
                    // Open for as long as a look or two takes.
                    for _ in 0..20 {
                        std::hint::spin_loop();
                    }
                    end(record);
                }
            });
            let looks = (0..10_000_000).filter_map(|_| record.open_lease(1)).count();
            stop.store(true, Ordering::SeqCst);
            looks
        });
        assert_eq!(looks, 0);
    }

    #[test]
    fn unwanted_never_hides_that_the_far_end_died() {
        let (_memory, record) = vacant();
        record.set_unwanted();
        assert_eq!(record.dead(), UNWANTED);
        record.set_dead(DEAD);
        record.set_unwanted();
        assert_eq!(record.dead(), DEAD);
    }
}
