//! One scenario at several values of one key, such as latency against connections, with bands.

use super::axis::{Axis, short};
use super::chart::{Chart, Series};
use super::{Size, colour};
use crate::record::metric;
use crate::report::stored::Stored;
use kmesh_stats::Bootstrap;
use std::collections::BTreeMap;

/// What is drawn over the sweep's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity {
    /// Name of the metric, as in ratios.
    pub metric: &'static str,
    /// Words on the axis.
    pub unit: &'static str,
}

/// The metric of every arm over the sweep's values: median over blocks with its bootstrap interval.
/// `None` with fewer than two points.
pub fn sweep(
    name: &str,
    key: &str,
    points: &[&Stored],
    what: Quantity,
    size: Size,
) -> Option<String> {
    let mut arms: BTreeMap<String, Vec<(f64, f64, f64, f64)>> = BTreeMap::new();
    for (x, stored) in placed(points) {
        let design = &stored.summary.design;
        let bootstrap = Bootstrap {
            level: design.level,
            resamples: design.resamples,
            seed: design.seed,
        };
        for arm in &stored.summary.arms {
            let values: Vec<f64> = stored
                .record
                .of(&arm.name)
                .filter_map(|row| metric(row, what.metric))
                .collect();
            if let Ok(median) = bootstrap.median(&values) {
                arms.entry(arm.name.clone()).or_default().push((
                    x,
                    median.point,
                    median.lo,
                    median.hi,
                ));
            }
        }
    }
    let series: Vec<Series> = arms
        .into_iter()
        .map(|(name, points)| Series {
            colour: colour(&name),
            name,
            points: points.iter().map(|p| (p.0, p.1)).collect(),
            band: points.iter().map(|p| (p.0, p.2, p.3)).collect(),
            dots: true,
        })
        .collect();
    let ticks: Vec<f64> = placed(points).map(|(x, _)| x).collect();
    let labels = labels(points);
    let (first, last) = (ticks.first()?, ticks.last()?);
    let values = || series.iter().flat_map(|s| s.band.iter());
    let lowest = values().map(|v| v.1).fold(f64::INFINITY, f64::min);
    let highest = values().map(|v| v.2.max(v.1)).fold(0.0, f64::max);
    let margin = (last - first) * 0.03;
    let chart = Chart {
        title: format!("{name}: {}", what.unit),
        x: (
            Axis::linear(first - margin, last + margin)?.with_ticks(thinned(&ticks, size)),
            key,
        ),
        y: (Axis::log(lowest * 0.8, highest * 1.25)?, what.unit),
        x_label: &|x| labels.get(&x.to_bits()).cloned().unwrap_or_default(),
        series,
        mark: None,
    };
    chart.svg(size)
}

/// Places of the points: by logarithm for positive numbers (0 one octave left of the first), by order for words.
fn placed<'a>(points: &'a [&'a Stored]) -> impl Iterator<Item = (f64, &'a Stored)> {
    let numbers: Vec<Option<f64>> = points.iter().map(|stored| stored.sweep_value()).collect();
    let numeric = numbers.iter().all(Option::is_some);
    let least = numbers
        .iter()
        .flatten()
        .copied()
        .filter(|value| *value > 0.0)
        .fold(f64::INFINITY, f64::min);
    points.iter().enumerate().map(move |(i, stored)| {
        let x = match numbers[i] {
            Some(value) if numeric => {
                if value > 0.0 {
                    value.log2()
                } else {
                    least.log2() - 1.0
                }
            }
            _ => i as f64,
        };
        (x, *stored)
    })
}

fn labels(points: &[&Stored]) -> BTreeMap<u64, String> {
    placed(points)
        .map(|(x, stored)| {
            let text = stored
                .sweep_value()
                .map_or_else(|| stored.sweep_text(), short);
            (x.to_bits(), text)
        })
        .collect()
}

/// As many ticks as there is room for.
fn thinned(ticks: &[f64], size: Size) -> Vec<f64> {
    let room = (size.width as usize / 60).max(2);
    let step = ticks.len().div_ceil(room).max(1);
    ticks.iter().copied().step_by(step).collect()
}
