//! When the requests of an open loop fall due.
//!
//! The schedule never looks at the answers: that is what makes the loop open. A request that cannot
//! leave on time keeps its due time, and its intended latency counts from there, so a stalled server
//! is charged for everything that would have been sent to it.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::plan::Arrivals;

/// An endless sequence of due times in nanoseconds since the start of the block.
#[derive(Clone, Debug)]
pub struct Schedule {
    gap_ns: f64,
    arrivals: Arrivals,
    rng: SmallRng,
    index: u64,
    /// Sum of the gaps so far (Poisson).
    elapsed_ns: f64,
    next_ns: u64,
    /// Due times of one round of a replay, in nanoseconds; the first is 0. Empty for none.
    round_ns: Vec<f64>,
}

impl Schedule {
    /// `rate` requests per second, above 0; the first one is due at 0.
    pub fn new(rate: f64, arrivals: Arrivals, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            gap_ns: 1e9 / rate,
            arrivals,
            rng,
            index: 0,
            elapsed_ns: 0.0,
            next_ns: 0,
            round_ns: Vec::new(),
        }
    }

    /// The gaps of a log, scaled so that a round of `n` requests takes `n / rate` seconds; the gap after the last request
    /// is the mean one. A log of one moment becomes even gaps.
    pub fn replay(rate: f64, due_us: &[u64]) -> Self {
        let mut schedule = Self::new(rate, Arrivals::Uniform, 0);
        let (first, last) = (
            due_us.first().copied().unwrap_or(0),
            due_us.last().copied().unwrap_or(0),
        );
        let gaps = due_us.len().saturating_sub(1) as f64;
        let scale = gaps * schedule.gap_ns / (last - first) as f64;
        if scale.is_finite() && scale > 0.0 {
            schedule.round_ns = due_us
                .iter()
                .map(|due| (due - first) as f64 * scale)
                .collect();
        }
        schedule
    }

    /// When the next request is due.
    pub fn peek(&self) -> u64 {
        self.next_ns
    }

    /// Takes the next request off the schedule and returns when it was due.
    pub fn pop(&mut self) -> u64 {
        let due = self.next_ns;
        self.index += 1;
        if !self.round_ns.is_empty() {
            let length = self.round_ns.len() as u64;
            let (round, place) = (self.index / length, self.index % length);
            let start = (round * length) as f64 * self.gap_ns;
            self.next_ns = (start + self.round_ns[place as usize]) as u64;
            return due;
        }
        self.next_ns = match self.arrivals {
            // From the index, not from the last due time: rounding never adds up.
            Arrivals::Uniform => (self.index as f64 * self.gap_ns) as u64,
            Arrivals::Poisson => {
                let uniform: f64 = self.rng.random();
                self.elapsed_ns -= (1.0 - uniform).ln() * self.gap_ns;
                self.elapsed_ns as u64
            }
        };
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Recorder;
    use proptest::prelude::*;

    #[test]
    fn a_replay_keeps_the_shape_and_meets_the_rate() {
        // Gaps 1, 3 at a rate of 1 per second: the mean gap is 1 s, so a round takes 3 s.
        let mut schedule = Schedule::replay(1.0, &[10, 11, 14]);
        let due: Vec<u64> = (0..6).map(|_| schedule.pop() / 1_000_000).collect();
        assert_eq!(due, [0, 500, 2_000, 3_000, 3_500, 5_000]);
        let mut even = Schedule::replay(2.0, &[7, 7]);
        assert_eq!((even.pop(), even.pop()), (0, 500_000_000));
    }

    proptest! {
        #[test]
        fn uniform_due_times_are_evenly_spaced_for_ever(rate in 0.1_f64..1e6, skip in 0_u64..10_000) {
            let mut schedule = Schedule::new(rate, Arrivals::Uniform, 0);
            for _ in 0..skip {
                schedule.pop();
            }
            let exact = skip as f64 * 1e9 / rate;
            prop_assert!((schedule.pop() as f64 - exact).abs() <= 1.0 + exact * 1e-12);
        }

        #[test]
        fn due_times_never_go_back_and_a_seed_fixes_them(rate in 1.0_f64..1e6, seed: u64) {
            let mut a = Schedule::new(rate, Arrivals::Poisson, seed);
            let mut b = a.clone();
            let mut last = 0;
            for _ in 0..200 {
                let due = a.pop();
                prop_assert!(due >= last && due == b.pop() && a.peek() >= due);
                last = due;
            }
        }
    }

    #[test]
    fn poisson_gaps_have_the_right_mean_and_spread() {
        let mut schedule = Schedule::new(1000.0, Arrivals::Poisson, 3);
        let due: Vec<f64> = (0..100_001).map(|_| schedule.pop() as f64).collect();
        let gaps: Vec<f64> = due.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "mean gap {mean} ns");
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.02,
            "an exponential's deviation equals its mean"
        );
    }

    /// One server, one connection, 100 us per request and one stall of 500 ms at 1000 rps: service
    /// times show one slow request, intended times the half second that everybody waited.
    #[test]
    fn a_stall_shows_in_intended_time_and_hides_in_service_time() {
        let mut schedule = Schedule::new(1000.0, Arrivals::Uniform, 0);
        let (mut service, mut intended) = (Recorder::new(), Recorder::new());
        let mut free_at = 0;
        for index in 0..5000 {
            let due = schedule.pop();
            let start = due.max(free_at);
            let done = start + if index == 2000 { 500_000_000 } else { 100_000 };
            free_at = done;
            service.record(done - start);
            intended.record(done - due);
        }
        let (service, intended) = (service.distribution(), intended.distribution());
        assert!(
            service.p99_us < 101.0 && service.max_us > 499_000.0,
            "{service:?}"
        );
        assert!(
            intended.p50_us < 101.0,
            "most requests come outside the stall: {intended:?}"
        );
        // About 555 of 5000 requests wait: 500 in the stall and those that follow until it is caught up.
        assert!(
            intended.p90_us > 45_000.0 && intended.p99_us > 400_000.0,
            "{intended:?}"
        );
    }
}
