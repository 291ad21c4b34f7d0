//! The daemon: what it consists of, in which order it begins, and how it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kmesh_config::Classes;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::admin::{Calls, DAEMON, Socket, serve};
use crate::configuration::Configuration;
use crate::defence::Without;
use crate::enrolment::{Enrolment, List};
use crate::fallback::follow_age;
use crate::follow::{self, FileError, Followed};
use crate::guard::{self, Guard, Launch};
use crate::load::{Datapath, MapSize};
use crate::node::Node;
use crate::path::Path as RequestPath;
use crate::replace::{self, Offer, Successor};
use crate::source::{Changes, Origin, Source};
use crate::supervise::Supervisor;
use crate::{rundir, splice, systemd, upstream};

/// Largest pods file that is read, bytes.
pub const PODS_FILE_MAX: u64 = 16 << 20;
/// How long pods that do not open keep the daemon from being ready, and from taking over.
const FIRST_PODS: Duration = Duration::from_secs(10);
/// How long pods that do not open keep others from being released.
const NEW_PODS: Duration = Duration::from_secs(1);
/// How long a control plane that does not answer keeps the first pods from being enrolled.
const FIRST_RESOURCES: Duration = Duration::from_secs(10);

/// What `kmeshd run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the Envoy v3 resources come from.
    pub config: Origin,
    /// The pods file.
    pub pods: PathBuf,
    /// Name under which `kmeshctl` finds the daemon.
    pub name: String,
    /// The folder of sockets and locks.
    pub run_dir: PathBuf,
    /// Whether HTTP listeners are treated as TCP.
    pub l4: bool,
    /// What carries the requests of anchored connections.
    pub path: RequestPath,
    /// Whether to take over from a running daemon of the same name.
    pub replace: bool,
    /// Whether anchored services are closed, instead of being open, when this daemon is killed.
    pub closed: bool,
    /// How long to stay with old connections once replaced.
    pub drain: Duration,
    /// Maps that are smaller than usual, to try what happens when they are full.
    pub map_sizes: Vec<MapSize>,
    /// Defences that are off, to try what they are good for.
    pub without: Without,
}

/// A running daemon.
pub struct Daemon {
    /// What it was told.
    pub options: Options,
    /// The node it drives.
    pub node: Arc<Node>,
    /// Its pods.
    pub enrolment: Arc<Enrolment>,
    /// Its tasks.
    pub supervisor: Arc<Supervisor>,
    configuration: Arc<Configuration>,
    /// Why the newest files were refused, if they were.
    refused: Mutex<BTreeMap<&'static str, String>>,
    /// A successor takes over.
    leaving: AtomicBool,
    /// Successors that ask for room.
    pub offers: mpsc::Sender<Offer>,
    /// The task that accepts calls.
    status: Mutex<Option<JoinHandle<()>>>,
}

