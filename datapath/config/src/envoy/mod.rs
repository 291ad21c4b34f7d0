//! Envoy v3 resources to the typed model, one file per resource.
//!
//! Three things can happen to a field: it is taken into the model, it is inert (the table of [`crate::inert`] says why), or its
//! resource is refused. A resource is refused alone.
//!
//! # Where this differs from Envoy without being asked
//! * No headers are added or rewritten: no `x-request-id`, `x-forwarded-proto`, `x-forwarded-for`, `x-envoy-*`, `server`
//!   or `date`. A route that matches on one is refused, because Envoy would match what it wrote itself.
//! * Timeouts that Envoy has by default for clients (15 s for a route, 5 min for an idle stream, 1 h for an idle connection)
//!   do not exist. `0s`, which switches them off, is accepted everywhere, other values for a route and for its tries only.
//! * `x-envoy-*` headers of requests (`x-envoy-retry-on`, `x-envoy-upstream-rq-timeout-ms`) mean nothing.

mod answer;
mod cluster;
mod library;
mod listener;
mod matching;
mod policy;
mod route;

use std::collections::HashSet;

use crate::check;
use crate::envoy::library::Library;
use crate::error::ConfigError;
use crate::model::{Config, ListenerConfig, ListenerKind, WeightedCluster};
use crate::reader::{Item, Object};
use crate::resource::{Answer, Kind, Resource};

/// Resources as the datapath understands them.
#[derive(Debug)]
pub struct Loaded {
    /// What is accepted. A listener that was refused is there and closed, if its address can be read.
    pub config: Config,
    /// What became of each resource, in the order of the resources.
    pub answers: Vec<Answer>,
}

/// Reads resources; each is accepted or refused alone. `origin` names them in messages.
pub fn load(origin: &str, resources: &[Resource]) -> Loaded {
    let mut config = Config {
        origin: origin.to_owned(),
        listeners: Vec::new(),
        clusters: Vec::new(),
    };
    let library = Library::new(origin, resources);
    let mut missing = Vec::new();
    for (at, resource) in resources.iter().enumerate() {
        match resource.kind {
            Kind::Listener => {
                let read = |item: &Item<'_>| listener::read(item, &resource.name, &library);
                config.listeners.push(library.read(at, read));
            }
            Kind::Cluster => {
                let read = |item: &Item<'_>| cluster::read(item, &library);
                config.clusters.push(library.read(at, read));
            }
            Kind::RouteConfiguration | Kind::ClusterLoadAssignment | Kind::Document => {}
        }
        missing.push(library.take_missing());
    }
    let findings = library.finish().into_iter().zip(missing).zip(resources);
    let mut answers: Vec<Answer> = findings
        .map(|((findings, missing), resource)| {
            let mut answer = Answer::new(resource.kind, &resource.name, findings);
            answer.waits_for = missing;
            if let Some(why) = &resource.refusal {
                answer.refused = vec![resource.place(origin).refuse(why)];
            }
            answer
        })
        .collect();
    let declared: HashSet<String> = (config.clusters.iter())
        .map(|cluster| cluster.name.clone())
        .collect();
    // What contradicts itself or another resource; only resources that are fine by themselves are looked at.
    loop {
        keep_accepted(&mut config, resources, &answers);
        let found = check::check(&config, Some(&declared));
        if !note(&mut answers, resources, origin, found) {
            return Loaded { config, answers };
        }
    }
}

/// Puts what was found into the answers of the resources concerned; whether there was any.
pub(crate) fn note(
    answers: &mut [Answer],
    resources: &[Resource],
    origin: &str,
    found: Vec<ConfigError>,
) -> bool {
    let mut any = false;
    for error in found {
        let place = error.place().cloned();
        let at = resources.iter().position(|resource| {
            place
                .as_ref()
                .is_some_and(|place| place.is_in(&resource.place(origin)))
        });
        if let Some(at) = at {
            answers[at].refused.push(error);
            any = true;
        }
    }
    any
}

/// Takes what was refused out of the configuration; listeners stay and are closed.
fn keep_accepted(config: &mut Config, resources: &[Resource], answers: &[Answer]) {
    let refused = |kind: Kind| -> HashSet<&str> {
        let both = resources.iter().zip(answers);
        let refused =
            both.filter(|(resource, answer)| resource.kind == kind && !answer.refused.is_empty());
        refused
            .map(|(resource, _)| resource.name.as_str())
            .collect()
    };
    let gone = refused(Kind::Cluster);
    config
        .clusters
        .retain(|cluster| !gone.contains(cluster.name.as_str()));
    let closed = refused(Kind::Listener);
    let routes = refused(Kind::RouteConfiguration);
    for listener in &mut config.listeners {
        if closed.contains(listener.name.as_str()) {
            listener.kind = ListenerKind::Closed;
        }
        listener
            .kind
            .close_routes(&|config| config.options.rds && routes.contains(config.name.as_str()));
    }
    config.listeners.retain(ListenerConfig::has_address);
}

/// The `clusters` of weighted clusters: of a route and of a TCP proxy alike. `more` reads what only one of them has.
fn weighted_clusters(
    weighted: &mut Object<'_>,
    mut more: impl FnMut(&mut Object<'_>, &str),
) -> Vec<WeightedCluster> {
    let choices = weighted.need("clusters").list();
    let choices = choices.iter().map(|choice| {
        choice.message("ClusterWeight", |fields| {
            let name = fields.need("name").text().to_owned();
            let weight = fields.need("weight").number();
            more(fields, &name);
            WeightedCluster { name, weight }
        })
    });
    choices.collect()
}

/// The `header_name` of a route's weighted clusters, in lower case.
fn weighted_by(weighted: &mut Object<'_>) -> Option<String> {
    let header = weighted.string("header_name");
    (!header.is_empty()).then(|| header.to_ascii_lowercase())
}
