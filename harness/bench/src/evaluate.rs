//! From rows to figures: pure, so that a report can be made again from what is stored.

use crate::record::{Merged, Record};
use crate::scenario::{Design, Loop, Scenario};
use crate::summary::{Added, ArmSummary, Percentiles, Ratio, Restarts, Tail};
use kmesh_stats::{Bootstrap, Latency, paired, rank};

/// Metrics compared in every scenario; `connect_p50` only where connections are opened.
const METRICS: [&str; 5] = ["throughput", "p50", "p90", "p99", "cpu_us_per_request"];

/// The figures of one scenario.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// One entry per arm.
    pub arms: Vec<ArmSummary>,
    /// Paired ratios.
    pub ratios: Vec<Ratio>,
    /// Added latency against the reference.
    pub added_us: Vec<Added>,
    /// The identical arms against each other.
    pub aa: Vec<Ratio>,
}

/// How the scenario's intervals are made: sharper when the run may stop early.
pub fn bootstrap(design: &Design) -> Bootstrap {
    Bootstrap {
        level: design.level_per_look(),
        resamples: design.resamples,
        seed: design.seed,
    }
}

/// Computes every figure for the arms that were run.
pub fn figures(scenario: &Scenario, arms: &[String], record: &Record, design: &Design) -> Figures {
    let bootstrap = bootstrap(design);
    let ran = |arm: &String| arms.contains(arm);
    let (reference, aa, baseline) = (
        &scenario.arms.reference,
        &scenario.arms.aa,
        &scenario.arms.baseline,
    );
    let mut figures = Figures {
        arms: arms
            .iter()
            .map(|arm| arm_summary(scenario, arm, record, &bootstrap))
            .collect(),
        ..Figures::default()
    };
    for arm in arms.iter().filter(|arm| *arm != reference && *arm != aa) {
        if ran(reference) {
            figures
                .ratios
                .extend(ratios(record, arm, reference, &bootstrap));
            figures.added_us.extend(
                ["p50", "p90"]
                    .iter()
                    .filter_map(|m| added(record, arm, reference, m, &bootstrap)),
            );
        }
        if ran(baseline) && arm != baseline {
            figures
                .ratios
                .extend(ratios(record, arm, baseline, &bootstrap));
        }
    }
    if ran(reference) && ran(aa) {
        figures.aa = ratios(record, aa, reference, &bootstrap);
    }
    figures
}

/// The ratio `num : den`, also when it was stored the other way round.
pub fn find_ratio(ratios: &[Ratio], metric: &str, num: &str, den: &str) -> Option<Ratio> {
    ratios.iter().find_map(|ratio| {
        let same_metric = ratio.metric == metric;
        if same_metric && ratio.num == num && ratio.den == den {
            return Some(ratio.clone());
        }
        (same_metric && ratio.num == den && ratio.den == num).then(|| Ratio {
            num: num.to_owned(),
            den: den.to_owned(),
            interval: ratio.interval.inverse(),
            hodges_lehmann: 1.0 / ratio.hodges_lehmann,
            ..ratio.clone()
        })
    })
}

fn ratios(record: &Record, num: &str, den: &str, bootstrap: &Bootstrap) -> Vec<Ratio> {
    METRICS
        .iter()
        .chain(["connect_p50"].iter())
        .filter_map(|metric| {
            let (above, below) = record.pairs(num, den, metric);
            let compared = paired::compare(&above, &below, bootstrap).ok()?;
            Some(Ratio {
                metric: (*metric).to_owned(),
                num: num.to_owned(),
                den: den.to_owned(),
                interval: compared.ratio,
                p: compared.p,
                hodges_lehmann: compared.hodges_lehmann,
                blocks: compared.blocks,
            })
        })
        .collect()
}

fn added(
    record: &Record,
    arm: &str,
    reference: &str,
    metric: &str,
    bootstrap: &Bootstrap,
) -> Option<Added> {
    let (above, below) = record.pairs(arm, reference, metric);
    Some(Added {
        metric: metric.to_owned(),
        arm: arm.to_owned(),
        reference: reference.to_owned(),
        interval: paired::difference(&above, &below, bootstrap).ok()?,
    })
}

