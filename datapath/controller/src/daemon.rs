//! The daemon: loads, enrols, follows its files, cleans up.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use kmesh_api::limits::PODS_MAX;
use kmesh_config::{Classes, Identities};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

use crate::fallback::accept;
use crate::generation::{Generation, swap};
use crate::load::Datapath;
use crate::node::Node;
use crate::pods::{self, Pod, PodSpec};
use crate::{status, upstream};

/// What `kmeshd run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Envoy v3 resources.
    pub config: PathBuf,
    /// The pods file.
    pub pods: PathBuf,
    /// Name under which `kmeshctl` finds the daemon.
    pub name: String,
    /// Whether HTTP listeners are treated as TCP.
    pub l4: bool,
}

struct Enrolled {
    pod: Arc<Pod>,
    anchors: Vec<AbortHandle>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.anchors.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Default)]
struct State {
    identities: Identities,
    pods: BTreeMap<String, Enrolled>,
    refused: BTreeMap<&'static str, String>,
}

/// A running daemon.
pub struct Daemon {
    /// What it was told.
    pub options: Options,
    /// The node it drives.
    pub node: Arc<Node>,
    state: Mutex<State>,
}

/// How often the files are looked at.
const FOLLOW: Duration = Duration::from_millis(200);

/// Runs until SIGTERM or SIGINT; `ready` is called when every pod is enrolled.
///
/// # Errors
/// If the kernel, the configuration or a pod is refused at the start. Later refusals are reported and the running
/// configuration stays.
pub async fn run(options: Options, ready: impl FnOnce()) -> Result<()> {
    let listener = status::listen(&options.name).with_context(|| {
        format!(
            "another kmeshd named {} is running; give this one another --name",
            options.name
        )
    })?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node = Arc::new(Node::new(Datapath::load()?)?);
    let daemon = Arc::new(Daemon {
        options,
        node,
        state: Mutex::default(),
    });
    daemon.configure()?;
    daemon.enrol()?;
    tokio::spawn(status::answer(Arc::clone(&daemon), listener));
    tokio::spawn(upstream::follow_retired(Arc::clone(&daemon.node)));
    tokio::spawn(upstream::follow_hangups(Arc::clone(&daemon.node)));
    tokio::spawn(upstream::follow_relays(Arc::clone(&daemon.node)));
    tokio::spawn(follow(Arc::clone(&daemon)));
    ready();
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: leaving"),
        _ = interrupt.recv() => info!("SIGINT: leaving"),
    }
    Ok(())
}

impl Daemon {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the newest files were refused, if they were.
    pub fn refused(&self) -> Option<String> {
        let state = self.state();
        let all: Vec<&str> = state.refused.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Names of the enrolled pods.
    pub fn pod_names(&self) -> Vec<String> {
        self.state().pods.keys().cloned().collect()
    }

    /// Reads, compiles and activates the configuration.
    fn configure(&self) -> Result<()> {
        let config = kmesh_config::read(&self.options.config)?;
        let classes = Classes {
            l4: self.options.l4,
        };
        let compiled = kmesh_config::compile(&config, &mut self.state().identities, classes)?;
        let number = self
            .node
            .generation()
            .map_or(0, |generation| generation.number)
            + 1;
        let generation = Generation::new(number, compiled)?;
        swap(&self.node.datapath(), number, &generation.image);
        let endpoints = &generation.names.endpoints;
        let endpoints: HashSet<u32> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.node.set_generation(Arc::new(generation));
        upstream::retire(&self.node, |key| !endpoints.contains(&key.endpoint));
        info!(generation = number, config = %self.options.config.display(), "configured");
        Ok(())
    }

    /// Enrols the pods that are new in the pods file and releases those that left it.
    fn enrol(&self) -> Result<()> {
        let wanted = pods::read(&self.options.pods)?;
        let names: BTreeSet<&str> = wanted.iter().map(|spec| spec.name.as_str()).collect();
        let mut state = self.state();
        state.pods.retain(|name, enrolled| {
            let stays = names.contains(name.as_str())
                && wanted.iter().any(|spec| *spec == enrolled.pod.spec);
            if !stays {
                enrolled.pod.release(&mut self.node.datapath());
                upstream::retire(&self.node, |key| key.pod == enrolled.pod.index);
                info!(pod = name, "released");
            }
            stays
        });
        let known: BTreeSet<String> = state.pods.keys().cloned().collect();
        for spec in wanted
            .into_iter()
            .filter(|spec| !known.contains(&spec.name))
        {
            let enrolled = self.enrol_one(&state, spec)?;
            state.pods.insert(enrolled.pod.spec.name.clone(), enrolled);
        }
        Ok(())
    }

    fn enrol_one(&self, state: &State, spec: PodSpec) -> Result<Enrolled> {
        let taken: BTreeSet<u32> = state.pods.values().map(|other| other.pod.index).collect();
        let index = (0..PODS_MAX)
            .find(|index| !taken.contains(index))
            .with_context(|| format!("pod {}: all {PODS_MAX} places are taken", spec.name))?;
        let (pod, listeners) = Pod::enrol(&mut self.node.datapath(), spec, index)?;
        let pod = Arc::new(pod);
        let mut anchors = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let task = tokio::spawn(accept(Arc::clone(&self.node), Arc::clone(&pod), listener));
            anchors.push(task.abort_handle());
        }
        info!(pod = pod.spec.name, index, "enrolled");
        Ok(Enrolled { pod, anchors })
    }

    /// Keeps the outcome of following a file; the running state stays whatever it is.
    fn note(&self, what: &'static str, outcome: Result<()>) {
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                state.refused.remove(what);
            }
            Err(refusal) => {
                let text = format!("{refusal:#}");
                error!("{what} refused: {text}");
                state.refused.insert(what, text);
            }
        }
    }
}

/// When and how large: what tells a changed file.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn follow(daemon: Arc<Daemon>) {
    let mut ticks = interval(FOLLOW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let files = |daemon: &Daemon| (stamp(&daemon.options.config), stamp(&daemon.options.pods));
    let mut seen = files(&daemon);
    loop {
        ticks.tick().await;
        let now = files(&daemon);
        if now.0 != seen.0 {
            daemon.note("configuration", daemon.configure());
        }
        if now.1 != seen.1 {
            daemon.note("pods", daemon.enrol());
        }
        seen = now;
    }
}
