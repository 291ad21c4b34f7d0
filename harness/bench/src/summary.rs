//! `summary.json`: the published form of a result. Its schema is `results/schema.json`.

use crate::bpf::BpfCost;
use crate::scenario::{Design, Fit, Loop, Placement, Profile};
use kmesh_stats::{Interval, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Value of `schema`; the number changes when a reader of the old form would go wrong.
pub const SCHEMA: &str = "kmesh-bench/1";

/// Result of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the scenario.
    pub scenario: String,
    /// What it is, in one sentence.
    pub title: String,
    /// Which published experiment it repeats.
    pub reproduces: String,
    /// The point this is of a sweep; null or absent for a scenario of its own.
    #[serde(default)]
    pub sweep: Option<SweepPoint>,
    /// True for `--quick`: fewer and shorter cells, wide intervals.
    pub quick: bool,
    /// How requests were sent.
    pub load: LoadSummary,
    /// How the comparison was laid out.
    pub design: Design,
    /// CPUs of generator and servers.
    pub placement: Placement,
    /// Envoy's profile.
    pub envoy_profile: Profile,
    /// Limits beyond which the run counts as invalid.
    pub fit: Fit,
    /// One entry per arm, in the scenario's order.
    pub arms: Vec<ArmSummary>,
    /// Paired ratios `num : den`.
    pub ratios: Vec<Ratio>,
    /// Added latency `arm - reference`, microseconds.
    pub added_us: Vec<Added>,
    /// Ratios of the two identical arms: what the run's noise looks like.
    pub aa: Vec<Ratio>,
    /// The scenario's expectations and what became of them.
    pub expectations: Vec<Judged>,
    /// The outcome.
    pub verdict: Outcome,
    /// Blocks measured: fewer than `design.blocks` when the run stopped at one of `design.looks`.
    #[serde(default)]
    pub blocks_run: usize,
    /// Earlier attempts at this result, which were unfit for a verdict; their rows are in `attempts/N/`.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Where, when and by which command.
    pub env: Env,
}

/// One point of a sweep: the same scenario with one key changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Name of the sweep: the file it is described in.
    pub name: String,
    /// What is changed, for an axis.
    pub key: String,
    /// Its value here: a number where the key has one, words otherwise.
    pub value: String,
    /// Place in the sweep, from 0.
    pub position: usize,
}

/// How requests were sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSummary {
    /// `open` or `closed`.
    #[serde(rename = "loop")]
    pub pace: Loop,
    /// Offered rate of all arms, requests per second; null in a closed loop.
    pub offered_rps: Option<f64>,
    /// Where that rate comes from, in words.
    pub rate_basis: String,
    /// What the ratios' p50, p90 and p99 are of: `intended` or `service` time.
    pub latency_basis: String,
    /// Concurrent connections.
    pub connections: u32,
    /// `keep-alive`, `short`, `short-reset`.
    pub connection: String,
    /// `http` or `tcp-echo`.
    pub protocol: String,
}

/// One arm's figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// The arm.
    pub name: String,
    /// `open` or `closed`.
    #[serde(rename = "loop")]
    pub pace: Loop,
    /// Offered rate, requests per second; null in a closed loop.
    pub offered_rps: Option<f64>,
    /// Median over blocks of the complete answers per second.
    pub achieved_rps: f64,
    /// Requests started in all measured cells.
    pub sent: u64,
    /// From the actual start to the last byte, all blocks merged.
    pub latency_us: Percentiles,
    /// From the moment a request was due, all blocks merged; null in a closed loop.
    pub intended_us: Option<Percentiles>,
    /// The tail with intervals by resampling blocks, intended time in an open loop and service time in a
    /// closed one; shown, never gated. Null when no cell was kept.
    #[serde(default)]
    pub tail_us: Option<Tail>,
    /// Connects, all blocks merged; null without new connections.
    pub connect_us: Option<Percentiles>,
    /// Median over blocks: CPU time of all pods, sidecars and daemons of the arm, generator included,
    /// microseconds per request; null in an open loop, where the generator spins.
    pub cpu_us_per_request: Option<f64>,
    /// Requests without a complete answer, or with another status than expected.
    pub errors: u64,
    /// Answers by the wrong server, to another request, or with a wrong byte.
    pub wrong_decisions: u64,
    /// Requests that fell due and found no free connection (open loop).
    pub dropped: u64,
    /// False where the client picks the endpoint, so that no decision is judged.
    pub decides: bool,
    /// Share of requests finished in the kernel; null for arms without such a path.
    pub kernel_share: Option<f64>,
    /// Time in BPF programs, nanoseconds per request, and runs per request, by program. From a pass of its
    /// own: counting costs every run about 20 ns, which is in these figures and in no other. Empty for
    /// arms without BPF.
    #[serde(default)]
    pub bpf: BTreeMap<String, BpfCost>,
    /// Share of the messages between sockets that skipped TCP; null but in `envoy-both-sockmap`.
    #[serde(default)]
    pub shortcut_share: Option<f64>,
    /// What restarts of the data plane did; null in scenarios without.
    #[serde(default)]
    pub restarts: Option<Restarts>,
    /// Requests finished in user space, by reason.
    pub fallback: BTreeMap<String, u64>,
    /// Answers by server.
    pub served_by: BTreeMap<String, u64>,
    /// TCP connections alive in all pods per client connection; null where it was not counted.
    pub connections_per_client: Option<f64>,
    /// First few wrong answers and errors, in words.
    pub examples: Vec<String>,
}

