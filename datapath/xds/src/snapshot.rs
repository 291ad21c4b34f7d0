//! One state of an identity's configuration, to be read like a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::store::Versioned;
use crate::{Kind, Resource};

/// A resource that is refused as last served.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The version that is refused.
    pub version: String,
    /// The resource, unless its bytes don't decode: where traffic is to be refused is in there.
    pub served: Option<Arc<Resource>>,
    /// Why.
    pub reasons: Vec<String>,
    /// Whether a former version is in force instead.
    pub replaced: bool,
}

/// What is in force at one moment. Cheap to copy: it shares the resources.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    kinds: [BTreeMap<String, Versioned>; 4],
    refused: Vec<Refusal>,
}

impl Snapshot {
    pub(crate) fn put(&mut self, kind: Kind, name: &str, resource: Versioned) {
        self.kinds[kind.index()].insert(name.to_owned(), resource);
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refused.push(refusal);
    }

    /// The resources of a kind by name.
    pub fn resources(&self, kind: Kind) -> &BTreeMap<String, Versioned> {
        &self.kinds[kind.index()]
    }

    /// What is refused as last served.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// What is in force by type and name, and what is refused and has no former version in force: what that would have answered for is to be
    /// refused, too.
    pub fn served(&self) -> impl Iterator<Item = (Kind, &str, &Arc<Resource>)> {
        let in_force = Kind::ALL.into_iter().flat_map(|kind| {
            let held = self.resources(kind).iter();
            held.map(move |(name, held)| (kind, name.as_str(), &held.resource))
        });
        let refused = self.refused.iter().filter_map(|refusal| {
            let served = refusal.served.as_ref().filter(|_| !refusal.replaced)?;
            Some((refusal.kind, refusal.name.as_str(), served))
        });
        in_force.chain(refused)
    }

    /// What is in force as one static file: `listeners` with their routes, `clusters` with their endpoints. Routes and endpoints
    /// that are absent are empty ones, as in Envoy, and each cluster of type EDS becomes a `STATIC` one.
    pub fn document(&self) -> Value {
        let listeners = self.resources(Kind::Listener).values().map(|held| {
            let mut tree = held.resource.tree();
            self.inline_routes(&mut tree);
            tree
        });
        let clusters = self.resources(Kind::Cluster).values().map(|held| {
            let mut tree = held.resource.tree();
            self.inline_endpoints(&held.resource, &mut tree);
            tree
        });
        json!({ "listeners": listeners.collect::<Vec<_>>(), "clusters": clusters.collect::<Vec<_>>() })
    }

    fn inline_endpoints(&self, cluster: &Resource, tree: &mut Value) {
        let Some(object) = tree.as_object_mut() else {
            return;
        };
        let [name] = &cluster.needs().names[..] else {
            return;
        };
        let assignment = self.resources(Kind::Endpoints).get(name);
        let assignment = assignment.map_or_else(
            || json!({ "cluster_name": name }),
            |held| held.resource.tree(),
        );
        object.remove("eds_cluster_config");
        object.insert("type".to_owned(), json!("STATIC"));
        object.insert("load_assignment".to_owned(), assignment);
    }

    fn inline_routes(&self, tree: &mut Value) {
        match tree {
            Value::Object(object) => {
                self.inline_rds(object);
                object
                    .values_mut()
                    .for_each(|inner| self.inline_routes(inner));
            }
            Value::Array(items) => items.iter_mut().for_each(|inner| self.inline_routes(inner)),
            _ => {}
        }
    }

    fn inline_rds(&self, manager: &mut Map<String, Value>) {
        let Some(name) = manager
            .get("rds")
            .and_then(|rds| rds.get("route_config_name"))
        else {
            return;
        };
        let name = name.as_str().unwrap_or_default().to_owned();
        let routes = self.resources(Kind::Routes).get(&name);
        let routes = routes.map_or_else(|| json!({ "name": name }), |held| held.resource.tree());
        manager.remove("rds");
        manager.insert("route_config".to_owned(), routes);
    }
}

/// Two snapshots are the same if they have the same contents under the same names; versions don't count.
impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        Kind::ALL.into_iter().all(|kind| {
            let (one, two) = (self.resources(kind), other.resources(kind));
            one.len() == two.len()
                && one
                    .iter()
                    .zip(two)
                    .all(|((name, held), (other_name, other_held))| {
                        name == other_name && held.resource.bytes() == other_held.resource.bytes()
                    })
        })
    }
}
