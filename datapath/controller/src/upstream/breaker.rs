//! Circuit breakers: how much of a cluster one pod may use at once (`envoy.config.cluster.v3.CircuitBreakers`).
//!
//! Envoy counts per process, and a pod's sidecar is a process; so here the counts are per pod and cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What one pod uses of one cluster.
#[derive(Default)]
pub struct Breaker {
    used: Mutex<Used>,
    /// Something was given back.
    pub freed: Notify,
}

#[derive(Default)]
struct Used {
    /// Connections by endpoint id, the kernel's included.
    connections: HashMap<u32, u32>,
    pending: u32,
    requests: u32,
    retries: u32,
}

/// What can be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Connection(u32),
    Pending,
    Request,
    Retry,
}

/// A unit of something; given back when dropped.
pub struct Ticket {
    breaker: Arc<Breaker>,
    resource: Resource,
}

impl Breaker {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to `endpoint`, unless there are `most` already; an endpoint without one may always have one, as in Envoy.
    pub fn connection(self: &Arc<Self>, endpoint: u32, most: u32) -> Option<Ticket> {
        let mut used = self.used();
        let all: u32 = used.connections.values().sum();
        let own = used.connections.entry(endpoint).or_default();
        if *own > 0 && all >= most {
            return None;
        }
        *own += 1;
        drop(used);
        Some(self.ticket(Resource::Connection(endpoint)))
    }

    /// A place among the requests that wait for a connection.
    pub fn pending(self: &Arc<Self>, most: u32) -> Option<Ticket> {
        let mut used = self.used();
        let granted = take(&mut used.pending, most);
        drop(used);
        granted.then(|| self.ticket(Resource::Pending))
    }

    /// A request under way, of those that share connections.
    pub fn request(self: &Arc<Self>, most: u32) -> Option<Ticket> {
        let mut used = self.used();
        let granted = take(&mut used.requests, most);
        drop(used);
        granted.then(|| self.ticket(Resource::Request))
    }

    /// A retry under way.
    pub fn retry(self: &Arc<Self>, most: u32) -> Option<Ticket> {
        let mut used = self.used();
        let granted = take(&mut used.retries, most);
        drop(used);
        granted.then(|| self.ticket(Resource::Retry))
    }

    fn ticket(self: &Arc<Self>, resource: Resource) -> Ticket {
        Ticket {
            breaker: Arc::clone(self),
            resource,
        }
    }

    /// Connections to `endpoint` that exist or are being opened.
    pub fn connections_to(&self, endpoint: u32) -> u32 {
        let used = self.used();
        used.connections.get(&endpoint).copied().unwrap_or_default()
    }
}

fn take(used: &mut u32, most: u32) -> bool {
    let granted = *used < most;
    *used += u32::from(granted);
    granted
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut used = self.breaker.used();
        match self.resource {
            Resource::Connection(endpoint) => {
                if let Some(count) = used.connections.get_mut(&endpoint) {
                    *count -= 1;
                    if *count == 0 {
                        used.connections.remove(&endpoint);
                    }
                }
            }
            Resource::Pending => used.pending -= 1,
            Resource::Request => used.requests -= 1,
            Resource::Retry => used.retries -= 1,
        }
        drop(used);
        self.breaker.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_may_have_one_connection() {
        let breaker = Arc::new(Breaker::default());
        let first = breaker.connection(1, 1);
        assert!(first.is_some());
        assert!(breaker.connection(1, 1).is_none(), "the limit is reached");
        let other = breaker.connection(2, 1);
        assert!(other.is_some(), "its first connection");
        drop(first);
        assert!(breaker.connection(1, 1).is_some());
        assert_eq!(
            breaker.connections_to(1),
            0,
            "a dropped ticket is given back"
        );
    }

    #[test]
    fn a_limit_of_nothing_grants_nothing() {
        let breaker = Arc::new(Breaker::default());
        assert!(breaker.pending(0).is_none());
        let one = breaker.retry(1);
        assert!(one.is_some() && breaker.retry(1).is_none());
        drop(one);
        assert!(breaker.retry(1).is_some());
    }
}
