//! The configuration that is in force: read, compiled, swapped in.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use kmesh_config::{Classes, Identities};
use tracing::info;

use crate::follow;
use crate::generation::{Generation, swap};
use crate::node::Node;
use crate::upstream;

/// Largest configuration file that is read, bytes. One that needs all tables is a tenth of it.
pub const CONFIG_MAX: u64 = 64 << 20;

/// Where a node's configuration comes from.
pub struct Configuration {
    path: PathBuf,
    classes: Classes,
    /// Which ids names have; they outlive a configuration.
    identities: Mutex<Identities>,
}

impl Configuration {
    /// The file at `path`, with its listeners classed as `classes` say.
    pub fn new(path: PathBuf, classes: Classes) -> Self {
        Self {
            path,
            classes,
            identities: Mutex::default(),
        }
    }

    /// Reads and compiles the file, away from the thread that serves, and activates it.
    ///
    /// # Errors
    /// If it is refused; what was in force stays.
    pub async fn apply(self: &Arc<Self>, node: &Node) -> Result<()> {
        let number = node.generation().map_or(0, |generation| generation.number) + 1;
        let own = Arc::clone(self);
        let compiled = tokio::task::spawn_blocking(move || own.compile(number)).await;
        let generation = compiled.context("the compiler failed")??;
        let endpoints = &generation.names.endpoints;
        let endpoints: HashSet<u32> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        node.upstreams.admit_endpoints(&endpoints);
        swap(&node.datapath(), number, &generation.image);
        node.set_generation(Arc::new(generation));
        upstream::keep_endpoints(node, &endpoints);
        info!(generation = number, config = %self.path.display(), "configured");
        Ok(())
    }

    fn compile(&self, number: u64) -> Result<Generation> {
        let origin = self.path.display().to_string();
        let text = follow::read(&self.path, CONFIG_MAX)?;
        let text = String::from_utf8(text).with_context(|| format!("{origin} is not UTF-8"))?;
        let config = kmesh_config::parse(&text, &origin)?;
        let mut identities = (self.identities.lock()).unwrap_or_else(PoisonError::into_inner);
        let compiled = kmesh_config::compile(&config, &mut identities, self.classes)?;
        Ok(Generation::new(number, compiled)?)
    }
}
