//! The configuration that is in force: read, compiled, swapped in.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kmesh_config::{Classes, Config, Identities, Store};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::generation::{Generation, swap};
use crate::node::Node;
use crate::pods::PodSpec;
use crate::source::{Changes, Source};
use crate::upstream;

/// Where a node's configuration comes from.
pub struct Configuration {
    source: Source,
    classes: Classes,
    state: Mutex<State>,
}

/// What outlives a reading of the source.
#[derive(Default)]
struct State {
    /// Which ids names have.
    identities: Identities,
    /// The resources of the source.
    store: Store,
    /// What is in use of them.
    config: Option<Config>,
    /// Why resources are refused.
    refusals: Vec<String>,
}

impl Configuration {
    /// What the source says, with its listeners classed as `classes` say.
    pub fn new(source: Source, classes: Classes) -> Self {
        Self {
            source,
            classes,
            state: Mutex::default(),
        }
    }

    /// Why resources of the source are refused, and why it is not followed.
    pub fn refusals(&self) -> Vec<String> {
        let mut all = self.state().refusals.clone();
        all.extend(self.source.complaints());
        all
    }

    /// The source's changes from now on; whoever changes `asked` has a file read again.
    pub fn changes(&self, asked: watch::Receiver<u64>) -> Changes {
        self.source.changes(asked)
    }

    /// Asks for what these pods are to have; `false` if the source is the same whoever they are.
    pub async fn speak_for(&self, pods: &BTreeMap<String, PodSpec>, patience: Duration) -> bool {
        self.source.speak_for(pods, patience).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and compiles the source, away from the thread that serves, and activates what is accepted of it. A resource that is refused keeps its
    /// last good version; without one its traffic is refused.
    ///
    /// # Errors
    /// If the source as a whole is refused; what was in force stays.
    pub async fn apply(self: &Arc<Self>, node: &Node) -> Result<()> {
        let number = node.generation().map_or(0, |generation| generation.number) + 1;
        let own = Arc::clone(self);
        let compiled = tokio::task::spawn_blocking(move || own.compile(number)).await;
        let Some(generation) = compiled.context("the compiler failed")?? else {
            info!(config = %self.source, "read again: nothing changed");
            return Ok(());
        };
        let endpoints = &generation.names.endpoints;
        let endpoints: HashSet<u32> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        node.upstreams.admit_endpoints(&endpoints);
        swap(&node.datapath(), number, &generation.image);
        node.set_generation(Arc::new(generation));
        upstream::keep_endpoints(node, &endpoints);
        info!(generation = number, config = %self.source, "configured");
        Ok(())
    }

    /// The tables of what is accepted; none if that is what is in force.
    fn compile(&self, number: u64) -> Result<Option<Generation>> {
        let document = self.source.read()?;
        let mut state = self.state();
        let State {
            store, identities, ..
        } = &mut *state;
        store.replace(&self.source.to_string(), document.resources);
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
