//! What a scenario's Envoy v3 resources say about services: which virtual address leads to which endpoints.
//!
//! Envoy and `kmeshd` read the file themselves. The other arms need only this much of it: without a proxy, a service is
//! the set of endpoints its listener can reach.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

/// Why a resources file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourcesError {
    /// The file can't be read.
    #[error("cannot read the resources {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML, or has keys that are not strings.
    #[error("resources {path} are not YAML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// The top level holds something else than `static_resources`, which the arms could not honour alike.
    #[error(
        "resources have the top-level key {key}: only static_resources is expected, the arm writes the rest of the bootstrap"
    )]
    TopLevel {
        /// The key.
        key: String,
    },
    /// A field is missing or has the wrong type.
    #[error("resources: {resource} has no usable {field}")]
    Field {
        /// The resource, such as `listener web`.
        resource: String,
        /// The field that was looked for.
        field: &'static str,
    },
}

/// The `static_resources` of a scenario, as data.
#[derive(Clone, Debug)]
pub struct Resources {
    fixed: Map<String, Value>,
}

/// What a listener speaks to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Its filter chains contain an HTTP connection manager.
    Http,
    /// They do not.
    Tcp,
}

/// A virtual address and the endpoints it may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of the listener.
    pub name: String,
    /// The virtual address clients connect to.
    pub vip: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// A host name that its routes know: the first domain without a wildcard, else `any.test`.
    pub host: String,
    /// Every endpoint of every cluster the listener mentions, without repetition, in the order of the clusters.
    pub endpoints: Vec<SocketAddr>,
}

impl Resources {
    /// Reads a file whose top level is `static_resources`.
    ///
    /// # Errors
    /// [`ResourcesError`] for an unreadable file, bad YAML, or another top-level key.
    pub fn read(path: &Path) -> Result<Self, ResourcesError> {
        let text = std::fs::read_to_string(path).map_err(|source| ResourcesError::Read {
            path: path.to_owned(),
            source,
        })?;
        let document: Value =
            serde_yaml_ng::from_str(&text).map_err(|source| ResourcesError::Syntax {
                path: path.to_owned(),
                source,
            })?;
        Self::from_document(document)
    }

    /// The same from a document already parsed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_document(document: Value) -> Result<Self, ResourcesError> {
        let missing = || ResourcesError::Field {
            resource: "the file".to_owned(),
            field: "static_resources",
        };
        let Value::Object(mut top) = document else {
            return Err(missing());
        };
        if let Some(key) = top.keys().find(|key| *key != "static_resources") {
            return Err(ResourcesError::TopLevel { key: key.clone() });
        }
        match top.remove("static_resources") {
            Some(Value::Object(fixed)) => Ok(Self { fixed }),
            _ => Err(missing()),
        }
    }

    /// The `static_resources` object.
    pub fn fixed(&self) -> &Map<String, Value> {
        &self.fixed
    }

    /// The services, in the order of the listeners.
    ///
    /// # Errors
    /// [`ResourcesError::Field`] for a listener or endpoint without an IP address and port.
    pub fn services(&self) -> Result<Vec<Service>, ResourcesError> {
        list(self.fixed.get("listeners"))
            .iter()
            .map(|listener| self.service(listener))
            .collect()
    }

    /// The service at `vip`, if there is one.
    ///
    /// # Errors
    /// As [`Self::services`].
    pub fn service_at(&self, vip: SocketAddr) -> Result<Option<Service>, ResourcesError> {
        Ok(self
            .services()?
            .into_iter()
            .find(|service| service.vip == vip))
    }

    fn service(&self, listener: &Value) -> Result<Service, ResourcesError> {
        let name = name_of(listener);
        let vip = socket_address(listener).ok_or_else(|| ResourcesError::Field {
            resource: format!("listener {name}"),
            field: "address.socket_address",
        })?;
        let mut mentioned = Vec::new();
        collect_clusters(listener, &mut mentioned);
        let mut endpoints = Vec::new();
        let mut seen = BTreeSet::new();
        for cluster in list(self.fixed.get("clusters")) {
            if !mentioned.contains(&name_of(cluster)) {
                continue;
            }
            for address in cluster_endpoints(cluster)? {
                if seen.insert(address) {
                    endpoints.push(address);
                }
            }
        }
        let protocol = if mentions_type(listener, ".HttpConnectionManager") {
            Protocol::Http
        } else {
            Protocol::Tcp
        };
        Ok(Service {
            name: name.to_owned(),
            vip,
            protocol,
            host: known_host(listener),
            endpoints,
        })
    }
}

