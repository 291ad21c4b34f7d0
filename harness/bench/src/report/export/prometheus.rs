//! Prometheus text exposition format 0.0.4, for a push gateway or the node exporter's text files.

use crate::summary::{ArmSummary, Summary};
use std::fmt::Write as _;

/// A metric family: name, help, and its value of an arm if it has one.
type Family = (&'static str, &'static str, fn(&ArmSummary) -> Option<f64>);

const FAMILIES: [Family; 6] = [
    (
        "kmesh_bench_requests_per_second",
        "Median over blocks of complete answers per second",
        |arm| Some(arm.achieved_rps),
    ),
    (
        "kmesh_bench_cpu_seconds_per_request",
        "CPU time of all pods and daemons per answered request",
        |arm| arm.cpu_us_per_request.map(|us| us / 1e6),
    ),
    (
        "kmesh_bench_errors",
        "Requests without a right answer in all measured cells",
        |arm| Some(arm.errors as f64),
    ),
    (
        "kmesh_bench_wrong_decisions",
        "Answers by a wrong server, to another request, or with a wrong byte",
        |arm| Some(arm.wrong_decisions as f64),
    ),
    (
        "kmesh_bench_kernel_share",
        "Share of requests finished in the kernel",
        |arm| arm.kernel_share,
    ),
    (
        "kmesh_bench_connections_per_client_connection",
        "TCP connections in all pods per client connection",
        |arm| arm.connections_per_client,
    ),
];

/// All metrics of a summary. Label values are scenario and arm names, which need no escape.
pub(super) fn text(summary: &Summary) -> String {
    let mut text = String::new();
    let scenario = &summary.scenario;
    for (name, help, value) in FAMILIES {
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge");
        for arm in &summary.arms {
            if let Some(value) = value(arm) {
                let _ = writeln!(
                    text,
                    "{name}{{scenario=\"{scenario}\",arm=\"{}\"}} {value}",
                    arm.name
                );
            }
        }
    }
    let name = "kmesh_bench_latency_seconds";
    let _ = writeln!(
        text,
        "# HELP {name} Percentiles of merged histograms, by time basis.\n# TYPE {name} gauge"
    );
    for arm in &summary.arms {
        for (basis, percentiles) in [
            ("service", Some(arm.latency_us)),
            ("intended", arm.intended_us),
        ] {
            let Some(p) = percentiles else { continue };
            for (quantile, us) in [
                ("0.5", p.p50),
                ("0.9", p.p90),
                ("0.99", p.p99),
                ("0.999", p.p999),
            ] {
                let _ = writeln!(
                    text,
                    "{name}{{scenario=\"{scenario}\",arm=\"{}\",basis=\"{basis}\",quantile=\"{quantile}\"}} {}",
                    arm.name,
                    us / 1e6
                );
            }
        }
    }
    let name = "kmesh_bench_ratio";
    let _ = writeln!(
        text,
        "# HELP {name} Paired ratio of two arms with its interval.\n# TYPE {name} gauge"
    );
    for ratio in summary.ratios.iter().chain(&summary.aa) {
        for (bound, value) in [
            ("point", ratio.interval.point),
            ("lo", ratio.interval.lo),
            ("hi", ratio.interval.hi),
        ] {
            let _ = writeln!(
                text,
                "{name}{{scenario=\"{scenario}\",metric=\"{}\",num=\"{}\",den=\"{}\",bound=\"{bound}\"}} {value}",
                ratio.metric, ratio.num, ratio.den
            );
        }
    }
    text
}
