//! Horizontal bars: CPU time per request, and stacks of parts.

use super::axis::{Axis, short};
use super::chart::GRID;
use super::{Fault, Size, colour};
use crate::summary::Summary;
use plotters::prelude::*;

/// Pixels of one bar with its gap.
const ROW: u32 = 30;
/// Pixels of one row of the legend.
const LEGEND_ROW: u32 = 18;
/// Pixels of one entry of the legend.
const LEGEND_ENTRY: u32 = 165;

/// One bar: a label and parts that are laid end to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Beside the bar.
    pub label: String,
    /// Where the first part begins; above 0 in a waterfall.
    pub start: f64,
    /// Name, length and colour of each part.
    pub parts: Vec<(String, f64, RGBColor)>,
}

/// CPU time per request of every arm; `None` when it was not measured.
pub fn cpu(summary: &Summary, size: Size) -> Option<String> {
    let bars: Vec<Bar> = summary
        .arms
        .iter()
        .filter_map(|arm| {
            let cpu = arm.cpu_us_per_request?;
            Some(Bar {
                label: arm.name.clone(),
                start: 0.0,
                parts: vec![(arm.name.clone(), cpu, colour(&arm.name))],
            })
        })
        .collect();
    let title = format!("{}: CPU time per request", summary.scenario);
    stacked(
        &title,
        "microseconds, all pods and daemons",
        &bars,
        false,
        size,
    )
}

/// Bars of parts on one axis; `None` without any length. `legend` names the parts below.
pub fn stacked(title: &str, unit: &str, bars: &[Bar], legend: bool, size: Size) -> Option<String> {
    let end = |bar: &Bar| bar.start + bar.parts.iter().map(|part| part.1).sum::<f64>();
    let longest = bars.iter().map(end).fold(0.0, f64::max);
    let axis = Axis::linear(0.0, longest * 1.12)?;
    let mut text = String::new();
    draw(&mut text, title, unit, bars, &axis, legend, size).ok()?;
    Some(text)
}

fn draw<'a>(
    text: &'a mut String,
    title: &str,
    unit: &str,
    bars: &[Bar],
    axis: &Axis,
    legend: bool,
    size: Size,
) -> Result<(), Fault<'a>> {
    let narrow = size.width < 500;
    let names = if legend { part_names(bars) } else { Vec::new() };
    let columns = (size.width / LEGEND_ENTRY).max(1);
    let legend_height = LEGEND_ROW * (names.len() as u32).div_ceil(columns) + 8;
    let height = 96 + ROW * bars.len() as u32;
    let root =
        SVGBackend::with_string(text, (size.width, height + legend_height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (plot, below) = root.split_vertically(height);
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, ("sans-serif", size.caption()))
        .margin(8)
        .margin_right(18)
        .x_label_area_size(40)
        .y_label_area_size(if narrow { 120 } else { 170 })
        .build_cartesian_2d(axis.clone(), Axis::slots(bars.len()))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(GRID)
        .x_desc(unit)
        .x_labels(axis.tick_count().max(1))
        .y_labels(bars.len())
        .label_style(("sans-serif", 12))
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| {
            bars.get(*y as usize)
                .map(|bar| bar.label.clone())
                .unwrap_or_default()
        })
        .draw()?;
    for (row, bar) in bars.iter().enumerate() {
        let middle = row as f64;
        let mut from = bar.start;
        for (_, length, paint) in &bar.parts {
            let corners = [(from, middle - 0.33), (from + length, middle + 0.33)];
            chart.draw_series([Rectangle::new(corners, paint.filled())])?;
            from += length;
        }
        let total = from - bar.start;
        chart
            .draw_series([EmptyElement::at((from, middle))
                + Text::new(label(total), (4, -6), ("sans-serif", 12))])?;
    }
    for (i, (name, paint)) in names.iter().enumerate() {
        let i = i as u32;
        let x = (12 + LEGEND_ENTRY * (i % columns)) as i32;
        let y = (4 + LEGEND_ROW * (i / columns)) as i32;
        below.draw(&Rectangle::new([(x, y), (x + 14, y + 12)], paint.filled()))?;
        below.draw(&Text::new(name.clone(), (x + 20, y), ("sans-serif", 13)))?;
    }
    root.present()
}

fn label(total: f64) -> String {
    if total >= 100.0 {
        format!("{total:.0}")
    } else {
        format!("{total:.1}")
    }
}

fn part_names(bars: &[Bar]) -> Vec<(String, RGBColor)> {
    let mut names: Vec<(String, RGBColor)> = Vec::new();
    for (name, length, paint) in bars.iter().flat_map(|bar| &bar.parts) {
        if *length > 0.0 && !names.iter().any(|(known, _)| known == name) {
            names.push((name.clone(), *paint));
        }
    }
    names
}
