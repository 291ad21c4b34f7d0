//! Latency histograms: recorded in nanoseconds, carried as text, read in microseconds.
//!
//! Values are HDR histograms with three significant digits from 100 ns to 60 s: a bucket is never
//! wider than 0.1 % of its value, so low latencies are resolved instead of interpolated inside a 1 ms
//! bucket, which is what flattened the published curves this project re-measures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Lowest value told apart from 0, in nanoseconds.
pub const LOWEST_NS: u64 = 100;
/// Highest recorded value, in nanoseconds; longer times are recorded as this one.
pub const HIGHEST_NS: u64 = 60_000_000_000;

/// Collects durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recorder with the bounds above.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3)
            .expect("the bounds are constants that are valid");
        Self { histogram }
    }

    /// Adds one duration in nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
    }

    /// Adds everything `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("both histograms have the same bounds");
    }

    /// Number of recorded values.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.histogram.reset();
    }

    /// The underlying histogram, values in nanoseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// What is recorded, ready to be printed and sent.
    pub fn distribution(&self) -> Distribution {
        let h = &self.histogram;
        let us = |ns: u64| ns as f64 / 1e3;
        let mut compressed = Vec::new();
        V2DeflateSerializer::new()
            .serialize(h, &mut compressed)
            .expect("writing a histogram with u64 counts to memory cannot fail");
        Distribution {
            count: h.len(),
            min_us: if h.is_empty() { 0.0 } else { us(h.min()) },
            mean_us: h.mean() / 1e3,
            stdev_us: h.stdev() / 1e3,
            p50_us: us(h.value_at_quantile(0.5)),
            p90_us: us(h.value_at_quantile(0.9)),
            p99_us: us(h.value_at_quantile(0.99)),
            p999_us: us(h.value_at_quantile(0.999)),
            max_us: us(h.max()),
            hdr: STANDARD.encode(compressed),
        }
    }
}

/// One latency distribution: ready figures in microseconds, and the whole histogram.
///
/// Never average the percentiles of several blocks: merge the histograms ([`Distribution::recorder`],
/// [`Recorder::merge`]) and read the percentile of the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Values recorded; with 0 every figure below is 0.
    pub count: u64,
    /// Smallest value, microseconds.
    pub min_us: f64,
    /// Mean, microseconds.
    pub mean_us: f64,
    /// Standard deviation, microseconds.
    pub stdev_us: f64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 90th percentile, microseconds.
    pub p90_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// Largest value, microseconds.
    pub max_us: f64,
    /// The histogram in nanoseconds: HdrHistogram V2, deflated, base64.
    pub hdr: String,
}

impl Distribution {
    /// The histogram, to merge it or to read other percentiles.
    ///
    /// # Errors
    /// When `hdr` is not what [`Recorder::distribution`] writes.
    pub fn recorder(&self) -> Result<Recorder, DistributionError> {
        let compressed = STANDARD.decode(&self.hdr)?;
        let decoded: Histogram<u64> = Deserializer::new()
            .deserialize(&mut compressed.as_slice())
            .map_err(|error| DistributionError::Format(format!("{error:?}")))?;
        let mut recorder = Recorder::new();
        recorder
            .histogram
            .add(&decoded)
            .map_err(|error| DistributionError::Format(error.to_string()))?;
        Ok(recorder)
    }
}

/// Why a stored histogram could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// Not base64.
    #[error("histogram text is not base64")]
    Base64(#[from] base64::DecodeError),
    /// Not an HdrHistogram, or one with values out of bounds.
    #[error("histogram cannot be decoded ({0}); was it written by another tool?")]
    Format(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_below_ten_microseconds_are_told_apart() {
        let mut recorder = Recorder::new();
        recorder.record(2_000);
        assert!((recorder.distribution().p50_us - 2.0).abs() < 0.07);
        recorder.reset();
        recorder.record(2_200);
        assert!((recorder.distribution().p50_us - 2.2).abs() < 0.07);
    }

    #[test]
    fn an_empty_recorder_is_all_zero() {
        let empty = Recorder::new().distribution();
        assert_eq!(
            (empty.count, empty.min_us, empty.p99_us, empty.max_us),
            (0, 0.0, 0.0, 0.0)
        );
        assert_eq!(empty.recorder().unwrap().count(), 0);
    }

    #[test]
    fn garbage_is_refused() {
        let mut one = Recorder::new().distribution();
        one.hdr = "!!".to_owned();
        assert!(matches!(one.recorder(), Err(DistributionError::Base64(_))));
        one.hdr = "AAAA".to_owned();
        assert!(matches!(one.recorder(), Err(DistributionError::Format(_))));
    }

    proptest! {
        #[test]
        fn percentiles_are_within_a_tenth_of_a_percent(mut values in prop::collection::vec(1_000_u64..10_000_000_000, 1..300)) {
            let mut recorder = Recorder::new();
            for value in &values {
                recorder.record(*value);
            }
            values.sort_unstable();
            let d = recorder.distribution();
            let exact = |q: f64| values[((q * values.len() as f64).ceil() as usize).max(1) - 1] as f64 / 1e3;
            for (got, want) in [(d.p50_us, exact(0.5)), (d.p90_us, exact(0.9)), (d.p99_us, exact(0.99))] {
                prop_assert!((got - want).abs() <= want * 1e-3 + 0.064, "{got} against {want}");
            }
        }

        #[test]
        fn merging_decoded_parts_equals_recording_the_whole(
            left in prop::collection::vec(0_u64..70_000_000_000, 0..100),
            right in prop::collection::vec(0_u64..70_000_000_000, 0..100),
        ) {
            let of = |values: &[u64]| {
                let mut r = Recorder::new();
                for value in values {
                    r.record(*value);
                }
                r
            };
            let mut merged = of(&left).distribution().recorder().unwrap();
            merged.merge(&of(&right).distribution().recorder().unwrap());
            let whole = of(&[left, right].concat());
            prop_assert_eq!(merged.histogram(), whole.histogram());
            prop_assert_eq!(merged.count(), whole.count());
        }
    }
}
