//! What of an enrolment depends on the pod alone: its namespace, its cgroup, its addresses, its anchors' sockets.
//!
//! All of it happens on the thread of the pod's namespace, so that a path that does not open makes only this pod wait.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use crate::buffers::ANCHOR_SEGMENT;
use crate::load::{Attached, Datapath, LoadError};
use crate::netns::{Netns, enter};
use crate::path::Path;
use crate::pods::{PodError, PodSpec};

/// A pod that is ready to be enrolled; the kernel's tables do not know it.
pub struct Candidate {
    /// How it was named.
    pub spec: PodSpec,
    /// Makes sockets in its namespace.
    pub netns: Netns,
    /// What carries its requests.
    pub path: Path,
    /// Where its programs are attached.
    pub ground: Ground,
    /// The cgroup's id.
    pub cgroup_id: u64,
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// One listening socket for each of its addresses.
    pub anchors: Vec<(SocketAddr, tokio::net::TcpListener)>,
}

/// Where a pod's programs are attached.
pub struct Ground {
    /// Its cgroup.
    pub cgroup: File,
    namespace: File,
    /// Names of the devices for the splice path; none for another one.
    devices: Vec<String>,
}

impl Ground {
    /// Attaches the splice path's programs to the devices, from a thread of its own: a thread stays where it entered.
    ///
    /// # Errors
    /// [`LoadError`], naming the device or the program.
    pub fn attach_devices(
        &self,
        datapath: &mut Datapath,
        attached: &mut Attached,
    ) -> Result<(), LoadError> {
        let Some(first) = self.devices.first() else {
            return Ok(());
        };
        std::thread::scope(|scope| {
            let attaching = scope.spawn(|| {
                let entered = setns(&self.namespace, CloneFlags::CLONE_NEWNET);
                entered.map_err(|errno| LoadError::Device {
                    device: first.clone(),
                    source: errno.into(),
                })?;
                let mut devices = self.devices.iter();
                devices.try_for_each(|device| datapath.attach_device(attached, device))
            });
            attaching
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// What was found at a pod's paths.
struct Found {
    ground: Ground,
    cgroup_id: u64,
    cookie: u64,
    anchors: Vec<(SocketAddr, TcpListener)>,
}

impl Candidate {
    /// Opens what belongs to the pod; takes as long as that takes.
    ///
    /// # Errors
    /// [`PodError`], naming the path.
    pub async fn open(spec: PodSpec, path: Path) -> Result<Self, PodError> {
        let unreachable = |source| netns_error(&spec, source);
        let netns = Netns::start().map_err(unreachable)?;
        let wanted = spec.clone();
        let found = netns.call(move || find(&wanted, path)).await;
        let found = found.map_err(unreachable)??;
        let anchor = |(address, listener): (SocketAddr, _)| {
            let listener = tokio::net::TcpListener::from_std(listener);
            match listener {
                Ok(listener) => Ok((address, listener)),
                Err(source) => Err(anchor_error(&spec, address.ip(), source)),
            }
        };
        let anchors = found.anchors.into_iter().map(anchor);
        Ok(Self {
            anchors: anchors.collect::<Result<_, _>>()?,
            netns,
            path,
            ground: found.ground,
            cgroup_id: found.cgroup_id,
            cookie: found.cookie,
            spec,
        })
    }
}

fn netns_error(spec: &PodSpec, source: io::Error) -> PodError {
    PodError::Netns {
        pod: spec.name.clone(),
        path: spec.netns.display().to_string(),
        source,
    }
}

fn anchor_error(spec: &PodSpec, address: IpAddr, source: io::Error) -> PodError {
    PodError::Anchor {
        pod: spec.name.clone(),
        address,
        source,
    }
}

/// Moves the calling thread into the pod's namespace and looks around.
fn find(spec: &PodSpec, path: Path) -> Result<Found, PodError> {
    let spliced = path == Path::Splice;
    let unreachable = |source| netns_error(spec, source);
    let cgroup = open_cgroup(spec).map_err(|source| PodError::Cgroup {
        pod: spec.name.clone(),
        path: spec.cgroup.display().to_string(),
        source,
    })?;
    let cgroup_id = cgroup.metadata().map_err(unreachable)?.ino();
    let namespace = enter(&spec.netns).map_err(unreachable)?;
    let cookie = cookie().map_err(unreachable)?;
    let mut anchors = Vec::new();
    let (addresses, mut devices) = addresses().map_err(unreachable)?;
    if !spliced {
        devices.clear();
    }
    for address in addresses {
        let anchor = listen(SocketAddr::new(address, 0), spliced)
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|source| anchor_error(spec, address, source))?;
        anchors.push(anchor);
    }
    if anchors.is_empty() {
        return Err(PodError::NoAddress {
            pod: spec.name.clone(),
        });
    }
    Ok(Found {
        ground: Ground {
            cgroup,
            namespace,
            devices,
        },
        cgroup_id,
        cookie,
        anchors,
    })
}

fn open_cgroup(spec: &PodSpec) -> io::Result<File> {
    let cgroup = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK)
        .open(&spec.cgroup)?;
    if fstatfs(&cgroup)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other("it is no cgroup2 directory"));
    }
    Ok(cgroup)
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
///
/// # Errors
/// What the kernel says.
pub fn listen(address: SocketAddr, spliced: bool) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    if !spliced {
        // For the sockets it accepts.
        socket2::SockRef::from(&listener).set_tcp_mss(ANCHOR_SEGMENT)?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}
