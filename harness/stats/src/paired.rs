//! Comparison of two arms block by block.

use crate::{Bootstrap, Error, Interval, permutation, rank};
use serde::{Deserialize, Serialize};

/// `ln(num / den)` of each block.
///
/// # Errors
/// Samples of different lengths, or values that are not above zero.
pub fn log_ratios(num: &[f64], den: &[f64]) -> Result<Vec<f64>, Error> {
    same_length(num, den)?;
    num.iter()
        .zip(den)
        .enumerate()
        .map(|(block, (&n, &d))| {
            for value in [n, d] {
                // Written so that a NaN fails as well.
                if !(value > 0.0 && value.is_finite()) {
                    return Err(Error::NotPositive { value, block });
                }
            }
            Ok((n / d).ln())
        })
        .collect()
}

/// The ratio `num / den`: exp of the median paired log-ratio, interval by bootstrap over blocks.
///
/// # Errors
/// As [`log_ratios`], or no blocks.
pub fn ratio(num: &[f64], den: &[f64], bootstrap: &Bootstrap) -> Result<Interval, Error> {
    Ok(bootstrap.median(&log_ratios(num, den)?)?.map(f64::exp))
}

/// The additive form `num - den` (added latency in the samples' own unit), median and interval.
///
/// # Errors
/// Samples of different lengths, or no blocks.
pub fn difference(num: &[f64], den: &[f64], bootstrap: &Bootstrap) -> Result<Interval, Error> {
    same_length(num, den)?;
    let differences: Vec<f64> = num.iter().zip(den).map(|(n, d)| n - d).collect();
    bootstrap.median(&differences)
}

/// A ratio with its cross-checks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The ratio and its interval.
    #[serde(flatten)]
    pub ratio: Interval,
    /// Hodges-Lehmann estimate of the same ratio; far from the point means skewed blocks.
    pub hodges_lehmann: f64,
    /// Two-sided sign-flip p-value against a ratio of 1.
    pub p: f64,
    /// Number of blocks compared.
    pub blocks: usize,
}

/// [`ratio`] with its cross-checks.
///
/// # Errors
/// As [`ratio`].
pub fn compare(num: &[f64], den: &[f64], bootstrap: &Bootstrap) -> Result<Comparison, Error> {
    let logs = log_ratios(num, den)?;
    Ok(Comparison {
        ratio: bootstrap.median(&logs)?.map(f64::exp),
        hodges_lehmann: rank::hodges_lehmann(&logs)?.exp(),
        p: permutation::sign_flip(&logs, bootstrap.resamples, bootstrap.seed),
        blocks: logs.len(),
    })
}

fn same_length(left: &[f64], right: &[f64]) -> Result<(), Error> {
    if left.len() == right.len() {
        return Ok(());
    }
    Err(Error::Unpaired {
        left: left.len(),
        right: right.len(),
    })
}
