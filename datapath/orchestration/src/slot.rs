//! The state of an upstream slot: one word, changed by compare-and-swap only.
//!
//! ```text
//!        open          offer           take            begin
//! VACANT ----> USER ----------> FREE --------> TAKEN --------> LEASED --relay--> RELAY
//!    ^          ^                ^ |             |              |    \              |
//!    |          |                | |discard      |put_back      |end  \end          |finish
//!    |          |                | v             v or discard   v      v            |
//!    |          |                |RETIRED       FREE          FREE  LINGERING       |
//!    |          +----------------|-----------------------------------|--------------+ take_back
//!    +--- vacate ------------ RETIRED <----- retire, abandon, sent --+
//! ```
//! Kernel programs, the controller and the model test (`tests/slot_model.rs`) change the word through these functions and no other
//! way, so that of two who want different things one finds that the other was there before. What else belongs to the slot has the owner
//! that the state names: a record's identity (pod, endpoint, server) is written in `USER` only, the leaseholder's fields in `TAKEN` only.
//!
//! A free slot lies in its pool's list, and whoever takes the entry out of the list holds it: nobody else moves the slot out of
//! `FREE`. The number of a lease is never used again, by the slot's next connection neither, so who remembers slot and number cannot
//! mistake another's exchange for its own.

use kmesh_api::slot::{
    ALIVE, DEAD, FREE, LEASED, LINGERING, RELAY, RETIRED, TAKEN, USER, VACANT, Word,
};

/// Where a word lies, and how it is read and swapped there.
pub trait Cell {
    /// The word as it is now.
    fn load(&self) -> Word;

    /// Makes it `to` if it is `from`; `false` if it is not.
    fn exchange(&self, from: Word, to: Word) -> bool;
}

/// Tries of a change before it is given up, which the verifier wants to know. A try fails only because somebody else changed the word, and
/// within one lease that happens at most ten times: take, begin, sent, defer, two marks, relay, finish, `take_back`, offer. So a change that
/// was tried as often as this is one that the lease no longer bears.
const TRIES: usize = 11;

/// Changes the word to what `next` makes of it; `None` if that is nothing.
#[inline(always)]
fn change(cell: &impl Cell, next: impl Fn(Word) -> Option<Word>) -> Option<Word> {
    for _ in 0..TRIES {
        let seen = cell.load();
        let to = next(seen)?;
        if cell.exchange(seen, to) {
            return Some(to);
        }
    }
    None
}

/// The same for a slot in one of `states` under `lease`.
#[inline(always)]
fn change_in(
    cell: &impl Cell,
    lease: u64,
    states: &[u32],
    next: impl Fn(Word) -> Word,
) -> Option<Word> {
    change(cell, |seen| {
        (seen.lease() == lease && is_one_of(seen.state(), states)).then(|| next(seen))
    })
}

#[inline(always)]
fn is_one_of(state: u32, states: &[u32]) -> bool {
    let mut found = false;
    for &one in states {
        found |= state == one;
    }
    found
}

/// The controller opens a connection for a vacant slot. Returns the number that the slot has until it is leased.
#[inline(always)]
pub fn open(cell: &impl Cell) -> Option<u64> {
    let to = change(cell, |seen| {
        (seen.state() == VACANT).then(|| Word::new(USER, seen.lease() + 1))
    });
    to.map(Word::lease)
}

/// The slot may be leased from now on: the caller puts it into its pool's list.
#[inline(always)]
pub fn offer(cell: &impl Cell) -> bool {
    let to = change(cell, |seen| {
        (seen.state() == USER && seen.health() == ALIVE).then(|| seen.with_state(FREE))
    });
    to.is_some()
}

/// Takes a slot that the caller took out of its pool's list, looked at (`seen`) and found to be that pool's. Returns the number of the lease
/// that may begin.
///
/// `None`: it is not free, or its connection is not to be used any more. Then the caller [`discard`]s it.
#[inline(always)]
pub fn take(cell: &impl Cell, seen: Word) -> Option<u64> {
    if seen.state() != FREE || seen.health() != ALIVE {
        return None;
    }
    let to = Word::new(TAKEN, seen.lease() + 1);
    cell.exchange(seen, to).then(|| to.lease())
}

/// The taker has written down who it is: the exchange begins, `sending` if more of its request is to come. `false` if the connection died
/// meanwhile; then the taker [`discard`]s the slot.
#[inline(always)]
pub fn begin(cell: &impl Cell, lease: u64, sending: bool) -> bool {
    let to = change(cell, |seen| {
        (seen.lease() == lease && seen.state() == TAKEN && seen.health() == ALIVE)
            .then(|| seen.with_state(LEASED).opened(sending))
    });
    to.is_some()
}

/// The taker has no use for the slot: the caller puts it back into its pool's list. `false` if the connection died meanwhile; then it
/// [`discard`]s it.
#[inline(always)]
pub fn put_back(cell: &impl Cell, lease: u64) -> bool {
    let to = change(cell, |seen| {
        (seen.lease() == lease && seen.state() == TAKEN && seen.health() == ALIVE)
            .then(|| seen.with_state(FREE))
    });
    to.is_some()
}

