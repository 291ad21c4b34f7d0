//! How much of something that is scarce each pod has, so that no pod takes what others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kmesh_api::share::admits;

/// What there is, and who has how much of it, by the pod's number.
#[derive(Debug)]
pub struct Shares {
    most: u32,
    all: u32,
    own: HashMap<u32, u32>,
    refused: HashMap<u32, u64>,
}

impl Shares {
    /// Nobody has anything of `most`.
    pub fn new(most: u32) -> Self {
        Self {
            most,
            all: 0,
            own: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// One more for the pod; `false`, and counted, if it has its share.
    pub fn take(&mut self, pod: u32) -> bool {
        let own = self.own.entry(pod).or_default();
        if !admits(*own, self.all, self.most) {
            *self.refused.entry(pod).or_default() += 1;
            return false;
        }
        *own += 1;
        self.all += 1;
        true
    }

    /// One less.
    pub fn give(&mut self, pod: u32) {
        let Some(own) = self.own.get_mut(&pod) else {
            return;
        };
        *own -= 1;
        self.all -= 1;
        if *own == 0 {
            self.own.remove(&pod);
        }
    }

    /// What the pod has, and how often it was refused more.
    pub fn of(&self, pod: u32) -> (u32, u64) {
        let own = self.own.get(&pod).copied().unwrap_or_default();
        let refused = self.refused.get(&pod).copied().unwrap_or_default();
        (own, refused)
    }

    /// Forgets how often a released pod was refused.
    pub fn forget(&mut self, pod: u32) {
        self.refused.remove(&pod);
    }
}

/// The same, shared; what is taken is given back when it is dropped.
#[derive(Clone, Debug)]
pub struct SharedShares(Arc<Mutex<Shares>>);

/// A unit of it.
#[derive(Debug)]
pub struct Held {
    shares: SharedShares,
    pod: u32,
}

impl SharedShares {
    /// Nobody has anything of `most`.
    pub fn new(most: u32) -> Self {
        Self(Arc::new(Mutex::new(Shares::new(most))))
    }

    /// The books.
    pub fn books(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more for the pod; `None`, and counted, if it has its share.
    pub fn take(&self, pod: u32) -> Option<Held> {
        let taken = self.books().take(pod);
        taken.then(|| Held {
            shares: self.clone(),
            pod,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shares.books().give(self.pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_pod_leaves_room_and_is_counted() {
        let shares = SharedShares::new(10);
        let held: Vec<_> = std::iter::from_fn(|| shares.take(1)).collect();
        assert_eq!((held.len(), shares.books().of(1)), (5, (5, 1)));
        let other = shares.take(2);
        assert!(other.is_some(), "there is room for another pod");
        drop(held);
        assert_eq!(shares.books().of(1).0, 0);
        assert!(shares.take(1).is_some());
    }
}
