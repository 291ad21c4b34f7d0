//! The breakdown as drawings: a stacked bar per arm, and the way from no mesh to one arm as a waterfall.

use super::bars::{Bar, stacked};
use super::{Size, colour};
use crate::breakdown::{Breakdown, PARTS};
use plotters::prelude::RGBColor;

/// One colour per part, in the order of [`PARTS`].
const COLOURS: [RGBColor; 10] = [
    RGBColor(140, 140, 140),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(120, 94, 240),
    RGBColor(0, 158, 115),
    RGBColor(190, 170, 0),
    RGBColor(190, 190, 190),
];

/// CPU time per request by part, one bar per arm; `None` without a profile.
pub fn parts(breakdown: &Breakdown, size: Size) -> Option<String> {
    let bars: Vec<Bar> = breakdown
        .arms
        .iter()
        .filter(|arm| arm.samples > 0)
        .map(|arm| Bar {
            label: arm.name.clone(),
            start: 0.0,
            parts: PARTS
                .iter()
                .zip(COLOURS)
                .map(|((name, _), paint)| ((*name).to_owned(), arm.part_us(name), paint))
                .collect(),
        })
        .collect();
    let title = format!("{}: where the CPU time goes", breakdown.scenario);
    stacked(&title, "microseconds of CPU per request", &bars, true, size)
}

/// From the reference to `arm`: each bar begins where the last ended. `None` without a profile of both.
pub fn waterfall(breakdown: &Breakdown, arm: &str, size: Size) -> Option<String> {
    let reference = breakdown.arm(&breakdown.reference)?;
    let arm = breakdown.arm(arm)?;
    if reference.samples == 0 || arm.samples == 0 {
        return None;
    }
    let mut level = reference.total_us();
    let whole = |label: &str, us: f64, paint: RGBColor| Bar {
        label: label.to_owned(),
        start: 0.0,
        parts: vec![(label.to_owned(), us, paint)],
    };
    let mut bars = vec![whole(&reference.name, level, colour(&reference.name))];
    for ((name, _), paint) in PARTS.iter().zip(COLOURS) {
        let change = arm.part_us(name) - reference.part_us(name);
        let sign = if change < 0.0 { "-" } else { "+" };
        bars.push(Bar {
            label: format!("{sign} {name}"),
            start: if change < 0.0 { level + change } else { level },
            parts: vec![((*name).to_owned(), change.abs(), paint)],
        });
        level += change;
    }
    bars.push(whole(&arm.name, arm.total_us(), colour(&arm.name)));
    let title = format!(
        "{}: from {} to {}",
        breakdown.scenario, reference.name, arm.name
    );
    stacked(
        &title,
        "microseconds of CPU per request",
        &bars,
        false,
        size,
    )
}
