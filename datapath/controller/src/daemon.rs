//! The daemon: loads, enrols, follows its files, cleans up.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use kmesh_api::limits::PODS_MAX;
use kmesh_config::{Classes, Compiled, Config, Document, Identities, Store};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{error, info, warn};

use crate::fallback::accept;
use crate::generation::{Generation, swap};
use crate::guard::{self, Guard};
use crate::load::{Datapath, MapSize};
use crate::node::Node;
use crate::pods::{self, Pod, PodSpec};
use crate::replace::{self, Successor};
use crate::{splice, status, upstream};

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
    /// What carries the requests of anchored connections.
    pub path: pods::Path,
    /// Whether to take over from a running daemon of the same name.
    pub replace: bool,
    /// Whether anchored services are closed, instead of being open, when this daemon is killed.
    pub closed: bool,
    /// How long to stay with old connections once replaced.
    pub drain: Duration,
    /// Maps that are smaller than usual, to try what happens when they are full.
    pub map_sizes: Vec<MapSize>,
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
    /// The resources of the configuration file.
    store: Store,
    /// What is in use of them.
    config: Option<Config>,
    /// Why resources are refused.
    refusals: Vec<String>,
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
    /// A successor takes over.
    leaving: AtomicBool,
    /// The task that answers `kmeshctl`.
    status: Mutex<Option<JoinHandle<()>>>,
    /// What stays when this daemon is killed, if anything is to.
    guard: Mutex<Option<Guard>>,
}

/// Runs until SIGTERM or SIGINT; `ready` is called when every pod is enrolled.
///
/// # Errors
/// If the kernel, the configuration file as a whole or a pod is refused at the start. Later refusals, and those of single resources, are
/// reported, and what was good stays.
pub async fn run(options: Options, ready: impl FnOnce()) -> Result<()> {
    let name = options.name.clone();
    let drain = options.drain;
    let names = || {
        let names = || io::Result::Ok((status::listen(&name)?, replace::listen(&name)?));
        names().with_context(|| {
            format!("another kmeshd named {name} is running; give this one another --name, or --replace it")
        })
    };
    // Before anything is loaded, unless somebody has to be asked for them.
    let mut own = (!options.replace).then(names).transpose()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node = Arc::new(Node::new(Datapath::load(&options.map_sizes)?)?);
    let daemon = Arc::new(Daemon {
        options,
        node,
        state: Mutex::default(),
        leaving: AtomicBool::new(false),
        status: Mutex::default(),
        guard: Mutex::default(),
    });
    let followed = Followed::new(&daemon.options)?;
    daemon.configure()?;
    let predecessor = match own {
        Some(_) => None,
        None => Successor::announce(&name).await?,
    };
    let (answers, successors) = match own.take() {
        Some(own) => own,
        None => names()?,
    };
    daemon.enrol()?;
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.attached().await
    {
        warn!(
            error = format!("{error:#}"),
            "the predecessor did not confirm"
        );
    }
    // A guard that a killed daemon left behind: the pods are enrolled again.
    guard::dismiss(&name)?;
    if daemon.options.closed {
        daemon.post_guard()?;
    }
    daemon.answer(answers);
    tokio::spawn(upstream::follow_retired(Arc::clone(&daemon.node)));
    tokio::spawn(upstream::follow_hangups(Arc::clone(&daemon.node)));
    tokio::spawn(upstream::follow_relays(Arc::clone(&daemon.node)));
    tokio::spawn(splice::follow_gone(Arc::clone(&daemon.node)));
    tokio::spawn(follow(Arc::clone(&daemon), followed));
    ready();
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: leaving"),
        _ = interrupt.recv() => info!("SIGINT: leaving"),
        replaced = replace::follow(Arc::clone(&daemon), successors, drain) => {
            replaced?;
            info!("replaced: gone");
        }
    }
    drop(daemon.guard().take());
    Ok(())
}

