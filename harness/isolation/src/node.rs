//! A node with a victim, an attacker and a server for each, all enrolled.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kmesh_probe::Status;
use netns_lab::{Lab, PodSpec, ServiceSpec, Topology};
use serde_json::{Value, json};

use crate::error::{IsolationError, io};
use crate::process::Running;
use crate::resources::{cluster, document, listener};

/// Sends requests, and knows who must answer them.
pub(crate) const VICTIM: &str = "victim";
/// Attacks.
pub(crate) const ATTACKER: &str = "attacker";
/// Serves the victim.
pub(crate) const OWN: &str = "s1";
/// Serves the attacker.
pub(crate) const OTHER: &str = "s2";
/// Has an address that is another pod's afterwards.
pub(crate) const BEFORE: &str = "before";
/// Has it then.
pub(crate) const AFTER: &str = "after";
const PODS: [&str; 6] = [VICTIM, ATTACKER, OWN, OTHER, BEFORE, AFTER];
/// Where services listen.
pub(crate) const SERVICE: u16 = 80;
/// Where their second listener is: the attacker's leads to the same server, the victim's to the pod whose address moves.
pub(crate) const SECOND: u16 = 81;
/// Where servers listen.
pub(crate) const SERVER: u16 = 8080;
/// The victim's ports, upstreams of its included: few, so that whoever tries them all comes by often.
pub(crate) const PORTS: [u16; 2] = [10_000, 12_999];
/// How long the daemon may take to follow a file.
const FOLLOWED: Duration = Duration::from_secs(20);

/// The programs and how they are run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `kmeshd`.
    pub kmeshd: PathBuf,
    /// `kmesh-origin`.
    pub origin: PathBuf,
    /// `kmesh-attacker`.
    pub attacker: PathBuf,
    /// More arguments for the daemon.
    pub daemon: Vec<String>,
}

/// A node under test.
pub(crate) struct Node<'p> {
    programs: &'p Programs,
    pub(crate) lab: Lab,
    daemons: Vec<Running>,
    servers: Vec<Running>,
    name: String,
    folder: tempfile::TempDir,
}

