//! The figures of a summary as CSV: one line per arm and metric, ratios with their intervals.

use crate::summary::Summary;
use std::fmt::Write as _;

/// `scenario,kind,arm,against,metric,value,lo,hi`. Names hold no comma.
pub(super) fn csv(summary: &Summary) -> String {
    let mut text = String::from("scenario,kind,arm,against,metric,value,lo,hi\n");
    let name = &summary.scenario;
    for arm in &summary.arms {
        let mut line = |metric: &str, value: f64| {
            let _ = writeln!(text, "{name},arm,{},,{metric},{value:.3},,", arm.name);
        };
        line("achieved_rps", arm.achieved_rps);
        let shown = arm.intended_us.unwrap_or(arm.latency_us);
        line("p50_us", shown.p50);
        line("p90_us", shown.p90);
        line("p99_us", shown.p99);
        line("p999_us", shown.p999);
        line("errors", arm.errors as f64);
        line("wrong_decisions", arm.wrong_decisions as f64);
        if let Some(cpu) = arm.cpu_us_per_request {
            line("cpu_us_per_request", cpu);
        }
        if let Some(share) = arm.kernel_share {
            line("kernel_share", share);
        }
        if let Some(connections) = arm.connections_per_client {
            line("connections_per_client", connections);
        }
    }
    for (kind, ratios) in [("ratio", &summary.ratios), ("aa", &summary.aa)] {
        for ratio in ratios {
            let _ = writeln!(
                text,
                "{name},{kind},{},{},{},{:.4},{:.4},{:.4}",
                ratio.num,
                ratio.den,
                ratio.metric,
                ratio.interval.point,
                ratio.interval.lo,
                ratio.interval.hi
            );
        }
    }
    for added in &summary.added_us {
        let _ = writeln!(
            text,
            "{name},added_us,{},{},{},{:.3},{:.3},{:.3}",
            added.arm,
            added.reference,
            added.metric,
            added.interval.point,
            added.interval.lo,
            added.interval.hi
        );
    }
    text
}
