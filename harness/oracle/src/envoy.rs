//! O2, the judge that decides what is right: real Envoy, started without backends.
//!
//! Every route of the configurations goes to clusters that have no endpoint, so each answer is a local 503 that carries
//! the chosen route and cluster in its headers. Weighted choices are made by `header_name` and shares of requests by conditions on
//! headers: Envoy then takes the number to draw from the request. The process listens on abstract unix sockets and dies with this one; its configuration is
//! a temporary file that is deleted when Envoy has read it.

mod bootstrap;
mod connection;
mod edge;
mod process;
mod resources;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kmesh_config::Config;
use kmesh_config::model::ListenerKind;

use crate::request::Request;
use connection::Connection;
pub use edge::Profile;
use process::Process;
pub use resources::resources;

/// Why Envoy does not judge.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The program is not there or cannot be started.
    #[error("cannot start {}: run ci/setup.sh or set KMESH_ENVOY", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended, which it does when it refuses its configuration.
    #[error("envoy ended before it was ready: {words}")]
    Ended {
        /// The end of its log.
        words: String,
    },
    /// It lives but does not listen.
    #[error("envoy does not listen after {seconds} s: {words}")]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// The end of its log.
        words: String,
    },
    /// A connection to it broke, or brought something that is not HTTP.
    #[error("the connection to envoy failed at {request}")]
    Connection {
        /// The request.
        request: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It answered what none of its routes says.
    #[error("envoy answers {status} with route {route:?} and cluster {cluster:?} to {request}")]
    Answer {
        /// The request.
        request: String,
        /// The status.
        status: u16,
        /// What it calls the route.
        route: String,
        /// What it calls the cluster.
        cluster: String,
    },
}

/// What Envoy made of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No virtual host or no route: 404.
    NoRoute,
    /// A route took it.
    Routed {
        /// Position of the virtual host in its listener, from 0.
        virtual_host: usize,
        /// Position of the route in the virtual host, from 0.
        route: usize,
        /// Name of the cluster.
        cluster: String,
    },
    /// A route took it, but the header that should name the cluster does not.
    NoCluster {
        /// Position of the virtual host in its listener, from 0.
        virtual_host: usize,
        /// Position of the route in the virtual host, from 0.
        route: usize,
    },
    /// A route answered it.
    Local {
        /// Position of the virtual host in its listener, from 0.
        virtual_host: usize,
        /// Position of the route in the virtual host, from 0.
        route: usize,
        /// The status.
        status: u16,
        /// The value of `location` if there is one, else the body.
        text: String,
    },
    /// Envoy answers by itself with this status, such as 400.
    Refused(u16),
}

/// A running Envoy with one listener for every HTTP listener of some configurations. TCP listeners have none.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
}

/// The program: `KMESH_ENVOY`, or where `ci/setup.sh` puts it below `workspace`.
pub fn program(workspace: &Path) -> PathBuf {
    let overridden = env::var_os("KMESH_ENVOY").filter(|path| !path.is_empty());
    overridden.map_or_else(|| workspace.join(".cache/envoy/envoy"), PathBuf::from)
}

/// Requests under way at once.
const CONNECTIONS: usize = 16;

impl Envoy {
    /// Starts `program` with these configurations and waits until it listens.
    ///
    /// It dies with the thread that calls this.
    ///
    /// # Errors
    /// [`EnvoyError::Start`], [`EnvoyError::Ended`] if it refuses a configuration, [`EnvoyError::Silent`].
    pub fn start(program: &Path, configs: &[Config]) -> Result<Self, EnvoyError> {
        let sockets = process::unused_name();
        let text = bootstrap::bootstrap(configs, &sockets).to_string();
        let mut process = Process::start(program, &text, sockets)?;
        for (c, config) in configs.iter().enumerate() {
            for (l, listener) in config.listeners.iter().enumerate() {
                if matches!(listener.kind, ListenerKind::Http(_)) {
                    process.wait_for(&bootstrap::socket(process.sockets(), c, l))?;
                }
            }
        }
        Ok(Self { process })
    }

    /// The CPU time that it has used so far, to 10 ms.
    ///
    /// # Errors
    /// If `/proc` does not say.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        self.process.cpu_time()
    }

    /// Asks about requests to a listener of a configuration, both by position; `drawn` is what each request's weighted
    /// choice draws, taken modulo the sum of the weights.
    ///
    /// # Errors
    /// [`EnvoyError::Connection`], [`EnvoyError::Answer`].
    pub fn ask(
        &self,
        config: usize,
        listener: usize,
        requests: &[(&Request, u32)],
    ) -> Result<Vec<Answer>, EnvoyError> {
        let socket = bootstrap::socket(self.process.sockets(), config, listener);
        // One request at a time on each connection: Envoy drops what is pipelined behind a local answer.
        let mut connections: Vec<Option<Connection>> = Vec::new();
        connections.resize_with(CONNECTIONS.min(requests.len()), || None);
        let mut answers = Vec::with_capacity(requests.len());
        for batch in requests.chunks(CONNECTIONS) {
            for (place, (request, drawn)) in connections.iter_mut().zip(batch) {
                let sent = match place {
                    Some(open) => open.send(request, *drawn),
                    None => Connection::open(&socket)
                        .and_then(|open| place.insert(open).send(request, *drawn)),
                };
                sent.map_err(|source| failed(request, source))?;
            }
            for (place, (request, _)) in connections.iter_mut().zip(batch) {
                let Some(open) = place else { continue };
                let reply = open
                    .receive(request.method == "HEAD")
                    .map_err(|source| failed(request, source))?;
                if reply.closes {
                    *place = None;
                }
                answers.push(reply.answer(request)?);
            }
        }
        Ok(answers)
    }
}

fn failed(request: &Request, source: io::Error) -> EnvoyError {
    EnvoyError::Connection {
        request: request.to_string(),
        source,
    }
}
