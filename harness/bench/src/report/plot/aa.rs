//! The A/A panel: two identical arms, their ratio in every block, and the interval of all blocks. What
//! differs here is noise, and nothing smaller can be claimed of other arms.

use super::axis::Axis;
use super::chart::{Chart, Series};
use super::{Size, colour};
use crate::record::{Record, metric};
use crate::scenario::Loop;
use crate::summary::Summary;
use std::collections::BTreeMap;

/// Ratio of the identical arms over blocks with the interval as a band; `None` without an A/A arm.
pub fn aa(summary: &Summary, record: &Record, size: Size) -> Option<String> {
    let gated = match summary.load.pace {
        Loop::Open => "p50",
        Loop::Closed => "throughput",
    };
    let ratio = summary.aa.iter().find(|ratio| ratio.metric == gated)?;
    let below: BTreeMap<usize, f64> = record
        .of(&ratio.den)
        .filter_map(|row| Some((row.block, metric(row, gated)?)))
        .collect();
    let points: Vec<(f64, f64)> = record
        .of(&ratio.num)
        .filter_map(|row| {
            Some((
                row.block as f64,
                metric(row, gated)? / below.get(&row.block)?,
            ))
        })
        .collect();
    let last = points.iter().map(|p| p.0).fold(0.0, f64::max);
    let interval = ratio.interval;
    let lowest = points
        .iter()
        .map(|p| p.1)
        .fold(interval.lo.min(0.97), f64::min);
    let highest = points
        .iter()
        .map(|p| p.1)
        .fold(interval.hi.max(1.03), f64::max);
    let band = [-0.5, last + 0.5].map(|x| (x, interval.lo, interval.hi));
    let chart = Chart {
        title: format!(
            "{}: A/A, {gated} {} : {}",
            summary.scenario, ratio.num, ratio.den
        ),
        x: (Axis::linear(-0.5, last + 0.5)?, "block"),
        y: (Axis::log(lowest * 0.99, highest * 1.01)?, "ratio"),
        x_label: &|x| format!("{x:.0}"),
        series: vec![Series {
            name: "ratio, interval".to_owned(),
            colour: colour("kmesh"),
            points,
            band: band.into(),
            dots: true,
        }],
        mark: Some(1.0),
    };
    chart.svg(size)
}
