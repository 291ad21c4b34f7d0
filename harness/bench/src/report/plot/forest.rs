//! Ratios to the reference with their intervals, on a logarithmic axis with 1 marked.

use super::axis::{Axis, short};
use super::chart::GRID;
use super::{Fault, Size, colour};
use crate::summary::{Ratio, Summary};
use plotters::prelude::*;

/// Pixels of one row.
const ROW: u32 = 24;
/// Metrics worth a row; p99 has its place in the tables, its interval would stretch the axis.
const METRICS: [&str; 4] = ["throughput", "p50", "p90", "cpu_us_per_request"];

/// The forest plot; `None` when nothing was compared with the reference.
pub fn forest(summary: &Summary, size: Size) -> Option<String> {
    let reference = summary.added_us.first().map(|added| &added.reference)?;
    let mut rows: Vec<&Ratio> = summary
        .ratios
        .iter()
        .chain(&summary.aa)
        .filter(|ratio| ratio.den == *reference && METRICS.contains(&ratio.metric.as_str()))
        .collect();
    rows.sort_by_key(|ratio| METRICS.iter().position(|metric| *metric == ratio.metric));
    let lowest = rows.iter().map(|r| r.interval.lo).fold(0.9, f64::min);
    let highest = rows.iter().map(|r| r.interval.hi).fold(1.1, f64::max);
    if rows.is_empty() {
        return None;
    }
    let axis = Axis::log(lowest * 0.85, highest * 1.15)?;
    let mut text = String::new();
    let title = format!(
        "{}: ratio to {reference}, {:.0} % intervals",
        summary.scenario,
        summary.design.level * 100.0
    );
    draw(&mut text, &title, &rows, &axis, size).ok()?;
    Some(text)
}

fn draw<'a>(
    text: &'a mut String,
    title: &str,
    rows: &[&Ratio],
    axis: &Axis,
    size: Size,
) -> Result<(), Fault<'a>> {
    let height = 100 + ROW * rows.len() as u32;
    let narrow = size.width < 500;
    let root = SVGBackend::with_string(text, (size.width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let labels: Vec<String> = rows
        .iter()
        .map(|ratio| format!("{} {}", ratio.num, words(&ratio.metric, narrow)))
        .collect();
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", size.caption()))
        .margin(8)
        .margin_right(18)
        .x_label_area_size(40)
        .y_label_area_size(if narrow { 142 } else { 220 })
        .build_cartesian_2d(axis.clone(), Axis::slots(rows.len()))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(GRID)
        .x_desc("ratio (1 = the same)")
        .x_labels(axis.tick_count().max(1))
        .y_labels(rows.len())
        .label_style(("sans-serif", 12))
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| labels.get(*y as usize).cloned().unwrap_or_default())
        .draw()?;
    let bottom = rows.len() as f64 - 0.5;
    chart.draw_series(LineSeries::new([(1.0, -0.5), (1.0, bottom)], &BLACK))?;
    for (i, ratio) in rows.iter().enumerate() {
        let y = i as f64;
        let interval = ratio.interval;
        let paint = colour(&ratio.num);
        chart.draw_series(LineSeries::new(
            [(interval.lo, y), (interval.hi, y)],
            paint.stroke_width(3),
        ))?;
        chart.draw_series([Circle::new((interval.point, y), 5, paint.filled())])?;
    }
    root.present()
}

fn words(metric: &str, narrow: bool) -> &str {
    match (metric, narrow) {
        ("throughput", _) => "rps",
        ("cpu_us_per_request", true) => "CPU",
        ("cpu_us_per_request", false) => "CPU per request",
        (other, _) => other,
    }
}
