//! Resources one by one, and the documents that they come in.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::error::{ConfigError, Place};
use crate::inert::Inert;
use crate::reader::{Findings, Item, Object};

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What the resources stand in: a bootstrap or a dump.
    Document,
    /// `envoy.config.listener.v3.Listener`.
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`.
    RouteConfiguration,
    /// `envoy.config.cluster.v3.Cluster`.
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    ClusterLoadAssignment,
}

impl Kind {
    /// All kinds that have a type.
    pub const TYPED: [Self; 4] = [
        Self::Listener,
        Self::RouteConfiguration,
        Self::Cluster,
        Self::ClusterLoadAssignment,
    ];

    /// The type's full name.
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::Document => "",
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => "envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }

    /// The kind of resources of this type; `url` may have something before a slash.
    pub fn of(url: &str) -> Option<Self> {
        let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
        Self::TYPED
            .into_iter()
            .find(|kind| kind.type_name() == name)
    }

    /// What messages call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Listener => "listener",
            Self::RouteConfiguration => "route configuration",
            Self::Cluster => "cluster",
            Self::ClusterLoadAssignment => "load assignment",
        }
    }

    /// The field that has its name.
    const fn name_field(self) -> (&'static str, &'static str) {
        match self {
            Self::ClusterLoadAssignment => ("cluster_name", "clusterName"),
            _ => ("name", "name"),
        }
    }
}

/// One resource as it came: protobuf's JSON, in which fields go by their own names or in camel case.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// Its name: unique among its kind.
    pub name: String,
    /// Its content.
    pub value: Arc<Value>,
    /// Why it is refused whatever its content is.
    pub refusal: Option<String>,
}

impl Resource {
    /// A resource of this kind. A listener needs no name in Envoy: without one it goes by its address.
    pub fn new(kind: Kind, value: Value) -> Self {
        let (snake, camel) = kind.name_field();
        let named = value.get(snake).or_else(|| value.get(camel));
        let mut name = named.and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.is_empty() && kind == Kind::Listener {
            name = address_name(&value).unwrap_or_default();
        }
        Self {
            kind,
            name,
            value: Arc::new(value),
            refusal: None,
        }
    }

    /// The resource in a message of its type: what a `google.protobuf.Any` becomes in JSON, with its `@type`. `None` if its type
    /// is not one that this datapath reads.
    pub fn typed(mut value: Value) -> Option<Self> {
        let kind = Kind::of(value.get("@type")?.as_str()?)?;
        value.as_object_mut()?.remove("@type");
        Some(Self::new(kind, value))
    }

    /// Where it stands, for messages.
    pub fn place(&self, origin: &str) -> Place {
        Place::document(origin).resource(self.kind.word(), &self.name)
    }
}

fn address_name(listener: &Value) -> Option<String> {
    let address = listener.get("address")?;
    let socket = address
        .get("socket_address")
        .or_else(|| address.get("socketAddress"))?;
    let port = socket
        .get("port_value")
        .or_else(|| socket.get("portValue"))?;
    let port = port
        .as_str()
        .map_or_else(|| port.to_string(), str::to_owned);
    Some(format!("{}:{port}", socket.get("address")?.as_str()?))
}

/// What becomes of a resource.
#[derive(Debug)]
pub struct Answer {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its fields that change nothing here, with the reason.
    pub inert: Vec<Inert>,
    /// Why it is not used; it is if there is nothing here.
    pub refused: Vec<ConfigError>,
    /// Resources that it names and that are not there: as long as that is so, what needs them is refused.
    pub waits_for: Vec<(Kind, String)>,
    /// It is refused, and its last version that was not is in use instead.
    pub kept: bool,
}

impl Answer {
    /// The answer for what was found in a resource.
    pub(crate) fn new(kind: Kind, name: &str, findings: Findings) -> Self {
        let (refused, inert) = findings.into_parts();
        Self {
            kind,
            name: name.to_owned(),
            inert,
            refused,
            waits_for: Vec::new(),
            kept: false,
        }
    }
}

/// The resources of a document, and what is to be said about the document itself and about what stands in it twice.
#[derive(Debug, Default)]
pub struct Document {
    /// The resources, in their order.
    pub resources: Vec<Resource>,
    /// What is refused before it is looked at, and the document's own fields.
    pub answers: Vec<Answer>,
}

impl Document {
    /// Takes a document apart: a bootstrap, a document of what its `static_resources` consist of, an Envoy's `/config_dump`, or
    /// a response of a control plane (`resources`).
    pub fn of(origin: &str, value: &Value) -> Self {
        let findings = Findings::default();
        let root = Item::root(Place::document(origin), value, &findings);
        let mut found = Vec::new();
        if value.get("configs").is_some() {
            root.message("ConfigDump", |dump| {
                for part in dump.items("configs") {
                    dumped(part.tree(), &mut found);
                }
            });
        } else {
            root.message("Bootstrap", |document| listed(document, &mut found));
        }
        let mut document = Self::default();
        document
            .answers
            .push(Answer::new(Kind::Document, origin, findings));
        let mut seen = HashSet::new();
        for resource in found {
            if seen.insert((resource.kind, resource.name.clone())) {
                document.resources.push(resource);
                continue;
            }
            let findings = Findings::default();
            let problem = format!("is the name of an earlier {} too", resource.kind.word());
            let place = resource.place(origin).field(resource.kind.name_field().0);
            findings.refuse(place.refuse(problem));
            document
                .answers
                .push(Answer::new(resource.kind, &resource.name, findings));
        }
        document
    }
}

/// The lists of a document by the names of their fields.
const LISTS: [(&str, Kind); 4] = [
    ("listeners", Kind::Listener),
    ("route_configs", Kind::RouteConfiguration),
    ("clusters", Kind::Cluster),
    ("endpoints", Kind::ClusterLoadAssignment),
];

fn listed(document: &mut Object<'_>, found: &mut Vec<Resource>) {
    let inner = document.take("static_resources");
    let outer = take_lists(document, found);
    let responses = document.items("resources");
    for response in &responses {
        match Resource::typed(response.tree().clone()) {
            Some(resource) => found.push(resource),
            None => response.refuse_place("has no @type that this datapath reads"),
        }
    }
    let Some(inner) = inner else {
        if outer == 0 && responses.is_empty() {
            document.refuse("has neither static_resources nor listeners");
        }
        return;
    };
    if outer > 0 {
        inner.refuse_place("stands beside listeners or clusters: use one form");
    }
    inner.message("StaticResources", |fields| {
        take_lists(fields, found);
    });
}

/// Takes the lists of resources; returns how many there are.
fn take_lists(fields: &mut Object<'_>, found: &mut Vec<Resource>) -> usize {
    let mut lists = 0;
    for (name, kind) in LISTS {
        if let Some(list) = fields.take(name) {
            lists += 1;
            let resources = list.list().into_iter();
            found.extend(resources.map(|item| Resource::new(kind, item.tree().clone())));
        }
    }
    lists
}

/// Every resource in a part of a dump, with its `@type`, however deep it stands. A dump has many forms of entries (static, active,
/// warming) around the same resources, and shows again as entries of their own what stands in a listener or in a cluster; those of secrets and of the bootstrap have none that this datapath reads.
fn dumped(value: &Value, found: &mut Vec<Resource>) {
    match value {
        Value::Object(fields) => {
            let kind = fields.get("@type").and_then(Value::as_str);
            if kind.and_then(Kind::of).is_some() {
                found.extend(Resource::typed(value.clone()));
            } else if kind != Some("type.googleapis.com/envoy.admin.v3.BootstrapConfigDump") {
                let entries = fields.iter().filter(|(name, _)| {
                    !matches!(
                        name.as_str(),
                        "error_state"
                            | "warming_state"
                            | "draining_state"
                            | "static_route_configs"
                            | "static_endpoint_configs"
                    )
                });
                entries.for_each(|(_, value)| dumped(value, found));
            }
        }
        Value::Array(values) => values.iter().for_each(|value| dumped(value, found)),
        _ => {}
    }
}

/// YAML (or JSON, which is YAML) as a tree of JSON; `origin` names it in messages.
///
/// # Errors
/// [`ConfigError::Syntax`] if it is not YAML, [`ConfigError::Field`] if a field's name is not a string.
pub fn tree(text: &str, origin: &str) -> Result<Value, ConfigError> {
    let value = serde_yaml_ng::from_str(text).map_err(|source| ConfigError::Syntax {
        origin: origin.to_owned(),
        source,
    })?;
    json(value, &Place::document(origin))
}

fn json(value: serde_yaml_ng::Value, place: &Place) -> Result<Value, ConfigError> {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::String(text) => text.into(),
        Yaml::Number(number) => {
            let whole = number.as_i64().map(Value::from);
            let whole = whole.or_else(|| number.as_u64().map(Value::from));
            whole.unwrap_or_else(|| number.as_f64().map_or(Value::Null, Value::from))
        }
        Yaml::Sequence(values) => {
            let values = values.into_iter().enumerate();
            let values = values.map(|(i, value)| json(value, &place.item(i)));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(fields) => {
            let fields = fields.into_iter().map(|(key, value)| {
                let Yaml::String(key) = key else {
                    return Err(place.refuse("has a field whose name is not a string"));
                };
                let value = json(value, &place.field(&key))?;
                Ok((key, value))
            });
            Value::Object(fields.collect::<Result<_, _>>()?)
        }
        Yaml::Tagged(_) => return Err(place.refuse("has a YAML tag")),
    })
}
