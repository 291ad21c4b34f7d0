//! What a control plane has served to one identity: each resource as last served, as last found good, and as in force.
//!
//! ```text
//!  served --judged good--> good --what it needs is there--> in force --> Snapshot
//! ```
//!
//! A refused resource leaves the last good one in force. A cluster goes into force once its endpoints are there, a
//! listener once its routes are there (warming); until then its former version stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::snapshot::{Refusal, Snapshot};
use crate::{Kind, Resource};

/// What the configuration reader says to a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It can be done.
    Taken {
        /// Fields that change nothing here, by path.
        inert: Vec<String>,
    },
    /// It can't.
    Refused {
        /// Each field with its value and the cause.
        reasons: Vec<String>,
    },
}

/// Who answers: the configuration reader.
pub trait Judge {
    /// Whether this datapath can do what the resource asks for.
    fn judge(&self, resource: &Resource) -> Answer;
}

impl<F: Fn(&Resource) -> Answer> Judge for F {
    fn judge(&self, resource: &Resource) -> Answer {
        self(resource)
    }
}

/// A resource and the version under which it was served.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// The control plane's version of it; with SotW the response's.
    pub version: String,
    /// The resource.
    pub resource: Arc<Resource>,
}

impl Versioned {
    fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.resource, &other.resource)
    }
}

/// All that is known of one name.
#[derive(Clone, Debug)]
pub struct Entry {
    version: String,
    served: Option<Arc<Resource>>,
    answer: Answer,
    good: Option<Versioned>,
    in_force: Option<Versioned>,
    warming_since: Option<Instant>,
}

impl Entry {
    /// The version last served.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The answer to the version last served.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The version last found good.
    pub fn good(&self) -> Option<&Versioned> {
        self.good.as_ref()
    }

    /// The version that traffic goes by.
    pub fn in_force(&self) -> Option<&Versioned> {
        self.in_force.as_ref()
    }

    /// Since when the last good version waits for what it needs.
    pub fn warming_since(&self) -> Option<Instant> {
        self.warming_since
    }
}

/// The resources of one identity.
#[derive(Debug, Default)]
pub struct Store {
    kinds: [BTreeMap<String, Entry>; 4],
    /// Names that the control plane says it does not have: nothing waits for them.
    absent: [BTreeSet<String>; 4],
    /// What `wanted` said last of each kind, until something that it is made of changes.
    wanted: [Option<Arc<BTreeSet<String>>>; 4],
    changed: bool,
}

impl Store {
    /// What is known of this name.
    pub fn entry(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.kinds[kind.index()].get(name)
    }

