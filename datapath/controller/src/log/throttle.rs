//! One line a second for what somebody else can cause as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a line is let through.
const EVERY: Duration = Duration::from_secs(1);

/// Lets one line through in every second and counts the others.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Whether a line may be said now: then how many were not since the last one.
    pub fn allows(&self) -> Option<u64> {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if (state.last).is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_every_second_is_let_through_and_the_others_are_counted() {
        let throttle = Throttle::default();
        let begin = Instant::now();
        let at = |millis| throttle.allows_at(begin + Duration::from_millis(millis));
        assert_eq!(at(0), Some(0));
        assert_eq!((at(1), at(999)), (None, None));
        assert_eq!(at(1000), Some(2));
        assert_eq!((at(1001), at(2500)), (None, Some(1)));
    }
}
