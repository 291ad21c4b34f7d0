//! The checker in an arm's lab: servers in their pods, the client in its own, the configuration rewritten meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

use kmesh_dataplanes::{
    ArmError, ArmPlan, Binaries, EnvoyProfile, Placement, RunningArm, ServerKind, ServerSpec,
};
use netns_lab::{LabError, Topology};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::churn::{self, ChurnError, Places, replace};
use crate::client::{self, Job};
use crate::finding::{Finding, Kind, Tally};
use crate::task::Task;
use crate::world::{self, Endpoints, SERVERS};

/// Port of the servers.
const PORT: u16 = 8080;
/// Port of the service.
const SERVICE_PORT: u16 = 80;
/// The pod of the client.
const CLIENT: &str = "client";

/// What to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long new connections are opened, seconds.
    pub seconds: f64,
    /// Seed of the plan.
    pub seed: u64,
    /// Connections at a time.
    pub workers: usize,
    /// Only this connection of the plan.
    pub only: Option<u64>,
    /// Programs of the arms.
    pub arms: Binaries,
    /// `kmesh-streams-server`.
    pub server: PathBuf,
    /// `kmesh-streams-client`.
    pub client: PathBuf,
    /// Whether the servers are to be spoken HTTP/2 to.
    pub http2: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// What was counted and found.
    #[serde(flatten)]
    pub tally: Tally,
    /// How often the configuration was rewritten and put in force; 0 in arms whose configuration is fixed at start.
    pub generations: u64,
    /// Requests finished in the kernel.
    pub kernel_requests: u64,
    /// Requests that user space served, by reason.
    pub fallback: BTreeMap<String, u64>,
    /// Clients that Envoy cut off for pipelining ([`RunningArm::response_floods`]): each is a broken exchange that is explained.
    pub response_floods: u64,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no such arm.
    #[error("there is no arm {name:?}; the arms are {}", kmesh_dataplanes::NAMES.join(", "))]
    UnknownArm {
        /// The name that was asked for.
        name: String,
    },
    /// The arm.
    #[error("arm {arm}")]
    Arm {
        /// Its name.
        arm: String,
        /// What failed.
        #[source]
        source: ArmError,
    },
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file or a process of the checker's own.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The client ended without a tally.
    #[error("the client ended ({status}) without a tally: {said}")]
    Client {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        said: String,
    },
    /// The samples allow no statement.
    #[error("the samples allow no statement")]
    Statistics(#[from] kmesh_stats::Error),
    /// The configuration could not be rewritten.
    #[error("the configuration could not be rewritten")]
    Churn(#[from] ChurnError),
}

/// An arm that is up, with our servers in its pods.
pub struct Bench {
    // Dropped first: the programs in the lab use the folder.
    pub(crate) running: Box<dyn RunningArm>,
    services: [(SocketAddr, Endpoints); 2],
    client: PathBuf,
    folder: tempfile::TempDir,
    arm: String,
}

impl Bench {
    /// Brings an arm up.
    ///
    /// # Errors
    /// [`CheckError::UnknownArm`], [`CheckError::Arm`], [`CheckError::Io`].
    pub fn up(arm: &str, options: &Options) -> Result<Self, CheckError> {
        let kind = kmesh_dataplanes::arm(arm).ok_or_else(|| CheckError::UnknownArm {
            name: arm.to_owned(),
        })?;
        let folder = tempfile::tempdir().map_err(io("a folder for the configuration"))?;
        let config = folder.path().join("resources.yaml");
        let topology = topology();
        let services = services();
        // Balancing connections needs one cluster for all.
        let by_request = arm != "kmesh-l4";
        let mut resources = world::resources(&services, 0, by_request);
        if options.http2 {
            world::speak_http2(&mut resources);
        }
        replace(&config, &resources).map_err(io("writing the configuration"))?;
        let running = kind
            .up(&plan(&topology, &services, &config, options))
            .map_err(|source| CheckError::Arm {
                arm: arm.to_owned(),
                source,
            })?;
        Ok(Self {
            running,
            services,
            client: options.client.clone(),
            folder,
            arm: arm.to_owned(),
        })
    }

    /// Where a client connects to reach the service.
    pub fn target(&self) -> SocketAddr {
        let [(vip, _), _] = self.services;
        self.running.targets(vip).first().copied().unwrap_or(vip)
    }

    /// Has the client program do a task in the client's pod.
    ///
    /// # Errors
    /// [`CheckError::Client`], [`CheckError::Io`].
    pub fn run<T: DeserializeOwned>(&self, task: &Task) -> Result<T, CheckError> {
        let client = self.start(task)?;
        // It reads one line, and the end of its input after that says nothing to it.
        let output = client
            .wait_with_output()
            .map_err(io("waiting for the client"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcome = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok());
        outcome.ok_or_else(|| CheckError::Client {
            status: output.status,
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Starts the client program in the client's pod and gives it its task. The streams are pipes.
    pub(crate) fn start(&self, task: &Task) -> Result<Child, CheckError> {
        let mut task = serde_json::to_string(task)
            .map_err(io::Error::from)
            .map_err(io("writing the task"))?;
        task.push('\n');
        let mut command = self.running.client().command(&self.client);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.running.client().spawn(command)?;
        if let Some(stdin) = &mut child.stdin {
            stdin
                .write_all(task.as_bytes())
                .map_err(io("giving the client its task"))?;
        }
        Ok(child)
    }

    /// Asks a server for a document at its own address, from the client's namespace.
    ///
    /// # Errors
    /// [`CheckError::Lab`], [`CheckError::Io`].
    pub fn ask<T: DeserializeOwned + Send>(
        &self,
        server: &str,
        path: &str,
    ) -> Result<T, CheckError> {
        let ip = self.running.lab().pod(server)?.ipv4();
        let at = SocketAddr::new(ip.into(), PORT);
        let document = self.running.client().run(|| client::fetch(at, path))?;
        document.map_err(io("asking a server"))
    }

    fn failed(&self, source: ArmError) -> CheckError {
        CheckError::Arm {
            arm: self.arm.clone(),
            source,
        }
    }
}

pub(crate) fn io(what: &'static str) -> impl Fn(io::Error) -> CheckError {
    move |source| CheckError::Io { what, source }
}

/// Runs the checker through an arm.
///
/// # Errors
/// [`CheckError`]; what is wrong with the bytes is no error but in the outcome.
pub fn check(arm: &str, options: &Options) -> Result<Outcome, CheckError> {
    let mut bench = Bench::up(arm, options)?;
    let running = bench.running.as_ref();
    let generations = bench.folder.path().join("generations");
    fs::write(&generations, [0; 16]).map_err(io("writing the generations"))?;
    let follows = running.decides() && arm.starts_with("kmesh");
    let job = job(running, &bench.services, options, &generations)?;
    let (stop, stopped) = mpsc::channel();
    let name = running.lab().id().to_owned();
    let config = bench.folder.path().join("resources.yaml");
    let (tally, rewritten) = thread::scope(|scope| {
        let places = Places {
            daemon: &name,
            config: &config,
            generations: &generations,
        };
        let services = bench.services;
        let churning = scope.spawn(move || {
            if !follows {
                return Ok(0);
            }
            let resources = |generation| world::resources(&services, generation, true);
            churn::rewrite(&places, resources, &stopped)
        });
        let tally = bench.run::<Tally>(&Task::Messages(job));
        drop(stop);
        let rewritten = churning
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (tally, rewritten)
    });
    let mut tally = tally?;
    if let Err(death) = bench.running.check_alive() {
        tally.find(Finding {
            kind: Kind::Broken,
            by: "lab".to_owned(),
            step: "at the end".to_owned(),
            what: death.to_string(),
        });
        return Ok(outcome(arm, options, tally));
    }
    let counters = bench
        .running
        .counters()
        .map_err(|source| bench.failed(source))?;
    let response_floods = bench
        .running
        .response_floods()
        .map_err(|source| bench.failed(source))?;
    Ok(Outcome {
        generations: rewritten?,
        kernel_requests: counters.kernel_requests,
        fallback: counters.fallback,
        response_floods,
        ..outcome(arm, options, tally)
    })
}

fn outcome(arm: &str, options: &Options, tally: Tally) -> Outcome {
    Outcome {
        arm: arm.to_owned(),
        seed: options.seed,
        tally,
        generations: 0,
        kernel_requests: 0,
        fallback: BTreeMap::new(),
        response_floods: 0,
    }
}

/// A client and the servers, at fixed addresses: every arm's lab is its own.
fn topology() -> Topology {
    let mut topology = Topology::default();
    for (index, name) in [CLIENT].iter().chain(&SERVERS).enumerate() {
        topology.pods.push(netns_lab::PodSpec {
            name: (*name).to_owned(),
            ipv4: Some(std::net::Ipv4Addr::new(10, 244, 0, 2 + index as u8)),
            ipv6: Some(std::net::Ipv6Addr::new(
                0xfd00,
                0x10,
                0x244,
                0,
                0,
                0,
                0,
                2 + index as u16,
            )),
            ..netns_lab::PodSpec::default()
        });
    }
    topology.services.push(netns_lab::ServiceSpec {
        name: "streams".to_owned(),
        vip4: Some(std::net::Ipv4Addr::new(10, 96, 0, 1)),
        vip6: Some(std::net::Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1)),
        ..netns_lab::ServiceSpec::default()
    });
    topology
}

/// The virtual addresses, each with the servers' addresses of its family; as in [`topology`].
fn services() -> [(SocketAddr, Endpoints); 2] {
    let topology = topology();
    let endpoints = |address: fn(&netns_lab::PodSpec) -> Option<IpAddr>| -> Endpoints {
        std::array::from_fn(|index| {
            let pod = address(&topology.pods[1 + index]);
            SocketAddr::new(pod.unwrap_or(IpAddr::from([0; 4])), PORT)
        })
    };
    let vip = |address: Option<IpAddr>| {
        SocketAddr::new(address.unwrap_or(IpAddr::from([0; 4])), SERVICE_PORT)
    };
    let service = &topology.services[0];
    [
        (
            vip(service.vip4.map(IpAddr::V4)),
            endpoints(|pod| pod.ipv4.map(IpAddr::V4)),
        ),
        (
            vip(service.vip6.map(IpAddr::V6)),
            endpoints(|pod| pod.ipv6.map(IpAddr::V6)),
        ),
    ]
}

fn plan<'a>(
    topology: &'a Topology,
    services: &[(SocketAddr, Endpoints)],
    config: &'a Path,
    options: &Options,
) -> ArmPlan<'a> {
    let server = |name: &str| ServerSpec {
        pod: name.to_owned(),
        port: PORT,
        kind: ServerKind::Http {
            default_params: String::new(),
            body_bytes: None,
        },
        next: None,
    };
    // The checker's server takes the origin's place and its options.
    let binaries = Binaries {
        origin: options.server.clone(),
        ..options.arms.clone()
    };
    ArmPlan {
        scenario_name: "streams",
        topology,
        client: CLIENT,
        servers: SERVERS.map(server).to_vec(),
        resources_yaml: config,
        vips: services.iter().map(|(vip, _)| *vip).collect(),
        placement: Placement::default(),
        envoy_profile: EnvoyProfile::Min,
        binaries,
    }
}

fn job(
    running: &dyn RunningArm,
    services: &[(SocketAddr, Endpoints); 2],
    options: &Options,
    generations: &Path,
) -> Result<Job, CheckError> {
    let mut servers = BTreeMap::new();
    for name in SERVERS {
        let address = running.lab().pod(name)?.ipv4();
        servers.insert(name.to_owned(), SocketAddr::new(address.into(), PORT));
    }
    let [(vip, _), (vip6, _)] = services;
    Ok(Job {
        seed: options.seed,
        seconds: options.seconds,
        workers: options.workers,
        targets: running.targets(*vip),
        targets6: running.targets(*vip6),
        servers,
        routed: running.decides(),
        generations: Some(generations.to_owned()),
        only: options.only,
    })
}
