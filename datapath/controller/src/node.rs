//! What the parts of the controller share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kmesh_api::limits::CLUSTERS_MAX;
use kmesh_orchestration::Dice;
use tokio::sync::Semaphore;

use crate::buffers::LARGE_MAX;
use crate::fallback::Anchors;
use crate::generation::Generation;
use crate::load::Datapath;
use crate::upstream::Upstreams;

/// The state of one node's mesh.
pub struct Node {
    /// The kernel side.
    datapath: Mutex<Datapath>,
    /// The configuration that user space decides with.
    generation: RwLock<Option<Arc<Generation>>>,
    /// Client connections in user space.
    anchors: Mutex<Anchors>,
    /// Upstream connections.
    pub upstreams: Upstreams,
    /// Large responses that may have large buffers.
    pub large: Semaphore,
    /// Requests that user space has begun to serve, since the start.
    pub served: AtomicU64,
    /// Round-robin counters of the user-space path, by cluster id.
    turns: Vec<AtomicU32>,
}

impl Node {
    /// A node around a loaded datapath.
    ///
    /// # Errors
    /// If there is no descriptor left to watch upstreams with.
    pub fn new(datapath: Datapath) -> std::io::Result<Self> {
        Ok(Self {
            datapath: Mutex::new(datapath),
            generation: RwLock::new(None),
            anchors: Mutex::default(),
            upstreams: Upstreams::new()?,
            large: Semaphore::new(LARGE_MAX),
            served: AtomicU64::new(0),
            turns: (0..CLUSTERS_MAX).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// The kernel side, for as long as the guard lives. Never held across an `await`.
    pub fn datapath(&self) -> MutexGuard<'_, Datapath> {
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current configuration; `None` before the first.
    pub fn generation(&self) -> Option<Arc<Generation>> {
        self.generation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the current configuration.
    pub fn set_generation(&self, generation: Arc<Generation>) {
        *self
            .generation
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(generation);
    }

    /// The client connections in user space.
    pub fn anchors(&self) -> MutexGuard<'_, Anchors> {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chance and turns for decisions in user space.
pub struct NodeDice<'a>(pub &'a Node);

impl Dice for NodeDice<'_> {
    fn random(&mut self) -> u32 {
        rand::random()
    }

    fn turn(&mut self, counter: u32) -> u32 {
        self.0
            .turns
            .get(counter as usize)
            .map_or_else(rand::random, |turn| turn.fetch_add(1, Ordering::Relaxed))
    }
}
