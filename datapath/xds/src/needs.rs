//! Which resources a resource names that have to be asked for by name.

use std::time::Duration;

use serde_json::Value;

use crate::Kind;

const CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// How long a resource waits for what it needs unless it says otherwise: Envoy's `initial_fetch_timeout`.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What a resource waits for before it goes into force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Names of the resources of kind `kind.needs()`, each once.
    pub names: Vec<String>,
    /// For how long; without end if none (`initial_fetch_timeout: 0s`, as Istio writes).
    pub patience: Option<Duration>,
}

/// What this resource waits for.
pub fn of(kind: Kind, name: &str, tree: &Value) -> Needs {
    let mut needs = Needs {
        names: Vec::new(),
        patience: None,
    };
    match kind {
        Kind::Cluster => load_assignment(name, tree, &mut needs),
        Kind::Listener => route_configurations(tree, &mut needs),
        Kind::Endpoints | Kind::Routes => {}
    }
    needs.names.sort_unstable();
    needs.names.dedup();
    needs
}

impl Needs {
    /// The shortest patience counts: Envoy's timers are of single subscriptions, and the first that expires ends warming.
    fn add(&mut self, name: &str, source: Option<&Value>) {
        let timeout = source.and_then(|source| source.get("initial_fetch_timeout"));
        let timeout = timeout
            .and_then(Value::as_str)
            .and_then(seconds)
            .unwrap_or(PATIENCE);
        if !timeout.is_zero() {
            self.patience = Some(
                self.patience
                    .map_or(timeout, |patience| patience.min(timeout)),
            );
        }
        self.names.push(name.to_owned());
    }
}

/// An EDS cluster's load assignment is named by `service_name`, without one by the cluster.
fn load_assignment(name: &str, tree: &Value, needs: &mut Needs) {
    if tree.get("type").and_then(Value::as_str) != Some("EDS") {
        return;
    }
    let config = tree.get("eds_cluster_config");
    let service = config
        .and_then(|config| config.get("service_name"))
        .and_then(Value::as_str);
    let service = service.filter(|service| !service.is_empty());
    needs.add(
        service.unwrap_or(name),
        config.and_then(|config| config.get("eds_config")),
    );
}

/// The route configurations of all connection managers, wherever they stand: filter chains, default filter chain.
fn route_configurations(tree: &Value, needs: &mut Needs) {
    match tree {
        Value::Object(object) => {
            let of_type = object.get("@type").and_then(Value::as_str);
            if of_type.is_some_and(|url| crate::descriptors::full_name(url) == CONNECTION_MANAGER) {
                let rds = object.get("rds");
                let name = rds
                    .and_then(|rds| rds.get("route_config_name"))
                    .and_then(Value::as_str);
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    needs.add(name, rds.and_then(|rds| rds.get("config_source")));
                }
            }
            for inner in object.values() {
                route_configurations(inner, needs);
            }
        }
        Value::Array(items) => {
            for item in items {
                route_configurations(item, needs);
            }
        }
        _ => {}
    }
}

/// A duration as [`crate::tree`] writes it.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
