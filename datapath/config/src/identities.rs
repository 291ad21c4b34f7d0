//! Numbers that survive configuration changes.
//!
//! Round-robin turns and upstream pools outlive a generation, so clusters and endpoints keep their number for as long as
//! they are configured. A name that leaves and comes back later is a new cluster with a new number.

use std::collections::HashMap;
use std::net::SocketAddr;

use kmesh_api::limits::CLUSTERS_MAX;

use crate::model::Config;

/// The numbers given so far.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    clusters: HashMap<String, u32>,
    clusters_given: u32,
    clusters_returned: Vec<u32>,
    endpoints: HashMap<SocketAddr, u32>,
    endpoints_given: u32,
}

impl Identities {
    /// The cluster's number, below [`CLUSTERS_MAX`]; `None` if all are taken.
    pub fn cluster_id(&mut self, name: &str) -> Option<u32> {
        if let Some(id) = self.clusters.get(name) {
            return Some(*id);
        }
        let id = if let Some(id) = self.clusters_returned.pop() {
            id
        } else if (self.clusters_given as usize) < CLUSTERS_MAX {
            self.clusters_given += 1;
            self.clusters_given - 1
        } else {
            return None;
        };
        self.clusters.insert(name.to_owned(), id);
        Some(id)
    }

    /// The endpoint's number; never given to another address again.
    pub fn endpoint_id(&mut self, address: SocketAddr) -> u32 {
        *self.endpoints.entry(address).or_insert_with(|| {
            self.endpoints_given += 1;
            self.endpoints_given - 1
        })
    }

    /// Takes back the numbers of what `config` does not mention. For when no other generation is in use any more.
    pub fn retain(&mut self, config: &Config) {
        let returned = &mut self.clusters_returned;
        let known: std::collections::HashSet<&str> = config
            .clusters
            .iter()
            .map(|cluster| cluster.name.as_str())
            .collect();
        self.clusters.retain(|name, id| {
            let keep = known.contains(name.as_str());
            if !keep {
                returned.push(*id);
            }
            keep
        });
        let known: std::collections::HashSet<&SocketAddr> = config
            .clusters
            .iter()
            .flat_map(|cluster| &cluster.endpoints)
            .collect();
        self.endpoints.retain(|address, _| known.contains(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Config {
        Config {
            origin: String::new(),
            listeners: Vec::new(),
            clusters: Vec::new(),
        }
    }

    #[test]
    fn numbers_stay_until_they_are_taken_back() {
        let mut identities = Identities::default();
        let a = identities.cluster_id("a");
        let b = identities.cluster_id("b");
        assert_ne!(a, b);
        assert_eq!(identities.cluster_id("a"), a);
        let address = "10.0.0.1:80".parse().unwrap();
        let endpoint = identities.endpoint_id(address);
        assert_eq!(identities.endpoint_id(address), endpoint);
        identities.retain(&empty());
        assert_ne!(
            identities.endpoint_id(address),
            endpoint,
            "an endpoint's number is never reused"
        );
        for i in 0..CLUSTERS_MAX {
            assert!(
                identities.cluster_id(&i.to_string()).is_some(),
                "number {i}"
            );
        }
        assert_eq!(identities.cluster_id("one more"), None);
    }
}