fn arm_summary(
    scenario: &Scenario,
    arm: &str,
    record: &Record,
    bootstrap: &Bootstrap,
) -> ArmSummary {
    let sum = |field: fn(&crate::record::Row) -> u64| record.of(arm).map(field).sum::<u64>();
    let median = |field: fn(&crate::record::Row) -> f64| {
        rank::median(&record.of(arm).map(field).collect::<Vec<_>>()).ok()
    };
    let merged = record.merged.get(arm).cloned().unwrap_or_default();
    let (kernel, user) = (
        sum(|row| row.kernel_requests),
        sum(|row| row.fallback_requests),
    );
    let open = scenario.load.pace == Loop::Open;
    ArmSummary {
        name: arm.to_owned(),
        pace: scenario.load.pace,
        offered_rps: if open {
            median(|row| row.offered_rps)
        } else {
            None
        },
        achieved_rps: median(|row| row.achieved_rps).unwrap_or(0.0),
        sent: sum(|row| row.sent),
        latency_us: percentiles(&merged.service).unwrap_or_default(),
        intended_us: percentiles(&merged.intended),
        tail_us: tail(record, arm, bootstrap),
        connect_us: percentiles(&merged.connect),
        cpu_us_per_request: median(|row| row.cpu_us_per_request).filter(|cpu| *cpu > 0.0),
        errors: sum(|row| row.errors),
        wrong_decisions: sum(|row| row.wrong),
        dropped: sum(|row| row.dropped),
        decides: record.deciding.iter().any(|name| name == arm),
        kernel_share: (kernel + user > 0).then(|| kernel as f64 / (kernel + user) as f64),
        bpf: record.bpf.get(arm).cloned().unwrap_or_default(),
        shortcut_share: record
            .messages
            .get(arm)
            .filter(|(_, total)| *total > 0)
            .map(|(shortcut, total)| *shortcut as f64 / *total as f64),
        restarts: scenario.restart.map(|_| restarts(record, arm, &merged)),
        fallback: record.fallback.get(arm).cloned().unwrap_or_default(),
        served_by: record.served_by.get(arm).cloned().unwrap_or_default(),
        connections_per_client: record.connections_per_client.get(arm).copied(),
        examples: record.examples.get(arm).cloned().unwrap_or_default(),
    }
}

fn restarts(record: &Record, arm: &str, merged: &Merged) -> Restarts {
    let times = record.restarts.get(arm).map_or(&[][..], Vec::as_slice);
    let failed: u64 = record.of(arm).map(|row| row.errors + row.dropped).sum();
    let peak_us = merged.intended.max_us().or(merged.service.max_us());
    Restarts {
        count: times.len(),
        ready_ms: rank::median(times).ok(),
        failed_per_cell: failed as f64 / record.of(arm).count().max(1) as f64,
        peak_ms: peak_us.map(|us| us / 1e3),
    }
}

/// The tail's intervals, with fewer resamples than the ratios': a resample reads a whole histogram.
fn tail(record: &Record, arm: &str, bootstrap: &Bootstrap) -> Option<Tail> {
    const RESAMPLES: usize = 500;
    let fewer = Bootstrap {
        resamples: bootstrap.resamples.min(RESAMPLES),
        ..*bootstrap
    };
    let quantiles = kmesh_stats::tail::quantiles(record.cells.get(arm)?, &[0.99, 0.999], &fewer);
    match quantiles.ok()?.as_slice() {
        [p99, p999] => Some(Tail {
            p99: *p99,
            p999: *p999,
        }),
        _ => None,
    }
}

fn percentiles(latency: &Latency) -> Option<Percentiles> {
    Some(Percentiles {
        p50: latency.quantile_us(0.5)?,
        p90: latency.quantile_us(0.9)?,
        p99: latency.quantile_us(0.99)?,
        p999: latency.quantile_us(0.999)?,
    })
}
