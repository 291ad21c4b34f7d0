//! What the parts of the controller share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kmesh_api::limits::CLUSTERS_MAX;
use kmesh_api::share::PodUse;
use kmesh_orchestration::Dice;
use kmesh_probe::status::Share;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::Semaphore;

use crate::buffers::LARGE_MAX;
use crate::defence::Without;
use crate::fallback::Anchors;
use crate::generation::Generation;
use crate::load::Datapath;
use crate::pods::Pod;
use crate::shares::SharedShares;
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
    /// Descriptors of anchored connections, by pod.
    pub descriptors: SharedShares,
    /// Defences that are off.
    pub without: Without,
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
    pub fn new(datapath: Datapath, without: Without) -> std::io::Result<Self> {
        Ok(Self {
            datapath: Mutex::new(datapath),
            generation: RwLock::new(None),
            anchors: Mutex::default(),
            upstreams: Upstreams::new(&without)?,
            descriptors: SharedShares::new(without.limit(descriptors()?)),
            without,
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

    /// What a pod has of what all share.
    pub fn share(&self, pod: &Pod) -> Share {
        let kernel = self
            .datapath()
            .pod_use
            .get(&pod.index, 0)
            .unwrap_or_default();
        let (upstreams, upstreams_refused) = self.upstreams.slots_of(pod.index);
        let (descriptors, descriptors_refused) = self.descriptors.books().of(pod.index);
        Share {
            pod: pod.spec().name.clone(),
            connections: u64::from(kernel.connections),
            connections_refused: kernel.refused,
            upstreams: u64::from(upstreams),
            upstreams_refused,
            descriptors: u64::from(descriptors),
            descriptors_refused,
        }
    }

    /// How often each enrolled pod was refused a connection because it has its share.
    pub fn refused_by_pod(&self) -> HashMap<u32, u64> {
        let kernel: Vec<(u32, PodUse)> = {
            let datapath = self.datapath();
            datapath.pod_use.iter().filter_map(Result::ok).collect()
        };
        let books = self.descriptors.books();
        let all = kernel.into_iter();
        all.map(|(pod, using)| (pod, using.refused + books.of(pod).1))
            .collect()
    }

    /// The client connections in user space.
    pub fn anchors(&self) -> MutexGuard<'_, Anchors> {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Anchored connections that this process has descriptors for: three quarters of them, because relays, upstreams and the rest want some as well.
fn descriptors() -> std::io::Result<u32> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(u32::try_from(soft / 4 * 3).unwrap_or(u32::MAX))
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
