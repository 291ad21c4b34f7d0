//! A pod under the mesh.
//!
//! A pod is named to the daemon by its network namespace and cgroup, by whoever runs the node, never by anything the pod
//! does. A pod is enrolled while its [`Pod`] lives: cgroup programs attached, namespace known to the kernel, anchors open.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kmesh_api::Address;
use kmesh_api::pod::AnchoredKey;
use kmesh_api::share::PodUse;
use tokio::net::TcpListener;

use crate::enrolment::{Candidate, Ground, Lock};
use crate::load::{Attached, Datapath, LoadError};
use crate::log::Throttle;
use crate::netns::Netns;
use crate::path::Path;

/// A pod as it is named to the daemon; one entry of the pods file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// Name for people.
    pub name: String,
    /// Path of the network namespace.
    pub netns: PathBuf,
    /// Path of the cgroup2 directory.
    pub cgroup: PathBuf,
    /// Who it is to a control plane.
    #[serde(default)]
    pub identity: Option<kmesh_xds::Identity>,
}

/// Why a pod was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The namespace.
    #[error("pod {pod}: cannot enter network namespace {path}")]
    Netns {
        /// The pod.
        pod: String,
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup.
    #[error("pod {pod}: cannot open cgroup {path}")]
    Cgroup {
        /// The pod.
        pod: String,
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("pod {pod}: its cgroup {path} or its network namespace is already enrolled by {by}")]
    Taken {
        /// The pod.
        pod: String,
        /// The cgroup.
        path: String,
        /// By whom.
        by: String,
    },
    /// The lock could not be tried.
    #[error("pod {pod}: cannot lock its cgroup in {folder}")]
    Lock {
        /// The pod.
        pod: String,
        /// Where locks are.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pod has no address.
    #[error("pod {pod}: its network namespace has no address besides loopback; set it up first")]
    NoAddress {
        /// The pod.
        pod: String,
    },
    /// The tables are full.
    #[error("pod {pod}: all {most} places are taken")]
    NoPlace {
        /// The pod.
        pod: String,
        /// How many there are.
        most: u32,
    },
    /// An anchor could not listen.
    #[error("pod {pod}: cannot listen on {address} in its network namespace")]
    Anchor {
        /// The pod.
        pod: String,
        /// The address.
        address: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel side.
    #[error("pod {pod}")]
    Kernel {
        /// The pod.
        pod: String,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
}

/// What a pod has of its cgroup, and hands on to the pod that replaces it there.
pub struct Hold {
    /// Its programs.
    attached: Attached,
    /// Keeps a second daemon away; `None` while a successor enrols the pod.
    lock: Option<Lock>,
}

/// An enrolled pod.
pub struct Pod {
    /// How it is named.
    spec: Mutex<Arc<PodSpec>>,
    /// Its number in the kernel's tables: of this enrolment, never given again.
    pub index: u32,
    /// Its IPv4 and IPv6 addresses, as far as it has them.
    pub addresses: Vec<IpAddr>,
    /// Makes sockets in its namespace.
    pub netns: Netns,
    /// The cookie of its namespace.
    pub cookie: u64,
    /// The id of its cgroup.
    pub cgroup: u64,
    /// Whether its anchored connections are spliced.
    pub spliced: bool,
    /// What the kernel's table of pods says of it.
    record: Mutex<kmesh_api::pod::Pod>,
    /// Lets through what is said about what the pod does.
    pub misconduct: Throttle,
    /// Its anchors' listening sockets; `None` once it accepts no more.
    anchors: Mutex<Option<Vec<Arc<TcpListener>>>>,
    /// `None` once released or replaced.
    hold: Mutex<Option<Hold>>,
}

impl Pod {
    /// Enrols a pod whose cgroup is `lock`ed.
    ///
    /// # Errors
    /// [`PodError::Kernel`]; nothing stays behind then.
    pub fn enrol(
        datapath: &mut Datapath,
        candidate: Candidate,
        index: u32,
        lock: Lock,
    ) -> Result<Self, PodError> {
        let (pod, ground) = Self::announce(datapath, candidate, index)?;
        // The devices first: a connection must not find its packets on the way to a service that nobody is.
        let attached = datapath.attach(&ground.cgroup).and_then(|mut attached| {
            ground.attach_devices(datapath, &mut attached)?;
            Ok(attached)
        });
        match attached {
            Ok(attached) => {
                let lock = Some(lock);
                *pod.hold() = Some(Hold { attached, lock });
                Ok(pod)
            }
            Err(source) => {
                // The entry would send connections to an anchor that is about to close.
                pod.withdraw(datapath);
                Err(kernel_error(&pod.spec(), source))
            }
        }
    }

    /// Enrols a pod in the place of `before`, which has the same cgroup and is to be released next: the programs stay attached.
    ///
    /// # Errors
    /// [`PodError::Kernel`]; nothing has changed then.
    pub fn succeed(
        datapath: &mut Datapath,
        candidate: Candidate,
        index: u32,
        before: &Self,
    ) -> Result<Self, PodError> {
        let (pod, ground) = Self::announce(datapath, candidate, index)?;
        if let Some(hold) = before.hold().as_mut()
            && pod.cookie != before.cookie
            && let Err(source) = ground.attach_devices(datapath, &mut hold.attached)
        {
            pod.withdraw(datapath);
            return Err(kernel_error(&pod.spec(), source));
        }
        *pod.hold() = before.hold().take();
        Ok(pod)
    }

    /// Makes the pod known to the kernel by its namespace.
    fn announce(
        datapath: &mut Datapath,
        candidate: Candidate,
        index: u32,
    ) -> Result<(Self, Ground), PodError> {
        let spliced = candidate.path == Path::Splice;
        let mut record = kmesh_api::pod::Pod {
            index,
            spliced: u32::from(spliced),
            ..Default::default()
        };
        for &(anchor, _) in &candidate.anchors {
            if anchor.is_ipv4() {
                record.anchor4 = Address::from(anchor);
            } else {
                record.anchor6 = Address::from(anchor);
            }
        }
        let addresses = candidate.anchors.iter().map(|(anchor, _)| anchor.ip());
        let addresses = addresses.collect();
        let anchors = candidate.anchors.into_iter();
        let anchors = anchors.map(|(_, listener)| Arc::new(listener));
        let pod = Self {
            spec: Mutex::new(Arc::new(candidate.spec)),
            index,
            addresses,
            netns: candidate.netns,
            cookie: candidate.cookie,
            cgroup: candidate.cgroup_id,
            spliced,
            record: Mutex::new(record),
            misconduct: Throttle::default(),
            anchors: Mutex::new(Some(anchors.collect())),
            hold: Mutex::new(None),
        };
        let inserted = datapath.pod_use.insert(index, PodUse::default(), 0);
        inserted.map_err(|source| {
            let map = "POD_USE";
            kernel_error(&pod.spec(), LoadError::Map { map, source })
        })?;
        if let Err(error) = pod.restate(datapath) {
            pod.withdraw(datapath);
            return Err(error);
        }
        Ok((pod, candidate.ground))
    }

    /// Takes the pod out of the kernel's tables, unless another pod has its namespace by now.
    fn withdraw(&self, datapath: &mut Datapath) {
        if let Err(error) = datapath.release_share(self.index) {
            tracing::error!(pod = self.spec().name, %error, "a released pod keeps its share");
        }
        let _ = datapath.pod_use.remove(&self.index);
        let now = datapath.pods.get(&self.cookie, 0);
        if now.is_ok_and(|now| now.index == self.index) {
            let _ = datapath.pods.remove(&self.cookie);
        }
    }

    /// Says in the kernel's table what there is to say of this pod.
    ///
    /// # Errors
    /// [`PodError::Kernel`].
    pub fn restate(&self, datapath: &mut Datapath) -> Result<(), PodError> {
        let record = *self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let inserted = datapath.pods.insert(self.cookie, record, 0);
        inserted.map_err(|source| {
            let map = "PODS";
            kernel_error(&self.spec(), LoadError::Map { map, source })
        })
    }

    /// Sends its new connections to another anchor of that family.
    ///
    /// # Errors
    /// [`PodError::Kernel`].
    pub fn move_anchor(&self, datapath: &mut Datapath, anchor: SocketAddr) -> Result<(), PodError> {
        {
            let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            if anchor.is_ipv4() {
                record.anchor4 = anchor.into();
            } else {
                record.anchor6 = anchor.into();
            }
        }
        // Its namespace may be another pod's by now.
        let now = datapath.pods.get(&self.cookie, 0);
        if now.is_ok_and(|now| now.index == self.index) {
            self.restate(datapath)?;
        }
        Ok(())
    }

    fn anchors(&self) -> MutexGuard<'_, Option<Vec<Arc<TcpListener>>>> {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its anchors' listening sockets; none once it accepts no more.
    pub fn listening(&self) -> Vec<Arc<TcpListener>> {
        self.anchors().clone().unwrap_or_default()
    }

    /// Puts a listening socket in the place of `ended`; false if the pod accepts no more.
    pub fn listens_again(&self, ended: &Arc<TcpListener>, again: &Arc<TcpListener>) -> bool {
        let mut anchors = self.anchors();
        let Some(anchors) = anchors.as_mut() else {
            return false;
        };
        anchors.retain(|own| !Arc::ptr_eq(own, ended));
        anchors.push(Arc::clone(again));
        true
    }

    /// Accepts no more. The kernel resets what waits to be accepted (`inet_csk_listen_stop`).
    pub fn stop_accepting(&self) {
        for listener in self.anchors().take().unwrap_or_default() {
            let _ = socket2::SockRef::from(&*listener).shutdown(Shutdown::Both);
        }
    }

    /// Whether it accepts connections still.
    pub fn accepts(&self) -> bool {
        self.anchors().is_some()
    }

    /// How it is named.
    pub fn spec(&self) -> Arc<PodSpec> {
        Arc::clone(&self.spec.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives it the name and the paths by which it was found again.
    pub fn rename(&self, spec: PodSpec) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(spec);
    }

    /// Whether `candidate` is this pod under another name or other paths: nothing that its connections depend on has changed.
    pub fn is(&self, candidate: &Candidate) -> bool {
        let addresses = (candidate.anchors.iter()).map(|(anchor, _)| anchor.ip());
        self.cookie == candidate.cookie
            && self.cgroup == candidate.cgroup_id
            && self.addresses.iter().copied().eq(addresses)
    }

    /// The address that upstreams to `endpoint` leave from; `None` if the pod lacks the family.
    pub fn source(&self, endpoint: SocketAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == endpoint.is_ipv4())
    }

    fn hold(&self) -> MutexGuard<'_, Option<Hold>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids of the links of its connect programs.
    pub fn connect_links(&self) -> Vec<u32> {
        let hold = self.hold();
        hold.as_ref()
            .map_or(Vec::new(), |hold| hold.attached.connects.clone())
    }

    /// Lets another daemon enrol the pod.
    pub fn unlock(&self) {
        if let Some(hold) = self.hold().as_mut() {
            hold.lock = None;
        }
    }

    /// Keeps other daemons away again.
    pub fn relock(&self, lock: Lock) {
        if let Some(hold) = self.hold().as_mut() {
            hold.lock = Some(lock);
        }
    }

    /// Leaves the pod's new connections to another daemon.
    pub fn forgo_connects(&self) {
        if let Some(hold) = self.hold().as_mut() {
            hold.attached.forgo_connects();
        }
    }

    /// Detaches the pod's programs, unless they were handed on, and removes its traces from the kernel's tables. Connections may
    /// still hold the pod.
    pub fn release(&self, datapath: &mut Datapath) {
        *self.hold() = None;
        self.withdraw(datapath);
        // Without its programs nobody notices when the pod's connections close.
        let keys = datapath.anchored.keys().filter_map(Result::ok);
        let own: Vec<AnchoredKey> = keys.filter(|key| key.pod == self.index).collect();
        for key in own {
            let Ok(anchored) = datapath.anchored.get(&key, 0) else {
                continue;
            };
            // From here on they are plain sockets, and what they are connected to closes.
            let _ = datapath.anchored.remove(&key);
            let _ = datapath.clients.remove(&anchored.cookie);
            let _ = datapath.waiting.remove(&anchored.cookie);
            let _ = datapath.spilled.remove(&anchored.cookie);
            let _ = datapath.answered.remove(&anchored.cookie);
        }
        // The address of its device may be another pod's next.
        let flows: Vec<_> = (datapath.flows.iter().filter_map(Result::ok))
            .filter(|(_, flow)| flow.pod == self.index)
            .map(|(key, flow)| (key, flow.anchor))
            .collect();
        for (key, anchor) in flows {
            let _ = datapath.flows.remove(&key);
            let _ = datapath.peers.remove(&anchor);
        }
    }
}

fn kernel_error(spec: &PodSpec, source: LoadError) -> PodError {
    PodError::Kernel {
        pod: spec.name.clone(),
        source: Box::new(source),
    }
}
