//! Enrolment: which pods are under the mesh.
//!
//! A pod is named to the daemon by its network namespace and cgroup, by whoever runs the node, never by anything the pod
//! does. A pod is enrolled while its [`Pod`] lives: cgroup programs attached, namespace known to the kernel, anchors open.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kmesh_api::Address;
use kmesh_api::pod::AnchoredKey;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, setns};

use crate::buffers::ANCHOR_SEGMENT;
use crate::load::{Attached, Datapath, LoadError};
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
}

/// Why a pod was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The pods file.
    #[error("{path}: not a list of pods with name, netns and cgroup")]
    File {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
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
    /// Another daemon has it.
    #[error("pod {pod}: cgroup {path} is already enrolled by another kmeshd")]
    Taken {
        /// The pod.
        pod: String,
        /// The cgroup.
        path: String,
    },
    /// The pod has no address.
    #[error("pod {pod}: its network namespace has no address besides loopback; set it up first")]
    NoAddress {
        /// The pod.
        pod: String,
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

/// Reads a pods file: a JSON list of [`PodSpec`].
///
/// # Errors
/// [`PodError::File`].
pub fn read(path: &std::path::Path) -> Result<Vec<PodSpec>, PodError> {
    let wrong = |source| PodError::File {
        path: path.display().to_string(),
        source,
    };
    let text = std::fs::read(path).map_err(wrong)?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.into()))
}

/// An enrolled pod.
pub struct Pod {
    /// How it was named.
    pub spec: PodSpec,
    /// Its index in the kernel's tables.
    pub index: u32,
    /// Its IPv4 and IPv6 addresses, as far as it has them.
    pub addresses: Vec<IpAddr>,
    /// Makes sockets in its namespace.
    pub netns: Netns,
    /// The cookie of its namespace.
    pub cookie: u64,
    /// Whether its anchored connections are spliced.
    pub spliced: bool,
    /// The pod's programs; `None` once released.
    attached: Mutex<Option<Attached>>,
    /// Keeps a second daemon away; `None` once released or while a successor enrols the pod.
    lock: Mutex<Option<Flock<File>>>,
}

impl Pod {
    /// Enrols a pod; returns its anchors' listening sockets with it.
    ///
    /// # Errors
    /// [`PodError`]; nothing stays behind then.
    pub fn enrol(
        datapath: &mut Datapath,
        spec: PodSpec,
        index: u32,
        path: Path,
    ) -> Result<(Self, Vec<std::net::TcpListener>), PodError> {
        let spliced = path == Path::Splice;
        let pod = || spec.name.clone();
        let kernel = |source: LoadError| PodError::Kernel {
            pod: spec.name.clone(),
            source: Box::new(source),
        };
        let lock = lock(&spec)?;
        let netns = Netns::enter(&spec.netns).map_err(|source| PodError::Netns {
            pod: pod(),
            path: spec.netns.display().to_string(),
            source,
        })?;
        let unreachable = |source| PodError::Netns {
            pod: spec.name.clone(),
            path: spec.netns.display().to_string(),
            source,
        };
        let (cookie, addresses, devices) = netns
            .run(|| {
                let (addresses, devices) = addresses()?;
                Ok((cookie()?, addresses, devices))
            })
            .and_then(|result: io::Result<_>| result)
            .map_err(unreachable)?;
        if addresses.is_empty() {
            return Err(PodError::NoAddress { pod: pod() });
        }
        let mut listeners = Vec::new();
        let mut record = kmesh_api::pod::Pod {
            index,
            spliced: u32::from(spliced),
            ..Default::default()
        };
        for &address in &addresses {
            let failed = |source| PodError::Anchor {
                pod: spec.name.clone(),
                address,
                source,
            };
            let listener = netns
                .run(move || listen(SocketAddr::new(address, 0), spliced))
                .and_then(|result| result)
                .map_err(failed)?;
            let anchor = Address::from(listener.local_addr().map_err(failed)?);
            if address.is_ipv4() {
                record.anchor4 = anchor;
            } else {
                record.anchor6 = anchor;
            }
            listeners.push(listener);
        }
        datapath.pods.insert(cookie, record, 0).map_err(|source| {
            kernel(LoadError::Map {
                map: "PODS",
                source,
            })
        })?;
        // The devices first: a connection must not find its packets on the way to a service that nobody is.
        let attach = |datapath: &mut Datapath| {
            let mut attached = datapath.attach(&*lock)?;
            if spliced {
                for device in &devices {
                    attach_device(datapath, &mut attached, &spec.netns, device)?;
                }
            }
            Ok(attached)
        };
        let attached = attach(datapath).map_err(|source| {
            // The entry would send connections to an anchor that is about to close.
            let _ = datapath.pods.remove(&cookie);
            kernel(source)
        })?;
        Ok((
            Self {
                spec,
                index,
                addresses,
                netns,
                cookie,
                spliced,
                attached: Mutex::new(Some(attached)),
                lock: Mutex::new(Some(lock)),
            },
            listeners,
        ))
    }

