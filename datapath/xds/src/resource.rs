//! One resource as it came: its bytes, and what had to be read of them at once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use serde_json::Value;

use crate::Kind;
use crate::needs::{self, Needs};
use crate::tree::{self, TreeError, Unread};

/// A resource that decodes. It keeps the bytes, a tenth of its tree's size, and gives the tree when asked.
#[derive(Debug)]
pub struct Resource {
    kind: Kind,
    name: String,
    bytes: Bytes,
    needs: Needs,
    unread: Vec<Unread>,
}

impl Resource {
    /// Reads a resource of this kind.
    ///
    /// # Errors
    /// [`TreeError`] as [`tree::read`].
    pub fn read(kind: Kind, bytes: Bytes) -> Result<Self, TreeError> {
        let (tree, unread) = tree::read(kind.type_url(), &bytes)?;
        let name = tree
            .get(kind.name_field())
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let needs = needs::of(kind, &name, &tree);
        Ok(Self {
            kind,
            name,
            bytes,
            needs,
            unread,
        })
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name; may be empty, which only some control planes' listeners are.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The protobuf message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it waits for, of kind `kind().needs()`.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// What in it the descriptors don't know; in the tree it stands under `#NUMBER` or with an unknown `@type`.
    pub fn unread(&self) -> &[Unread] {
        &self.unread
    }

    /// Its tree, read from the bytes each time: what is compiled is kept by whoever compiles it.
    pub fn tree(&self) -> Value {
        let read = tree::read(self.kind.type_url(), &self.bytes);
        read.expect("the same bytes were read before").0
    }
}

/// Reads resources, and keeps one copy of those that are equal: pods of one node are served nearly the same.
#[derive(Debug, Default)]
pub struct Decoder {
    known: Mutex<HashMap<(Kind, u128), Weak<Resource>>>,
    hashers: [RandomState; 2],
}

impl Decoder {
    /// The resource that these bytes are, shared with everyone who read the same bytes and still holds it.
    ///
    /// # Errors
    /// As [`Resource::read`].
    pub fn read(&self, kind: Kind, bytes: &Bytes) -> Result<Arc<Resource>, TreeError> {
        let key = (kind, self.fingerprint(bytes));
        if let Some(resource) = self.known().get(&key).and_then(Weak::upgrade) {
            return Ok(resource);
        }
        // Copied: a slice would keep the whole response alive.
        let resource = Arc::new(Resource::read(kind, Bytes::copy_from_slice(bytes))?);
        let mut known = self.known();
        if known.len() == known.capacity() {
            known.retain(|_, resource| resource.strong_count() > 0);
        }
        known.insert(key, Arc::downgrade(&resource));
        Ok(resource)
    }

    /// How many different resources somebody holds.
    pub fn held(&self) -> usize {
        self.known()
            .values()
            .filter(|resource| resource.strong_count() > 0)
            .count()
    }

    /// 128 bits by two keyed hashes, whose keys nobody outside knows: two contents never share one by intent.
    fn fingerprint(&self, bytes: &[u8]) -> u128 {
        let [high, low] = self
            .hashers
            .each_ref()
            .map(|hasher| u128::from(hasher.hash_one(bytes)));
        (high << 64) | low
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(Kind, u128), Weak<Resource>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
