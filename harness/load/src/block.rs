//! The clockwork of one block: what is due, what counts, when it is over. No sockets.
//!
//! ```text
//! start        measure                          end
//!   |--- warm-up ---|------- requests count -------|--- wait for the last answers
//! ```
//!
//! Times are nanoseconds on the engine's clock.

use std::time::Duration;

use crate::ledger::Ledger;
use crate::plan::Pace;
use crate::schedule::Schedule;

/// One block: how long, and at what rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    /// Length of the measured part; `None` runs until `requests` are done.
    pub duration: Option<Duration>,
    /// Load before the measured part.
    pub warmup: Duration,
    /// Ends the block after so many requests.
    pub requests: Option<u64>,
    /// Overrides the plan's pace: 0 is a closed loop, otherwise an open loop at that rate.
    pub rate: Option<f64>,
}

/// How far a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Time since the measured part began.
    pub elapsed: Duration,
    /// Requests started.
    pub sent: u64,
    /// Right answers.
    pub ok: u64,
    /// Wrong answers.
    pub wrong: u64,
    /// Requests without a complete answer.
    pub errors: u64,
    /// Median service time so far, microseconds.
    pub p50_us: f64,
    /// 99th percentile of the service time so far, microseconds.
    pub p99_us: f64,
}

/// The block under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ledger: Ledger,
    /// Due times from `start_ns` on; `None` in a closed loop.
    schedule: Option<Schedule>,
    pub(crate) start_ns: u64,
    pub(crate) measure_ns: u64,
    pub(crate) end_ns: u64,
    /// Requests that may still be started.
    budget: u64,
    pub(crate) in_flight: usize,
    /// No request starts any more.
    pub(crate) stopping: bool,
}

impl Run {
    /// `seed` of the gaps, and the due times of a replay (empty for none).
    pub(crate) fn new(
        block: &Block,
        pace: Pace,
        ledger: Ledger,
        (seed, due_us): (u64, &[u64]),
        start_ns: u64,
    ) -> Self {
        let measure_ns = start_ns + block.warmup.as_nanos() as u64;
        let end = |duration: Duration| measure_ns + duration.as_nanos() as u64;
        Self {
            ledger,
            schedule: match pace {
                Pace::Closed => None,
                Pace::Open { rate, .. } if !due_us.is_empty() => {
                    Some(Schedule::replay(rate, due_us))
                }
                Pace::Open { rate, arrivals } => Some(Schedule::new(rate, arrivals, seed)),
            },
            start_ns,
            measure_ns,
            end_ns: block.duration.map_or(u64::MAX, end),
            budget: block.requests.unwrap_or(u64::MAX),
            in_flight: 0,
            stopping: false,
        }
    }

    pub(crate) fn is_closed_loop(&self) -> bool {
        self.schedule.is_none()
    }

    /// When the next request of an open loop is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.schedule
            .as_ref()
            .map(|schedule| self.start_ns + schedule.peek())
    }

    /// When the request that may start now was due; `None` if none may.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let due = self.next_due().unwrap_or(now);
        (!self.stopping && self.budget > 0 && due <= now && due < self.end_ns).then_some(due)
    }

    /// The request that [`Run::due`] told of starts.
    pub(crate) fn take(&mut self) {
        self.budget -= 1;
        if let Some(schedule) = &mut self.schedule {
            schedule.pop();
        }
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        now >= self.end_ns || self.budget == 0
    }

    /// Whether an answer that comes now counts for the rate.
    pub(crate) fn is_measured(&self, now: u64) -> bool {
        now >= self.measure_ns && now < self.end_ns
    }

    /// No request starts any more; those that were due by now and did not are drops.
    pub(crate) fn stop(&mut self, now: u64) {
        self.stopping = true;
        if self.budget == 0 {
            // A run of so many requests ends with the last answer.
            return;
        }
        self.end_ns = self.end_ns.min(now);
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        while self.start_ns + schedule.peek() < self.end_ns {
            let due = self.start_ns + schedule.pop();
            if due >= self.measure_ns {
                self.ledger.drop_due(self.end_ns - due);
            }
        }
    }

    pub(crate) fn snapshot(&self, now: u64) -> Snapshot {
        let (sent, ok, wrong, errors) = self.ledger.counts();
        let service = self.ledger.service().histogram();
        Snapshot {
            elapsed: Duration::from_nanos(now.saturating_sub(self.measure_ns)),
            sent,
            ok,
            wrong,
            errors,
            p50_us: service.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: service.value_at_quantile(0.99) as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Frame;
    use crate::plan::{Arrivals, SeqCheck};
    use proptest::prelude::*;

    fn run(block: Block, pace: Pace, start_ns: u64) -> Run {
        Run::new(
            &block,
            pace,
            Ledger::new(1, pace != Pace::Closed, SeqCheck::Off),
            (1, &[]),
            start_ns,
        )
    }

    proptest! {
        /// However late or slow the generator is, each request that fell due in the measured part was
        /// either started or dropped, and never before its time.
        #[test]
        fn every_due_request_is_started_or_dropped(
            rate in 10.0_f64..100_000.0,
            steps in prop::collection::vec((0_u64..5_000_000, 0_usize..20), 1..200),
        ) {
            let block = Block { duration: Some(Duration::from_millis(50)), ..Block::default() };
            let pace = Pace::Open { rate, arrivals: Arrivals::Uniform };
            let mut run = run(block, pace, 7);
            let (mut now, mut started) = (7, 0_u64);
            for (wait, free) in steps {
                now += wait;
                for _ in 0..free {
                    let Some(due) = run.due(now) else { break };
                    prop_assert!(due <= now && due < run.end_ns);
                    run.take();
                    started += 1;
                }
            }
            let end = run.end_ns.min(now);
            run.stop(now);
            prop_assert_eq!(run.due(u64::MAX), None);
            let frame = Frame { started_unix_ns: 0, duration_s: 1.0, offered_rps: None, spun_us: 0 };
            let fell_due = (0_u64..10_000).take_while(|i| end > 7 + (*i as f64 * (1e9 / rate)) as u64).count() as u64;
            let dropped = run.ledger.close(&[], frame).dropped;
            // One that is due at the very end may start and is not a drop if it does not.
            let sum = started + dropped;
            prop_assert!((fell_due..=fell_due + 1).contains(&sum), "{started} started, {dropped} dropped, {fell_due} due");
        }
    }

    #[test]
    fn a_closed_loop_may_always_start_until_its_budget_or_its_time_is_up() {
        let mut counted = run(
            Block {
                requests: Some(2),
                ..Block::default()
            },
            Pace::Closed,
            0,
        );
        for now in [5, 6] {
            assert_eq!(counted.due(now), Some(now));
            counted.take();
        }
        assert!(counted.due(7).is_none() && counted.is_over(7));
        let timed = Block {
            duration: Some(Duration::from_nanos(10)),
            warmup: Duration::from_nanos(5),
            ..Block::default()
        };
        let timed = run(timed, Pace::Closed, 100);
        assert!(timed.due(114).is_some() && timed.due(115).is_none());
        assert!(!timed.is_measured(104) && timed.is_measured(105) && !timed.is_measured(115));
    }
}