/// Runs until SIGTERM or SIGINT; `ready` is called when every pod was tried.
///
/// # Errors
/// If the kernel or a file is refused at the start. Later refusals are reported and what runs goes on.
pub async fn run(options: Options, ready: impl FnOnce()) -> Result<()> {
    let (name, run_dir) = (options.name.clone(), options.run_dir.clone());
    // Before anything is loaded, unless somebody has to be asked for it.
    let own = || Socket::listen(&run_dir, &name, DAEMON);
    let socket = (!options.replace).then(own).transpose()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // From here on a SIGHUP ends nothing.
    let (ask, asked) = watch::channel(0);
    let mut hangup = signal(SignalKind::hangup())?;
    let (offers, offered) = mpsc::channel(1);
    let locks = rundir::locks(&options.run_dir)?;
    if !options.without.is_empty() {
        warn!(
            without = %options.without,
            "defences are off: pods can harm each other. This is for tests only"
        );
    }
    let datapath = Datapath::load(&options.map_sizes, options.path, &options.without)?;
    let node = Arc::new(Node::new(datapath, options.without.clone())?);
    let classes = Classes { l4: options.l4 };
    let daemon = Arc::new(Daemon {
        enrolment: Arc::new(Enrolment::new(Arc::clone(&node), options.path, locks)),
        configuration: Arc::new(Configuration::new(Source::new(&options.config)?, classes)),
        node,
        options,
        supervisor: Arc::default(),
        refused: Mutex::default(),
        leaving: AtomicBool::new(false),
        offers,
        status: Mutex::default(),
    });
    let config = daemon.configuration.changes(asked.clone());
    daemon.configuration.apply(&daemon.node).await?;
    let pods = Followed::new(&daemon.options.pods, asked);
    let list = daemon.read_pods().await?;
    if (daemon.configuration)
        .speak_for(&list.pods, FIRST_RESOURCES)
        .await
    {
        daemon.configuration.apply(&daemon.node).await?;
    }
    let (socket, predecessor) = if let Some(socket) = socket {
        (socket, None)
    } else {
        let predecessor = Successor::announce(&run_dir, &name).await?;
        (own()?, predecessor)
    };
    daemon.enrolment.follow(list, FIRST_PODS).await;
    if let Some(predecessor) = predecessor {
        daemon.take_over(predecessor).await;
    }
    // A guard that a killed daemon left behind: the pods are enrolled again.
    guard::dismiss(&run_dir, &name).await?;
    if daemon.options.closed {
        let pods = daemon.node.datapath().pods_id;
        let launch = Launch {
            run_dir,
            name,
            pods,
        };
        daemon.enrolment.post(Guard::keep(launch)).await;
    }
    daemon.answer(socket);
    daemon.begin_tasks(config, pods);
    ready();
    systemd::tell(systemd::State::Ready);
    let mut replaced = std::pin::pin!(replace::follow(
        Arc::clone(&daemon),
        offered,
        daemon.options.drain
    ));
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                info!("SIGTERM: leaving");
                break;
            }
            _ = interrupt.recv() => {
                info!("SIGINT: leaving");
                break;
            }
            _ = hangup.recv() => {
                info!("SIGHUP: reading the files again");
                ask.send_modify(|count| *count += 1);
            }
            () = &mut replaced => {
                info!("replaced: gone");
                break;
            }
        }
    }
    daemon.enrolment.stop_accepting();
    splice::end(&daemon.node);
    systemd::tell(systemd::State::Stopping);
    daemon.enrolment.dismiss_guard().await;
    Ok(())
}

impl Daemon {
    /// Begins what goes on for as long as the daemon lives.
    fn begin_tasks(self: &Arc<Self>, config: Changes, pods: Followed) {
        let keep = &self.supervisor;
        let node = || Arc::clone(&self.node);
        let own = node();
        keep.keep("closing upstreams", move || {
            upstream::follow_retired(Arc::clone(&own))
        });
        let own = node();
        keep.keep("noticing upstreams that hang up", move || {
            upstream::follow_hangups(Arc::clone(&own))
        });
        let own = node();
        keep.keep("closing anchors of spliced clients that left", move || {
            splice::follow_gone(Arc::clone(&own))
        });
        let own = node();
        keep.keep("ending slots that were found wrong", move || {
            upstream::follow_wrong(Arc::clone(&own))
        });
        let own = node();
        keep.keep(
            "closing connections that pods over their share left unused",
            move || follow_age(Arc::clone(&own)),
        );
        let own = node();
        keep.keep("taking over responses from the kernel", move || {
            upstream::follow_relays(Arc::clone(&own))
        });
        let (own, config) = (Arc::clone(self), Arc::new(AsyncMutex::new(config)));
        keep.keep("following the configuration", move || {
            Arc::clone(&own).follow_config(Arc::clone(&config))
        });
        if let Some(pause) = systemd::watchdog() {
            keep.keep("telling systemd", move || systemd::feed(pause));
        }
        let (own, pods) = (Arc::clone(self), Arc::new(AsyncMutex::new(pods)));
        keep.keep("following the pods", move || {
            Arc::clone(&own).follow_pods(Arc::clone(&pods))
        });
    }

