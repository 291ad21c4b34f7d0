//! One stream as a control plane sees it: what the client asked for, what it has, and what it is owed. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use kmesh_xds::session::{Request, Response};
use kmesh_xds::{Kind, Protocol, wire};
use prost_types::Any;

use crate::World;

/// What this control plane does wrong.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fault of its own, in any combination"
)]
pub struct Quirks {
    /// Answers every answer with the same response again.
    pub repeats: bool,
    /// Sends what was refused again at once.
    pub resends_refused: bool,
    /// Leaves versions out: it could not read its own configuration.
    pub unversioned: bool,
    /// Serves nothing of these types.
    pub mute: BTreeSet<Kind>,
    /// Holds clusters and endpoints back until listeners were sent.
    pub listeners_first: bool,
    /// With SotW, pushes only the named resources that changed, as istiod does with endpoints.
    pub partial: bool,
    /// On a new stream sends everything, whatever versions the client says it has.
    pub ignores_versions: bool,
}

/// What the client holds of one type, as far as the control plane knows.
#[derive(Clone, Debug, Default)]
struct Watch {
    /// Names asked for; of no meaning for types of which all are served.
    names: BTreeSet<String>,
    /// Version of each resource that was sent.
    sent: BTreeMap<String, String>,
    nonce: String,
    last: Option<Response>,
}

/// One stream.
#[derive(Debug)]
pub struct Conversation {
    protocol: Protocol,
    quirks: Quirks,
    watches: BTreeMap<Kind, Watch>,
    nonces: u64,
    stream: u64,
    /// Every request, in order.
    pub requests: Vec<Request>,
}

impl Conversation {
    /// A stream that was just opened; `stream` tells its nonces from other streams'.
    pub fn new(protocol: Protocol, quirks: Quirks, stream: u64) -> Self {
        Self {
            protocol,
            quirks,
            watches: BTreeMap::new(),
            nonces: 0,
            stream,
            requests: Vec::new(),
        }
    }

    /// From now on does these things wrong.
    pub fn set_quirks(&mut self, quirks: Quirks) {
        self.quirks = quirks;
    }

    /// Which of these types the client has asked for.
    pub fn watches(&self, kind: Kind) -> bool {
        self.watches.contains_key(&kind)
    }

    /// The names that the client has asked for.
    pub fn names(&self, kind: Kind) -> BTreeSet<String> {
        self.watches
            .get(&kind)
            .map(|watch| watch.names.clone())
            .unwrap_or_default()
    }

    /// Takes a request; what it is owed at once.
    pub fn request(&mut self, request: Request, world: &World) -> Vec<Response> {
        self.requests.push(request.clone());
        match request {
            Request::Sotw(request) => self.sotw(&request, world),
            Request::Delta(request) => self.delta(&request, world),
        }
    }

    fn sotw(&mut self, request: &wire::DiscoveryRequest, world: &World) -> Vec<Response> {
        let Some(kind) = Kind::of(&request.type_url) else {
            return Vec::new();
        };
        let names: BTreeSet<String> = request.resource_names.iter().cloned().collect();
        let first = !self.watches.contains_key(&kind);
        let watch = self.watches.entry(kind).or_default();
        if !first && request.response_nonce != watch.nonce {
            return Vec::new();
        }
        let asked = std::mem::replace(&mut watch.names, names);
        let more = watch.names.iter().any(|name| !asked.contains(name));
        watch
            .sent
            .retain(|name, _| kind.wildcard() || watch.names.contains(name));
        if let Some(again) = self.again(kind, request.error_detail.is_some()) {
            return vec![again];
        }
        if first || more {
            self.owed(kind, world, true)
        } else {
            Vec::new()
        }
    }

    fn delta(&mut self, request: &wire::DeltaDiscoveryRequest, world: &World) -> Vec<Response> {
        let Some(kind) = Kind::of(&request.type_url) else {
            return Vec::new();
        };
        let first = !self.watches.contains_key(&kind);
        let watch = self.watches.entry(kind).or_default();
        for name in &request.resource_names_unsubscribe {
            watch.names.remove(name);
            watch.sent.remove(name);
        }
        for name in &request.resource_names_subscribe {
            watch.names.insert(name.clone());
            watch.sent.remove(name);
        }
        if first {
            watch.sent = request
                .initial_resource_versions
                .clone()
                .into_iter()
                .collect();
            if self.quirks.ignores_versions {
                watch
                    .sent
                    .values_mut()
                    .for_each(|version| version.push_str(" of another control plane"));
            }
        }
        let answer = !request.response_nonce.is_empty();
        if answer && request.response_nonce != watch.nonce {
            return Vec::new();
        }
        if answer && let Some(again) = self.again(kind, request.error_detail.is_some()) {
            return vec![again];
        }
        let more = !request.resource_names_subscribe.is_empty();
        if first || more {
            self.owed(kind, world, false)
        } else {
            Vec::new()
        }
    }

