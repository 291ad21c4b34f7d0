//! Fitness for tests.

/// Limits of fitness that no machine fails: a busy test machine is no reason to fail.
pub(crate) const ANY_MACHINE: &str = r"
[fit]
aa_excess = 1e9
steal = 1.0
lag_p99_us = 1e9
send_rate = 0.0
drift = 1e9
";
