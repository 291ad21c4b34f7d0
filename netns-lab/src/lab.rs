//! A lab that is up.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Child, Command},
    sync::Arc,
};

use netns_rs::NetNs;

use crate::{
    address::{self, Pair},
    cgroup::{CpuUsage, LabCgroup},
    error::LabError,
    identity::Identity,
    namespace,
    network::{self, Host},
    placement::{self, CpuSet, Placement},
    pod::{self, Pod},
    topology::{Problem, Topology, check_name},
};

/// A service as it was built: its virtual addresses are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name in the topology.
    pub name: String,
    /// Virtual IPv4 address; routed in every pod, answered by nobody but the data plane under test.
    pub vip4: Ipv4Addr,
    /// Virtual IPv6 address.
    pub vip6: Ipv6Addr,
    /// Ports.
    pub ports: Vec<u16>,
    /// Names of the pods behind it.
    pub pods: Vec<String>,
}

/// Pods on a bridge, alive until [`Lab::down`], a drop, or the end of this process, however it ends.
///
/// Everything is private to the lab: several may run at once with the same addresses.
#[derive(Debug)]
pub struct Lab {
    identity: Identity,
    // Dropped before the namespaces: the programs go first, then the network.
    cgroup: LabCgroup,
    pods: Vec<Pod>,
    services: Vec<Service>,
    /// The namespace of whoever built the lab, where its daemons run.
    home: Arc<NetNs>,
    /// Held for the links in it.
    _switch: NetNs,
}

impl Lab {
    /// Builds a lab. May be called from any thread, async or not; it blocks for some 10 ms per pod at most.
    ///
    /// # Errors
    /// [`LabError`], after everything that was built so far has been removed.
    pub fn up(topology: &Topology) -> Result<Self, LabError> {
        topology.validate()?;
        for pod in &topology.pods {
            placement::check_online(&pod.name, &pod.cpus)?;
        }
        let addresses = address::allocate(topology);
        let identity = Identity::new(&topology.name)?;
        let home = Arc::new(namespace::current("home")?);
        let cgroup = LabCgroup::create(&identity)?;
        let named = topology.pods.iter().zip(&addresses.pods);
        let hosts: Vec<_> = named
            .map(|(pod, address)| Host {
                name: &pod.name,
                address: *address,
            })
            .collect();
        let network = network::build(&hosts)?;
        let mut pods = Vec::with_capacity(hosts.len());
        for ((spec, host), netns) in topology.pods.iter().zip(&hosts).zip(network.pods) {
            let directory = cgroup.child(host.name)?;
            pods.push(Pod::new(
                &identity.id,
                host.name,
                host.address,
                &spec.cpus,
                netns,
                directory,
            ));
        }
        Ok(Self {
            identity,
            cgroup,
            pods,
            services: services(topology, &addresses.services),
            home,
            _switch: network.switch,
        })
    }

    /// The lab's id: `<topology name>-<8 hex digits>`, unlike any other on this machine.
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// The lab's cgroup2 directory, parent of the pods' and daemons'.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.path()
    }

    /// The pods, in the topology's order.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The services, in the topology's order.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// A pod by name.
    ///
    /// # Errors
    /// [`LabError::UnknownPod`] with the names there are.
    pub fn pod(&self, name: &str) -> Result<&Pod, LabError> {
        self.pods
            .iter()
            .find(|pod| pod.name() == name)
            .ok_or_else(|| LabError::UnknownPod {
                lab: self.id().to_owned(),
                pod: name.to_owned(),
                known: self
                    .pods
                    .iter()
                    .map(Pod::name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// A command for a program that belongs to the lab but to no pod: it runs in the network namespace that the
    /// lab was built from, in the cgroup `<lab>/<cgroup_name>` (made if it isn't there), on these CPUs (empty: all).
    /// Start it with [`Lab::spawn`].
    ///
    /// # Errors
    /// [`LabError::DaemonName`] if the name is a pod's or not allowed, [`LabError::NoSuchCpu`], [`LabError::Cgroup`].
    pub fn daemon_command(
        &self,
        program: impl AsRef<OsStr>,
        cgroup_name: &str,
        cpus: &[usize],
    ) -> Result<Command, LabError> {
        self.check_daemon(cgroup_name)?;
        placement::check_online(cgroup_name, cpus)?;
        let (_, procs) = self.cgroup.child(cgroup_name)?;
        let placement = Placement {
            lab: self.id().to_owned(),
            name: cgroup_name.to_owned(),
            netns: Arc::clone(&self.home),
            procs: Arc::new(procs),
            cpus: CpuSet::new(cpus),
        };
        Ok(placement.command(program))
    }

    /// Starts a command made by [`Lab::daemon_command`]; see [`Pod::spawn`].
    ///
    /// # Errors
    /// [`LabError::Spawn`].
    pub fn spawn(&self, command: Command) -> Result<Child, LabError> {
        pod::spawn(command, self.id())
    }

    /// CPU time of everything that ran in the lab, daemons included.
    ///
    /// # Errors
    /// [`LabError::Cgroup`] if the cgroup can't be read.
    pub fn cpu_usage(&self) -> Result<CpuUsage, LabError> {
        CpuUsage::read(self.cgroup())
    }

    /// CPU time of one daemon's cgroup.
    ///
    /// # Errors
    /// [`LabError::DaemonName`] if no daemon has this name, [`LabError::Cgroup`] if it has not been started.
    pub fn daemon_cpu_usage(&self, cgroup_name: &str) -> Result<CpuUsage, LabError> {
        self.check_daemon(cgroup_name)?;
        CpuUsage::read(&self.cgroup().join(cgroup_name))
    }

    /// Kills every program of the lab, removes its cgroups and closes its namespaces. The kernel takes the
    /// links apart in the background. Children that you started remain yours to `wait` for.
    ///
    /// # Errors
    /// [`LabError::CgroupBusy`] or [`LabError::Cgroup`]; the guardian then goes on trying for 30 s.
    pub fn down(mut self) -> Result<(), LabError> {
        self.cgroup.remove()
    }

    /// Pid of the process that cleans up should this one be killed.
    pub fn guardian_pid(&self) -> Option<u32> {
        self.cgroup.guardian_pid()
    }

    fn check_daemon(&self, name: &str) -> Result<(), LabError> {
        let refused = |problem: String| LabError::DaemonName {
            name: name.to_owned(),
            problem,
        };
        check_name(name).map_err(|problem: Problem| refused(problem.to_string()))?;
        if self.pod(name).is_ok() {
            return Err(refused("the name is a pod's".to_owned()));
        }
        Ok(())
    }
}

fn services(topology: &Topology, addresses: &[Pair]) -> Vec<Service> {
    let built = topology
        .services
        .iter()
        .zip(addresses)
        .map(|(spec, address)| Service {
            name: spec.name.clone(),
            vip4: address.v4,
            vip6: address.v6,
            ports: spec.ports.clone(),
            pods: spec.pods.clone(),
        });
    built.collect()
}
