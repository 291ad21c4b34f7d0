//! What a control plane serves to this node: one stream for each pod that says who it is, so that it gets what its sidecar would get.
//!
//! The node's tables are the same for all of its pods. What two pods are served under one name is therefore used if it is the same, and refused
//! by name if it is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use kmesh_config::{Kind, Resource, alone};
use kmesh_xds::store::Answer;
use kmesh_xds::{Client, Identity, Settings, Snapshot, Subscription};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::pods::PodSpec;

/// The streams to one control plane.
pub struct ControlPlane {
    uri: String,
    client: Client,
    streams: Mutex<BTreeMap<String, Stream>>,
    /// Resources as trees, by what they were read from.
    trees: Mutex<Trees>,
    changed: watch::Sender<u64>,
}

/// A pod's.
struct Stream {
    identity: Identity,
    subscription: Subscription,
    /// Tells of its new states.
    teller: AbortHandle,
}

type Name = (&'static str, String);
type Trees = BTreeMap<Name, (Arc<kmesh_xds::Resource>, Resource)>;

impl ControlPlane {
    /// Speaks to nobody yet.
    ///
    /// # Errors
    /// If the settings cannot be used, or there is no thread to be had.
    pub fn new(settings: Settings) -> Result<Self> {
        let uri = settings.uri.clone();
        let origin = uri.clone();
        let judge = move |resource: &kmesh_xds::Resource| judge(&origin, resource);
        Ok(Self {
            uri,
            client: Client::start(settings, Arc::new(judge))?,
            streams: Mutex::default(),
            trees: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    /// Where it is.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Changes with every state that a pod is served.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Speaks for these pods and for no others; waits for the first complete state of each, but not longer than `patience`.
    pub async fn speak_for(&self, pods: &BTreeMap<String, PodSpec>, patience: Duration) {
        let mut first: Vec<_> = {
            let mut streams = self.streams();
            streams.retain(|name, stream| {
                pods.get(name).and_then(|pod| pod.identity.as_ref()) == Some(&stream.identity)
            });
            for (name, pod) in pods {
                let Some(identity) = &pod.identity else {
                    warn!(
                        pod = name,
                        "has no identity: nobody asks the control plane on its behalf"
                    );
                    continue;
                };
                if !streams.contains_key(name) {
                    streams.insert(name.clone(), self.open(identity));
                }
            }
            let of = |stream: &Stream| stream.subscription.snapshots();
            streams.values().map(of).collect()
        };
        // Those that left may have had what differed.
        self.changed.send_modify(|count| *count += 1);
        let complete = async {
            for snapshots in &mut first {
                if snapshots.wait_for(Option::is_some).await.is_err() {
                    return;
                }
            }
        };
        if timeout(patience, complete).await.is_err() {
            warn!(control_plane = self.uri, "has not served every pod yet");
        }
    }

    fn open(&self, identity: &Identity) -> Stream {
        let subscription = self.client.subscribe(identity);
        let mut snapshots = subscription.snapshots();
        let changed = self.changed.clone();
        let teller = tokio::spawn(async move {
            while snapshots.changed().await.is_ok() {
                changed.send_modify(|count| *count += 1);
            }
        });
        Stream {
            identity: identity.clone(),
            subscription,
            teller: teller.abort_handle(),
        }
    }

    /// The resources of all pods, each name once.
    pub fn resources(&self) -> Vec<Resource> {
        let snapshots: Vec<(String, Snapshot)> = (self.streams().iter())
            .filter_map(|(pod, stream)| {
                let snapshot = stream.subscription.snapshots().borrow().clone()?;
                Some((pod.clone(), snapshot))
            })
            .collect();
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        union(&snapshots, &mut trees)
    }

    /// What keeps it from being followed, by pod.
    pub fn complaints(&self) -> Vec<String> {
        let streams = self.streams();
        let alone = streams.iter().filter_map(|(pod, stream)| {
            let (seconds, why) = stream.subscription.status().alone?;
            Some(format!(
                "{}: pod {pod}: not followed for {seconds} s: {why}",
                self.uri
            ))
        });
        alone.collect()
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.teller.abort();
    }
}

/// What all pods are served, each name once; `trees` is what was read of them before, and becomes what is read now.
fn union(snapshots: &[(String, Snapshot)], trees: &mut Trees) -> Vec<Resource> {
    let mut named: BTreeMap<Name, Vec<(&str, Arc<kmesh_xds::Resource>)>> = BTreeMap::new();
    for (pod, snapshot) in snapshots {
        for (name, resource) in served(snapshot) {
            named.entry(name).or_default().push((pod, resource));
        }
    }
    let mut before = std::mem::take(trees);
    let mut resources = Vec::with_capacity(named.len());
    for (name, served) in named {
        let (first, newest) = &served[0];
        let known = before.remove(&name);
        let known = known.filter(|(read, _)| Arc::ptr_eq(read, newest));
        let Some(tree) = known.map(|(_, tree)| tree).or_else(|| tree(newest)) else {
            continue;
        };
        trees.insert(name, (Arc::clone(newest), tree.clone()));
        let mut resource = tree;
        let other = (served.iter()).find(|(_, other)| other.bytes() != newest.bytes());
        resource.refusal = other.map(|(other, _)| {
            format!("is not the same for pods {first} and {other}: the tables of a node are the same for all of its pods")
        });
        resources.push(resource);
    }
    resources
}

/// What a pod is served by name: what is in force, and what is refused without a former version, which has to be refused here too.
fn served(snapshot: &Snapshot) -> impl Iterator<Item = (Name, Arc<kmesh_xds::Resource>)> {
    let refused = snapshot.refused().iter().filter_map(|refusal| {
        let served = refusal.served.as_ref().filter(|_| !refusal.replaced)?;
        Some((
            (refusal.kind.type_url(), refusal.name.clone()),
            Arc::clone(served),
        ))
    });
    let in_force = kmesh_xds::Kind::ALL.into_iter().flat_map(|kind| {
        let all = snapshot.resources(kind).iter();
        all.map(move |(name, held)| ((kind.type_url(), name.clone()), Arc::clone(&held.resource)))
    });
    in_force.chain(refused)
}

fn tree(resource: &kmesh_xds::Resource) -> Option<Resource> {
    let kind = Kind::of(resource.kind().type_url())?;
    Some(Resource::new(kind, resource.tree()))
}

/// What the reader of the configuration says to a resource.
fn judge(origin: &str, resource: &kmesh_xds::Resource) -> Answer {
    let Some(read) = tree(resource) else {
        let reasons = vec![format!("{}: not read here", resource.kind().type_url())];
        return Answer::Refused { reasons };
    };
    let answer = alone(origin, &read);
    if answer.refused.is_empty() {
        let inert = answer.inert.into_iter().map(|inert| inert.field);
        Answer::Taken {
            inert: inert.collect(),
        }
    } else {
        Answer::Refused {
            reasons: answer.refused.iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kmesh_ads::{Link, World};
    use kmesh_xds::Protocol;
    use serde_json::json;

    use super::*;

    /// What a pod is served by a control plane with these clusters.
    fn snapshot(clusters: &[(&str, &str)]) -> Snapshot {
        let mut world = World::default();
        for (name, timeout) in clusters {
            let cluster = json!({ "name": name, "type": "STATIC", "connect_timeout": timeout });
            world.put_json(kmesh_xds::Kind::Cluster, &cluster).unwrap();
        }
        let mut link = Link::new(Protocol::Delta, world);
        link.connect();
        link.snapshots.last().unwrap().clone()
    }

    #[test]
    fn what_differs_between_pods_is_refused_and_nothing_else() {
        let pods = [
            ("a", &[("same", "1s"), ("differs", "1s"), ("of a", "1s")]),
            ("b", &[("same", "1s"), ("differs", "2s"), ("of b", "1s")]),
        ];
        let pods = pods.map(|(pod, clusters)| (pod.to_owned(), snapshot(clusters)));
        let mut trees = Trees::new();
        let found: Vec<(String, bool)> = union(&pods, &mut trees)
            .into_iter()
            .map(|resource| (resource.name, resource.refusal.is_some()))
            .collect();
        let expected = [
            ("differs", true),
            ("of a", false),
            ("of b", false),
            ("same", false),
        ];
        assert_eq!(
            found,
            expected.map(|(name, refused)| (name.to_owned(), refused))
        );
        let later = union(&pods[..1], &mut trees);
        assert!(
            later.iter().all(|resource| resource.refusal.is_none()),
            "b is gone"
        );
        assert_eq!(trees.len(), 3);
    }

    /// What a pod is served while the cluster's endpoint is at this port.
    fn served_at(port: u16) -> Snapshot {
        let mut world = World::default();
        let eds = json!({ "eds_config": { "ads": {}, "resource_api_version": "V3" } });
        let cluster = json!({ "name": "c", "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": eds });
        let address = json!({ "socket_address": { "address": "192.0.2.1", "port_value": port } });
        let endpoints = json!({ "cluster_name": "c", "endpoints": [
            { "lb_endpoints": [{ "endpoint": { "address": address } }] },
        ] });
        world.put_json(kmesh_xds::Kind::Cluster, &cluster).unwrap();
        world
            .put_json(kmesh_xds::Kind::Endpoints, &endpoints)
            .unwrap();
        let mut link = Link::new(Protocol::Delta, world);
        link.connect();
        link.snapshots.last().unwrap().clone()
    }

    #[test]
    fn a_change_that_reaches_one_pod_first_holds_once_it_has_reached_all() {
        let [before, after] = [1, 2].map(served_at);
        let mut store = kmesh_config::Store::default();
        let mut identities = kmesh_config::Identities::default();
        let mut trees = Trees::new();
        let turns = [
            (&before, &before, 1),
            (&after, &before, 1),
            (&after, &after, 2),
        ];
        for (one, other, port) in turns {
            let pods = [("a", one), ("b", other)];
            let pods = pods.map(|(pod, snapshot)| (pod.to_owned(), snapshot.clone()));
            store.replace("test", union(&pods, &mut trees));
            let applied = store.apply(&mut identities, kmesh_config::Classes::default());
            let endpoints = applied.unwrap().config.clusters.remove(0).endpoints;
            let ports: Vec<u16> = endpoints.iter().map(std::net::SocketAddr::port).collect();
            assert_eq!(ports, [port]);
        }
    }
}
