//! What an arm is asked to bring up. The same for every arm of a scenario: that is what makes them comparable.

use std::{net::SocketAddr, path::Path};

use netns_lab::Topology;

use crate::{binaries::Binaries, envoy::EnvoyProfile};

/// A scenario as the arms see it.
#[derive(Clone, Debug)]
pub struct ArmPlan<'a> {
    /// Name of the scenario; becomes part of the lab's name.
    pub scenario_name: &'a str,
    /// Pods and services. Every arm builds a lab of its own from it, with the same addresses in each.
    pub topology: &'a Topology,
    /// The pod that the requests come from.
    pub client: &'a str,
    /// What runs in the other pods.
    pub servers: Vec<ServerSpec>,
    /// Envoy v3 `static_resources`, the one configuration of every arm.
    pub resources_yaml: &'a Path,
    /// The virtual addresses that will be called; each must be the address of a listener in the resources.
    pub vips: Vec<SocketAddr>,
    /// Who runs where.
    pub placement: Placement,
    /// How Envoy is set up.
    pub envoy_profile: EnvoyProfile,
    /// The programs to run.
    pub binaries: Binaries,
}

/// One server process in a pod: `kmesh-origin`, named after its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// The pod.
    pub pod: String,
    /// Its port, on all addresses of the pod, both families.
    pub port: u16,
    /// What it does.
    pub kind: ServerKind,
    /// The service it asks instead of answering by itself: a server in the middle of a chain.
    pub next: Option<NextHop>,
}

/// A service that a server asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Its virtual address; must be among the plan's.
    pub vip: SocketAddr,
    /// `Host` of the requests to it.
    pub host: String,
}

impl ArmPlan<'_> {
    /// Pods whose connections the mesh must carry: the client's, then those of servers that ask other services.
    pub fn callers(&self) -> Vec<&str> {
        let mut callers = vec![self.client];
        let asking = self.servers.iter().filter(|server| server.next.is_some());
        callers.extend(asking.map(|server| server.pod.as_str()));
        callers
    }

    /// Whether any server asks another service.
    pub fn is_chain(&self) -> bool {
        self.callers().len() > 1
    }
}

/// What a server does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// An HTTP/1.1 server.
    Http {
        /// Query string applied to every request (`size=1024:10&delay=1ms:5`); empty for none.
        default_params: String,
        /// Size of the response body in bytes when the request does not ask for one; the request's body is echoed if none.
        body_bytes: Option<u32>,
    },
    /// Sends back what it reads.
    TcpEcho {
        /// First sends a line with its name, so that the client can tell who answered.
        banner: bool,
    },
}

/// CPUs of the machine, by number; empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Where the load generator runs. The arm does not use this; it starts no generator.
    pub generator: Vec<usize>,
    /// Where servers, sidecars and daemons run: proxies compete with servers, not with the generator that measures them.
    pub servers: Vec<usize>,
}
