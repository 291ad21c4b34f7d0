//! A scenario: one TOML file that says what is built, what is sent and what is expected.
//!
//! A file may name another with `extends`; tables are merged key by key, everything else is replaced.
//! All types refuse unknown keys, and what [`load`] returns has been checked as a whole, so that the
//! code that runs a scenario need not doubt it.

mod chain;
mod check;
mod error;
mod expect;
mod generate;
mod load;
mod source;
mod sweep;
mod template;

pub use chain::Next;
pub use error::ScenarioError;
pub use expect::{Bound, Expectation, Subject};
pub use generate::{Generate, Kind, Routes};
pub use load::{Catalogue, load, load_all, read_all};
pub use source::{Place, Source};
pub use sweep::{Point, Sweep};
pub use template::create;

use crate::summary::SweepPoint;
use kmesh_dataplanes::Restart;
use kmesh_load::replay::Entry;
use netns_lab::Topology;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything a scenario file can say. Defaults are empty on purpose: the project's defaults are
/// `scenarios/defaults.toml`, where a reader can see them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// File whose keys this one overrides, relative to this file.
    pub extends: Option<PathBuf>,
    /// Short name: the file's name without `.toml`, which it is unless given.
    pub name: String,
    /// What it is, in one sentence.
    pub title: String,
    /// Which published experiment it repeats, and what is different here; may be left out.
    pub reproduces: String,
    /// Pods, services and links, in netns-lab's own format.
    pub topology: Topology,
    /// Pod the load comes from.
    pub client: String,
    /// Applications, one per entry.
    pub server: Vec<Server>,
    /// Where the load is aimed: the service's address.
    pub vip: Option<SocketAddr>,
    /// Envoy v3 resources, relative to the file that names them (absolute after loading).
    pub resources: PathBuf,
    /// CPUs of the two sides.
    pub placement: Placement,
    /// How real Envoy is set up.
    pub envoy_profile: Profile,
    /// Data planes to compare.
    pub arms: Arms,
    /// How requests are sent.
    pub load: Load,
    /// Which requests are sent.
    pub traffic: Vec<Traffic>,
    /// Load of other pods at the same time, in every cell.
    pub background: Vec<Background>,
    /// Configurations that replace each other while a cell runs.
    pub swap: Option<Swap>,
    /// A restart of each arm's data plane while a cell runs.
    pub restart: Option<Restarting>,
    /// One arm that is made worse on purpose, to prove that the method sees it.
    pub mutant: Option<Mutant>,
    /// Endpoints, routes or services that are generated instead of written.
    pub generate: Option<Generate>,
    /// Values of a key; each makes a scenario of its own.
    pub sweep: Option<Sweep>,
    /// How the comparison is laid out.
    pub design: Design,
    /// What `--quick` changes in the design.
    pub quick: Quick,
    /// Shares of answers by server group that weighted routes must produce, in percent.
    pub split: BTreeMap<String, f64>,
    /// What makes a run unfit for a verdict.
    pub fit: Fit,
    /// Expectations: subject to predicate, both as text; parsed in `expectations`.
    pub expect: BTreeMap<String, String>,
    /// The text of `resources` if it was generated.
    #[serde(skip)]
    pub generated: Option<String>,
    /// The requests of `load.replay`.
    #[serde(skip)]
    pub log: Vec<Entry>,
    /// The point of a sweep that this is; none for a scenario of its own.
    #[serde(skip)]
    pub point: Option<SweepPoint>,
    /// The parsed form of `expect`.
    #[serde(skip)]
    pub expectations: Vec<Expectation>,
}

/// One application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Pod it runs in, and the name it answers with.
    pub pod: String,
    /// Port it listens on.
    pub port: u16,
    /// The set it belongs to (`v1`, `v2`), for `traffic.expect` and `split`.
    pub group: String,
    /// Default response parameters in fortio's echo grammar, such as `delay=1ms:10`.
    pub params: String,
    /// Body of an answer in bytes; without it the request's body comes back.
    pub body_bytes: Option<u32>,
    /// Answer raw bytes instead of HTTP.
    pub tcp_echo: bool,
    /// The service that it asks instead of answering by itself: a server in the middle of a chain.
    pub next: Option<Next>,
}

/// CPUs of the two sides; empty means everything is free to move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// CPUs of the load generator.
    pub generator: Vec<usize>,
    /// CPUs of servers and proxies.
    pub servers: Vec<usize>,
}

/// How real Envoy is set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As fast as an expert would make it: access log off, few stats.
    #[default]
    Min,
    /// As Istio sets it up: stats and access log on.
    Istio,
}

