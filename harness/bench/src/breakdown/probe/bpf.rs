//! Runs and run time of eBPF programs, from the kernel's own statistics (`BPF_ENABLE_STATS`).

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Statistics are on while this lives; they cost each run some nanoseconds.
#[derive(Debug)]
pub struct Runs {
    _on: OwnedFd,
    before: (u64, Duration),
}

impl Runs {
    /// Turns the statistics on.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn start() -> io::Result<Self> {
        let on = enable_stats(Stats::RunTime).map_err(io::Error::other)?;
        Ok(Self {
            _on: on,
            before: total(),
        })
    }

    /// Runs and time in all programs of this machine since the start. Other arms are idle meanwhile.
    pub fn since_start(&self) -> (u64, Duration) {
        let (runs, time) = total();
        (
            runs.saturating_sub(self.before.0),
            time.saturating_sub(self.before.1),
        )
    }
}

/// Programs that vanish during the walk are left out.
fn total() -> (u64, Duration) {
    loaded_programs()
        .flatten()
        .fold((0, Duration::ZERO), |(runs, time), program| {
            (runs + program.run_count(), time + program.run_time())
        })
}