impl<'p> Node<'p> {
    /// Brings it up, with the pods' requests carried by that path.
    pub(crate) fn up(programs: &'p Programs) -> Result<Self, IsolationError> {
        let pod = |name: &&str| PodSpec {
            name: (*name).to_owned(),
            cpus: cpus(name),
            ..PodSpec::default()
        };
        let service = |name: &str, pods: &[&str]| ServiceSpec {
            name: name.to_owned(),
            ports: vec![SERVICE, SECOND],
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
            ..ServiceSpec::default()
        };
        let lab = Lab::up(&Topology {
            name: "isolation".to_owned(),
            pods: PODS.iter().map(pod).collect(),
            services: vec![service(VICTIM, &[OWN]), service(ATTACKER, &[OTHER])],
        })?;
        let folder = tempfile::tempdir().map_err(io("a folder for the configuration"))?;
        let mut node = Self {
            programs,
            name: lab.id().to_owned(),
            lab,
            daemons: Vec::new(),
            servers: Vec::new(),
            folder,
        };
        let ports = format!("{} {}", PORTS[0], PORTS[1]);
        let limited = node
            .lab
            .pod(VICTIM)?
            .run(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", ports))?;
        limited.map_err(io("the victim's ports"))?;
        node.configure(BEFORE)?;
        node.enrol(&PODS)?;
        node.daemon(&[])?;
        for server in [OWN, OTHER, BEFORE, AFTER] {
            node.serve(server)?;
        }
        Ok(node)
    }

    /// Starts a daemon; the ones from before stay until they leave or the node goes.
    pub(crate) fn daemon(&mut self, more: &[&str]) -> Result<(), IsolationError> {
        let mut command = self
            .lab
            .daemon_command(&self.programs.kmeshd, &self.name, &[])?;
        command
            .args(["run", "--name", &self.name, "--config"])
            .arg(self.file("resources.yaml"))
            .arg("--pods")
            .arg(self.file("pods.json"))
            .args(&self.programs.daemon)
            .args(more);
        let daemon = Running::in_lab(&self.lab, command, "kmeshd ready")?;
        self.daemons.push(daemon);
        Ok(())
    }

    fn serve(&mut self, name: &str) -> Result<(), IsolationError> {
        let pod = self.lab.pod(name)?;
        let mut command = pod.command(&self.programs.origin);
        command.args(["--listen", &format!("0.0.0.0:{SERVER}"), "--name", name]);
        self.servers.push(Running::in_pod(pod, command, "ready")?);
        Ok(())
    }

    /// Starts `kmesh-attacker` in a pod.
    pub(crate) fn start(&self, pod: &str, words: &[String]) -> Result<Running, IsolationError> {
        let pod = self.lab.pod(pod)?;
        let mut command = pod.command(&self.programs.attacker);
        command.args(words);
        Running::in_pod(pod, command, "ready")
    }

    /// An address of the victim's service, or of the attacker's.
    pub(crate) fn service(&self, of: &str, port: u16) -> SocketAddr {
        let services = self.lab.services();
        let service = &services[usize::from(of == ATTACKER)];
        SocketAddr::new(service.vip4.into(), port)
    }

    /// Where a pod serves.
    pub(crate) fn endpoint(&self, pod: &str) -> Result<SocketAddr, IsolationError> {
        Ok(SocketAddr::new(self.lab.pod(pod)?.ipv4().into(), SERVER))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration, with the victim's second listener leading to `second`.
    pub(crate) fn configure(&self, second: &str) -> Result<(), IsolationError> {
        let clusters = [OWN, OTHER, second].map(|pod| Ok(cluster(pod, self.endpoint(pod)?)));
        let clusters: Vec<Value> = clusters
            .into_iter()
            .collect::<Result<_, IsolationError>>()?;
        let distinct = if second == OWN {
            &clusters[..2]
        } else {
            &clusters[..]
        };
        let document = document(
            &[
                listener(self.service(VICTIM, SERVICE), OWN, OTHER),
                listener(self.service(VICTIM, SECOND), second, OTHER),
                listener(self.service(ATTACKER, SERVICE), OTHER, OWN),
                listener(self.service(ATTACKER, SECOND), OTHER, OWN),
            ],
            distinct,
        );
        replace(&self.file("resources.yaml"), &document)
    }

    /// Writes the list of pods.
    pub(crate) fn enrol(&self, pods: &[&str]) -> Result<(), IsolationError> {
        let entries = pods.iter().map(|name| {
            let pod = self.lab.pod(name)?;
            Ok(json!({ "name": name, "netns": pod.netns_path(), "cgroup": pod.cgroup() }))
        });
        let entries: Vec<Value> = entries.collect::<Result<_, IsolationError>>()?;
        replace(&self.file("pods.json"), &Value::from(entries))
    }

    /// All pods but one.
    pub(crate) fn pods_but(pod: &str) -> Vec<&'static str> {
        PODS.into_iter().filter(|name| *name != pod).collect()
    }

    /// What the daemon says of itself.
    pub(crate) fn status(&self) -> Result<Status, IsolationError> {
        Ok(kmesh_probe::client::status(&self.name)?)
    }

    /// Waits until the daemon's status is as `holds` wants it.
    pub(crate) fn followed(
        &self,
        what: &'static str,
        holds: impl Fn(&Status) -> bool,
    ) -> Result<(), IsolationError> {
        let end = Instant::now() + FOLLOWED;
        loop {
            let status = self.status()?;
            if holds(&status) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(IsolationError::NotFollowed {
                    what,
                    seconds: FOLLOWED.as_secs(),
                    status: status.to_string(),
                });
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Runs `ip` in a pod.
    pub(crate) fn ip(&self, pod: &str, words: &[&str]) -> Result<(), IsolationError> {
        let pod = self.lab.pod(pod)?;
        let mut command: Command = pod.command("ip");
        command.args(words);
        let what = format!("ip {} in {}", words.join(" "), pod.name());
        let status = pod.spawn(command)?.wait().map_err(io(what.as_str()))?;
        if status.success() {
            return Ok(());
        }
        Err(IsolationError::Ended {
            program: what,
            missing: "success",
            said: status.to_string(),
        })
    }
}

/// The victim and its server have the first CPU to themselves, if there are several: what they share with others is the kernel, its tables and the
/// daemon, which goes where there is room.
fn cpus(pod: &str) -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    match pod {
        _ if all < 2 => Vec::new(),
        VICTIM | OWN => vec![0],
        _ => (1..all).collect(),
    }
}

/// Writes a file at once, as a deployment tool would.
fn replace(path: &Path, document: &Value) -> Result<(), IsolationError> {
    let new = path.with_extension("new");
    let failed = |path: &Path| io(path.display().to_string());
    fs::write(&new, document.to_string()).map_err(failed(&new))?;
    fs::rename(&new, path).map_err(failed(path))
}