/// Percentiles of merged histograms, microseconds. Not averages of percentiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90th.
    pub p90: f64,
    /// 99th.
    pub p99: f64,
    /// 99.9th.
    pub p999: f64,
}

/// Restarts of an arm's data plane under load, one per cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Restarts {
    /// How many; 0 in an arm that has nothing to restart, whose figures are what the load alone does.
    pub count: usize,
    /// Median time until the new one was ready, milliseconds; null without restarts.
    pub ready_ms: Option<f64>,
    /// Failed requests, the mean over cells.
    pub failed_per_cell: f64,
    /// The slowest answer of all cells, milliseconds, from the moment it was due in an open loop; null without answers.
    pub peak_ms: Option<f64>,
}

/// The tail of the merged histograms, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// 99th percentile.
    pub p99: Interval,
    /// 99.9th percentile.
    pub p999: Interval,
}

/// One paired ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// `throughput`, `p50`, `p90`, `p99`, `connect_p50`, `cpu_us_per_request`.
    pub metric: String,
    /// Arm above the line.
    pub num: String,
    /// Arm below the line.
    pub den: String,
    /// Estimate and interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// Two-sided sign-flip p-value against 1.
    pub p: f64,
    /// Hodges-Lehmann estimate of the same ratio.
    pub hodges_lehmann: f64,
    /// Blocks compared.
    pub blocks: usize,
}

/// Added latency of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// `p50` or `p90`.
    pub metric: String,
    /// The arm.
    pub arm: String,
    /// What is subtracted.
    pub reference: String,
    /// Microseconds.
    #[serde(flatten)]
    pub interval: Interval,
}

/// An expectation and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What was judged, as in the scenario.
    pub subject: String,
    /// What had to be true.
    pub predicate: String,
    /// The value found; null when not tested.
    pub value: Option<Interval>,
    /// Held or not.
    pub verdict: Verdict,
}

/// The outcome of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The worst of what happened.
    pub status: Status,
    /// Exit code of the command.
    pub exit_code: u8,
    /// Why, if it did not hold.
    pub reasons: Vec<Reason>,
}

/// A run that was unfit for a verdict and therefore repeated, once. What makes a run unfit (identical arms
/// that differ, drift, stolen time, a late generator) says nothing about the arms that are compared, so
/// repeating it does not fish for a better figure; both attempts are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: usize,
    /// Start, RFC 3339 UTC.
    pub started: String,
    /// How it ended, and why it was unfit.
    pub verdict: Outcome,
}

/// How a scenario ended, from best to worst for the exit code's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Every expectation that could be judged held.
    Held,
    /// No expectation was missed, but the data leave at least one open: the run was too noisy or too
    /// short for it. Not a success: exit code 3, unfit for a verdict.
    Undecided,
    /// An expectation was missed.
    Missed,
    /// The environment was unfit for a verdict.
    Invalid,
    /// A wrong routing decision or a wrong byte.
    Wrong,
}

impl Status {
    /// Exit code of DESIGN section 5.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Missed => 1,
            Self::Wrong => 2,
            Self::Invalid | Self::Undecided => 3,
        }
    }
}

/// One machine-readable reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code: `wrong-decisions`, `split`, `aa`, `steal`, `lag`, `send-rate`, `drift`, `expectation`, `undecided`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Where, when and by which command a result was made; also `env.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Env {
    /// Kernel release and version.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Frequency governor of CPU 0; null where there is none (virtual machines).
    pub governor: Option<String>,
    /// Hypervisor flag of the CPU.
    pub virtualised: bool,
    /// Version of this program.
    pub version: String,
    /// Git commit of the tree, with `+` when files differ from it; null outside of a checkout.
    pub commit: Option<String>,
    /// Envoy's version line; null without the binary.
    pub envoy: Option<String>,
    /// The exact command line.
    pub command: Vec<String>,
    /// Start, RFC 3339 UTC.
    pub started: String,
    /// Length of the scenario's run, seconds.
    pub seconds: f64,
    /// Largest share of stolen CPU time seen over the run.
    pub steal: f64,
    /// Settings of the machine that change what is measured, as `doctor` found them; empty in older results.
    #[serde(default)]
    pub conditions: BTreeMap<String, String>,
}
