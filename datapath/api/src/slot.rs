//! The word that holds an upstream slot's state, and what its bits mean. Who changes it, and how: `kmesh_orchestration::slot`.

/// Slot not in use.
pub const VACANT: u32 = 0;
/// The controller is connecting it or serving a request on it in user space.
pub const USER: u32 = 1;
/// In its pool's free list, or in the hands of whoever just took it out or is about to put it in.
pub const FREE: u32 = 2;
/// Leased to a client for one exchange.
pub const LEASED: u32 = 3;
/// Leased, but the kernel cannot finish the response: its bytes travel by TCP to the controller, which relays them.
pub const RELAY: u32 = 4;
/// No longer usable; the controller closes it and makes the slot vacant.
pub const RETIRED: u32 = 5;
/// Answered while the leaseholder still sends its request, which the server goes on to get; retired when either is done with it.
pub const LINGERING: u32 = 6;
/// Taken for a lease that has not begun: the leaseholder writes down who it is.
pub const TAKEN: u32 = 7;

/// The connection works.
pub const ALIVE: u32 = 0;
/// The far end died: an exchange in flight is lost.
pub const DEAD: u32 = 1;
/// Its pod or endpoint left: an exchange in flight may end, and then the connection is closed.
pub const UNWANTED: u32 = 2;

const STATE: u64 = 0xf;
const HEALTH_AT: u32 = 4;
const HEALTH: u64 = 0x3 << HEALTH_AT;
/// The exchange of this lease is not answered completely.
const OPEN: u64 = 1 << 6;
/// The leaseholder still owes bytes of its request: a response that ends now leaves the upstream out of step.
const SENDING: u64 = 1 << 7;
/// The leaseholder sent another request.
const PIPELINED: u64 = 1 << 8;
const LEASE_AT: u32 = 16;

/// State, health and lease of a slot.
///
/// Bits 0-3 the state, 4-5 the health, 6 open, 7 sending, 8 pipelined, 16-63 the lease's number: at a million leases a second it lasts nine
/// years.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// A slot in `state` under `lease`: alive, nothing under way.
    #[inline(always)]
    pub const fn new(state: u32, lease: u64) -> Self {
        Self(lease << LEASE_AT | state as u64)
    }

    /// One of the states above.
    #[inline(always)]
    pub const fn state(self) -> u32 {
        (self.0 & STATE) as u32
    }

    /// [`ALIVE`], [`DEAD`] or [`UNWANTED`].
    #[inline(always)]
    pub const fn health(self) -> u32 {
        ((self.0 & HEALTH) >> HEALTH_AT) as u32
    }

    /// Number of the lease that is, or was last; counts the slot's connections as well.
    #[inline(always)]
    pub const fn lease(self) -> u64 {
        self.0 >> LEASE_AT
    }

    /// Whether the lease's exchange is not answered completely.
    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// Whether the leaseholder still owes bytes of its request.
    #[inline(always)]
    pub const fn is_sending(self) -> bool {
        self.0 & SENDING != 0
    }

    /// Whether the leaseholder sent another request: user space answers that one, so it must deliver this response too.
    #[inline(always)]
    pub const fn is_pipelined(self) -> bool {
        self.0 & PIPELINED != 0
    }

    /// The same in another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: u32) -> Self {
        Self(self.0 & !STATE | state as u64)
    }

    /// The same in other health.
    #[inline(always)]
    #[must_use]
    pub const fn with_health(self, health: u32) -> Self {
        Self(self.0 & !HEALTH | (health as u64) << HEALTH_AT)
    }

    /// The same with an exchange that begins.
    #[inline(always)]
    #[must_use]
    pub const fn opened(self, sending: bool) -> Self {
        Self(self.0 | OPEN | if sending { SENDING } else { 0 })
    }

    /// The same with its exchange answered.
    #[inline(always)]
    #[must_use]
    pub const fn closed(self) -> Self {
        Self(self.0 & !OPEN)
    }

    /// The same with its request sent.
    #[inline(always)]
    #[must_use]
    pub const fn done_sending(self) -> Self {
        Self(self.0 & !SENDING)
    }

    /// The same with another request behind it.
    #[inline(always)]
    #[must_use]
    pub const fn pipelined(self) -> Self {
        Self(self.0 | PIPELINED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_word_is_its_own() {
        let lease = (1 << 48) - 1;
        let word = Word::new(TAKEN, lease).with_health(UNWANTED);
        assert_eq!(
            (word.state(), word.health(), word.lease()),
            (TAKEN, UNWANTED, lease)
        );
        let word = word.opened(true).pipelined().with_state(LEASED);
        assert!(word.is_open() && word.is_sending() && word.is_pipelined());
        let word = word.closed().done_sending();
        assert!(!word.is_open() && !word.is_sending() && word.is_pipelined());
        assert_eq!(
            (word.state(), word.health(), word.lease()),
            (LEASED, UNWANTED, lease)
        );
        assert_eq!(Word::new(VACANT, 0), Word::default());
    }
}