    /// All names of a kind, with what is known of them.
    pub fn entries(&self, kind: Kind) -> impl Iterator<Item = (&str, &Entry)> {
        self.kinds[kind.index()]
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// A resource was served; `served` is none if its bytes don't decode, which `answer` then says.
    pub(crate) fn put(
        &mut self,
        kind: Kind,
        name: &str,
        version: &str,
        served: Option<Arc<Resource>>,
        answer: Answer,
    ) {
        self.absent[kind.index()].remove(name);
        let entry = self.kinds[kind.index()]
            .entry(name.to_owned())
            .or_insert_with(|| Entry {
                version: String::new(),
                served: None,
                answer: Answer::Refused {
                    reasons: Vec::new(),
                },
                good: None,
                in_force: None,
                warming_since: None,
            });
        version.clone_into(&mut entry.version);
        if let (Answer::Taken { .. }, Some(resource)) = (&answer, &served) {
            let good = Versioned {
                version: version.to_owned(),
                resource: resource.clone(),
            };
            entry.good = Some(good);
            self.wanted = Default::default();
        }
        self.changed |= entry.answer != answer;
        entry.answer = answer;
        entry.served = served;
    }

    /// A resource is no more.
    pub(crate) fn remove(&mut self, kind: Kind, name: &str) {
        if self.kinds[kind.index()].remove(name).is_some() {
            self.changed = true;
            self.wanted = Default::default();
        }
        self.absent[kind.index()].remove(name);
    }

    /// The control plane has no resource of this name, which another one needs. What it had served before stays, as in
    /// Envoy: only the one that needs it can end it.
    pub(crate) fn set_absent(&mut self, kind: Kind, name: &str) {
        self.absent[kind.index()].insert(name.to_owned());
    }

    /// Forgets which names are absent: a new stream may be to a control plane that has them.
    pub(crate) fn forget_absent(&mut self) {
        self.absent = Default::default();
    }

    /// Puts into force what has what it needs, or has waited for it as long as it says. Returns when to look again.
    pub(crate) fn warm(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        // What is needed first: endpoints before clusters, routes before listeners.
        for kind in [Kind::Endpoints, Kind::Cluster, Kind::Routes, Kind::Listener] {
            let mut entries = std::mem::take(&mut self.kinds[kind.index()]);
            for entry in entries.values_mut() {
                let Some(good) = entry.good.as_ref() else {
                    continue;
                };
                let current = entry.in_force.as_ref();
                if current.is_some_and(|current| current.same(good)) {
                    entry.in_force = entry.good.clone();
                    entry.warming_since = None;
                    continue;
                }
                let since = *entry.warming_since.get_or_insert(now);
                let until = good
                    .resource
                    .needs()
                    .patience
                    .map(|patience| since + patience);
                if until.is_none_or(|until| now < until) && !self.has_all(kind, good) {
                    next = next.into_iter().chain(until).min();
                    continue;
                }
                entry.in_force = entry.good.clone();
                entry.warming_since = None;
                self.changed = true;
                self.wanted = Default::default();
            }
            self.kinds[kind.index()] = entries;
        }
        next
    }

    fn has_all(&self, kind: Kind, good: &Versioned) -> bool {
        let Some(needed) = kind.needs().map(Kind::index) else {
            return true;
        };
        let mut names = good.resource.needs().names.iter();
        names.all(|name| {
            let there = self.kinds[needed]
                .get(name)
                .is_some_and(|entry| entry.in_force.is_some());
            there || self.absent[needed].contains(name)
        })
    }

    /// Whether nothing of this kind waits for what it needs.
    pub(crate) fn is_warm(&self, kind: Kind) -> bool {
        self.kinds[kind.index()]
            .values()
            .all(|entry| entry.warming_since.is_none())
    }

    /// The names to ask for: all that the good version of a resource, or the one in force, needs. The same allocation as
    /// the last time if they are the same.
    pub(crate) fn wanted(&mut self, kind: Kind) -> Arc<BTreeSet<String>> {
        if let Some(wanted) = &self.wanted[kind.index()] {
            return wanted.clone();
        }
        let by = Kind::ALL.into_iter().find(|by| by.needs() == Some(kind));
        let entries = by
            .map(|by| self.kinds[by.index()].values())
            .into_iter()
            .flatten();
        let names = entries
            .flat_map(|entry| [&entry.good, &entry.in_force])
            .flatten()
            .flat_map(|held| held.resource.needs().names.iter().cloned());
        let wanted = Arc::new(names.collect());
        self.wanted[kind.index()] = Some(Arc::clone(&wanted));
        wanted
    }

    /// Name and version of everything last served, and held, of a kind.
    pub(crate) fn versions(&self, kind: Kind) -> impl Iterator<Item = (String, String)> {
        let absent = &self.absent[kind.index()];
        let entries = self.kinds[kind.index()]
            .iter()
            .filter(|(name, _)| !absent.contains(*name));
        entries.map(|(name, entry)| (name.clone(), entry.version.clone()))
    }

    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        self.kinds[kind.index()].keys().cloned().collect()
    }

    /// Whether the snapshot is another one than at the last [`Store::take_changed`].
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is in force, and what is refused.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for kind in Kind::ALL {
            for (name, entry) in &self.kinds[kind.index()] {
                if let Some(in_force) = &entry.in_force {
                    snapshot.put(kind, name, in_force.clone());
                }
                if let Answer::Refused { reasons } = &entry.answer {
                    snapshot.refuse(Refusal {
                        kind,
                        name: name.clone(),
                        version: entry.version.clone(),
                        served: entry.served.clone(),
                        reasons: reasons.clone(),
                        replaced: entry.in_force.is_some(),
                    });
                }
            }
        }
        snapshot
    }
}
