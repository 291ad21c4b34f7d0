//! Where the mesh loses: every comparison in the data that goes against it, found by its interval alone.

use crate::summary::{Ratio, Summary};
use kmesh_stats::Interval;
use serde::Serialize;

/// Arms of this project.
const OURS: &str = "kmesh";
/// A ratio this close to 1 is not worth a line even when its interval is narrower.
const MARGIN: f64 = 0.01;

/// One comparison that the mesh loses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Loss {
    /// The scenario.
    pub scenario: String,
    /// Arm of ours.
    pub arm: String,
    /// What it loses against.
    pub against: String,
    /// The metric.
    pub metric: String,
    /// `arm : against`.
    pub ratio: Interval,
    /// The same as a factor above 1: how much worse.
    pub factor: f64,
    /// In words.
    pub words: String,
}

/// All of them, those against a sidecar mesh first, then by how much.
pub fn losses(summaries: &[Summary]) -> Vec<Loss> {
    let mut found: Vec<Loss> = summaries
        .iter()
        .flat_map(|summary| {
            summary
                .ratios
                .iter()
                .filter_map(move |ratio| loss(&summary.scenario, ratio))
        })
        .collect();
    found.sort_by(|a, b| {
        let against_mesh = |loss: &Loss| !loss.against.starts_with("envoy");
        against_mesh(a)
            .cmp(&against_mesh(b))
            .then(b.factor.total_cmp(&a.factor))
    });
    found
}

fn loss(scenario: &str, ratio: &Ratio) -> Option<Loss> {
    if !ratio.num.starts_with(OURS) || ratio.den.starts_with(OURS) {
        return None;
    }
    let more_is_better = ratio.metric == "throughput";
    let factor = if more_is_better {
        1.0 / ratio.interval.point
    } else {
        ratio.interval.point
    };
    let certain = if more_is_better {
        ratio.interval.hi < 1.0 - MARGIN
    } else {
        ratio.interval.lo > 1.0 + MARGIN
    };
    certain.then(|| Loss {
        scenario: scenario.to_owned(),
        arm: ratio.num.clone(),
        against: ratio.den.clone(),
        metric: ratio.metric.clone(),
        ratio: ratio.interval,
        factor,
        words: words(ratio),
    })
}

fn words(ratio: &Ratio) -> String {
    let what = match ratio.metric.as_str() {
        "throughput" => "the requests/s",
        "cpu_us_per_request" => "the CPU time per request",
        "connect_p50" => "the median time to connect",
        "p50" => "the median latency",
        "p90" => "the p90 latency",
        "p99" => "the p99 latency",
        other => other,
    };
    format!(
        "{} has {} times {what} of {}",
        ratio.num, ratio.interval, ratio.den
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(metric: &str, num: &str, lo: f64, hi: f64) -> Ratio {
        Ratio {
            metric: metric.into(),
            num: num.into(),
            den: "direct".into(),
            interval: Interval {
                point: f64::midpoint(lo, hi),
                lo,
                hi,
            },
            p: 0.01,
            hodges_lehmann: 1.0,
            blocks: 10,
        }
    }

    #[test]
    fn only_what_the_interval_excludes_is_a_loss() {
        for (metric, num, lo, hi, expected) in [
            ("p50", "kmesh", 1.2, 1.4, true),
            ("p50", "kmesh", 0.9, 1.4, false),
            ("throughput", "kmesh", 1.2, 1.4, false),
            ("throughput", "kmesh-remote", 0.6, 0.7, true),
            ("p50", "envoy-both", 20.0, 30.0, false),
        ] {
            let found = loss("s", &ratio(metric, num, lo, hi));
            assert_eq!(found.is_some(), expected, "{metric} {num}: {found:?}");
        }
    }
}
