//! Drawings: the latency spectrum of every arm, and a forest plot of ratios.
//!
//! SVG only: it needs no fonts on this machine and stays sharp in a browser.

use crate::record::Record;
use crate::summary::{Ratio, Summary};
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;
use std::ops::Range;

type Fault<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

const SIZE: (u32, u32) = (960, 540);
/// Width of the legend beside the latency plot.
const LEGEND: u32 = 130;
/// Okabe and Ito's palette: told apart by colour-blind readers, on white and on grey.
const PALETTE: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(150, 150, 150),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// All drawings of a result as (file name, SVG). A drawing without data is left out.
pub fn svg(summary: &Summary, record: &Record) -> Vec<(String, String)> {
    let mut drawings = Vec::new();
    for (name, drawn) in [
        ("latency.svg", latency(summary, record)),
        ("ratios.svg", forest(summary)),
    ] {
        if let Some(text) = drawn {
            drawings.push((name.to_owned(), text));
        }
    }
    drawings
}

/// Latency over percentile, both axes logarithmic: the percentile axis by 1 / (1 - q).
fn latency(summary: &Summary, record: &Record) -> Option<String> {
    /// Beyond one in ten thousand a run of seconds has no data worth drawing.
    const LAST: f64 = 10_000.0;
    let intended = summary.load.latency_basis == "intended";
    let curves: Vec<(&str, Vec<(f64, f64)>)> = summary
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
            (!points.is_empty()).then_some((arm.name.as_str(), points))
        })
        .collect();
    let values = || {
        curves
            .iter()
            .flat_map(|(_, points)| points.iter().map(|(_, us)| *us))
    };
    let lowest = values().fold(f64::INFINITY, f64::min);
    let highest = values().fold(0.0, f64::max);
    if curves.is_empty() || lowest <= 0.0 {
        return None;
    }
    let mut text = String::new();
    draw_latency(
        &mut text,
        summary,
        &curves,
        lowest * 0.8..highest * 1.25,
        LAST,
    )
    .ok()?;
    Some(text)
}

fn draw_latency<'a>(
    text: &'a mut String,
    summary: &Summary,
    curves: &[(&str, Vec<(f64, f64)>)],
    range: Range<f64>,
    last: f64,
) -> Result<(), Fault<'a>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (plot, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&plot)
        .caption(
            format!(
                "{}: latency ({} time)",
                summary.scenario, summary.load.latency_basis
            ),
            ("sans-serif", 20),
        )
        .margin(12)
        .margin_right(32)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d((1.0..last).log_scale(), range.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .x_desc("percentile")
        .y_desc("microseconds")
        .x_label_formatter(&|x| percentile_label(*x))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (i, (name, points)) in curves.iter().enumerate() {
        let colour = PALETTE[i % PALETTE.len()].stroke_width(2);
        chart.draw_series(LineSeries::new(points.iter().copied(), colour))?;
        // Beside the plot, where it hides no curve.
        let y = 60 + 20 * i as i32;
        legend.draw(&PathElement::new([(0, y), (20, y)], colour))?;
        legend.draw(&Text::new(
            (*name).to_owned(),
            (28, y - 6),
            ("sans-serif", 13),
        ))?;
    }
    root.present()
}

/// `1 / (1 - q)` as a percentile: 10 is p90, 100 is p99.
fn percentile_label(x: f64) -> String {
    let percentile = 100.0 * (1.0 - 1.0 / x);
    let digits = (x.log10() - 2.0).clamp(0.0, 3.0).ceil() as usize;
    format!("p{percentile:.digits$}")
}

/// Ratios to the reference with their intervals, on a logarithmic axis with 1 marked.
fn forest(summary: &Summary) -> Option<String> {
    let reference = summary
        .added_us
        .first()
        .map(|added| added.reference.clone())?;
    let rows: Vec<&Ratio> = summary
        .ratios
        .iter()
        .chain(&summary.aa)
        .filter(|ratio| {
            ratio.den == reference
                && ["throughput", "p50", "cpu_us_per_request"].contains(&ratio.metric.as_str())
        })
        .collect();
    let lowest = rows
        .iter()
        .map(|ratio| ratio.interval.lo)
        .fold(0.9, f64::min);
    let highest = rows
        .iter()
        .map(|ratio| ratio.interval.hi)
        .fold(1.1, f64::max);
    if rows.is_empty() || lowest <= 0.0 {
        return None;
    }
    let mut text = String::new();
    draw_forest(
        &mut text,
        summary,
        &rows,
        lowest * 0.85..highest * 1.15,
        &reference,
    )
    .ok()?;
    Some(text)
}

fn draw_forest<'a>(
    text: &'a mut String,
    summary: &Summary,
    rows: &[&Ratio],
    range: Range<f64>,
    reference: &str,
) -> Result<(), Fault<'a>> {
    let height = 110 + 24 * rows.len() as u32;
    let root = SVGBackend::with_string(text, (SIZE.0, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let labels: Vec<String> = rows
        .iter()
        .map(|ratio| format!("{}  {}", ratio.num, ratio.metric))
        .collect();
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!(
                "{}: ratios to {reference}, 95 % intervals",
                summary.scenario
            ),
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(230)
        .build_cartesian_2d(range.clone().log_scale(), Slots(rows.len()))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE.mix(0.0))
        .x_desc("ratio")
        .y_labels(rows.len())
        .x_label_formatter(&|x| {
            if *x < 1.0 {
                format!("{x:.2}")
            } else {
                format!("{x:.1}")
            }
        })
        .y_label_formatter(&|y| labels.get(*y as usize).cloned().unwrap_or_default())
        .draw()?;
    let bottom = rows.len() as f64 - 0.5;
    chart.draw_series(LineSeries::new(
        [(1.0, -0.5), (1.0, bottom)],
        BLACK.mix(0.6),
    ))?;
    for (i, ratio) in rows.iter().enumerate() {
        let y = i as f64;
        let colour = match ratio.metric.as_str() {
            "throughput" => PALETTE[5],
            "p50" => PALETTE[4],
            _ => PALETTE[6],
        };
        let interval = ratio.interval;
        chart.draw_series(LineSeries::new(
            [(interval.lo, y), (interval.hi, y)],
            colour.stroke_width(3),
        ))?;
        chart.draw_series([Circle::new((interval.point, y), 5, colour.filled())])?;
    }
    root.present()
}

/// The vertical axis of the forest plot: one slot per row, the first on top, labels in the middle.
#[derive(Clone)]
struct Slots(usize);

impl Ranged for Slots {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // `limit` runs from the bottom pixel to the top one; row 0 belongs on top.
        let share = (value + 0.5) / self.0.max(1) as f64;
        limit.1 + ((limit.0 - limit.1) as f64 * share) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        (0..self.0).map(|row| row as f64).collect()
    }

    fn range(&self) -> Range<f64> {
        -0.5..self.0 as f64 - 0.5
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Slots {
    fn format(value: &f64) -> String {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_labels() {
        assert_eq!(percentile_label(1.0), "p0");
        assert_eq!(percentile_label(10.0), "p90");
        assert_eq!(percentile_label(100.0), "p99");
        assert_eq!(percentile_label(1_000.0), "p99.9");
        assert_eq!(percentile_label(10_000.0), "p99.99");
    }

    #[test]
    fn the_first_row_is_on_top() {
        let slots = Slots(3);
        assert!(slots.map(&0.0, (300, 0)) < slots.map(&2.0, (300, 0)));
    }
}
