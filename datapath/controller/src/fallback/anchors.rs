//! All client connections in user space.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Anchor;

/// Departures that wait for their anchor at most; more than a listener's backlog holds.
const EARLY_MAX: usize = 65_536;

/// Client connections in user space, by the client's cookie.
#[derive(Default)]
pub struct Anchors {
    entered: HashMap<u64, Arc<Anchor>>,
    /// Spliced clients that left before their anchor was accepted: the kernel serves a client from its handshake on.
    early: HashSet<u64>,
}

impl Anchors {
    /// An anchor was accepted.
    pub(super) fn enter(&mut self, anchor: &Arc<Anchor>) {
        if self.early.remove(&anchor.cookie) {
            anchor.leave();
        }
        self.entered.insert(anchor.cookie, Arc::clone(anchor));
    }

    /// A client left, and its anchor may not have heard of it.
    pub fn leave(&mut self, cookie: u64) {
        if let Some(anchor) = self.entered.get(&cookie) {
            anchor.leave();
            return;
        }
        if self.early.len() == EARLY_MAX {
            // Those whose connections no anchor ever took.
            self.early.clear();
        }
        self.early.insert(cookie);
    }

    /// An anchor is gone.
    pub(super) fn remove(&mut self, cookie: u64) {
        self.entered.remove(&cookie);
    }

    /// The anchor of a client.
    pub fn get(&self, cookie: u64) -> Option<&Arc<Anchor>> {
        self.entered.get(&cookie)
    }

    /// Every anchor.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Anchor>> {
        self.entered.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entered.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entered.is_empty()
    }
}
