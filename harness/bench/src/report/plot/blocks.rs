//! The course of a run: the gated metric of every arm, block by block. Drift and disturbances show here.

use super::axis::Axis;
use super::chart::{Chart, Series};
use super::{Size, colour};
use crate::record::{Record, metric};
use crate::scenario::Loop;
use crate::summary::Summary;

/// p50 (open loop) or requests per second (closed loop) over blocks; `None` without rows.
pub fn blocks(summary: &Summary, record: &Record, size: Size) -> Option<String> {
    let (name, unit) = match summary.load.pace {
        Loop::Open => ("p50", "p50, microseconds"),
        Loop::Closed => ("throughput", "requests/s"),
    };
    let series: Vec<Series> = summary
        .arms
        .iter()
        .map(|arm| Series {
            name: arm.name.clone(),
            colour: colour(&arm.name),
            points: record
                .of(&arm.name)
                .filter_map(|row| Some((row.block as f64, metric(row, name)?)))
                .collect(),
            band: Vec::new(),
            dots: true,
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let last = points().map(|p| p.0).fold(0.0, f64::max);
    let lowest = points().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let highest = points().map(|p| p.1).fold(0.0, f64::max);
    let chart = Chart {
        title: format!("{}: block by block", summary.scenario),
        x: (Axis::linear(-0.5, last + 0.5)?, "block"),
        y: (Axis::log(lowest * 0.8, highest * 1.25)?, unit),
        x_label: &|x| format!("{x:.0}"),
        series,
        mark: None,
    };
    chart.svg(size)
}