/// Data planes to compare.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arms {
    /// Names, in the order of the report.
    pub run: Vec<String>,
    /// The arm that stands for "no mesh".
    pub reference: String,
    /// Its identical twin, which sizes the noise.
    pub aa: String,
    /// The arm that stands for the sidecar mesh.
    pub baseline: String,
}

/// Whether arrivals wait for answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loop {
    /// Each connection sends its next request when the last answer is complete.
    #[default]
    Closed,
    /// Requests fall due by a schedule that does not look at answers.
    Open,
}

/// Distribution of gaps in an open loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Equal gaps.
    #[default]
    Uniform,
    /// Exponential gaps.
    Poisson,
}

/// How long a connection lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connection {
    /// Until an error.
    #[default]
    KeepAlive,
    /// One request each, closed by FIN.
    Short,
    /// One request each, closed by RST: no TIME_WAIT.
    ShortReset,
    /// As many requests as drawn from `load.reuse`.
    Reuse,
}

impl std::fmt::Display for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KeepAlive => "keep-alive",
            Self::Short => "short",
            Self::ShortReset => "short-reset",
            Self::Reuse => "reuse",
        })
    }
}

/// What is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// Raw bytes that must come back unchanged.
    TcpEcho,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::TcpEcho => "tcp-echo",
        })
    }
}

/// How requests are sent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub pace: Loop,
    /// Offered load of an open loop: requests per second, or a share of the slowest arm's capacity
    /// found by a short probe, such as `"50%"`.
    pub rate: Rate,
    /// Distribution of gaps in an open loop.
    pub arrivals: Arrivals,
    /// Concurrent connections.
    pub connections: u32,
    /// How long a connection lives.
    pub connection: Connection,
    /// Fewest and most requests of a connection with `connection = "reuse"`.
    pub reuse: Option<(u32, u32)>,
    /// A request log whose order, and in an open loop whose gaps, are kept (JSON lines, or vegeta's targets), relative to the
    /// file that names it. `traffic` then says what is expected of the requests by `name`.
    pub replay: Option<PathBuf>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Message size of `tcp-echo`, in bytes.
    pub message_bytes: u32,
    /// A request unanswered after this many milliseconds is an error.
    pub timeout_ms: u32,
}

/// Offered load of an open loop.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Rate {
    /// Not given.
    #[default]
    Unset,
    /// Requests per second.
    Fixed(f64),
    /// This share (0 to 1) of the slowest arm's capacity.
    OfSlowest(f64),
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a number of requests per second, or a share such as \"50%\""
        )]
        enum Text {
            Number(f64),
            Share(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Number(rate) => Ok(Self::Fixed(rate)),
            Text::Share(text) => text
                .strip_suffix('%')
                .and_then(|number| number.trim().parse::<f64>().ok())
                .map(|percent| Self::OfSlowest(percent / 100.0))
                .ok_or_else(|| {
                    serde::de::Error::custom(format!(
                        "rate {text:?} is not a share such as \"50%\""
                    ))
                }),
        }
    }
}

/// One kind of request in the mix.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// Label in reports.
    pub name: String,
    /// Relative frequency.
    pub weight: u32,
    /// `Host` header.
    pub host: String,
    /// Method; `GET` unless given.
    pub method: String,
    /// Request target.
    pub path: String,
    /// Bytes of request body.
    pub body_bytes: u32,
    /// The request's body must come back, byte for byte.
    pub echo: bool,
    /// Other headers before the scenario's own.
    pub padding: Padding,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Status that counts as success (200).
    pub status: Option<u16>,
    /// Length of the answer's body, which must be the origin's pattern byte for byte; none accepts any.
    pub response_bytes: Option<u32>,
    /// Groups or pods that may answer; empty means any server.
    pub expect: Vec<String>,
}

/// Headers that only take room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Padding {
    /// How many.
    pub headers: u32,
    /// Bytes of all of them together, line ends included.
    pub bytes: u32,
}

/// Load that goes on beside the measured one, in pods of its own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Background {
    /// The pods; each runs a generator.
    pub pods: Vec<String>,
    /// Where to; the scenario's own `vip` unless given.
    pub vip: Option<SocketAddr>,
    /// Connections of each pod.
    pub connections: u32,
    /// Requests per second of each pod; none is a closed loop.
    pub rate: Option<f64>,
}

/// Configurations that replace each other under load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Swap {
    /// The files, relative to the one that names them; the first is in force when a cell begins.
    pub resources: Vec<PathBuf>,
    /// Time between two changes, milliseconds. `kmeshd` looks at its file five times a second.
    pub every_ms: u32,
    /// Whether the list begins again after its last; otherwise that stays.
    pub repeat: bool,
}

