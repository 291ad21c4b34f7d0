//! Pauses between tries that grow.

use std::time::Duration;

/// Pauses that double from the first to the longest.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins with `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
        let first: Vec<u128> = (0..5).map(|_| pauses.pause().as_millis()).collect();
        assert_eq!(first, [50, 100, 200, 300, 300]);
    }
}
