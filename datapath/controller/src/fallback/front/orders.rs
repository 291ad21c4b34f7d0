//! What the gate knows of the requests that it let through, for the service that gets them from hyper.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Rejection;

/// What is to be done with one request, besides serving it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::fallback) struct Order {
    /// The answer, if it stands already.
    pub(in crate::fallback) answer: Option<Rejection>,
    /// Nothing can follow the answer on this connection, unless that switches protocols.
    pub(in crate::fallback) last: bool,
}

/// The orders of one connection. hyper asks the service once for each head that it read, in their order.
#[derive(Debug, Default)]
pub(in crate::fallback) struct Orders {
    given: Mutex<VecDeque<Order>>,
    /// Why a body turned out not to be one.
    broken: OnceLock<Rejection>,
    /// Bytes of the client's are left unread.
    deaf: AtomicBool,
}

impl Orders {
    /// The next request's order. HTTP/2 has no gate, and its requests no orders.
    pub(in crate::fallback) fn next(&self) -> Order {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.pop_front().unwrap_or_default()
    }

    /// Adds the order of the head that hyper gets next.
    pub(super) fn give(&self, order: Order) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.push_back(order);
    }

    /// What to answer if the body of the request at hand broke off because of what the client sent.
    pub(in crate::fallback) fn broken(&self) -> Option<Rejection> {
        self.broken.get().copied()
    }

    /// Whether the gate stopped reading before the client stopped sending.
    pub(in crate::fallback) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::SeqCst)
    }

    /// The body that is being read is not one.
    pub(super) fn set_broken(&self, rejection: Rejection) {
        // The first is the last: nothing is read behind it.
        let _ = self.broken.set(rejection);
    }

    /// Nothing more is read.
    pub(super) fn set_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}
