//! The record of an upstream, shared with the kernel programs.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kmesh_api::pool::{Claim, Upstream};
use kmesh_api::slot::{LEASED, RELAY, UNWANTED, Word};
use kmesh_orchestration::slot::{self, Cell};

/// A view of one record in shared memory. Its state changes by `kmesh_orchestration::slot`, for which this is a [`Cell`].
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

    fn cell(&self) -> &AtomicU64 {
        // SAFETY: a live, aligned field that both sides access as one word.
        unsafe { AtomicU64::from_ptr((&raw mut (*self.0.as_ptr()).word).cast()) }
    }

    /// State, health and lease as they are now.
    pub fn word(self) -> Word {
        self.load()
    }

    /// The open lease of `client`.
    ///
    /// A leaseholder is named before its exchange opens, and the next only after it has closed: a client that was named while one lease was
    /// open is that lease's.
    pub fn open_lease(self, client: u64) -> Option<u64> {
        let open = |word: Word| word.is_open() && matches!(word.state(), LEASED | RELAY);
        let first = self.word();
        let own = self.client() == client;
        let last = self.word();
        (own && open(first) && open(last) && first.lease() == last.lease()).then(|| last.lease())
    }

    /// Nobody leases the connection again that `client` has an exchange on; an exchange that has ended meanwhile leaves it alone.
    pub fn forsake(self, client: u64) -> bool {
        self.open_lease(client)
            .is_some_and(|lease| slot::mark_open(&self, lease, UNWANTED))
    }

    /// The accepted socket that claims to be the server.
    pub fn claim(self) -> Option<Claim> {
        // SAFETY: a live, aligned field that both sides access as one word; the others are written before it, and once.
        let server = unsafe { AtomicU64::from_ptr(&raw mut (*self.0.as_ptr()).claim.server) };
        if server.load(Ordering::SeqCst) == 0 {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { (&raw const (*self.0.as_ptr()).claim).read_volatile() })
    }

    /// Forgets a claim, of a slot that is the controller's.
    pub fn forget_claim(self) {
        // SAFETY: as for `claim`.
        let server = unsafe { AtomicU64::from_ptr(&raw mut (*self.0.as_ptr()).claim.server) };
        server.store(0, Ordering::SeqCst);
    }

    fields! {
        /// The client pod.
        pod / set_pod: u32, AtomicU32;
        /// The endpoint's id.
        endpoint / set_endpoint: u32, AtomicU32;
        /// Cookie of the server's socket on this node, 0 = elsewhere.
        server / set_server: u64, AtomicU64;
        /// The socket that requests are redirected to.
        server_socket / set_server_socket: u64, AtomicU64;
        /// Cookie of the leaseholder.
        client / set_client: u64, AtomicU64;
        /// Response bytes still to come in the kernel.
        remaining / set_remaining: u64, AtomicU64;
        /// 1 if the request was HEAD.
        head_request / set_head_request: u32, AtomicU32;
        /// 1 once the response has begun.
        answered / set_answered: u32, AtomicU32;
    }
}

impl Cell for Record {
    fn load(&self) -> Word {
        Word(self.cell().load(Ordering::SeqCst))
    }

    fn exchange(&self, from: Word, to: Word) -> bool {
        self.cell()
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use kmesh_api::slot::FREE;

    use super::*;

    /// A record of its own memory, of a free slot.
    fn free() -> (Box<Upstream>, Record) {
        // SAFETY: numbers and arrays of numbers only, all of which may be zero.
        let mut upstream: Box<Upstream> = unsafe { Box::new_zeroed().assume_init() };
        let record = Record::new(NonNull::from(&mut *upstream));
        assert!(slot::open(&record).is_some() && slot::offer(&record));
        (upstream, record)
    }

    fn begin(record: Record, client: u64) -> u64 {
        let lease = slot::take(&record, record.word()).unwrap();
        record.set_client(client);
        assert!(slot::begin(&record, lease, false));
        lease
    }

    fn end(record: Record, lease: u64) {
        assert_eq!(slot::end(&record, lease), Some(FREE));
    }

    #[test]
    fn a_lease_is_open_from_its_begin_to_its_end_and_its_holders_only() {
        let (_memory, record) = free();
        assert_eq!(record.open_lease(0), None);
        let lease = begin(record, 7);
        assert_eq!(
            (record.open_lease(7), record.open_lease(8)),
            (Some(lease), None)
        );
        assert!(slot::relay(&record, lease));
        assert_eq!(record.open_lease(7), Some(lease));
        assert!(slot::finish(&record, lease));
        assert_eq!(record.open_lease(7), None);
        assert!(slot::take_back(&record, lease) && slot::offer(&record));
        let next = begin(record, 8);
        assert_eq!(
            (record.open_lease(7), record.open_lease(8)),
            (None, Some(next))
        );
        assert!(!record.forsake(7) && record.forsake(8));
        assert_eq!(slot::end(&record, next), Some(kmesh_api::slot::RETIRED));
    }

    #[test]
    fn who_has_ended_holds_nothing_while_others_come_and_go() {
        let (_memory, record) = free();
        let stop = AtomicBool::new(false);
        let looks = thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // The first client comes back now and then, and gives up what it took.
                    let lease = slot::take(&record, record.word()).unwrap();
                    record.set_client(1);
                    assert!(slot::put_back(&record, lease));
                    let lease = begin(record, 2);
                    // Open for as long as a look or two takes.
                    for _ in 0..20 {
                        std::hint::spin_loop();
                    }
                    end(record, lease);
                }
            });
            let looks = (0..10_000_000).filter_map(|_| record.open_lease(1)).count();
            stop.store(true, Ordering::SeqCst);
            looks
        });
        assert_eq!(looks, 0);
    }
}