impl Daemon {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the newest files, or resources in them, were refused, if they were.
    pub fn refused(&self) -> Option<String> {
        let state = self.state();
        let files = state.refused.values().map(String::as_str);
        let all: Vec<&str> = files
            .chain(state.refusals.iter().map(String::as_str))
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Names of the enrolled pods.
    pub fn pod_names(&self) -> Vec<String> {
        self.state().pods.keys().cloned().collect()
    }

    /// Answers `kmeshctl` until told otherwise.
    fn answer(self: &Arc<Self>, listener: UnixListener) {
        let task = tokio::spawn(status::answer(Arc::clone(self), listener));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = status.replace(task) {
            before.abort();
        }
    }

    /// Gives the name and the pods' locks away, or takes them back.
    pub async fn set_leaving(self: &Arc<Self>, leaving: bool) {
        self.leaving.store(leaving, Ordering::SeqCst);
        if leaving {
            let task = (self.status.lock().unwrap_or_else(PoisonError::into_inner)).take();
            if let Some(task) = task {
                task.abort();
                // It holds the name until it has really ended.
                let _ = task.await;
            }
        } else {
            match status::listen(&self.options.name) {
                Ok(listener) => self.answer(listener),
                Err(error) => error!(%error, "kmeshctl cannot be answered"),
            }
        }
        for enrolled in self.state().pods.values() {
            if leaving {
                enrolled.pod.unlock();
            } else if let Err(error) = enrolled.pod.relock() {
                error!("{error}");
            }
        }
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a guard hold the pods' connect programs.
    fn post_guard(&self) -> Result<()> {
        let pods = self.node.datapath().pods_id;
        let mut guard = Guard::start(&self.options.name, pods).context("no guard")?;
        for enrolled in self.state().pods.values() {
            guard.hold(enrolled.pod.cookie, &enrolled.pod.connect_links())?;
        }
        *self.guard() = Some(guard);
        Ok(())
    }

    /// Leaves new connections to another daemon.
    pub fn forgo_connects(&self) {
        drop(self.guard().take());
        for enrolled in self.state().pods.values() {
            enrolled.pod.forgo_connects();
        }
    }

    /// Reads, compiles and activates the configuration: what is accepted of it. A resource that is refused keeps its last good
    /// version; without one its traffic is refused.
    fn configure(&self) -> Result<()> {
        let path = &self.options.config;
        let origin = path.display().to_string();
        let text = kmesh_config::text(path)?;
        let document = Document::of(&origin, &kmesh_config::resource::tree(&text, &origin)?);
        let classes = Classes {
            l4: self.options.l4,
        };
        let mut state = self.state();
        let State {
            store, identities, ..
        } = &mut *state;
        store.replace(&origin, document.resources);
        let applied = store.apply(identities, classes)?;
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
            return Ok(());
        }
        state.config = Some(applied.config);
        drop(state);
        self.activate(applied.compiled)
    }

    /// Makes tables the active ones.
    fn activate(&self, compiled: Compiled) -> Result<()> {
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
                if let Some(guard) = self.guard().as_mut()
                    && let Err(error) = guard.release(enrolled.pod.cookie)
                {
                    error!(%error, pod = name, "the guard keeps a released pod");
                }
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
        let (pod, listeners) =
            Pod::enrol(&mut self.node.datapath(), spec, index, self.options.path)?;
        if let Some(guard) = self.guard().as_mut() {
            guard.hold(pod.cookie, &pod.connect_links())?;
        }
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

/// The files that are followed, and the directories that say when something in them changes.
struct Followed {
    watch: Inotify,
    /// Readable when `watch` is.
    ready: AsyncFd<OwnedFd>,
    seen: (Stamp, Stamp),
}

impl Followed {
    fn new(options: &Options) -> Result<Self> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ATTRIB;
        for path in [&options.config, &options.pods] {
            let directory = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("."));
            watch
                .add_watch(directory, flags)
                .with_context(|| format!("cannot watch {}", directory.display()))?;
        }
        let ready = watch.as_fd().try_clone_to_owned()?;
        Ok(Self {
            // SAFETY: the descriptor is owned by the value and stays open as long as it.
            ready: unsafe { AsyncFd::register(ready) }?,
            watch,
            seen: stamps(options),
        })
    }

    /// Waits until something in one of the directories changed.
    async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.ready.readable().await?;
            match self.watch.read_events() {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// When, how large and which: what tells a changed file.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn stamps(options: &Options) -> (Stamp, Stamp) {
    (stamp(&options.config), stamp(&options.pods))
}

async fn follow(daemon: Arc<Daemon>, mut followed: Followed) {
    loop {
        let now = stamps(&daemon.options);
        if now.0 != followed.seen.0 {
            daemon.note("configuration", daemon.configure());
        }
        if now.1 != followed.seen.1 && !daemon.leaving.load(Ordering::SeqCst) {
            daemon.note("pods", daemon.enrol());
        }
        followed.seen = now;
        if let Err(error) = followed.changed().await {
            return error!(%error, "the configuration is no longer followed");
        }
    }
}