/// A restart of each arm's data plane in the middle of every cell. Arms without one (`direct`) go on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarting {
    /// `plain` kills and starts; `replace` has the new one take over (`kmeshd` only).
    pub how: Restart,
    /// When, in milliseconds of the measured part of a cell.
    pub after_ms: u32,
}

/// One arm made worse on purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mutant {
    /// The arm.
    pub arm: String,
    /// Response parameters of its servers, in fortio's echo grammar, such as `delay=60us`.
    pub params: String,
}

/// How the comparison is laid out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Design {
    /// Blocks; in each, every arm is measured once.
    pub blocks: usize,
    /// Earlier numbers of blocks at which the run may stop, ascending: it does when the run is fit and
    /// every expectation is decided. Every interval is then made at the sharper level that
    /// `kmesh_stats::sequential` gives, so that stopping early cannot flatter anybody. Empty: no early stop.
    pub looks: Vec<usize>,
    /// Discarded start of each cell, milliseconds.
    pub warmup_ms: u32,
    /// Measured part of each cell, milliseconds.
    pub cell_ms: u32,
    /// Pause after each cell, milliseconds.
    pub idle_ms: u32,
    /// Coverage of intervals, between 0 and 1.
    pub level: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Seed of order, mix and resampling.
    pub seed: u64,
}

/// What `--quick` changes in the design.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quick {
    /// As in [`Design`].
    pub blocks: usize,
    /// As in [`Design`].
    pub warmup_ms: u32,
    /// As in [`Design`].
    pub cell_ms: u32,
    /// As in [`Design`].
    pub idle_ms: u32,
}

/// What makes a run unfit for a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fit {
    /// The A/A interval may miss 1 by at most this (0.05 is 5 %).
    pub aa_excess: f64,
    /// Highest share of stolen CPU time.
    pub steal: f64,
    /// Highest 99th percentile of the generator's own lag in an open loop, microseconds.
    pub lag_p99_us: f64,
    /// Lowest share of due requests that must have been sent in an open loop by the reference arm.
    pub send_rate: f64,
    /// Highest change of the reference arm from the first to the last third of the run.
    pub drift: f64,
}

impl Design {
    /// All numbers of blocks at which the run may stop; the last is [`Design::blocks`].
    pub fn all_looks(&self) -> Vec<usize> {
        self.looks.iter().copied().chain([self.blocks]).collect()
    }

    /// Coverage of each interval such that all looks together have [`Design::level`].
    pub fn level_per_look(&self) -> f64 {
        1.0 - kmesh_stats::sequential::level_per_look(&self.all_looks(), 1.0 - self.level)
    }
}

/// Generates what is asked for and checks the whole.
fn checked(mut scenario: Scenario, chain: &[Source]) -> Result<Scenario, ScenarioError> {
    let cache = crate::binaries::workspace().join(".cache/scenarios");
    generate::generate(&mut scenario, &cache);
    check::check(&mut scenario, chain)?;
    Ok(scenario)
}

impl Scenario {
    /// Name of the file it comes from: its own, or that of its sweep.
    pub fn family(&self) -> &str {
        self.point.as_ref().map_or(&self.name, |point| &point.name)
    }

    /// The design with `--quick` applied.
    pub fn design(&self, quick: bool) -> Design {
        let mut design = self.design.clone();
        if quick {
            design.blocks = self.quick.blocks;
            design.looks.clear();
            design.warmup_ms = self.quick.warmup_ms;
            design.cell_ms = self.quick.cell_ms;
            design.idle_ms = self.quick.idle_ms;
        }
        design
    }

    /// Signatures of the answers that `names` (groups, pods, or chains in full) stand for; all of them for no names.
    pub fn servers_of(&self, names: &[String]) -> Vec<String> {
        let named = |server: &Server| names.contains(&server.group) || names.contains(&server.pod);
        chain::entries(&self.server)
            .flat_map(|server| {
                let whole = names.is_empty() || named(server);
                let mut chains = chain::signatures(&self.server, server);
                chains.retain(|chain| whole || names.contains(chain));
                chains
            })
            .collect()
    }

    /// Addresses that are called: the load's, then those that servers call.
    pub fn vips(&self) -> Vec<SocketAddr> {
        let mut vips: Vec<SocketAddr> = self.vip.into_iter().collect();
        for next in self.server.iter().filter_map(|server| server.next.as_ref()) {
            if !vips.contains(&next.vip) {
                vips.push(next.vip);
            }
        }
        vips
    }

    /// The group a server belongs to.
    pub fn group_of(&self, pod: &str) -> Option<&str> {
        self.server
            .iter()
            .find(|server| server.pod == pod)
            .map(|server| server.group.as_str())
    }
}
