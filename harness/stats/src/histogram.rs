//! Latency histograms: mergeable, 3 significant digits, 1 ns resolution at the bottom, up to 60 s.
//!
//! The article's own figures come from 1 ms buckets; below one bucket such a tool can only
//! interpolate. HDR buckets keep the relative error under 0.1 % everywhere.

use crate::Error;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Highest latency kept apart, 60 s in nanoseconds; what is above counts as this.
pub const MAX_NS: u64 = 60_000_000_000;

/// Latencies in nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty histogram.
    pub fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1, MAX_NS, 3);
        Self(bounds.expect("1 ns to 60 s at 3 digits is a valid HDR range"))
    }

    /// Records one latency.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds all of `other`'s counts. Values above the range count as the highest.
    pub fn merge(&mut self, other: &Self) {
        for step in other.0.iter_recorded() {
            self.0
                .saturating_record_n(step.value_iterated_to(), step.count_at_value());
        }
    }

    /// Reads HDR's V2 form, plain or deflated, of a histogram whose values are nanoseconds.
    ///
    /// # Errors
    /// [`Error::Histogram`] when the bytes are not such a histogram.
    pub fn from_v2(bytes: &[u8]) -> Result<Self, Error> {
        let stored: Histogram<u64> = Deserializer::new()
            .deserialize(&mut std::io::Cursor::new(bytes))
            .map_err(|e| Error::Histogram(e.to_string()))?;
        let mut latency = Self::new();
        latency.merge(&Self(stored));
        Ok(latency)
    }

    /// Writes HDR's V2 deflated form: what other HdrHistogram tools read.
    ///
    /// # Errors
    /// [`Error::Histogram`] when the counts do not fit the format (over 2^63).
    pub fn to_v2(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .map_err(|e| Error::Histogram(e.to_string()))?;
        Ok(bytes)
    }

    /// For [`crate::log`].
    pub(crate) fn inner(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The recorded values with their counts, nanoseconds.
    pub fn counts(&self) -> crate::tail::Counts {
        self.0
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Value at quantile `q` (0 to 1) in microseconds; `None` when empty.
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(q) as f64 / 1_000.0)
    }

    /// Largest value in microseconds; `None` when empty.
    pub fn max_us(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1_000.0)
    }

    /// The percentile spectrum as (quantile, microseconds), denser towards 1: enough to draw.
    pub fn spectrum(&self) -> Vec<(f64, f64)> {
        const STEPS_PER_HALVING: u32 = 5;
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0
            .iter_quantiles(STEPS_PER_HALVING)
            .map(|step| {
                (
                    step.quantile_iterated_to(),
                    step.value_iterated_to() as f64 / 1_000.0,
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Latency {
        let mut latency = Latency::new();
        for &v in values {
            latency.record(v);
        }
        latency
    }

    #[test]
    fn sub_millisecond_values_stay_apart() {
        let latency = of(&[66_000, 73_000, 100_000]);
        let p50 = latency.quantile_us(0.5).unwrap();
        assert!((p50 - 73.0).abs() < 0.08, "{p50}");
    }

    #[test]
    fn empty_has_no_quantiles() {
        assert_eq!(Latency::new().quantile_us(0.5), None);
        assert!(Latency::new().spectrum().is_empty());
    }

    #[test]
    fn above_the_range_counts_as_the_highest() {
        let latency = of(&[MAX_NS * 5]);
        assert_eq!(latency.count(), 1);
        assert!(latency.max_us().unwrap() < MAX_NS as f64 / 900.0);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(matches!(
            Latency::from_v2(b"not a histogram"),
            Err(Error::Histogram(_))
        ));
    }
}
