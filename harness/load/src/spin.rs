//! How much CPU time the generator burnt while it had nothing to do.
//!
//! A generator that never sleeps keeps its CPU awake, so no arm pays for waking it: on a virtual machine that is an
//! interrupt through the hypervisor for every answer that finds the CPU halted. The price is that the CPU accounting of its
//! cgroup counts the empty rounds too. This meter tells how much to take off.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Adds up the empty rounds of a loop that polls without sleeping.
///
/// Within a run of empty rounds it counts the thread's CPU time, so that whatever preempts the thread is not taken for
/// spinning; the first round of each run is counted by the clock on the wall, which saves a system call per busy round.
#[derive(Debug, Default)]
pub(crate) struct SpinMeter {
    spun: Duration,
    /// The thread's CPU time at the end of the last round, if that was empty.
    last_empty: Option<Duration>,
}

impl SpinMeter {
    /// A round began at `begun_ns`, ended at `ended_ns`, did not sleep, and found nothing to do.
    pub(crate) fn empty_round(&mut self, begun_ns: u64, ended_ns: u64) {
        let now = thread_cpu_time();
        self.spun += match (self.last_empty, now) {
            (Some(last), Some(now)) => now.saturating_sub(last),
            _ => Duration::from_nanos(ended_ns.saturating_sub(begun_ns)),
        };
        self.last_empty = now;
    }

    /// A round did something, or slept.
    pub(crate) fn busy_round(&mut self) {
        self.last_empty = None;
    }

    /// CPU time of all empty rounds so far, microseconds.
    pub(crate) fn spun_us(&self) -> u64 {
        u64::try_from(self.spun.as_micros()).unwrap_or(u64::MAX)
    }
}

/// `CLOCK_THREAD_CPUTIME_ID`; `None` if the kernel has none.
fn thread_cpu_time() -> Option<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(Duration::from(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_rounds_count() {
        let mut meter = SpinMeter::default();
        meter.busy_round();
        assert_eq!(meter.spun_us(), 0);
        meter.empty_round(5_000, 9_000);
        assert_eq!(meter.spun_us(), 4);
        meter.busy_round();
        assert_eq!(meter.spun_us(), 4);
        meter.empty_round(20_000, 21_000);
        assert_eq!(meter.spun_us(), 5);
    }

    #[test]
    fn a_run_of_empty_rounds_counts_the_threads_own_time() {
        let mut meter = SpinMeter::default();
        meter.empty_round(0, 0);
        let begun = thread_cpu_time().unwrap();
        while thread_cpu_time().unwrap() < begun + Duration::from_millis(2) {}
        // By the clock on the wall this round took no time at all.
        meter.empty_round(7, 7);
        assert!(meter.spun_us() >= 2_000, "{}", meter.spun_us());
    }
}