/// The elements of a list, none if it is absent.
fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name_of(resource: &Value) -> &str {
    resource
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("(without name)")
}

/// The `address.socket_address` of a listener or endpoint.
fn socket_address(holder: &Value) -> Option<SocketAddr> {
    let socket = holder.pointer("/address/socket_address")?;
    let ip: IpAddr = socket.get("address")?.as_str()?.parse().ok()?;
    let port = u16::try_from(socket.get("port_value")?.as_u64()?).ok()?;
    Some(SocketAddr::new(ip, port))
}

fn cluster_endpoints(cluster: &Value) -> Result<Vec<SocketAddr>, ResourcesError> {
    let mut addresses = Vec::new();
    for locality in list(cluster.pointer("/load_assignment/endpoints")) {
        for endpoint in list(locality.get("lb_endpoints")) {
            let address = endpoint
                .get("endpoint")
                .and_then(socket_address)
                .ok_or_else(|| ResourcesError::Field {
                    resource: format!("an endpoint of cluster {}", name_of(cluster)),
                    field: "address.socket_address",
                })?;
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Names of clusters in `cluster: NAME` and `weighted_clusters: {clusters: [{name: NAME}]}`, wherever they stand.
fn collect_clusters<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                match (key.as_str(), inner) {
                    ("cluster", Value::String(name)) => found.push(name),
                    ("weighted_clusters", weighted) => {
                        found.extend(list(weighted.get("clusters")).iter().map(name_of));
                    }
                    _ => collect_clusters(inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_clusters(item, found)),
        _ => {}
    }
}

/// The first entry of a `domains` list that names one host.
fn known_host(listener: &Value) -> String {
    fn find(value: &Value) -> Option<&str> {
        match value {
            Value::Object(fields) => fields.iter().find_map(|(key, inner)| match key.as_str() {
                "domains" => list(Some(inner))
                    .iter()
                    .filter_map(Value::as_str)
                    .find(|domain| !domain.contains('*')),
                _ => find(inner),
            }),
            Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    find(listener).unwrap_or("any.test").to_owned()
}

/// Whether a `typed_config` whose `@type` ends with `suffix` stands anywhere in `value`.
fn mentions_type(value: &Value, suffix: &str) -> bool {
    match value {
        Value::Object(fields) => {
            fields
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|name| name.ends_with(suffix))
                || fields.values().any(|inner| mentions_type(inner, suffix))
        }
        Value::Array(items) => items.iter().any(|item| mentions_type(item, suffix)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = include_str!("../tests/canary.yaml");

    fn resources(text: &str) -> Result<Resources, ResourcesError> {
        Resources::from_document(serde_yaml_ng::from_str(text).unwrap())
    }

    #[test]
    fn a_service_has_the_endpoints_of_every_cluster_its_listener_mentions() {
        let services = resources(CANARY).unwrap().services().unwrap();
        let web = &services[0];
        assert_eq!(
            (web.name.as_str(), web.vip.to_string().as_str()),
            ("web", "10.96.0.1:80")
        );
        assert_eq!(
            (web.protocol, web.host.as_str()),
            (Protocol::Http, "web.test")
        );
        let endpoints: Vec<String> = web.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, ["10.244.0.2:8080", "10.244.0.3:8080"]);
        assert_eq!(services[1].protocol, Protocol::Tcp);
        assert_eq!(services[1].endpoints.len(), 1);
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let cases = [
            ("admin: {}\nstatic_resources: {}", "top-level key admin"),
            ("{}", "the file has no usable static_resources"),
            (
                "static_resources: {listeners: [{name: web, address: {pipe: {path: x}}}]}",
                "listener web has no usable address",
            ),
        ];
        for (text, expected) in cases {
            let message = match resources(text).and_then(|r| r.services()) {
                Ok(services) => panic!("{text} was taken: {services:?}"),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }
}
