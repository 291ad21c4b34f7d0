//! A node with a victim, an attacker and a server for each, and the rounds of attacks on it.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kmesh_probe::Status;
use netns_lab::{Lab, LabError, PodSpec, ServiceSpec, Topology};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::attack::Deeds;
use crate::victim::Seen;

const VICTIM: &str = "victim";
const ATTACKER: &str = "attacker";
/// Serves the victim.
const OWN: &str = "s1";
/// Serves the attacker.
const OTHER: &str = "s2";
const PODS: [&str; 4] = [VICTIM, ATTACKER, OWN, OTHER];
const SERVICE: u16 = 80;
/// The attacker's other service, on the same address.
const AGAIN: u16 = 81;
const SERVER: u16 = 8080;

/// The programs, and how long each attack goes on.
#[derive(Clone, Debug)]
pub struct Options {
    /// `kmeshd`.
    pub kmeshd: PathBuf,
    /// `kmesh-origin`.
    pub origin: PathBuf,
    /// `kmesh-attacker`.
    pub attacker: PathBuf,
    /// Length of an attack.
    pub length: Duration,
    /// More arguments for the daemon.
    pub daemon: Vec<String>,
}

/// An attack and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The attack.
    pub attack: &'static str,
    /// The attacker's side; nothing in the quiet round.
    pub deeds: Deeds,
    /// The victim's.
    pub seen: Seen,
    /// The victim's p99 as a multiple of the quiet round's.
    pub p99_ratio: f64,
    /// What the daemon's checker found wrong by the end of the round.
    pub violations: Vec<String>,
}

