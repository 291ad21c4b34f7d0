//! Enrolment: which pods are under the mesh, each by itself.
//!
//! Every pod that is wanted and not enrolled has a task that tries until it is. What depends on the pod alone ([`Candidate`]) is done on
//! the pod's own thread, the rest in one step here. A pod that is replaced, by an entry of its name or of its cgroup or namespace, stays
//! until the new one is enrolled; one that is found again under another name is renamed, and its connections notice nothing.

mod backoff;
mod candidate;
mod list;
mod lock;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kmesh_api::limits::PODS_MAX;
use kmesh_probe::status::Share;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

pub use self::backoff::Backoff;
pub use self::candidate::{Candidate, Ground, listen};
pub use self::list::List;
pub use self::lock::Lock;
use crate::fallback::accept;
use crate::guard::Guard;
use crate::node::Node;
use crate::path::Path;
use crate::pods::{Pod, PodError, PodSpec};
use crate::{splice, upstream};

/// After which time it is said that a pod takes long.
const SLOW: Duration = Duration::from_secs(1);

struct Enrolled {
    pod: Arc<Pod>,
    anchors: Vec<AbortHandle>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.anchors.iter().for_each(AbortHandle::abort);
    }
}

/// The task that tries to enrol a pod.
struct Pursuit {
    spec: PodSpec,
    task: AbortHandle,
}

impl Drop for Pursuit {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known under a pod's name.
#[derive(Default)]
struct Entry {
    /// Whether the newest list has it.
    wanted: bool,
    enrolled: Option<Enrolled>,
    pursuit: Option<Pursuit>,
    /// Why it is not enrolled as the list says.
    failure: Option<String>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Entry>,
    /// Enrolments that were begun so far.
    enrolments: u32,
    /// Entries of the newest list that nobody can tell the pod of.
    nameless: Vec<String>,
}

impl State {
    fn enrolled(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods
            .values()
            .filter_map(|entry| entry.enrolled.as_ref().map(|enrolled| &enrolled.pod))
    }

    /// The number of the next enrolment. Sockets of a released pod live on with its number: nobody else ever gets it.
    fn next_number(&mut self) -> Option<u32> {
        if self.enrolled().count() >= PODS_MAX as usize {
            return None;
        }
        self.enrolments = self.enrolments.checked_add(1)?;
        Some(self.enrolments)
    }

    /// Which enrolled pods `candidate` replaces.
    fn replaced_by(&self, candidate: &Candidate) -> Result<Vec<Arc<Pod>>, PodError> {
        let spec = &candidate.spec;
        let mut replaced = Vec::new();
        for (name, entry) in &self.pods {
            let Some(Enrolled { pod, .. }) = &entry.enrolled else {
                continue;
            };
            let same = pod.cgroup == candidate.cgroup_id || pod.cookie == candidate.cookie;
            if *name == spec.name || same && !entry.wanted {
                replaced.push(Arc::clone(pod));
            } else if same {
                return Err(PodError::Taken {
                    pod: spec.name.clone(),
                    path: spec.cgroup.display().to_string(),
                    by: format!("pod {name}"),
                });
            }
        }
        Ok(replaced)
    }

    /// Moves an enrolled pod to the entry of its new name.
    fn rename(&mut self, pod: &Pod, spec: PodSpec) {
        let (before, name) = (pod.spec(), spec.name.clone());
        pod.rename(spec);
        let enrolled = (self.pods.get_mut(&before.name)).and_then(|entry| entry.enrolled.take());
        self.pods.entry(name.clone()).or_default().enrolled = enrolled;
        self.tidy();
        info!(pod = name, before = before.name, "renamed");
    }

