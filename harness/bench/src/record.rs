//! What is kept of a run: one row per cell, and the merged histograms of each arm.

use crate::bpf::BpfCost;
use kmesh_stats::Latency;
use kmesh_stats::tail::Counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One cell: one arm measured once within one block. Every field is a column of `raw.csv`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)] // a column that an older file lacks is 0
pub struct Row {
    /// Block, from 0.
    pub block: usize,
    /// Position within the block, from 0.
    pub position: usize,
    /// The arm.
    pub arm: String,
    /// Start of the measured part, nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Length of the measured part, seconds.
    pub duration_s: f64,
    /// Offered rate, requests per second; 0 in a closed loop.
    pub offered_rps: f64,
    /// Complete answers per second.
    pub achieved_rps: f64,
    /// Requests started.
    pub sent: u64,
    /// Requests answered rightly.
    pub ok: u64,
    /// Requests that fell due and found no free connection.
    pub dropped: u64,
    /// Requests without a complete answer, or with another status than expected.
    pub errors: u64,
    /// Answers by the wrong server, to another request, or with a wrong byte.
    pub wrong: u64,
    /// Connections opened.
    pub connects: u64,
    /// Service time (from the actual start), microseconds.
    pub p50_us: f64,
    /// As above.
    pub p90_us: f64,
    /// As above.
    pub p99_us: f64,
    /// Intended time (from the moment it was due), microseconds; 0 in a closed loop.
    pub intended_p50_us: f64,
    /// As above.
    pub intended_p90_us: f64,
    /// As above.
    pub intended_p99_us: f64,
    /// Time to connect, microseconds; 0 without new connections.
    pub connect_p50_us: f64,
    /// The generator's own lateness, microseconds; 0 in a closed loop.
    pub lag_p99_us: f64,
    /// CPU time of all pods, sidecars and daemons of the arm, generator included, microseconds per
    /// answered request; 0 in an open loop, where the generator spins.
    pub cpu_us_per_request: f64,
    /// Requests decided and forwarded in the kernel during the cell, warm-up included.
    pub kernel_requests: u64,
    /// Requests that user space finished during the cell, warm-up included.
    pub fallback_requests: u64,
    /// Share of CPU time stolen by the hypervisor during the cell.
    pub steal: f64,
}

impl Row {
    /// Names of the columns of `raw.csv`.
    pub const COLUMNS: [&str; 26] = [
        "block",
        "position",
        "arm",
        "started_unix_ns",
        "duration_s",
        "offered_rps",
        "achieved_rps",
        "sent",
        "ok",
        "dropped",
        "errors",
        "wrong",
        "connects",
        "p50_us",
        "p90_us",
        "p99_us",
        "intended_p50_us",
        "intended_p90_us",
        "intended_p99_us",
        "connect_p50_us",
        "lag_p99_us",
        "cpu_us_per_request",
        "kernel_requests",
        "fallback_requests",
        "steal",
        "scenario",
    ];

