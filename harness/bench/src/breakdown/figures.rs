//! The published form of a breakdown, `breakdown.json`, and what can be read from it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Value of `schema`.
pub const SCHEMA: &str = "kmesh-breakdown/1";

/// What each part of the CPU time is, in the order of a stacked bar. The article's words where it has them.
pub const PARTS: [(&str, &str); 10] = [
    (
        "application",
        "user-space code of the load generator and the servers",
    ),
    (
        "governance",
        "user-space code of sidecars and daemons: HTTP parsing, routing, policy",
    ),
    (
        "bpf",
        "eBPF programs and their helpers: governance inside the kernel, sockmap redirects",
    ),
    ("copies", "bytes copied between user space and kernel"),
    ("stack", "TCP/IP, device, bridge and softirq work"),
    ("interception", "netfilter and connection tracking"),
    ("connects", "opening and closing connections"),
    (
        "context switches",
        "scheduler: switching, waking, picking the next task",
    ),
    ("system calls", "entry, exit, polling, file descriptors"),
    (
        "other kernel",
        "memory, timers, locks and what no rule names",
    ),
];

/// Where the time goes in one scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Breakdown {
    /// [`SCHEMA`].
    pub schema: String,
    /// The scenario.
    pub scenario: String,
    /// The arm that stands for no mesh.
    pub reference: String,
    /// One entry per arm.
    pub arms: Vec<ArmBreakdown>,
    /// Figures that this kernel does not give, and why.
    pub missing: Vec<Missing>,
    /// The command that made it.
    pub command: Vec<String>,
}

/// One arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmBreakdown {
    /// The arm.
    pub name: String,
    /// Requests answered in the counting pass.
    pub requests: u64,
    /// How often things happen.
    pub counts: Counts,
    /// CPU time per request by part, microseconds; empty when the profiler is refused.
    pub parts: Vec<Part>,
    /// CPU time per request by place (`client`, `sidecar-client`, `web-1`, `kmeshd`), microseconds.
    pub places: BTreeMap<String, f64>,
    /// Samples behind `parts`.
    pub samples: u64,
}

/// Counts; all are per request but `connections`. `None` where there is no source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// TCP connections in all pods per client connection.
    pub connections: Option<f64>,
    /// TCP segments with data that were sent plus received in all pods, per message (half of an exchange).
    /// The article's "stack traversals": 2 without a mesh.
    pub traversals: Option<f64>,
    /// All TCP segments sent in all pods, bare acknowledgements included.
    pub segments: Option<f64>,
    /// Times that a thread of the arm was switched out.
    pub context_switches: Option<f64>,
    /// System calls of all threads of the arm.
    pub syscalls: Option<f64>,
    /// System calls that move bytes across the boundary of user space, in either direction.
    pub copies: Option<f64>,
    /// Runs of eBPF programs.
    pub bpf_runs: Option<f64>,
    /// Time in eBPF programs by the kernel's own run-time statistics, microseconds.
    pub bpf_us: Option<f64>,
}

/// One part of the CPU time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, one of [`PARTS`].
    pub name: String,
    /// Microseconds per request.
    pub us: f64,
}

/// A figure without a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The figure.
    pub figure: String,
    /// What the kernel said.
    pub reason: String,
}

impl Breakdown {
    /// One arm's entry.
    pub fn arm(&self, name: &str) -> Option<&ArmBreakdown> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// A figure for the claim table: `traversals`, `connections`, or `governance`, the share that sidecars' and
    /// daemons' own code and eBPF programs have in the CPU time which the arm adds to the reference.
    pub fn figure(&self, arm: &str, field: &str) -> Option<f64> {
        let arm = self.arm(arm)?;
        match field {
            "traversals" => arm.counts.traversals,
            "connections" => arm.counts.connections,
            "governance" => {
                let reference = self.arm(&self.reference)?;
                let added = arm.total_us() - reference.total_us();
                let own = |entry: &ArmBreakdown| entry.part_us("governance") + entry.part_us("bpf");
                (added > 0.0 && arm.samples > 0).then(|| (own(arm) - own(reference)) / added)
            }
            _ => None,
        }
    }
}

impl ArmBreakdown {
    /// CPU time per request of all parts, microseconds.
    pub fn total_us(&self) -> f64 {
        self.parts.iter().map(|part| part.us).sum()
    }

    /// CPU time per request of one part, microseconds; 0 when it has none.
    pub fn part_us(&self, name: &str) -> f64 {
        self.parts
            .iter()
            .find(|part| part.name == name)
            .map_or(0.0, |part| part.us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(name: &str, parts: &[(&str, f64)]) -> ArmBreakdown {
        ArmBreakdown {
            name: name.into(),
            samples: 1,
            parts: parts
                .iter()
                .map(|(name, us)| Part {
                    name: (*name).into(),
                    us: *us,
                })
                .collect(),
            ..ArmBreakdown::default()
        }
    }

    #[test]
    fn governance_is_a_share_of_what_was_added() {
        let breakdown = Breakdown {
            reference: "direct".into(),
            arms: vec![
                arm("direct", &[("application", 5.0), ("stack", 5.0)]),
                arm(
                    "envoy-both",
                    &[("application", 5.0), ("stack", 25.0), ("governance", 10.0)],
                ),
            ],
            ..Breakdown::default()
        };
        let share = breakdown.figure("envoy-both", "governance").unwrap();
        assert!((share - 1.0 / 3.0).abs() < 1e-12, "{share}");
        assert_eq!(
            breakdown.figure("direct", "governance"),
            None,
            "adds nothing"
        );
        assert_eq!(breakdown.figure("kmesh", "traversals"), None);
    }
}
