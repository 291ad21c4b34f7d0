//! Resources that others name: route configurations (RDS) and load assignments (EDS).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::envoy::route::Context;
use crate::envoy::{cluster, route};
use crate::model::RouteConfiguration;
use crate::reader::{Findings, Item};
use crate::resource::{Kind, Resource};

/// The resources of a configuration by kind and name, with what was found in each.
pub(crate) struct Library<'r> {
    origin: &'r str,
    resources: &'r [Resource],
    places: HashMap<(Kind, &'r str), usize>,
    /// By resource.
    findings: Vec<Findings>,
    read: Vec<Cell<bool>>,
    /// What the resource that is being read names and does not find.
    missing: RefCell<Vec<(Kind, String)>>,
}

impl<'r> Library<'r> {
    /// A library of these resources; none has been read.
    pub(crate) fn new(origin: &'r str, resources: &'r [Resource]) -> Self {
        let places = resources.iter().enumerate();
        Self {
            origin,
            resources,
            places: places
                .map(|(at, resource)| ((resource.kind, resource.name.as_str()), at))
                .collect(),
            findings: resources.iter().map(|_| Findings::default()).collect(),
            read: resources.iter().map(|_| Cell::new(false)).collect(),
            missing: RefCell::default(),
        }
    }

    /// Reads the resource at this place.
    pub(crate) fn read<T>(&self, at: usize, read: impl FnOnce(&Item<'_>) -> T) -> T {
        // A second reader finds the same as the first: it is said once.
        let again = Findings::default();
        let findings = if self.read[at].replace(true) {
            &again
        } else {
            &self.findings[at]
        };
        let resource = &self.resources[at];
        let place = resource.place(self.origin);
        read(&Item::root(place, &resource.value, findings))
    }

    fn find(&self, kind: Kind, name: &str) -> Option<usize> {
        let found = self.places.get(&(kind, name)).copied();
        if found.is_none() {
            self.missing.borrow_mut().push((kind, name.to_owned()));
        }
        found
    }

    /// The route configuration of that name, for this listener.
    pub(crate) fn routes(&self, name: &str, context: &Context) -> Option<RouteConfiguration> {
        let at = self.find(Kind::RouteConfiguration, name)?;
        Some(self.read(at, |item| route::configuration(item, context, true)))
    }

    /// The endpoints of that name.
    pub(crate) fn endpoints(&self, name: &str) -> Option<cluster::Endpoints> {
        let at = self.find(Kind::ClusterLoadAssignment, name)?;
        Some(self.read(at, cluster::load_assignment))
    }

    /// What was named and is not there, since this was asked last.
    pub(crate) fn take_missing(&self) -> Vec<(Kind, String)> {
        self.missing.take()
    }

    /// Reads what nobody names, so that it has an answer, too; then gives what was found in each resource.
    pub(crate) fn finish(self) -> Vec<Findings> {
        for at in 0..self.resources.len() {
            if self.read[at].get() {
                continue;
            }
            match self.resources[at].kind {
                Kind::RouteConfiguration => {
                    self.read(at, |item| {
                        route::configuration(item, &Context::default(), true)
                    });
                }
                Kind::ClusterLoadAssignment => {
                    self.read(at, cluster::load_assignment);
                }
                Kind::Listener | Kind::Cluster | Kind::Document => {}
            }
        }
        self.findings
    }
}
