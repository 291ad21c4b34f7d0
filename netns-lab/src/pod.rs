//! A pod: a namespace to run code and programs in, with a cgroup of its own.

use std::{
    ffi::OsStr,
    fs::File,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    thread,
};

use netns_rs::NetNs;

use crate::{
    address::Pair,
    cgroup::CpuUsage,
    error::LabError,
    namespace,
    placement::{CpuSet, Placement},
    spawner,
};

/// One pod of a [`crate::Lab`]; it lives as long as the lab.
#[derive(Debug)]
pub struct Pod {
    address: Pair,
    cgroup: PathBuf,
    cpus: Vec<usize>,
    placement: Placement,
}

impl Pod {
    pub(crate) fn new(
        lab: &str,
        name: &str,
        address: Pair,
        cpus: &[usize],
        netns: NetNs,
        cgroup: (PathBuf, File),
    ) -> Self {
        let (cgroup, procs) = cgroup;
        let placement = Placement {
            lab: lab.to_owned(),
            name: name.to_owned(),
            netns: Arc::new(netns),
            procs: Arc::new(procs),
            cpus: CpuSet::new(cpus),
        };
        Self {
            address,
            cgroup,
            cpus: cpus.to_vec(),
            placement,
        }
    }

    /// The pod's name in the topology.
    pub fn name(&self) -> &str {
        &self.placement.name
    }

    /// Address of `eth0`.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.address.v4
    }

    /// Address of `eth0`.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.address.v6
    }

    /// CPUs its programs may use; empty means all.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// The cgroup2 directory of the pod.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The network namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.placement.netns.file().as_fd()
    }

    /// A path by which other processes can open the namespace while this process and the lab live
    /// (`/proc/<pid>/fd/<n>`).
    pub fn netns_path(&self) -> PathBuf {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.netns().as_raw_fd()
        )
        .into()
    }

    /// Runs a closure on a new thread inside the pod's network namespace, and waits for it. Sockets it makes
    /// belong to the pod's namespace for good, wherever they are used later; the thread itself stays in the cgroup of
    /// this process and on its CPUs. A panic of the closure goes on in the caller.
    ///
    /// # Errors
    /// [`LabError::Namespace`] if the namespace can't be entered, [`LabError::Thread`] if there is no thread to be had.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let name = self.name();
        let inside = move || namespace::enter(name, &self.placement.netns).map(|()| work());
        thread::scope(|scope| {
            let builder = thread::Builder::new().name(name.chars().take(15).collect());
            let handle =
                builder
                    .spawn_scoped(scope, inside)
                    .map_err(|source| LabError::Thread {
                        what: "thread in a pod",
                        source,
                    })?;
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that runs in this pod: its namespace, cgroup and CPUs, `NETNS_LAB_ID` and `NETNS_LAB_POD` in
    /// its environment. It dies with the lab in any case (the cgroup is killed, by the guardian if need be). Start it with
    /// [`Pod::spawn`] to have it die with this process even if the guardian is killed as well;
    /// a plain `spawn`, `status`, `output`, or tokio's `Command::from`, is right for everything else.
    ///
    /// To run it as another user, change the ids in a `pre_exec` of your own: `Command::uid` acts before the namespace
    /// is entered, which then fails for want of rights.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.placement.command(program)
    }

    /// Starts a command made by [`Pod::command`] from a thread that lives as long as this process, with
    /// `PR_SET_PDEATHSIG` set to SIGKILL. (The signal is tied to the forking thread, so a command started in
    /// any other way doesn't get it: it would die with a short-lived worker thread.)
    ///
    /// # Errors
    /// [`LabError::Spawn`] with the program, the pod and the likely cause.
    pub fn spawn(&self, command: Command) -> Result<Child, LabError> {
        spawn(command, self.name())
    }

    /// CPU time of all programs that ran in this pod.
    ///
    /// # Errors
    /// [`LabError::Cgroup`] if the lab is down.
    pub fn cpu_usage(&self) -> Result<CpuUsage, LabError> {
        CpuUsage::read(&self.cgroup)
    }
}

/// Starts a command from the spawner thread and names it in errors.
pub(crate) fn spawn(command: Command, place: &str) -> Result<Child, LabError> {
    let program = command.get_program().to_string_lossy().into_owned();
    spawner::spawn(command).map_err(|source| LabError::Spawn {
        program,
        place: place.to_owned(),
        source,
    })
}
