//! How long to wait before the next try.

use std::time::Duration;

/// The first wait is up to this.
pub const BASE: Duration = Duration::from_millis(50);
/// Waits grow up to this while no control plane can be reached: its return must be noticed within a second.
pub const UNREACHABLE_MAX: Duration = Duration::from_millis(800);
/// Waits grow up to this while there is one that ends each stream.
pub const REFUSED_MAX: Duration = Duration::from_secs(15);

/// Doubles from one failure to the next, with jitter: each wait lies between half of what it could be and all of it.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A try succeeded: the next wait is short again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait after a failure; `chance` in `0.0..1.0` places it, `most` is the longest.
    pub fn wait(&mut self, most: Duration, chance: f64) -> Duration {
        let longest = BASE.saturating_mul(1 << self.failures.min(20)).min(most);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(0.5 + chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..7)
            .map(|_| backoff.wait(UNREACHABLE_MAX, 1.0).as_millis())
            .collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 800, 800]);
        assert_eq!(backoff.wait(UNREACHABLE_MAX, 0.0), UNREACHABLE_MAX / 2);
        backoff.succeeded();
        assert_eq!(backoff.wait(REFUSED_MAX, 0.0), BASE / 2);
        for _ in 0..100 {
            assert!(backoff.wait(REFUSED_MAX, 0.99) <= REFUSED_MAX);
        }
    }
}
