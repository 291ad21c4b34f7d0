//! A response of either protocol, in one form.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use prost::{Message as _, Name as _};
use prost_types::Any;

use crate::resource::{Decoder, Resource};
use crate::{Kind, wire};

/// A response as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Of a stream of states of the world.
    Sotw(wire::DiscoveryResponse),
    /// Of a stream of changes.
    Delta(wire::DeltaDiscoveryResponse),
}

/// One resource of a response.
pub(super) struct Item {
    pub name: String,
    pub version: String,
    /// The resource, or why it is none.
    pub resource: Result<Arc<Resource>, String>,
}

/// What a response says, resources decoded.
pub(super) struct Incoming {
    pub kind: Kind,
    pub version: String,
    pub nonce: String,
    pub control_plane: String,
    pub items: Vec<Item>,
    pub removed: Vec<String>,
    /// Whether what is not in it does not exist.
    pub whole: bool,
    /// Resources that can't be named, and errors that the control plane reports.
    pub problems: Vec<String>,
    /// Identifies what it contains.
    pub content: u64,
}

impl Incoming {
    /// # Errors
    /// The type URL, if this client asks for no such type.
    pub(super) fn read(response: Response, decoder: &Decoder) -> Result<Self, String> {
        let (type_url, nonce, version, control_plane) = match &response {
            Response::Sotw(it) => (&it.type_url, &it.nonce, &it.version_info, &it.control_plane),
            Response::Delta(it) => (
                &it.type_url,
                &it.nonce,
                &it.system_version_info,
                &it.control_plane,
            ),
        };
        let kind = Kind::of(type_url).ok_or_else(|| type_url.clone())?;
        let control_plane = control_plane.as_ref().map(|it| it.identifier.clone());
        let mut incoming = Self {
            kind,
            version: version.clone(),
            nonce: nonce.clone(),
            control_plane: control_plane.unwrap_or_default(),
            items: Vec::new(),
            removed: Vec::new(),
            whole: false,
            problems: Vec::new(),
            content: content(&response),
        };
        let errors = match response {
            Response::Sotw(response) => {
                incoming.whole = kind.wildcard();
                for any in response.resources {
                    incoming.sotw_item(any, decoder);
                }
                response.resource_errors
            }
            Response::Delta(response) => {
                let named = response
                    .removed_resource_names
                    .into_iter()
                    .map(|it| it.name);
                incoming.removed = response.removed_resources;
                incoming.removed.extend(named);
                for resource in response.resources {
                    incoming.wrapped_item(resource, decoder);
                }
                response.resource_errors
            }
        };
        // The control plane has no such resource, or does not give it to us: as good as removed.
        incoming.removed.extend(
            errors
                .into_iter()
                .filter_map(|it| it.resource_name)
                .map(|it| it.name),
        );
        Ok(incoming)
    }

    /// A resource that stands in the response as it is, or within a `Resource` with its own name.
    fn sotw_item(&mut self, any: Any, decoder: &Decoder) {
        if crate::descriptors::full_name(&any.type_url) == wire::Resource::full_name() {
            match wire::Resource::decode(any.value.as_slice()) {
                Ok(mut resource) => {
                    self.version.clone_into(&mut resource.version);
                    self.wrapped_item(resource, decoder);
                }
                Err(error) => self
                    .problems
                    .push(format!("a wrapped {}: {error}", self.kind.noun())),
            }
            return;
        }
        match self.decode(any, decoder) {
            Ok(resource) => self.items.push(Item {
                name: resource.name().to_owned(),
                version: self.version.clone(),
                resource: Ok(resource),
            }),
            Err(error) => self
                .problems
                .push(format!("a {}: {error}", self.kind.noun())),
        }
    }

    fn wrapped_item(&mut self, wrapped: wire::Resource, decoder: &Decoder) {
        let named = wrapped.resource_name.map(|it| it.name);
        let name = if wrapped.name.is_empty() {
            named.unwrap_or_default()
        } else {
            wrapped.name
        };
        let resource = match (wrapped.ttl, wrapped.resource) {
            (Some(_), _) => {
                Err("ttl: resources that expire by themselves are not supported".to_owned())
            }
            (None, None) => Err("resource: is missing".to_owned()),
            (None, Some(any)) => self.decode(any, decoder),
        };
        let resource = resource.and_then(|resource| {
            if self.kind == Kind::Listener || resource.name() == name {
                return Ok(resource);
            }
            let field = self.kind.name_field();
            Err(format!(
                "{field}: is {:?}, but it is served as {name:?}",
                resource.name()
            ))
        });
        self.items.push(Item {
            name,
            version: wrapped.version,
            resource,
        });
    }

    fn decode(&self, any: Any, decoder: &Decoder) -> Result<Arc<Resource>, String> {
        if Kind::of(&any.type_url) != Some(self.kind) {
            return Err(format!(
                "is a {:?} in a {} response",
                any.type_url,
                self.kind.service()
            ));
        }
        let bytes = Bytes::from(any.value);
        decoder
            .read(self.kind, &bytes)
            .map_err(|error| error.to_string())
    }
}

/// A hash of everything but nonce and version.
fn content(response: &Response) -> u64 {
    let mut hasher = DefaultHasher::new();
    match response {
        Response::Sotw(it) => {
            for any in &it.resources {
                (&any.type_url, &any.value).hash(&mut hasher);
            }
        }
        Response::Delta(it) => {
            for resource in &it.resources {
                let any = resource.resource.as_ref();
                (&resource.name, any.map(|any| (&any.type_url, &any.value))).hash(&mut hasher);
            }
            it.removed_resources.hash(&mut hasher);
        }
    }
    hasher.finish()
}