    /// The row as one line of CSV without the line end. Arm and scenario names hold no comma.
    pub fn to_csv(&self, scenario: &str) -> String {
        let numbers = |values: &[f64]| {
            values
                .iter()
                .map(|v| format!("{v:.3}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let counts = |values: &[u64]| {
            values
                .iter()
                .map(u64::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        [
            format!(
                "{},{},{},{}",
                self.block, self.position, self.arm, self.started_unix_ns
            ),
            numbers(&[self.duration_s, self.offered_rps, self.achieved_rps]),
            counts(&[
                self.sent,
                self.ok,
                self.dropped,
                self.errors,
                self.wrong,
                self.connects,
            ]),
            numbers(&[self.p50_us, self.p90_us, self.p99_us]),
            numbers(&[
                self.intended_p50_us,
                self.intended_p90_us,
                self.intended_p99_us,
            ]),
            numbers(&[
                self.connect_p50_us,
                self.lag_p99_us,
                self.cpu_us_per_request,
            ]),
            counts(&[self.kernel_requests, self.fallback_requests]),
            format!("{:.5},{scenario}", self.steal),
        ]
        .join(",")
    }
}

/// The rows as `raw.csv`, with a line of column names.
pub fn to_csv(scenario: &str, rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| row.to_csv(scenario));
    std::iter::once(Row::COLUMNS.join(","))
        .chain(lines)
        .map(|line| line + "\n")
        .collect()
}

/// The value of a ratio's metric in this row. Latency is intended time in an open loop, service time
/// in a closed one (where nothing is ever due). `None` when the row has no such value.
pub fn metric(row: &Row, name: &str) -> Option<f64> {
    let open = row.offered_rps > 0.0;
    let pick = |intended: f64, service: f64| if open { intended } else { service };
    let value = match name {
        "throughput" => row.achieved_rps,
        "p50" => pick(row.intended_p50_us, row.p50_us),
        "p90" => pick(row.intended_p90_us, row.p90_us),
        "p99" => pick(row.intended_p99_us, row.p99_us),
        "connect_p50" => row.connect_p50_us,
        "cpu_us_per_request" => row.cpu_us_per_request,
        _ => return None,
    };
    (value > 0.0 && value.is_finite()).then_some(value)
}

/// The histograms of one arm, merged over all blocks.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// From the actual start to the last byte.
    pub service: Latency,
    /// From the moment a request was due; empty in a closed loop.
    pub intended: Latency,
    /// Connects.
    pub connect: Latency,
    /// The generator's lateness; empty in a closed loop.
    pub lag: Latency,
}

/// Everything a scenario's blocks brought.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// All cells, in the order they were measured.
    pub rows: Vec<Row>,
    /// Merged histograms by arm.
    pub merged: BTreeMap<String, Merged>,
    /// Latency of each cell by arm, in block order: intended time in an open loop, service time in a closed
    /// one. For the tail's intervals, which need blocks.
    pub cells: BTreeMap<String, Vec<Counts>>,
    /// Answers by arm and server.
    pub served_by: BTreeMap<String, BTreeMap<String, u64>>,
    /// First few wrong answers and errors in words, by arm.
    pub examples: BTreeMap<String, Vec<String>>,
    /// Requests finished in user space by arm and reason.
    pub fallback: BTreeMap<String, BTreeMap<String, u64>>,
    /// Messages between sockets by arm, where it counts them: those that skipped TCP, and all.
    pub messages: BTreeMap<String, (u64, u64)>,
    /// TCP connections alive in the lab per client connection, by arm, where it was counted.
    pub connections_per_client: BTreeMap<String, f64>,
    /// What each BPF program costs, by arm and program; counted in a pass of its own, after the blocks.
    pub bpf: BTreeMap<String, BTreeMap<String, BpfCost>>,
    /// How long each restart of an arm's data plane took until the new one was ready, milliseconds.
    pub restarts: BTreeMap<String, Vec<f64>>,
    /// Arms that decide where a request goes (`direct` and `dnat` do not).
    pub deciding: Vec<String>,
}

impl Record {
    /// The rows of one arm, in block order.
    pub fn of<'a>(&'a self, arm: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.arm == arm)
    }

    /// Number of blocks begun.
    pub fn blocks(&self) -> usize {
        self.rows.iter().map(|row| row.block + 1).max().unwrap_or(0)
    }

    /// One metric of two arms, paired by block; blocks where either is missing are left out.
    pub fn pairs(&self, num: &str, den: &str, name: &str) -> (Vec<f64>, Vec<f64>) {
        let below: BTreeMap<usize, f64> = self
            .of(den)
            .filter_map(|row| Some((row.block, metric(row, name)?)))
            .collect();
        self.of(num)
            .filter_map(|row| Some((metric(row, name)?, *below.get(&row.block)?)))
            .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_as_many_values_as_columns() {
        let row = Row {
            arm: "direct".into(),
            ..Row::default()
        };
        assert_eq!(row.to_csv("s").split(',').count(), Row::COLUMNS.len());
    }

    #[test]
    fn pairs_follow_the_block_not_the_order() {
        let row = |block, arm: &str, achieved_rps| Row {
            block,
            arm: arm.into(),
            achieved_rps,
            ..Row::default()
        };
        let record = Record {
            rows: vec![
                row(0, "a", 1.0),
                row(0, "b", 10.0),
                row(1, "b", 20.0),
                row(1, "a", 2.0),
                row(2, "a", 3.0),
                row(2, "b", 0.0),
            ],
            ..Record::default()
        };
        assert_eq!(
            record.pairs("a", "b", "throughput"),
            (vec![1.0, 2.0], vec![10.0, 20.0])
        );
    }

    #[test]
    fn open_loop_latency_is_intended_time() {
        let row = Row {
            offered_rps: 100.0,
            p50_us: 1.0,
            intended_p50_us: 9.0,
            ..Row::default()
        };
        assert_eq!(metric(&row, "p50"), Some(9.0));
        assert_eq!(
            metric(
                &Row {
                    offered_rps: 0.0,
                    ..row
                },
                "p50"
            ),
            Some(1.0)
        );
    }
}
