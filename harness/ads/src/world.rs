//! The resources that a control plane has.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use kmesh_xds::{Kind, descriptors, wire};
use prost::Message as _;
use prost_reflect::DynamicMessage;

/// A resource as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its version, of its own: it changes when the resource does.
    pub version: String,
    /// The protobuf message.
    pub bytes: Vec<u8>,
}

/// All resources of one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Number of the state; a push carries it as its version.
    pub number: u64,
    kinds: BTreeMap<Kind, BTreeMap<String, Served>>,
}

impl World {
    /// The resources of a kind by name.
    pub fn resources(&self, kind: Kind) -> impl Iterator<Item = (&String, &Served)> {
        self.kinds.get(&kind).into_iter().flatten()
    }

    /// One resource.
    pub fn resource(&self, kind: Kind, name: &str) -> Option<&Served> {
        self.kinds.get(&kind)?.get(name)
    }

    /// Adds or changes a resource; returns whether it is another one now.
    pub fn put(&mut self, kind: Kind, name: &str, bytes: Vec<u8>) -> bool {
        if self
            .resource(kind, name)
            .is_some_and(|served| served.bytes == bytes)
        {
            return false;
        }
        self.number += 1;
        let served = Served {
            version: format!("r{}", self.number),
            bytes,
        };
        self.kinds
            .entry(kind)
            .or_default()
            .insert(name.to_owned(), served);
        true
    }

    /// Adds or changes a resource that is written as protobuf's JSON.
    ///
    /// # Errors
    /// If it is no message of that kind, or has no name.
    pub fn put_json(&mut self, kind: Kind, resource: &serde_json::Value) -> anyhow::Result<bool> {
        let field = if kind == Kind::Endpoints {
            "cluster_name"
        } else {
            "name"
        };
        let name = resource[field]
            .as_str()
            .context("a resource needs a name")?;
        let message = descriptors::full_name(kind.type_url());
        let message = descriptors::message(message).context("not among the descriptors")?;
        let message = DynamicMessage::deserialize(message, resource)?;
        Ok(self.put(kind, name, message.encode_to_vec()))
    }

    /// Removes a resource; returns whether it was there.
    pub fn remove(&mut self, kind: Kind, name: &str) -> bool {
        let there = self
            .kinds
            .get_mut(&kind)
            .is_some_and(|names| names.remove(name).is_some());
        self.number += u64::from(there);
        there
    }

    /// Takes over what a recorded delta response says.
    fn apply(&mut self, response: wire::DeltaDiscoveryResponse) {
        let Some(kind) = Kind::of(&response.type_url) else {
            return;
        };
        for resource in response.resources {
            self.put(
                kind,
                &resource.name,
                resource.resource.unwrap_or_default().value,
            );
        }
        for name in &response.removed_resources {
            self.remove(kind, name);
        }
    }

    /// The states that a recorded delta stream went through: one for each push, which begins with clusters. Empty
    /// subscriptions apart, the last one is what a client that connects afterwards gets.
    ///
    /// # Errors
    /// If a file can't be read or is no response.
    pub fn recorded(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut states: Vec<Self> = Vec::new();
        for response in responses::<wire::DeltaDiscoveryResponse>(folder)? {
            if Kind::of(&response.type_url) == Some(Kind::Cluster) {
                states.push(states.last().cloned().unwrap_or_default());
            }
            if let Some(state) = states.last_mut() {
                state.apply(response);
            }
        }
        for state in &mut states {
            state.drop_unreferenced()?;
        }
        Ok(states)
    }

    /// Load assignments and routes that nothing names any more: a delta stream ends them by unsubscribing.
    fn drop_unreferenced(&mut self) -> anyhow::Result<()> {
        for (by, kind) in [
            (Kind::Cluster, Kind::Endpoints),
            (Kind::Listener, Kind::Routes),
        ] {
            let mut named = std::collections::BTreeSet::new();
            for (_, served) in self.resources(by) {
                let resource = kmesh_xds::Resource::read(by, served.bytes.clone().into())?;
                named.extend(resource.needs().names.iter().cloned());
            }
            self.kinds
                .entry(kind)
                .or_default()
                .retain(|name, _| named.contains(name));
        }
        Ok(())
    }
}

/// Recorded responses, in order.
///
/// # Errors
/// If a file can't be read or is no such message.
pub fn responses<M: prost::Message + Default>(folder: &Path) -> anyhow::Result<Vec<M>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let decode = |path: &std::path::PathBuf| {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        M::decode(bytes.as_slice()).with_context(|| format!("{} is no response", path.display()))
    };
    paths.iter().map(decode).collect()
}
