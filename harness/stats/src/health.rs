//! Is this run fit for a verdict? A/A arms, drift.

use crate::{Error, Interval, rank};

/// How far an A/A interval lies from 1, as a factor above 1: 0 when it contains 1.
///
/// Two identical arms must compare equal; an interval `[1.05, 1.09]` misses by 5 %.
pub fn aa_excess(ratio: &Interval) -> f64 {
    if ratio.contains(1.0) {
        0.0
    } else if ratio.lo > 1.0 {
        ratio.lo - 1.0
    } else {
        1.0 / ratio.hi - 1.0
    }
}

/// The smallest effect this run can tell from noise: the larger of `floor` and the A/A interval's
/// half-width, so that a bad machine widens the tolerance in plain sight.
pub fn resolution(aa: &Interval, floor: f64) -> f64 {
    floor.max(aa.half_width())
}

/// Drift of one arm through the run: median of the last third over median of the first, minus 1.
/// Fewer than nine blocks (three per third) cannot tell drift from noise and give 0.
///
/// # Errors
/// Values that are not above zero.
pub fn drift(values: &[f64]) -> Result<f64, Error> {
    const SMALLEST: usize = 9;
    if let Some(block) = values.iter().position(|v| v.is_nan() || *v <= 0.0) {
        return Err(Error::NotPositive {
            value: values[block],
            block,
        });
    }
    if values.len() < SMALLEST {
        return Ok(0.0);
    }
    let third = values.len() / 3;
    let first = rank::median(&values[..third])?;
    let last = rank::median(&values[values.len() - third..])?;
    Ok(last / first - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(lo: f64, hi: f64) -> Interval {
        Interval {
            point: f64::midpoint(lo, hi),
            lo,
            hi,
        }
    }

    #[test]
    fn aa_excess_is_symmetric_in_ratios() {
        assert!(aa_excess(&interval(0.97, 1.03)).abs() < 1e-12);
        assert!((aa_excess(&interval(1.05, 1.09)) - 0.05).abs() < 1e-12);
        assert!((aa_excess(&interval(0.5, 0.8)) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn resolution_never_promises_more_than_the_floor() {
        assert!((resolution(&interval(0.99, 1.01), 0.03) - 0.03).abs() < 1e-12);
        assert!(resolution(&interval(0.9, 1.1), 0.03) > 0.09);
    }

    #[test]
    fn drift_compares_the_ends() {
        let rising: Vec<f64> = (0..12).map(|i| 100.0 + f64::from(i) * 5.0).collect();
        let drift = drift(&rising).unwrap();
        assert!(drift > 0.3 && drift < 0.5, "{drift}");
        assert_eq!(super::drift(&[1.0, 9.0]), Ok(0.0));
        assert!(super::drift(&[1.0, 0.0]).is_err());
    }
}
