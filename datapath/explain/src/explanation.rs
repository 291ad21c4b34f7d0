//! The explanation as a document: for people and as JSON.

use std::fmt;
use std::net::SocketAddr;

use kmesh_config::model::{LbPolicy, ListenerConfig};
use serde::Serialize;

/// What happens to a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The request's first line.
    pub request: String,
    /// Name of the listener.
    pub listener: String,
    /// Its address.
    pub address: SocketAddr,
    /// The virtual host, if the host has one.
    pub virtual_host: Option<HostStep>,
    /// Routes that come before the chosen one, or all of them if none takes the request.
    pub passed: Vec<PassedRoute>,
    /// The route that takes it.
    pub route: Option<RouteStep>,
    /// Where the route, or the connection, leads.
    pub cluster: Option<ClusterStep>,
    /// What comes of it.
    pub outcome: Outcome,
    /// Who serves it, if it is decided.
    pub server: Option<Server>,
}

/// A virtual host and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostStep {
    /// Its name.
    pub name: String,
    /// The domain that matches.
    pub domain: String,
}

/// A route that does not take the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedRoute {
    /// Position in the virtual host, from 0.
    pub position: usize,
    /// Its name; may be empty.
    pub name: String,
    /// The conditions that do not hold.
    pub because: Vec<String>,
}

/// The route that takes the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteStep {
    /// Position in the virtual host, from 0.
    pub position: usize,
    /// Its name; may be empty.
    pub name: String,
    /// Its conditions, all of which hold.
    pub conditions: Vec<String>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStep {
    /// The clusters, in the route's order.
    pub shares: Vec<Share>,
    /// The cluster that the given numbers choose.
    pub chosen: Option<String>,
    /// The endpoint that the given numbers choose.
    pub endpoint: Option<SocketAddr>,
}

/// A cluster and how often it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Its name.
    pub cluster: String,
    /// Its weight; 1 if it is the only one.
    pub weight: u32,
    /// How its endpoints are chosen.
    pub policy: String,
    /// Its endpoints.
    pub endpoints: Vec<SocketAddr>,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It goes to an endpoint of the cluster.
    Routed,
    /// No virtual host or no route: 404.
    NoRoute,
    /// The cluster has no endpoint: 503.
    NoEndpoint,
    /// The header that should name the cluster does not: 503.
    NoCluster,
    /// The route answers by itself.
    Answered {
        /// With this status.
        status: u16,
    },
    /// The listener is opaque: each connection goes to an endpoint, and requests are not looked at.
    Connection,
    /// The head is not complete.
    Incomplete,
    /// The kernel does not decide on such a head; user space does.
    Undecided {
        /// Name of the reason.
        reason: String,
    },
}

/// Who serves a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// The kernel, given a free upstream.
    Kernel,
    /// User space, for this reason.
    User(String),
}

impl Explanation {
    pub(crate) fn new(listener: &ListenerConfig, head: &[u8]) -> Self {
        let line = head.split(|byte| *byte == b'\r' || *byte == b'\n').next();
        Self {
            request: String::from_utf8_lossy(line.unwrap_or_default()).into_owned(),
            listener: listener.name.clone(),
            address: listener.address,
            virtual_host: None,
            passed: Vec::new(),
            route: None,
            cluster: None,
            outcome: Outcome::Incomplete,
            server: None,
        }
    }
}

/// The policy in words.
pub(crate) const fn policy(lb: LbPolicy) -> &'static str {
    match lb {
        LbPolicy::RoundRobin => "in turn",
        LbPolicy::Random => "at random",
    }
}

/// ` "NAME"`, or nothing.
fn named(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" {name:?}")
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "request       {:?}", self.request)?;
        writeln!(f, "listener      {} at {}", self.listener, self.address)?;
        let decided = matches!(
            self.outcome,
            Outcome::Routed
                | Outcome::NoRoute
                | Outcome::NoEndpoint
                | Outcome::NoCluster
                | Outcome::Answered { .. }
        );
        match &self.virtual_host {
            Some(host) => writeln!(f, "virtual host  {} by domain {:?}", host.name, host.domain)?,
            None if decided => writeln!(f, "virtual host  none: no domain matches the host")?,
            None => {}
        }
        for passed in &self.passed {
            write!(
                f,
                "not route     {}{}:",
                passed.position,
                named(&passed.name)
            )?;
            writeln!(f, " fails {}", passed.because.join("; fails "))?;
        }
        if let Some(route) = &self.route {
            write!(f, "route         {}{}:", route.position, named(&route.name))?;
            writeln!(f, " {}", route.conditions.join("; "))?;
        }
        if let Some(cluster) = &self.cluster {
            write!(f, "{cluster}")?;
        }
        writeln!(f, "outcome       {}", self.outcome)?;
        match &self.server {
            Some(Server::Kernel) => writeln!(f, "served by     the kernel"),
            Some(Server::User(reason)) => writeln!(f, "served by     user space ({reason})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ClusterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self
            .shares
            .iter()
            .map(|share| u64::from(share.weight))
            .sum();
        for share in &self.shares {
            write!(f, "cluster       {}", share.cluster)?;
            if self.shares.len() > 1 {
                write!(f, " {} of {total}", share.weight)?;
            }
            match share.endpoints.as_slice() {
                [] => writeln!(f, ": no endpoint")?,
                [only] => writeln!(f, ": {only}")?,
                several => {
                    let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                    writeln!(f, ": {} {}", share.policy, several.join(", "))?;
                }
            }
        }
        if let (Some(name), Some(endpoint)) = (&self.chosen, &self.endpoint) {
            writeln!(f, "chosen        {name} {endpoint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routed => f.write_str("forwarded"),
            Self::NoRoute => f.write_str("404, no route"),
            Self::NoEndpoint => f.write_str("503, no endpoint"),
            Self::NoCluster => f.write_str("503, the header names no cluster"),
            Self::Answered { status } => write!(f, "{status}, answered by the route"),
            Self::Connection => {
                f.write_str("the connection is forwarded; its requests are not looked at")
            }
            Self::Incomplete => f.write_str("the head is not complete"),
            Self::Undecided { reason } => {
                write!(f, "not decided by the kernel ({reason}); user space judges")
            }
        }
    }
}