    /// The same response once more, under a new nonce.
    fn again(&mut self, kind: Kind, refused: bool) -> Option<Response> {
        if !(self.quirks.repeats || (self.quirks.resends_refused && refused)) {
            return None;
        }
        let nonce = self.nonce();
        let watch = self.watches.get_mut(&kind)?;
        let last = watch.last.as_mut()?;
        match last {
            Response::Sotw(response) => response.nonce.clone_from(&nonce),
            Response::Delta(response) => response.nonce.clone_from(&nonce),
        }
        watch.nonce = nonce;
        watch.last.clone()
    }

    /// What the world's present state owes to the client, for every type that it has asked for.
    pub fn push(&mut self, world: &World) -> Vec<Response> {
        let whole = !self.quirks.partial;
        let mut kinds = Kind::ALL.to_vec();
        if self.quirks.listeners_first {
            kinds.rotate_left(2);
        }
        let mut responses = Vec::new();
        for kind in kinds {
            if self.watches.contains_key(&kind) {
                responses.extend(self.owed(kind, world, whole));
            }
        }
        responses
    }

    /// A response, unless there is nothing to say. `whole`: with SotW everything asked for, not only what changed.
    fn owed(&mut self, kind: Kind, world: &World, whole: bool) -> Vec<Response> {
        if self.quirks.mute.contains(&kind) {
            return Vec::new();
        }
        let nonce = self.nonce();
        let unversioned = self.quirks.unversioned;
        let Some(watch) = self.watches.get_mut(&kind) else {
            return Vec::new();
        };
        let asked = |name: &String| kind.wildcard() || watch.names.contains(name);
        let there: BTreeMap<String, &crate::world::Served> = world
            .resources(kind)
            .filter(|(name, _)| asked(name))
            .map(|(name, served)| (name.clone(), served))
            .collect();
        let changed: Vec<_> = there
            .iter()
            .filter(|(name, served)| watch.sent.get(*name) != Some(&served.version))
            .map(|(name, served)| (name.clone(), *served))
            .collect();
        let removed: Vec<String> = watch
            .sent
            .keys()
            .filter(|name| !there.contains_key(*name))
            .cloned()
            .collect();
        let version = if unversioned {
            String::new()
        } else {
            format!("v{}", world.number)
        };
        let response = match self.protocol {
            Protocol::Sotw => {
                if changed.is_empty() && removed.is_empty() && watch.last.is_some() && !whole {
                    return Vec::new();
                }
                let all = there
                    .iter()
                    .map(|(name, served)| (name.clone(), *served))
                    .collect();
                let resources = if whole || kind.wildcard() {
                    all
                } else {
                    changed
                };
                Response::Sotw(wire::DiscoveryResponse {
                    version_info: version,
                    resources: resources
                        .iter()
                        .map(|(_, served)| any(kind, served))
                        .collect(),
                    type_url: kind.type_url().to_owned(),
                    nonce: nonce.clone(),
                    ..Default::default()
                })
            }
            Protocol::Delta => {
                // Names that are asked for and don't exist are answered as removed, once.
                let unknown = watch
                    .names
                    .iter()
                    .filter(|name| !there.contains_key(*name))
                    .cloned();
                let removed: BTreeSet<String> = if whole {
                    removed.into_iter().collect()
                } else {
                    removed.into_iter().chain(unknown).collect()
                };
                if changed.is_empty() && removed.is_empty() && watch.last.is_some() {
                    return Vec::new();
                }
                Response::Delta(wire::DeltaDiscoveryResponse {
                    system_version_info: version,
                    resources: changed
                        .iter()
                        .map(|(name, served)| wrapped(kind, name, served))
                        .collect(),
                    type_url: kind.type_url().to_owned(),
                    nonce: nonce.clone(),
                    removed_resources: removed.into_iter().collect(),
                    ..Default::default()
                })
            }
        };
        watch.sent = there
            .into_iter()
            .map(|(name, served)| (name, served.version.clone()))
            .collect();
        watch.nonce = nonce;
        watch.last = Some(response.clone());
        vec![response]
    }

    fn nonce(&mut self) -> String {
        self.nonces += 1;
        format!("{}-{}", self.stream, self.nonces)
    }
}

fn any(kind: Kind, served: &crate::world::Served) -> Any {
    Any {
        type_url: kind.type_url().to_owned(),
        value: served.bytes.clone(),
    }
}

fn wrapped(kind: Kind, name: &str, served: &crate::world::Served) -> wire::Resource {
    wire::Resource {
        version: served.version.clone(),
        resource: Some(any(kind, served)),
        name: name.to_owned(),
        ..Default::default()
    }
}
