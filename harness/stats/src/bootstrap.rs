//! Percentile bootstrap: how far would the estimate move, had we met other blocks?

use crate::{Error, Interval, Rng, rank};

/// How to resample. The default is the project's convention: 95 %, 10 000 resamples, seed 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Coverage, between 0 and 1 (0.95).
    pub level: f64,
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of the resampling; stored with the result.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            level: 0.95,
            resamples: 10_000,
            seed: 1,
        }
    }
}

impl Bootstrap {
    /// The median of `values` with its interval.
    ///
    /// # Errors
    /// [`Error::Empty`] without values.
    pub fn median(&self, values: &[f64]) -> Result<Interval, Error> {
        self.statistic(values, rank::median_in_place)
    }

    /// Any statistic of one value per block, with its interval. `statistic` may reorder its input.
    ///
    /// # Errors
    /// [`Error::Empty`] without values, or whatever `statistic` answers for the values given.
    pub fn statistic(
        &self,
        values: &[f64],
        mut statistic: impl FnMut(&mut [f64]) -> Result<f64, Error>,
    ) -> Result<Interval, Error> {
        let point = statistic(&mut values.to_vec())?;
        let mut rng = Rng::new(self.seed);
        let mut resample = vec![0.0; values.len()];
        let mut estimates = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            for slot in &mut resample {
                *slot = values[rng.below(values.len())];
            }
            estimates.push(statistic(&mut resample)?);
        }
        Ok(self.interval(point, estimates))
    }

    /// The percentile interval of estimates that were computed elsewhere, for statistics whose
    /// blocks are not numbers (merged histograms). With no estimate, the point is both bounds.
    pub fn interval(&self, point: f64, mut estimates: Vec<f64>) -> Interval {
        estimates.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        let bound = |q| rank::quantile_of_sorted(&estimates, q).unwrap_or(point);
        // The percentile interval can miss its own point for skewed statistics of few blocks.
        Interval {
            point,
            lo: bound(tail).min(point),
            hi: bound(1.0 - tail).max(point),
        }
    }
}
