//! Bencher metric format (BMF): `{benchmark: {measure: {value, lower_value, upper_value}}}`, for
//! `bencher run --adapter json --file bencher.json`. Ratios carry intervals and survive a change of
//! machine, so they are what a trend should be drawn of.

use crate::summary::Summary;
use serde_json::{Map, Value, json};

/// Latency in nanoseconds and throughput per arm (bencher's own measures), ratios with bounds.
pub(super) fn json(summary: &Summary) -> String {
    let mut benchmarks = Map::new();
    for arm in &summary.arms {
        let shown = arm.intended_us.unwrap_or(arm.latency_us);
        let measures = json!({
            "latency": { "value": shown.p50 * 1e3 },
            "throughput": { "value": arm.achieved_rps },
        });
        benchmarks.insert(format!("{}/{}", summary.scenario, arm.name), measures);
    }
    for ratio in &summary.ratios {
        let name = format!("{}/{}:{}", summary.scenario, ratio.num, ratio.den);
        let entry = benchmarks
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(measures) = entry {
            measures.insert(
                format!("ratio-{}", ratio.metric.replace('_', "-")),
                json!({
                    "value": ratio.interval.point,
                    "lower_value": ratio.interval.lo,
                    "upper_value": ratio.interval.hi,
                }),
            );
        }
    }
    format!("{:#}\n", Value::Object(benchmarks))
}