    /// Forgets names that nobody has and nobody wants.
    fn tidy(&mut self) {
        self.pods
            .retain(|_, entry| entry.wanted || entry.enrolled.is_some());
    }
}

/// The pods of a node.
pub struct Enrolment {
    node: Arc<Node>,
    /// What carries the pods' requests.
    path: Path,
    /// The folder of the locks.
    locks: PathBuf,
    state: Mutex<State>,
    /// What stays when this daemon is killed, if anything is to.
    guard: Mutex<Option<Guard>>,
    /// Who waits for another try need not.
    again: Notify,
    /// Ids of the cgroups of enrolled pods.
    cgroups: watch::Sender<BTreeSet<u64>>,
}

impl Enrolment {
    /// Nobody is enrolled; `path` is to carry the requests, and locks are made in the folder `locks`.
    pub fn new(node: Arc<Node>, path: Path, locks: PathBuf) -> Self {
        Self {
            node,
            path,
            locks,
            state: Mutex::default(),
            guard: Mutex::default(),
            again: Notify::new(),
            cgroups: watch::Sender::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the enrolled pods.
    pub fn names(&self) -> Vec<String> {
        let state = self.state();
        let enrolled =
            |(name, entry): (&String, &Entry)| entry.enrolled.is_some().then(|| name.clone());
        state.pods.iter().filter_map(enrolled).collect()
    }

    /// What each enrolled pod has of what all share.
    pub fn shares(&self) -> Vec<Share> {
        let state = self.state();
        state.enrolled().map(|pod| self.node.share(pod)).collect()
    }

    /// Why pods are not enrolled as the newest list says, by name; an entry without a name has its position.
    pub fn failures(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let failed =
            |(name, entry): (&String, &Entry)| Some((name.clone(), entry.failure.clone()?));
        let nameless = state
            .nameless
            .iter()
            .map(|why| (String::new(), why.clone()));
        state
            .pods
            .iter()
            .filter_map(failed)
            .chain(nameless)
            .collect()
    }

    /// Ids of the cgroups of enrolled pods, now and from now on.
    pub fn cgroups(&self) -> watch::Receiver<BTreeSet<u64>> {
        self.cgroups.subscribe()
    }

    /// Has pods that wait for another try tried at once.
    pub fn retry(&self) {
        self.again.notify_waiters();
    }

    /// Enrols the pods that are new in the list and then releases those that left it. Returns when everything was tried once, or
    /// after `patience`; what failed is tried again.
    pub async fn follow(self: &Arc<Self>, list: List, patience: Duration) {
        let departed = list.departed(self.state().pods.keys());
        let mut first_tries = Vec::new();
        {
            let mut state = self.state();
            state.nameless = list.nameless;
            for (name, entry) in &mut state.pods {
                entry.wanted = !departed.contains(name);
                if !entry.wanted {
                    entry.pursuit = None;
                }
            }
            for (name, why) in list.refused {
                error!(pod = name, "not enrolled as the file says: {why}");
                let entry = state.pods.entry(name).or_default();
                entry.wanted = true;
                entry.pursuit = None;
                entry.failure = Some(why);
            }
            for (name, spec) in list.pods {
                let entry = state.pods.entry(name).or_default();
                entry.wanted = true;
                first_tries.extend(self.want(entry, spec));
            }
            // Those that were never enrolled have nothing to release.
            state.tidy();
        }
        self.retry();
        let all = async {
            for first_try in first_tries {
                // An end without a word is an end too.
                let _ = first_try.await;
            }
        };
        if timeout(patience, all).await.is_err() {
            warn!("some pods take long to open: the others go on without them");
        }
        for name in departed {
            self.release(&name);
        }
        self.retry();
    }

    /// Pursues `spec` unless that is done or under way.
    fn want(self: &Arc<Self>, entry: &mut Entry, spec: PodSpec) -> Option<oneshot::Receiver<()>> {
        if (entry.enrolled.as_ref()).is_some_and(|enrolled| *enrolled.pod.spec() == spec) {
            entry.pursuit = None;
            entry.failure = None;
            return None;
        }
        if (entry.pursuit.as_ref()).is_some_and(|pursuit| pursuit.spec == spec) {
            return None;
        }
        let (tried, first_try) = oneshot::channel();
        let task = tokio::spawn(Arc::clone(self).pursue(spec.clone(), tried));
        entry.pursuit = Some(Pursuit {
            spec,
            task: task.abort_handle(),
        });
        Some(first_try)
    }

    async fn pursue(self: Arc<Self>, spec: PodSpec, tried: oneshot::Sender<()>) {
        let mut tried = Some(tried);
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let again = self.again.notified();
            let outcome = self.attempt(&spec).await;
            let done = outcome.is_ok();
            self.note(&spec.name, outcome.err().map(|error| causes(&error)));
            if let Some(tried) = tried.take() {
                // Nobody may be waiting.
                let _ = tried.send(());
            }
            if done {
                return;
            }
            let _ = timeout(pauses.pause(), again).await;
        }
    }

    async fn attempt(&self, spec: &PodSpec) -> Result<(), PodError> {
        let begin = Instant::now();
        let opening = Candidate::open(spec.clone(), self.path);
        tokio::pin!(opening);
        let candidate = loop {
            if let Ok(opened) = timeout(SLOW, &mut opening).await {
                break opened?;
            }
            let seconds = begin.elapsed().as_secs();
            let why = format!(
                "pod {}: {} or {} has not opened for {seconds} s",
                spec.name,
                spec.netns.display(),
                spec.cgroup.display()
            );
            self.state_failure(&spec.name, Some(why));
        };
        self.settle(candidate)
    }

    /// Keeps why a pod is not enrolled; says it when it is new.
    fn note(&self, name: &str, failure: Option<String>) {
        if let Some(why) = self.state_failure(name, failure) {
            error!(pod = name, "not enrolled, will be tried again: {why}");
        }
    }

    fn state_failure(&self, name: &str, failure: Option<String>) -> Option<String> {
        let mut state = self.state();
        let entry = state.pods.get_mut(name)?;
        if entry.failure == failure {
            return None;
        }
        entry.failure.clone_from(&failure);
        failure
    }

    /// Enrols a pod that has opened, in place of those that it replaces.
    fn settle(&self, candidate: Candidate) -> Result<(), PodError> {
        let mut state = self.state();
        let spec = candidate.spec.clone();
        let replaced = state.replaced_by(&candidate)?;
        if let [pod] = &replaced[..]
            && pod.is(&candidate)
        {
            state.rename(pod, spec);
            return Ok(());
        }
        let index = state.next_number().ok_or_else(|| PodError::NoPlace {
            pod: spec.name.clone(),
            most: PODS_MAX,
        })?;
        let same = |before: &&Arc<Pod>| before.cgroup == candidate.cgroup_id;
        let pod = if let Some(before) = replaced.iter().find(same) {
            Pod::succeed(&mut self.node.datapath(), candidate, index, before)?
        } else {
            let lock = self.lock(&spec, candidate.cgroup_id)?;
            let cookie = candidate.cookie;
            let mut datapath = self.node.datapath();
            let enrolled = Pod::enrol(&mut datapath, candidate, index, lock);
            if enrolled.is_err()
                && let Some(before) = replaced.iter().find(|before| before.cookie == cookie)
            {
                before.restate(&mut datapath)?;
            }
            enrolled?
        };
        let pod = Arc::new(pod);
        self.node
            .upstreams
            .admit_pod(pod.index, pod.cookie, &pod.addresses);
        self.have_held(&pod);
        let anchors = pod.listening().into_iter().map(|listener| {
            tokio::spawn(accept(Arc::clone(&self.node), Arc::clone(&pod), listener)).abort_handle()
        });
        let enrolled = Enrolled {
            anchors: anchors.collect(),
            pod: Arc::clone(&pod),
        };
        for before in replaced {
            let entry = state.pods.get_mut(&before.spec().name);
            drop(entry.and_then(|entry| entry.enrolled.take()));
            self.let_go(&before, before.cookie == pod.cookie);
        }
        let entry = state.pods.entry(spec.name.clone()).or_default();
        entry.enrolled = Some(enrolled);
        state.tidy();
        self.publish(&state);
        info!(pod = spec.name, index, "enrolled");
        Ok(())
    }

    fn lock(&self, spec: &PodSpec, cgroup: u64) -> Result<Lock, PodError> {
        let lock = Lock::take(&self.locks, &cgroup.to_string());
        let lock = lock.map_err(|source| PodError::Lock {
            pod: spec.name.clone(),
            folder: self.locks.display().to_string(),
            source,
        })?;
        lock.ok_or_else(|| PodError::Taken {
            pod: spec.name.clone(),
            path: spec.cgroup.display().to_string(),
            by: "another kmeshd".to_owned(),
        })
    }

    fn release(&self, name: &str) {
        let mut state = self.state();
        // It may have been replaced or asked for meanwhile.
        if state.pods.get(name).is_none_or(|entry| entry.wanted) {
            return;
        }
        if let Some(enrolled) = state
            .pods
            .remove(name)
            .and_then(|mut entry| entry.enrolled.take())
        {
            self.let_go(&enrolled.pod, false);
        }
        self.publish(&state);
    }

    /// Detaches a pod and closes its upstreams.
    fn let_go(&self, pod: &Pod, namespace_stays: bool) {
        if let Some(guard) = self.guard().as_ref()
            && !namespace_stays
        {
            guard.release(pod.cookie);
        }
        pod.stop_accepting();
        splice::end_pod(&self.node, pod.index);
        pod.release(&mut self.node.datapath());
        upstream::release(&self.node, pod.index, pod.cookie);
        info!(pod = pod.spec().name, "released");
    }

    fn publish(&self, state: &State) {
        let cgroups = state.enrolled().map(|pod| pod.cgroup).collect();
        self.cgroups.send_replace(cgroups);
    }

    fn have_held(&self, pod: &Pod) {
        if let Some(guard) = self.guard().as_ref() {
            guard.hold(pod.cookie, pod.connect_links());
        }
    }

    /// Has `guard` hold the pods' connect programs; returns when it does.
    pub async fn post(&self, guard: Guard) {
        let settled = {
            let state = self.state();
            *self.guard() = Some(guard);
            state.enrolled().for_each(|pod| self.have_held(pod));
            self.guard().as_ref().map(Guard::settled)
        };
        if let Some(settled) = settled {
            settled.await;
        }
    }

    /// Has the guard leave.
    pub async fn dismiss_guard(&self) {
        let guard = self.guard().take();
        if let Some(guard) = guard {
            guard.dismiss().await;
        }
    }

    /// Lets another daemon enrol the pods. Those that are not enrolled are its to enrol.
    pub fn unlock(&self) {
        let mut state = self.state();
        for entry in state.pods.values_mut() {
            entry.pursuit = None;
        }
        state.enrolled().for_each(|pod| pod.unlock());
    }

    /// Has no pod accept connections any more.
    pub fn stop_accepting(&self) {
        self.state().enrolled().for_each(|pod| pod.stop_accepting());
    }

    /// Keeps other daemons away again.
    pub fn relock(&self) {
        for pod in self.state().enrolled() {
            match self.lock(&pod.spec(), pod.cgroup) {
                Ok(lock) => pod.relock(lock),
                Err(error) => error!("{}", causes(&error)),
            }
        }
    }

    /// Leaves new connections of the pods with these cgroups to another daemon; the names of the other pods.
    pub async fn forgo_connects(&self, cgroups: &BTreeSet<u64>) -> Vec<String> {
        self.dismiss_guard().await;
        let state = self.state();
        let (theirs, own): (Vec<_>, Vec<_>) = state
            .enrolled()
            .partition(|pod| cgroups.contains(&pod.cgroup));
        for pod in &theirs {
            pod.forgo_connects();
        }
        own.iter().map(|pod| pod.spec().name.clone()).collect()
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
