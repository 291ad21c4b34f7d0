//! Latency over percentile, both axes logarithmic: the percentile axis by `1 / (1 - q)`.

use super::axis::Axis;
use super::chart::{Chart, Series};
use super::{Size, colour};
use crate::record::Record;
use crate::summary::Summary;

/// Beyond one in ten thousand a run of seconds has no data worth drawing.
const LAST: f64 = 10_000.0;

/// The latency spectrum of every arm; `None` without histograms.
pub fn spectrum(summary: &Summary, record: &Record, size: Size) -> Option<String> {
    let intended = summary.load.latency_basis == "intended";
    let series: Vec<Series> = summary
        .arms
        .iter()
        .filter_map(|arm| {
            let merged = record.merged.get(&arm.name)?;
            let histogram = if intended {
                &merged.intended
            } else {
                &merged.service
            };
            let points: Vec<(f64, f64)> = histogram
                .spectrum()
                .into_iter()
                .map(|(q, us)| (1.0 / (1.0 - q).max(1.0 / LAST), us))
                .collect();
            (!points.is_empty()).then(|| Series {
                name: arm.name.clone(),
                colour: colour(&arm.name),
                points,
                band: Vec::new(),
                dots: false,
            })
        })
        .collect();
    let values = || series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let lowest = values().fold(f64::INFINITY, f64::min);
    let highest = values().fold(0.0, f64::max);
    let chart = Chart {
        title: format!(
            "{}: latency ({} time)",
            summary.scenario, summary.load.latency_basis
        ),
        x: (
            Axis::log(1.0, LAST)?.with_ticks(vec![1.0, 2.0, 10.0, 100.0, 1_000.0, LAST]),
            "percentile",
        ),
        y: (
            Axis::log(lowest * 0.8, (highest * 1.25).max(lowest * 1.5))?,
            "microseconds",
        ),
        x_label: &|x| percentile_label(*x),
        series,
        mark: None,
    };
    chart.svg(size)
}

/// `1 / (1 - q)` as a percentile: 10 is p90, 100 is p99.
fn percentile_label(x: f64) -> String {
    let percentile = 100.0 * (1.0 - 1.0 / x);
    let digits = (x.log10() - 2.0).clamp(0.0, 3.0).ceil() as usize;
    format!("p{percentile:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_labels() {
        for (x, label) in [
            (1.0, "p0"),
            (2.0, "p50"),
            (10.0, "p90"),
            (100.0, "p99"),
            (1_000.0, "p99.9"),
            (10_000.0, "p99.99"),
        ] {
            assert_eq!(percentile_label(x), label);
        }
    }
}
