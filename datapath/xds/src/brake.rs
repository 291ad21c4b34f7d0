//! A brake for control planes that answer each answer with the same response again, without end.
//!
//! The answer to a response is what lets such a loop turn, so it is the answer that waits. [`FREE`] repetitions in a row are
//! answered at once (a push that changes nothing is no fault), then [`PER_SECOND`] of them each second.

use std::time::{Duration, Instant};

/// Repetitions that are answered at once.
pub const FREE: u32 = 8;
/// Repetitions answered each second once those are used up.
pub const PER_SECOND: u32 = 1;

/// Watches the responses of one type on one stream.
#[derive(Debug, Default)]
pub struct Brake {
    last: Option<u64>,
    spent: u32,
    paid: Option<Instant>,
    repeated: u64,
}

impl Brake {
    /// When the answer to a response may be sent; `content` identifies what it contains, without nonce and version.
    pub fn answer_at(&mut self, content: u64, now: Instant) -> Instant {
        if self.last.replace(content) != Some(content) {
            self.spent = 0;
            self.paid = None;
            return now;
        }
        self.repeated += 1;
        let paid = *self.paid.get_or_insert(now);
        let interval = Duration::from_secs(1) / PER_SECOND;
        let back = u32::try_from((now - paid).as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        let back = back.min(self.spent);
        self.spent -= back;
        self.paid = Some(if self.spent == 0 {
            now
        } else {
            paid + interval * back
        });
        self.spent += 1;
        if self.spent <= FREE {
            now
        } else {
            now + interval
        }
    }

    /// How many responses were the same as the one before.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}
