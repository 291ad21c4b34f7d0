//! Which connections may exist: of enrolled pods, to configured endpoints.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use kmesh_api::pool::PoolKey;

use super::Upstreams;

/// What there may be connections of and to.
#[derive(Default)]
pub(super) struct Wanted {
    /// Enrolled pods by number, with the cookie of their namespace.
    pods: HashMap<u32, u64>,
    endpoints: HashSet<u32>,
    /// Numbers of the enrolled pods that have an address.
    owners: HashMap<IpAddr, Vec<u32>>,
}

impl Wanted {
    /// Whether a connection of that pool may exist.
    pub(super) fn contains(&self, key: PoolKey) -> bool {
        self.pods.contains_key(&key.pod) && self.endpoints.contains(&key.endpoint)
    }

    /// The namespace where the address belongs; `None` if no enrolled pod has it, or more than one says so.
    fn owner(&self, address: IpAddr) -> Option<u64> {
        match self.owners.get(&address).map(Vec::as_slice) {
            Some(&[pod]) => self.pods.get(&pod).copied(),
            _ => None,
        }
    }
}

impl Upstreams {
    /// A pod is enrolled.
    pub fn admit_pod(&self, number: u32, netns: u64, addresses: &[IpAddr]) {
        let mut state = self.state();
        let wanted = &mut state.wanted;
        wanted.pods.insert(number, netns);
        for address in addresses {
            wanted.owners.entry(*address).or_default().push(number);
        }
    }

    /// A pod is released: nothing more is opened for it.
    pub(super) fn dismiss_pod(&self, number: u32) {
        let mut state = self.state();
        let wanted = &mut state.wanted;
        wanted.pods.remove(&number);
        for owners in wanted.owners.values_mut() {
            owners.retain(|owner| *owner != number);
        }
        wanted.owners.retain(|_, owners| !owners.is_empty());
        state.slots.forget(number);
    }

    /// These endpoints are about to be configured.
    pub fn admit_endpoints(&self, endpoints: &HashSet<u32>) {
        self.state().wanted.endpoints.extend(endpoints);
    }

    /// No other endpoints than these are configured any more.
    pub(super) fn keep_endpoints(&self, endpoints: &HashSet<u32>) {
        self.state()
            .wanted
            .endpoints
            .retain(|endpoint| endpoints.contains(endpoint));
    }

    /// Whether a connection of that pool may exist.
    pub(super) fn is_wanted(&self, key: PoolKey) -> bool {
        self.state().wanted.contains(key)
    }

    /// Cookie of the namespace of the enrolled pod that has the address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<u64> {
        self.state().wanted.owner(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defence::Without;

    #[test]
    fn an_address_that_two_pods_claim_is_nobodys() {
        let (own, shared) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let upstreams = Upstreams::new(&Without::default()).unwrap();
        upstreams.admit_pod(1, 11, &[own, shared]);
        assert_eq!(upstreams.owner(shared), Some(11));
        upstreams.admit_pod(2, 22, &[shared]);
        assert_eq!(
            (upstreams.owner(own), upstreams.owner(shared)),
            (Some(11), None)
        );
        upstreams.dismiss_pod(1);
        assert_eq!(
            (upstreams.owner(own), upstreams.owner(shared)),
            (None, Some(22))
        );
    }

    #[test]
    fn connections_are_of_enrolled_pods_to_configured_endpoints() {
        let upstreams = Upstreams::new(&Without::default()).unwrap();
        let key = PoolKey {
            pod: 1,
            endpoint: 5,
        };
        assert!(!upstreams.is_wanted(key));
        upstreams.admit_pod(1, 11, &[]);
        assert!(!upstreams.is_wanted(key));
        upstreams.admit_endpoints(&HashSet::from([5]));
        assert!(upstreams.is_wanted(key));
        upstreams.keep_endpoints(&HashSet::from([6]));
        assert!(!upstreams.is_wanted(key));
        upstreams.admit_endpoints(&HashSet::from([5]));
        upstreams.dismiss_pod(1);
        assert!(!upstreams.is_wanted(key));
    }
}
