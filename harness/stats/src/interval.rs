//! An estimate and how sure we are of it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point estimate with its confidence interval, `lo <= point <= hi`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub point: f64,
    /// Lower bound.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
}

impl Interval {
    /// True when `value` lies inside, bounds included.
    pub fn contains(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// Half of the interval's width, relative to the point.
    pub fn half_width(&self) -> f64 {
        (self.hi - self.lo) / (2.0 * self.point.abs().max(f64::MIN_POSITIVE))
    }

    /// Applies an increasing function to all three values (`exp` turns log-ratios into ratios).
    #[must_use]
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        Self {
            point: increasing(self.point),
            lo: increasing(self.lo),
            hi: increasing(self.hi),
        }
    }

    /// The interval of the inverse ratio: bounds swap.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self {
            point: 1.0 / self.point,
            lo: 1.0 / self.hi,
            hi: 1.0 / self.lo,
        }
    }
}

impl fmt::Display for Interval {
    /// `21.3 [20.9, 21.8]`: three significant digits, the precision's default for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}, {}]",
            significant(self.point),
            significant(self.lo),
            significant(self.hi)
        )
    }
}

/// Three significant digits, without an exponent.
fn significant(value: f64) -> String {
    let magnitude = value.abs();
    let digits = if magnitude >= 100.0 || magnitude == 0.0 {
        0
    } else if magnitude >= 10.0 {
        1
    } else if magnitude >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_swaps_bounds() {
        let i = Interval {
            point: 2.0,
            lo: 1.0,
            hi: 4.0,
        }
        .inverse();
        assert_eq!(
            i,
            Interval {
                point: 0.5,
                lo: 0.25,
                hi: 1.0
            }
        );
    }

    #[test]
    fn display_keeps_three_digits() {
        let i = Interval {
            point: 21.34,
            lo: 9.876,
            hi: 123.4,
        };
        assert_eq!(i.to_string(), "21.3 [9.88, 123]");
        assert_eq!(significant(0.9834), "0.983");
    }
}
