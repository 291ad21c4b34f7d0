//! Percentiles of the tail, with intervals.
//!
//! A block has too few requests for its own 99.9th percentile, and percentiles cannot be averaged; so all
//! blocks' histograms are merged and read once. How far would that reading move, had we met other blocks?
//! Blocks, not requests, are resampled: a stall hits many requests of one block at once, and an interval that
//! took them for independent would be far too narrow.

use crate::{Bootstrap, Error, Interval, Rng};
use std::collections::BTreeMap;

/// One block's latencies: value in nanoseconds and count, in any order.
pub type Counts = Vec<(u64, u64)>;

/// The values at `quantiles` (0 to 1) of all blocks merged, in microseconds, with block-bootstrap intervals.
///
/// # Errors
/// [`Error::Empty`] when no block has a value.
pub fn quantiles(
    blocks: &[Counts],
    quantiles: &[f64],
    bootstrap: &Bootstrap,
) -> Result<Vec<Interval>, Error> {
    let merged = Merged::of(blocks);
    let once = vec![1; blocks.len()];
    let points = merged.read(&once, quantiles).ok_or(Error::Empty)?;
    let mut rng = Rng::new(bootstrap.seed);
    let mut estimates = vec![Vec::with_capacity(bootstrap.resamples); quantiles.len()];
    for _ in 0..bootstrap.resamples {
        let mut times = vec![0; blocks.len()];
        for _ in 0..blocks.len() {
            times[rng.below(blocks.len())] += 1;
        }
        // A resample of empty blocks only says nothing.
        for (estimates, value) in estimates
            .iter_mut()
            .zip(merged.read(&times, quantiles).unwrap_or_default())
        {
            estimates.push(value);
        }
    }
    Ok(points
        .into_iter()
        .zip(estimates)
        .map(|(point, estimates)| bootstrap.interval(point, estimates))
        .collect())
}

/// All blocks over one axis of values.
struct Merged {
    /// Ascending, nanoseconds.
    values: Vec<u64>,
    /// By value: count in each block.
    counts: Vec<Vec<u64>>,
}

impl Merged {
    fn of(blocks: &[Counts]) -> Self {
        let mut by_value: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (block, counts) in blocks.iter().enumerate() {
            for (value, count) in counts {
                by_value
                    .entry(*value)
                    .or_insert_with(|| vec![0; blocks.len()])[block] += count;
            }
        }
        let (values, counts) = by_value.into_iter().unzip();
        Self { values, counts }
    }

    /// The values at the quantiles when block `b` counts `times[b]` times, microseconds.
    fn read(&self, times: &[u64], quantiles: &[f64]) -> Option<Vec<f64>> {
        let weights: Vec<u64> = self
            .counts
            .iter()
            .map(|counts| counts.iter().zip(times).map(|(c, t)| c * t).sum())
            .collect();
        let total: u64 = weights.iter().sum();
        if total == 0 {
            return None;
        }
        let at = |quantile: f64| {
            let rank = (quantile * total as f64).ceil().max(1.0) as u64;
            let mut seen = 0;
            let index = weights.iter().position(|weight| {
                seen += weight;
                seen >= rank
            });
            self.values[index.unwrap_or(self.values.len() - 1)] as f64 / 1_000.0
        };
        Some(quantiles.iter().map(|quantile| at(*quantile)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Bootstrap = Bootstrap {
        level: 0.95,
        resamples: 400,
        seed: 1,
    };

    #[test]
    fn one_stalled_block_widens_the_interval_instead_of_hiding() {
        let calm: Counts = vec![(100_000, 1_000)];
        let mut blocks = vec![calm; 19];
        blocks.push(vec![(100_000, 500), (500_000_000, 500)]);
        let tail = quantiles(&blocks, &[0.5, 0.99], &QUICK).unwrap();
        assert!((tail[0].point - 100.0).abs() < 1e-9 && (tail[0].hi - 100.0).abs() < 1e-9);
        // 500 of 20,000 requests stalled: that is the 99th percentile, but a third of all resamples miss it.
        assert!((tail[1].point - 500_000.0).abs() < 1e-6);
        assert!((tail[1].lo - 100.0).abs() < 1e-9);
    }

    #[test]
    fn merging_is_not_averaging() {
        let blocks = [vec![(1_000, 99), (9_000, 1)], vec![(2_000, 100)]];
        let p50 = quantiles(&blocks, &[0.5], &QUICK).unwrap()[0];
        assert!((p50.point - 2.0).abs() < 1e-9);
        assert_eq!(quantiles(&[], &[0.5], &QUICK), Err(Error::Empty));
        assert_eq!(quantiles(&[vec![]], &[0.5], &QUICK), Err(Error::Empty));
    }
}
