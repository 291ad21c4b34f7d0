//! Who a stream speaks for: one pod, as its sidecar would introduce itself to istiod.

use std::collections::BTreeMap;

use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value};

use crate::wire;

/// A pod's identity. Two pods with the same identity get the same configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The pod's name.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses, the first of which is in the node id.
    pub addresses: Vec<String>,
    /// Its labels: they decide which policies and sidecar scopes apply.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its service account; empty if unknown.
    #[serde(default)]
    pub service_account: String,
    /// The name of the node that it runs on; istiod takes the locality from there.
    #[serde(default)]
    pub node_name: String,
    /// The name of the cluster, `Kubernetes` unless the mesh has several.
    #[serde(default = "kubernetes")]
    pub cluster_id: String,
    /// `REGION/ZONE/SUBZONE`, if it is not to be found out from the node's name.
    #[serde(default)]
    pub locality: String,
}

fn kubernetes() -> String {
    "Kubernetes".to_owned()
}

/// The version of Istio whose sidecars this client follows: istiod leaves out what older ones don't know.
pub const ISTIO_VERSION: &str = "1.24.2";

impl Identity {
    /// `sidecar~ADDRESS~POD.NAMESPACE~NAMESPACE.svc.cluster.local`.
    pub fn id(&self) -> String {
        let address = self.addresses.first().map_or("", String::as_str);
        let Self { pod, namespace, .. } = self;
        format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }

    /// The node of a stream's first request.
    pub fn node(&self) -> wire::Node {
        let labels = self
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        let metadata = [
            ("NAMESPACE", text(&self.namespace)),
            ("CLUSTER_ID", text(&self.cluster_id)),
            ("ISTIO_VERSION", text(ISTIO_VERSION)),
            ("MESH_ID", text("cluster.local")),
            ("INSTANCE_IPS", text(&self.addresses.join(","))),
            ("SERVICE_ACCOUNT", text(&self.service_account)),
            ("NAME", text(&self.pod)),
            ("NODE_NAME", text(&self.node_name)),
            ("LABELS", structure(labels)),
            ("PROXY_CONFIG", structure(BTreeMap::new())),
        ];
        let metadata = metadata
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let mut parts = self.locality.split('/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        wire::Node {
            id: self.id(),
            cluster: format!(
                "{}.{}",
                self.labels.get("app").unwrap_or(&self.pod),
                self.namespace
            ),
            metadata: Some(Struct { fields: metadata }),
            locality: (!self.locality.is_empty()).then(|| wire::Locality {
                region: part(),
                zone: part(),
                sub_zone: part(),
            }),
            user_agent_name: "kmesh".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn text(value: &str) -> Value {
    Value {
        kind: Some(ValueKind::StringValue(value.to_owned())),
    }
}

fn structure(fields: BTreeMap<String, Value>) -> Value {
    Value {
        kind: Some(ValueKind::StructValue(Struct { fields })),
    }
}