    async fn follow_config(self: Arc<Self>, changes: Arc<AsyncMutex<Changes>>) {
        let mut changes = changes.lock().await;
        loop {
            changes.next().await;
            let outcome = self.configuration.apply(&self.node).await;
            if outcome.as_ref().is_err_and(is_unread) {
                changes.try_again();
            }
            self.note("configuration", outcome);
        }
    }

    async fn follow_pods(self: Arc<Self>, file: Arc<AsyncMutex<Followed>>) {
        let mut file = file.lock().await;
        loop {
            file.changed().await;
            if self.leaving.load(Ordering::SeqCst) {
                continue;
            }
            let list = self.read_pods().await;
            let outcome = match list {
                Ok(list) => {
                    self.configuration.speak_for(&list.pods, NEW_PODS).await;
                    self.enrolment.follow(list, NEW_PODS).await;
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            };
            if outcome.as_ref().is_err_and(is_unread) {
                file.try_again();
            }
            self.note("pods", outcome);
        }
    }

    async fn read_pods(&self) -> Result<List> {
        let path = self.options.pods.clone();
        let read = tokio::task::spawn_blocking(move || follow::read(&path, PODS_FILE_MAX));
        let text = read.await.context("the reader failed")??;
        List::parse(&text).with_context(|| {
            let path = self.options.pods.display();
            format!("{path}: not a list of pods with name, netns and cgroup")
        })
    }

    /// Keeps the outcome of following a file; what runs goes on, whatever it is.
    fn note(&self, what: &'static str, outcome: Result<()>) {
        let mut all = self.refusals();
        match outcome {
            Ok(()) => {
                all.remove(what);
            }
            Err(refusal) => {
                let text = format!("{refusal:#}");
                if all.get(what) != Some(&text) {
                    error!("{what} refused: {text}");
                    all.insert(what, text);
                }
            }
        }
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the newest files, or pods in them, were refused, if they were.
    pub fn refused(&self) -> Option<String> {
        let refusals = self.refusals();
        let files = refusals.values().cloned();
        let path = self.options.pods.display();
        let pods = (self.enrolment.failures().into_iter())
            .map(|(name, why)| format!("{path}: {name}: {why}"));
        let resources = self.configuration.refusals();
        let all: Vec<String> = files.chain(resources).chain(pods).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Answers calls until told otherwise.
    fn answer(self: &Arc<Self>, socket: Socket) {
        let daemon = Arc::clone(self);
        let task = tokio::spawn(serve(socket, move || Calls::new(Arc::clone(&daemon))));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = status.replace(task) {
            before.abort();
        }
    }

    /// Tells the predecessor which pods are enrolled, now and as more of them are.
    async fn take_over(&self, mut predecessor: Successor) {
        let mut cgroups = self.enrolment.cgroups();
        let enrolled = cgroups.borrow_and_update().clone();
        if let Err(error) = predecessor.attached(&enrolled).await {
            let error = format!("{error:#}");
            return warn!(error, "the predecessor did not confirm");
        }
        tokio::spawn(async move {
            // It hangs up when it leaves, and this task ends with the daemon.
            while cgroups.changed().await.is_ok() {
                let enrolled = cgroups.borrow_and_update().clone();
                if predecessor.attached(&enrolled).await.is_err() {
                    return;
                }
            }
        });
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
            self.enrolment.unlock();
        } else {
            match Socket::listen(&self.options.run_dir, &self.options.name, DAEMON) {
                Ok(socket) => self.answer(socket),
                Err(error) => error!("kmeshctl cannot be answered: {error:#}"),
            }
            self.enrolment.relock();
            // What the file says by now, and what was not enrolled before.
            match self.read_pods().await {
                Ok(list) => self.enrolment.follow(list, NEW_PODS).await,
                Err(refusal) => self.note("pods", Err(refusal)),
            }
        }
    }
}

/// Whether a file was refused because it could not be read at all.
fn is_unread(refusal: &anyhow::Error) -> bool {
    matches!(refusal.downcast_ref(), Some(FileError::Read { .. }))
}