    /// The address that upstreams to `endpoint` leave from; `None` if the pod lacks the family.
    pub fn source(&self, endpoint: SocketAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == endpoint.is_ipv4())
    }

    fn attached(&self) -> MutexGuard<'_, Option<Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids of the links of its connect programs.
    pub fn connect_links(&self) -> Vec<u32> {
        let attached = self.attached();
        attached
            .as_ref()
            .map_or(Vec::new(), |attached| attached.connects.clone())
    }

    /// Lets another daemon enrol the pod.
    pub fn unlock(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps other daemons away again.
    ///
    /// # Errors
    /// [`PodError::Taken`].
    pub fn relock(&self) -> Result<(), PodError> {
        let lock = lock(&self.spec)?;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        Ok(())
    }

    /// Leaves the pod's new connections to another daemon.
    pub fn forgo_connects(&self) {
        if let Some(attached) = self.attached().as_mut() {
            attached.forgo_connects();
        }
    }

    /// Detaches the pod's programs and removes its traces from the kernel's tables. Connections may still hold the pod.
    pub fn release(&self, datapath: &mut Datapath) {
        *self.attached() = None;
        self.unlock();
        // A missing entry is what this asks for.
        let _ = datapath.pods.remove(&self.cookie);
        // Without its programs nobody notices when the pod's connections close.
        let keys = datapath.anchored.keys().filter_map(Result::ok);
        let own: Vec<AnchoredKey> = keys.filter(|key| key.pod == self.index).collect();
        for key in own {
            let _ = datapath.anchored.remove(&key);
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

/// Attaches the splice path's programs to a device of the namespace at `netns`, from a thread of its own: a thread stays where it entered.
fn attach_device(
    datapath: &mut Datapath,
    attached: &mut Attached,
    netns: &std::path::Path,
    device: &str,
) -> Result<(), LoadError> {
    let entered = File::open(netns).map_err(|source| LoadError::Device {
        device: device.to_owned(),
        source,
    });
    std::thread::scope(|scope| {
        let attaching = scope.spawn(|| {
            setns(entered?, CloneFlags::CLONE_NEWNET).map_err(|errno| LoadError::Device {
                device: device.to_owned(),
                source: errno.into(),
            })?;
            datapath.attach_device(attached, device)
        });
        attaching
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn lock(spec: &PodSpec) -> Result<Flock<File>, PodError> {
    let path = || spec.cgroup.display().to_string();
    let file = File::open(&spec.cgroup).map_err(|source| PodError::Kernel {
        pod: spec.name.clone(),
        source: Box::new(LoadError::Cgroup {
            pod: spec.name.clone(),
            path: path(),
            source,
        }),
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| PodError::Taken {
        pod: spec.name.clone(),
        path: path(),
    })
}

/// The cookie of the calling thread's network namespace (`SO_NETNS_COOKIE`, Linux 5.14).
fn cookie() -> io::Result<u64> {
    use std::os::fd::AsRawFd as _;
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")
        .or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0"))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option fills in a u64, and the pointers are to live variables of that size.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if failed == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The first global address of each family in the calling thread's network namespace, and the names of the devices that have them.
fn addresses() -> io::Result<(Vec<IpAddr>, Vec<String>)> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut devices: Vec<String> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else {
            continue;
        };
        let address = if let Some(v4) = address.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(v6) = address.as_sockaddr_in6() {
            IpAddr::V6(v6.ip())
        } else {
            continue;
        };
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let have = found
            .iter()
            .any(|other| other.is_ipv4() == address.is_ipv4());
        if !address.is_loopback() && !link_local && !have {
            found.push(address);
            if !devices.contains(&interface.interface_name) {
                devices.push(interface.interface_name);
            }
        }
    }
    Ok((found, devices))
}

/// Opens an anchor in the calling thread's namespace.
fn listen(address: SocketAddr, spliced: bool) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    if !spliced {
        // For the sockets it accepts.
        socket2::SockRef::from(&listener).set_tcp_mss(ANCHOR_SEGMENT)?;
    }
    Ok(listener)
}