/// What came of all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The quiet round, then the attacks.
    pub rounds: Vec<Round>,
    /// Answers or requests that reached another pod than the one meant.
    pub stolen: u64,
    /// The victim's requests without a good answer.
    pub failed: u64,
    /// Requests of the victim in all.
    pub compared: u64,
    /// What the checker found.
    pub violations: u64,
    /// Connections and upstreams that the attacker was refused because it has its share.
    pub over_share: u64,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file or a process of our own.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ended before it was ready, or without an outcome.
    #[error("{program} ended without {missing}: {said}")]
    Ended {
        /// The program.
        program: String,
        /// What it did not say.
        missing: &'static str,
        /// What it said instead.
        said: String,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> IsolationError {
    let what = what.into();
    move |source| IsolationError::Io { what, source }
}

/// A node under test.
struct Node<'o> {
    options: &'o Options,
    lab: Lab,
    running: Vec<Child>,
    name: String,
    folder: tempfile::TempDir,
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is done to the victim in a round.
struct Attack {
    name: &'static str,
    /// The arguments of `kmesh-attacker`, none in the quiet round.
    arguments: Vec<String>,
}

/// Brings the node up, runs the attacks one after the other, each against a victim that works, and says what came of it.
///
/// # Errors
/// [`IsolationError`] if there is nothing to judge.
pub fn run(options: &Options) -> Result<Outcome, IsolationError> {
    let mut node = Node::up(options)?;
    let mut rounds: Vec<Round> = Vec::new();
    for attack in node.attacks() {
        eprintln!("{}", attack.name);
        let mut round = node.round(&attack)?;
        let quiet = rounds
            .first()
            .map_or(round.seen.p99_us, |first| first.seen.p99_us);
        round.p99_ratio = round.seen.p99_us as f64 / quiet.max(1) as f64;
        rounds.push(round);
    }
    let status = node.status()?;
    let attacker = status.shares.iter().find(|share| share.pod == ATTACKER);
    let sum = |count: fn(&Round) -> u64| rounds.iter().map(count).sum();
    Ok(Outcome {
        stolen: sum(|round| round.seen.stolen + round.deeds.taken),
        failed: sum(|round| round.seen.failed),
        compared: sum(|round| round.seen.answered + round.seen.failed + round.seen.stolen),
        violations: status.leases.wrong,
        over_share: attacker.map_or(0, |share| {
            share.connections_refused + share.upstreams_refused + share.descriptors_refused
        }),
        rounds,
    })
}

impl<'o> Node<'o> {
    fn up(options: &'o Options) -> Result<Self, IsolationError> {
        let pod = |name: &&str| PodSpec {
            name: (*name).to_owned(),
            ..PodSpec::default()
        };
        let service = |name: &str, pods: &[&str]| ServiceSpec {
            name: name.to_owned(),
            ports: vec![SERVICE, AGAIN],
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
            ..ServiceSpec::default()
        };
        let lab = Lab::up(&Topology {
            name: "isolation".to_owned(),
            pods: PODS.iter().map(pod).collect(),
            services: vec![service(VICTIM, &[OWN]), service(ATTACKER, &[OTHER])],
        })?;
        let folder = tempfile::tempdir().map_err(io("a folder for the configuration"))?;
        let name = format!("isolation-{}", std::process::id());
        let mut node = Self {
            options,
            lab,
            running: Vec::new(),
            name,
            folder,
        };
        node.configure()?;
        let mut command = node.lab.daemon_command(&options.kmeshd, &node.name, &[])?;
        command
            .args(["run", "--name", &node.name, "--config"])
            .arg(node.folder.path().join("resources.yaml"))
            .arg("--pods")
            .arg(node.folder.path().join("pods.json"))
            .args(&options.daemon);
        let child = node.lab.spawn(piped(command))?;
        node.keep("kmeshd", child, "kmeshd ready")?;
        for server in [OWN, OTHER] {
            let pod = node.pod(server)?;
            let mut command = pod.command(&options.origin);
            let at = SocketAddr::new(pod.ipv4().into(), SERVER);
            command.args(["--listen", &at.to_string(), "--name", server]);
            let child = pod.spawn(piped(command))?;
            node.keep("kmesh-origin", child, "ready")?;
        }
        Ok(node)
    }

    fn pod(&self, name: &str) -> Result<&netns_lab::Pod, IsolationError> {
        let missing = || io(format!("pod {name}"))(io::ErrorKind::NotFound.into());
        self.lab.pod(name).ok_or_else(missing)
    }

    fn vip(&self, of: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.lab.services()[of].vip4.into(), port)
    }

    fn configure(&self) -> Result<(), IsolationError> {
        let at = |pod: &str| {
            Ok::<_, IsolationError>(SocketAddr::new(self.pod(pod)?.ipv4().into(), SERVER))
        };
        let document = json!({ "static_resources": {
            "listeners": [
                listener(self.vip(0, SERVICE), OWN),
                listener(self.vip(1, SERVICE), OTHER),
                listener(self.vip(1, AGAIN), OTHER),
            ],
            "clusters": [cluster(OWN, at(OWN)?), cluster(OTHER, at(OTHER)?)],
        } });
        let pods: Vec<Value> = PODS
            .iter()
            .map(|name| {
                let pod = self.pod(name)?;
                Ok(json!({ "name": name, "netns": pod.netns_path(), "cgroup": pod.cgroup() }))
            })
            .collect::<Result<_, IsolationError>>()?;
        for (file, text) in [
            ("resources.yaml", document.to_string()),
            ("pods.json", Value::from(pods).to_string()),
        ] {
            fs::write(self.folder.path().join(file), text).map_err(io(file))?;
        }
        Ok(())
    }

    fn keep(&mut self, program: &str, mut child: Child, ready: &str) -> Result<(), IsolationError> {
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe);
        let lines = BufReader::new(out.map_err(|kind| io(program)(kind.into()))?).lines();
        let mut said = String::new();
        for line in lines.map_while(Result::ok) {
            if line == ready {
                self.running.push(child);
                return Ok(());
            }
            said = line;
        }
        let _ = child.wait();
        Err(IsolationError::Ended {
            program: program.to_owned(),
            missing: "being ready",
            said,
        })
    }

    fn status(&self) -> Result<Status, IsolationError> {
        kmesh_probe::client::status(&self.name).map_err(io("the daemon's status"))
    }

    /// Every attack there is, the quiet round first.
    fn attacks(&self) -> Vec<Attack> {
        let seconds = self.options.length.as_secs_f64().to_string();
        let attack = |name, arguments: &[&str]| Attack {
            name,
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        };
        let own = self.vip(1, SERVICE).to_string();
        let again = self.vip(1, AGAIN).to_string();
        let address = |pod| {
            self.lab
                .pod(pod)
                .map_or_else(String::new, |pod| pod.ipv4().to_string())
        };
        let server = format!("{}:{SERVER}", address(OWN));
        let (victim, seconds) = (address(VICTIM), seconds.as_str());
        vec![
            attack("quiet", &[]),
            attack(
                "a thief rebuilds the victim's connections",
                &["thief", &victim, &server, seconds],
            ),
            attack(
                "exchanges are reset at every moment",
                &["reset", &own, seconds],
            ),
            attack(
                "exchanges are left by AF_UNSPEC at every moment",
                &["unspec", &own, seconds],
            ),
            attack(
                "sockets are used again at once for another service",
                &["again", &own, &again, seconds],
            ),
            attack(
                "connections without end",
                &["hold", &own, "100000", seconds],
            ),
        ]
    }

    fn round(&mut self, attack: &Attack) -> Result<Round, IsolationError> {
        let attacker = if attack.arguments.is_empty() {
            None
        } else {
            Some(self.start(ATTACKER, &attack.arguments)?)
        };
        let seconds = self.options.length.as_secs_f64().to_string();
        let target = self.vip(0, SERVICE).to_string();
        let words = ["victim", &target, OWN, &seconds].map(str::to_owned);
        let victim = self.start(VICTIM, &words)?;
        let seen: Seen = outcome(victim)?;
        let deeds: Deeds = attacker.map_or_else(|| Ok(Deeds::default()), outcome)?;
        let status = self.status()?;
        Ok(Round {
            attack: attack.name,
            deeds,
            seen,
            p99_ratio: 1.0,
            violations: status.leases.violations,
        })
    }

    fn start(&self, pod: &str, arguments: &[String]) -> Result<Child, IsolationError> {
        let pod = self.pod(pod)?;
        let mut command = pod.command(&self.options.attacker);
        command.args(arguments);
        Ok(pod.spawn(piped(command))?)
    }
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The one line of JSON that a program prints.
fn outcome<T: for<'d> Deserialize<'d>>(child: Child) -> Result<T, IsolationError> {
    let output = child.wait_with_output().map_err(io("kmesh-attacker"))?;
    serde_json::from_slice(&output.stdout).map_err(|_| IsolationError::Ended {
        program: "kmesh-attacker".to_owned(),
        missing: "an outcome",
        said: format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        ),
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// An HTTP listener that sends everything to one cluster, by two routes: the kernel decides on each request.
fn listener(at: SocketAddr, cluster: &str) -> Value {
    const V3: &str = "type.googleapis.com/envoy.extensions.filters";
    let other = if cluster == OWN { OTHER } else { OWN };
    let route = |prefix: &str, cluster: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster, "timeout": "0s" } });
    let manager = json!({
        "@type": format!("{V3}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "generate_request_id": false,
        "server_header_transformation": "PASS_THROUGH",
        "skip_xff_append": true,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": { "idle_timeout": "0s" },
        "route_config": { "name": format!("routes-{at}"), "virtual_hosts": [
            { "name": "all", "domains": ["*"], "routes": [route("/nobody-asks/", other), route("/", cluster)] },
        ] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": format!("{V3}.http.router.v3.Router"),
                "suppress_envoy_headers": true,
            },
        }],
    });
    let filter =
        json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({
        "name": format!("listener-{at}"),
        "address": socket(at),
        "bind_to_port": false,
        "filter_chains": [{ "filters": [filter] }],
    })
}

fn cluster(name: &str, endpoint: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(endpoint) } }] }],
        },
    })
}
