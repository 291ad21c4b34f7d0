//! Envoy v3 resources to the typed model, one file per resource.
//!
//! Three things can happen to a field: it is taken into the model, it is dropped by name with the reason beside it, or
//! the configuration is refused. Fields are dropped only if they cannot change what the datapath does with traffic.
//!
//! # Where this differs from Envoy without being asked
//! * No headers are added or rewritten: no `x-request-id`, `x-forwarded-proto`, `x-forwarded-for`, `x-envoy-*`, `server`
//!   or `date`. Asking for one of them explicitly is refused; a route that matches on one is refused too, because Envoy
//!   would match what it wrote itself.
//! * Timeouts that Envoy has by default for clients (15 s for a route, 5 min for an idle stream, 1 h for an idle connection)
//!   do not exist. `0s`, which switches them off, is accepted everywhere, other values for a route and for its tries only.
//! * `x-envoy-*` headers of requests (`x-envoy-retry-on`, `x-envoy-upstream-rq-timeout-ms`) mean nothing.

mod answer;
mod cluster;
mod listener;
mod matching;
mod policy;
mod route;

use crate::error::ConfigError;
use crate::model::{Config, WeightedCluster};
use crate::reader::{Item, Object};

/// Reads a bootstrap's `static_resources`, or a document that consists of their content.
pub(crate) fn document(origin: &str, root: &Item<'_>) -> Result<Config, ConfigError> {
    root.object(|document| {
        let inner = document.take("static_resources");
        let outer = (document.take("listeners"), document.take("clusters"));
        let (listeners, clusters) = match (inner, outer) {
            (Some(resources), (None, None)) => resources
                .object(|fields| Ok((fields.take("listeners"), fields.take("clusters"))))?,
            (Some(resources), _) => {
                return Err(resources.refuse("stands beside listeners or clusters: use one form"));
            }
            (None, (None, None)) => {
                return Err(document
                    .place
                    .refuse("has neither static_resources nor listeners"));
            }
            (None, outer) => outer,
        };
        let mut config = Config {
            origin: origin.to_owned(),
            listeners: Vec::new(),
            clusters: Vec::new(),
        };
        for item in listeners.map_or(Ok(Vec::new()), |list| list.list())? {
            config
                .listeners
                .push(listener::read(&item.resource("listener"))?);
        }
        for item in clusters.map_or(Ok(Vec::new()), |list| list.list())? {
            config
                .clusters
                .push(cluster::read(&item.resource("cluster"))?);
        }
        Ok(config)
    })
}

/// The `clusters` of weighted clusters: of a route and of a TCP proxy alike. `more` reads what only one of them has.
fn weighted_clusters(
    weighted: &mut Object<'_>,
    mut more: impl FnMut(&mut Object<'_>, &str) -> Result<(), ConfigError>,
) -> Result<Vec<WeightedCluster>, ConfigError> {
    let choices = weighted.need("clusters")?.list()?;
    let choices = choices.iter().map(|choice| {
        choice.object(|fields| {
            let name = fields.need("name")?.text()?.to_owned();
            let weight = fields.need("weight")?.number()?;
            more(fields, &name)?;
            Ok(WeightedCluster { name, weight })
        })
    });
    choices.collect()
}

/// The `header_name` of a route's weighted clusters, in lower case.
fn weighted_by(weighted: &mut Object<'_>) -> Result<Option<String>, ConfigError> {
    let header = weighted.string("header_name")?;
    Ok((!header.is_empty()).then(|| header.to_ascii_lowercase()))
}