/// Whoever took a slot out of its pool's list under this number, or could not put it there, does not use it.
#[inline(always)]
pub fn discard(cell: &impl Cell, lease: u64) -> bool {
    change_in(cell, lease, &[FREE, TAKEN], |seen| seen.with_state(RETIRED)).is_some()
}

/// The leaseholder has sent the last of its request.
#[inline(always)]
pub fn sent(cell: &impl Cell, lease: u64) {
    change(cell, |seen| {
        if seen.lease() != lease || !seen.is_sending() {
            return None;
        }
        // Answered before: nobody knows what the server made of the rest.
        Some(if seen.state() == LINGERING {
            seen.with_state(RETIRED).done_sending()
        } else {
            seen.done_sending()
        })
    });
}

/// The leaseholder has sent another request, which user space answers: so it must deliver this response too, unless that has begun.
#[inline(always)]
pub fn defer(cell: &impl Cell, lease: u64) -> bool {
    let to = change(cell, |seen| {
        (seen.lease() == lease && seen.is_open()).then(|| seen.pipelined())
    });
    to.is_some()
}

/// The response is complete. If this returns [`FREE`], the caller puts the slot back into its pool's list; `None` if the lease had ended
/// otherwise.
#[inline(always)]
pub fn end(cell: &impl Cell, lease: u64) -> Option<u32> {
    let to = change_in(cell, lease, &[LEASED], |seen| {
        let next = if seen.is_sending() {
            LINGERING
        } else if seen.health() == ALIVE {
            FREE
        } else {
            RETIRED
        };
        seen.closed().with_state(next)
    });
    to.map(Word::state)
}

/// User space must finish the response.
#[inline(always)]
pub fn relay(cell: &impl Cell, lease: u64) -> bool {
    change_in(cell, lease, &[LEASED], |seen| seen.with_state(RELAY)).is_some()
}

/// User space is about to send the end of the response that it relays.
#[inline(always)]
pub fn finish(cell: &impl Cell, lease: u64) -> bool {
    change_in(cell, lease, &[RELAY], Word::closed).is_some()
}

/// User space has relayed the response and can use the connection again.
#[inline(always)]
pub fn take_back(cell: &impl Cell, lease: u64) -> bool {
    let to = change(cell, |seen| {
        let over = seen.lease() == lease && seen.state() == RELAY && !seen.is_open();
        over.then(|| seen.with_state(USER))
    });
    to.is_some()
}

/// The connection under this lease is lost: an exchange that was open stays so, for whoever must be told. Returns whether this call did
/// it. Nobody leases a slot in user space, so there `lease` is the number that [`open`] gave it.
#[inline(always)]
pub fn retire(cell: &impl Cell, lease: u64) -> bool {
    change_in(cell, lease, &[USER, LEASED, LINGERING, RELAY], |seen| {
        seen.with_state(RETIRED)
    })
    .is_some()
}

/// The leaseholder is gone. User space ends a relay itself. Returns whether an open exchange was lost.
#[inline(always)]
pub fn abandon(cell: &impl Cell, lease: u64) -> bool {
    let to = change_in(cell, lease, &[LEASED, LINGERING], |seen| {
        seen.with_state(RETIRED)
    });
    to.is_some_and(Word::is_open)
}

/// Nobody takes the slot from now on; an exchange under way goes on, to be told of a death ([`DEAD`]) or to its end. The slot must be under
/// `lease`.
#[inline(always)]
pub fn mark(cell: &impl Cell, lease: u64, health: u32) -> bool {
    let to = change(cell, |seen| {
        (seen.lease() == lease && seen.state() != VACANT).then(|| weakened(seen, health))
    });
    to.is_some()
}

/// The same, if the lease's exchange is open.
#[inline(always)]
pub fn mark_open(cell: &impl Cell, lease: u64, health: u32) -> bool {
    let to = change(cell, |seen| {
        (seen.lease() == lease && seen.is_open()).then(|| weakened(seen, health))
    });
    to.is_some()
}

/// The same under whatever lease, until it is so. For user space, whose loops need no bound.
pub fn mark_any(cell: &impl Cell, health: u32) {
    loop {
        let seen = cell.load();
        if seen.state() == VACANT || cell.exchange(seen, weakened(seen, health)) {
            return;
        }
    }
}

/// A death is never taken back, and hides that the connection was not wanted.
#[inline(always)]
fn weakened(seen: Word, health: u32) -> Word {
    if seen.health() == DEAD {
        seen
    } else {
        seen.with_health(health)
    }
}

/// The checker found something wrong with the slot, which it saw as `seen`: it is not used any more, whoever holds it.
pub fn condemn(cell: &impl Cell, seen: Word) -> bool {
    seen.state() != VACANT && cell.exchange(seen, seen.with_state(RETIRED).with_health(DEAD))
}

/// The connection is closed: the slot may be opened again. Only for the controller, which owns a retired slot and one in user space.
#[inline(always)]
pub fn vacate(cell: &impl Cell) -> bool {
    let to = change(cell, |seen| {
        is_one_of(seen.state(), &[USER, RETIRED]).then(|| Word::new(VACANT, seen.lease()))
    });
    to.is_some()
}
