//! The configuration that is in force: read, compiled, swapped in.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use kmesh_config::{Classes, Config, Document, Identities, Store};
use tracing::{info, warn};

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
    state: Mutex<State>,
}

/// What outlives a reading of the file.
#[derive(Default)]
struct State {
    /// Which ids names have.
    identities: Identities,
    /// The resources of the file.
    store: Store,
    /// What is in use of them.
    config: Option<Config>,
    /// Why resources are refused.
    refusals: Vec<String>,
}

impl Configuration {
    /// The file at `path`, with its listeners classed as `classes` say.
    pub fn new(path: PathBuf, classes: Classes) -> Self {
        Self {
            path,
            classes,
            state: Mutex::default(),
        }
    }

    /// Why resources of the file are refused.
    pub fn refusals(&self) -> Vec<String> {
        self.state().refusals.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and compiles the file, away from the thread that serves, and activates what is accepted of it. A resource that is refused keeps its
    /// last good version; without one its traffic is refused.
    ///
    /// # Errors
    /// If the file as a whole is refused; what was in force stays.
    pub async fn apply(self: &Arc<Self>, node: &Node) -> Result<()> {
        let number = node.generation().map_or(0, |generation| generation.number) + 1;
        let own = Arc::clone(self);
        let compiled = tokio::task::spawn_blocking(move || own.compile(number)).await;
        let Some(generation) = compiled.context("the compiler failed")?? else {
            info!(config = %self.path.display(), "read again: nothing changed");
            return Ok(());
        };
        let endpoints = &generation.names.endpoints;
        let endpoints: HashSet<u32> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        node.upstreams.admit_endpoints(&endpoints);
        swap(&node.datapath(), number, &generation.image);
        node.set_generation(Arc::new(generation));
        upstream::keep_endpoints(node, &endpoints);
        info!(generation = number, config = %self.path.display(), "configured");
        Ok(())
    }

    /// The tables of what is accepted; none if that is what is in force.
    fn compile(&self, number: u64) -> Result<Option<Generation>> {
        let origin = self.path.display().to_string();
        let text = follow::read(&self.path, CONFIG_MAX)?;
        let text = String::from_utf8(text).with_context(|| format!("{origin} is not UTF-8"))?;
        let document = Document::of(&origin, &kmesh_config::resource::tree(&text, &origin)?);
        let mut state = self.state();
        let State {
            store, identities, ..
        } = &mut *state;
        store.replace(&origin, document.resources);
        let applied = store.apply(identities, self.classes)?;
        let answers = document.answers.iter().chain(&applied.answers);
        let refusals: Vec<String> = answers
            .flat_map(|answer| &answer.refused)
            .map(ToString::to_string)
            .collect();
        for refusal in &refusals {
            warn!("refused: {refusal}");
        }
        state.refusals = refusals;
        if state.config.as_ref() == Some(&applied.config) {
            return Ok(None);
        }
        let generation = Generation::new(number, applied.compiled)?;
        state.config = Some(applied.config);
        Ok(Some(generation))
    }
}
