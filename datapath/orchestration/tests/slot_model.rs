//! Every interleaving of what may happen to a slot at once, over the transitions that programs and controller use (loom).
//!
//! The list of free slots is modelled as what it is, a list under a lock of its own. The negative control runs the same actors on a word
//! that is written without a look at what is there, as the programs once did: then a slot must be found in two hands.
#![expect(
    clippy::unwrap_used,
    clippy::should_panic_without_expect,
    reason = "a test fails by panicking, and what the model finds first is not the test's to say"
)]

use kmesh_api::slot::{ALIVE, DEAD, FREE, RETIRED, UNWANTED, USER, VACANT, Word};
use kmesh_orchestration::slot::{self, Cell};
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// A pod's number, as a pool's key and as the record's field.
const FIRST: u32 = 1;
const SECOND: u32 = 2;

/// A word that is swapped if it is what the caller saw, or (`blind`) overwritten whatever it is.
struct Shared {
    word: AtomicU64,
    blind: bool,
}

impl Cell for Shared {
    fn load(&self) -> Word {
        Word(self.word.load(Ordering::SeqCst))
    }

    fn exchange(&self, from: Word, to: Word) -> bool {
        if self.blind {
            self.word.store(to.0, Ordering::SeqCst);
            return true;
        }
        (self.word)
            .compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// One slot and the pools of two pods.
struct Node {
    cell: Shared,
    /// Whose pool the slot belongs to.
    pod: AtomicU32,
    /// Who holds the lease, for as long as its exchange is open.
    client: AtomicU32,
    /// How often the slot lies in each pool.
    pools: [Mutex<u32>; 2],
}

impl Node {
    /// The first pod's slot, leased to client 1; returns the lease.
    fn leased(blind: bool) -> (Arc<Self>, u64) {
        let cell = Shared {
            word: AtomicU64::new(Word::new(VACANT, 6).0),
            blind,
        };
        let node = Arc::new(Self {
            cell,
            pod: AtomicU32::new(FIRST),
            client: AtomicU32::new(0),
            pools: [Mutex::new(0), Mutex::new(0)],
        });
        assert!(slot::open(&node.cell).is_some());
        assert!(slot::offer(&node.cell));
        let lease = slot::take(&node.cell, node.cell.load()).unwrap();
        node.client.store(1, Ordering::SeqCst);
        assert!(slot::begin(&node.cell, lease, false));
        (node, lease)
    }

    fn pool(&self, pod: u32) -> &Mutex<u32> {
        &self.pools[pod as usize - 1]
    }

    fn push(&self) {
        *self.pool(self.pod.load(Ordering::SeqCst)).lock().unwrap() += 1;
    }

    fn pop(&self, pod: u32) -> bool {
        let mut entries = self.pool(pod).lock().unwrap();
        let found = *entries > 0;
        *entries -= u32::from(found);
        found
    }

    /// As `give_back`: the server's last byte.
    fn answer(&self, lease: u64) {
        if slot::end(&self.cell, lease) == Some(FREE) {
            self.push();
        }
    }

    /// As `lease`: a client of `pod` sends a request, and gets the answer.
    fn request(&self, pod: u32, client: u32) {
        if !self.pop(pod) {
            return;
        }
        let seen = self.cell.load();
        assert_eq!(seen.state(), FREE, "what lies in a pool is free");
        assert_eq!(self.pod.load(Ordering::SeqCst), pod, "and that pool's own");
        let Some(lease) = slot::take(&self.cell, seen) else {
            slot::discard(&self.cell, seen.lease());
            return;
        };
        self.client.store(client, Ordering::SeqCst);
        if !slot::begin(&self.cell, lease, false) {
            slot::discard(&self.cell, lease);
            return;
        }
        assert_eq!(
            self.client.load(Ordering::SeqCst),
            client,
            "two hold the slot"
        );
        assert_eq!(
            self.pod.load(Ordering::SeqCst),
            pod,
            "the slot changed hands in a lease"
        );
        self.answer(lease);
    }

    /// As the reaper does for a connection that may not be leased again: out of its pool, closed, and the slot opened for another pod.
    fn reap(&self) {
        let seen = self.cell.load();
        if seen.state() == FREE && seen.health() != ALIVE && self.pop(FIRST) {
            slot::discard(&self.cell, self.cell.load().lease());
        }
        if self.cell.load().state() == RETIRED && slot::vacate(&self.cell) {
            assert!(slot::open(&self.cell).is_some());
            self.pod.store(SECOND, Ordering::SeqCst);
            assert!(
                slot::offer(&self.cell),
                "nobody else has a slot in user space"
            );
            self.push();
        }
    }

    /// Nothing moves any more: a slot lies in its pool, once, or is not free.
    fn settle(&self) {
        let state = self.cell.load().state();
        let entries: u32 = self.pools.iter().map(|pool| *pool.lock().unwrap()).sum();
        assert_eq!(entries, u32::from(state == FREE), "in state {state}");
        if state == FREE {
            let pod = self.pod.load(Ordering::SeqCst);
            assert_eq!(*self.pool(pod).lock().unwrap(), 1, "in another's pool");
        }
    }
}

type Actor = Box<dyn FnOnce(&Node, u64) + Send>;

fn run(blind: bool, actors: fn() -> Vec<Actor>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let (node, lease) = Node::leased(blind);
        let threads: Vec<_> = actors()
            .into_iter()
            .map(|actor| {
                let node = Arc::clone(&node);
                thread::spawn(move || actor(&node, lease))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        node.settle();
    });
}

/// A client leaves (close, reset, `AF_UNSPEC`) while its answer ends, and the daemon cleans up after it.
fn leaves() -> Vec<Actor> {
    vec![
        Box::new(|node, lease| {
            slot::abandon(&node.cell, lease);
        }),
        Box::new(Node::answer),
        Box::new(|node, _| {
            node.reap();
            node.reap();
        }),
    ]
}

/// The configuration drops the endpoint while the answer ends and the next client waits for the slot.
fn unwanted() -> Vec<Actor> {
    vec![
        Box::new(|node, lease| {
            node.answer(lease);
            node.request(FIRST, 2);
        }),
        Box::new(|node, _| slot::mark_any(&node.cell, UNWANTED)),
        Box::new(|node, _| {
            node.reap();
            node.request(SECOND, 3);
        }),
    ]
}

/// The server dies while its client pipelines, another takes the slot and user space relays.
fn dies() -> Vec<Actor> {
    vec![
        Box::new(|node, lease| {
            if slot::relay(&node.cell, lease)
                && slot::finish(&node.cell, lease)
                && slot::take_back(&node.cell, lease)
            {
                if slot::offer(&node.cell) {
                    node.push();
                } else {
                    slot::retire(&node.cell, lease);
                }
            }
        }),
        Box::new(|node, lease| {
            slot::defer(&node.cell, lease);
            node.request(FIRST, 2);
        }),
        Box::new(|node, lease| {
            slot::mark_any(&node.cell, DEAD);
            if node.cell.load().state() != USER {
                slot::retire(&node.cell, lease);
            }
        }),
    ]
}

/// Two of one pod want the slot that the first gives back.
fn two() -> Vec<Actor> {
    vec![
        Box::new(Node::answer),
        Box::new(|node, _| node.request(FIRST, 2)),
        Box::new(|node, _| node.request(FIRST, 3)),
    ]
}

#[test]
fn a_client_leaves() {
    run(false, leaves);
}

#[test]
fn an_endpoint_leaves() {
    run(false, unwanted);
}

#[test]
fn a_server_dies() {
    run(false, dies);
}

#[test]
fn two_want_one_slot() {
    run(false, two);
}

#[test]
#[should_panic]
fn a_word_that_is_overwritten_is_found_out_when_a_client_leaves() {
    run(true, leaves);
}

#[test]
#[should_panic]
fn a_word_that_is_overwritten_is_found_out_when_an_endpoint_leaves() {
    run(true, unwanted);
}

#[test]
#[should_panic]
fn a_word_that_is_overwritten_is_found_out_when_a_server_dies() {
    run(true, dies);
}
