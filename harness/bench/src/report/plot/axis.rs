//! One axis for all drawings: linear or logarithmic, with few and round ticks.

use plotters::coord::ranged1d::{
    KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter,
};
use std::ops::Range;

/// Most ticks on a logarithmic axis before it keeps only powers of ten.
const MOST_LOG_TICKS: usize = 9;
/// Wished number of ticks on a linear axis.
const LINEAR_TICKS: f64 = 6.0;

/// An axis from `lo` to `hi`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    lo: f64,
    hi: f64,
    log: bool,
    flipped: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// A logarithmic axis; both ends must be above 0. `None` otherwise, and for an empty range.
    pub(super) fn log(lo: f64, hi: f64) -> Option<Self> {
        (lo > 0.0 && hi > lo && hi.is_finite()).then(|| Self {
            lo,
            hi,
            log: true,
            flipped: false,
            ticks: log_ticks(lo, hi),
        })
    }

    /// A linear axis. `None` for an empty range.
    pub(super) fn linear(lo: f64, hi: f64) -> Option<Self> {
        (hi > lo && lo.is_finite() && hi.is_finite()).then(|| Self {
            lo,
            hi,
            log: false,
            flipped: false,
            ticks: linear_ticks(lo, hi),
        })
    }

    /// An axis of `rows` slots, the first on top, one tick in the middle of each.
    pub(super) fn slots(rows: usize) -> Self {
        Self {
            lo: -0.5,
            hi: rows.max(1) as f64 - 0.5,
            log: false,
            flipped: true,
            ticks: (0..rows).map(|row| row as f64).collect(),
        }
    }

    /// The same axis with these ticks.
    pub(super) fn with_ticks(mut self, ticks: Vec<f64>) -> Self {
        self.ticks = ticks;
        self.ticks.retain(|tick| (self.lo..=self.hi).contains(tick));
        self
    }

    pub(super) fn ends(&self) -> (f64, f64) {
        (self.lo, self.hi)
    }

    pub(super) fn tick_count(&self) -> usize {
        self.ticks.len()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let place = |value: f64| if self.log { value.ln() } else { value };
        let value = value.clamp(self.lo, self.hi);
        let share = (place(value) - place(self.lo)) / (place(self.hi) - place(self.lo));
        let share = if self.flipped { 1.0 - share } else { share };
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.ticks.clone(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.lo..self.hi
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        short(*value)
    }
}

/// A number for a tick: no more digits than it needs, thousands as `k`.
pub(super) fn short(value: f64) -> String {
    let trimmed = |text: String| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    match value.abs() {
        magnitude if magnitude >= 1e6 => trimmed(format!("{:.2}", value / 1e6)) + "M",
        magnitude if magnitude >= 1e4 => trimmed(format!("{:.1}", value / 1e3)) + "k",
        magnitude if magnitude >= 10.0 || magnitude == 0.0 => format!("{value:.0}"),
        _ => trimmed(format!("{value:.3}")),
    }
}

fn log_ticks(lo: f64, hi: f64) -> Vec<f64> {
    let decades = lo.log10().floor() as i32..=hi.log10().ceil() as i32;
    let of = |steps: &[f64]| -> Vec<f64> {
        decades
            .clone()
            .flat_map(|exponent| steps.iter().map(move |step| step * 10f64.powi(exponent)))
            .filter(|tick| (lo * 0.999..=hi * 1.001).contains(tick))
            .collect()
    };
    let fine = of(&[1.0, 2.0, 5.0]);
    if fine.len() > MOST_LOG_TICKS {
        return of(&[1.0]);
    }
    if fine.len() < 3 {
        return linear_ticks(lo, hi);
    }
    fine
}

fn linear_ticks(lo: f64, hi: f64) -> Vec<f64> {
    let raw = (hi - lo) / LINEAR_TICKS;
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|step| step * magnitude)
        .find(|step| *step >= raw)
        .unwrap_or(raw);
    let first = (lo / step).ceil() as i64;
    let last = (hi / step).floor() as i64;
    (first..=last).map(|tick| tick as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slot_is_on_top() {
        let slots = Axis::slots(3);
        // Pixels grow downwards; plotters gives the bottom first.
        assert!(slots.map(&0.0, (300, 0)) < slots.map(&2.0, (300, 0)));
    }

    #[test]
    fn a_logarithmic_axis_has_few_round_ticks() {
        assert_eq!(log_ticks(1.0, 10.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(log_ticks(1.0, 100_000.0).len(), 6);
        assert!(log_ticks(0.9, 1.1).len() >= 3);
        assert!(Axis::log(0.0, 1.0).is_none());
    }

    #[test]
    fn a_value_outside_is_drawn_at_the_edge() {
        let axis = Axis::log(1.0, 100.0).unwrap();
        assert_eq!(axis.map(&10.0, (0, 100)), 50);
        assert_eq!(axis.map(&1e9, (0, 100)), 100);
    }

    #[test]
    fn tick_labels_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.5, "1.5"),
            (100.0, "100"),
            (25_000.0, "25k"),
            (2e6, "2M"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
