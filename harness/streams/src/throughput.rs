//! Large transfers through two arms, interleaved, as a paired ratio.

use kmesh_stats::{Bootstrap, Interval, paired};
use serde::Serialize;

use crate::bulk::Transfer;
use crate::lab::{Bench, CheckError, Options};
use crate::task::Task;

/// Transfers of one cell.
const CELL: usize = 8;

/// Throughput of an arm against a reference.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub reference: String,
    /// `upload` or `download`.
    pub direction: &'static str,
    /// Bytes of each transfer.
    pub length: u64,
    /// Throughput of the arm as a share of the reference's, with its 95 % interval.
    pub ratio: Interval,
    /// Median MB/s of the arm and of the reference.
    pub megabytes_per_second: [f64; 2],
}

/// Measures both directions in `rounds` rounds of one cell per arm, the arms taking turns at going first.
///
/// # Errors
/// [`CheckError`]; [`CheckError::Statistics`] if there are too few rounds for an interval.
pub fn compare(
    arm: &str,
    reference: &str,
    length: u64,
    rounds: usize,
    options: &Options,
) -> Result<Vec<Throughput>, CheckError> {
    let benches = [Bench::up(arm, options)?, Bench::up(reference, options)?];
    let mut outcome = Vec::new();
    for (upload, direction) in [(false, "download"), (true, "upload")] {
        let mut seconds = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let bench = &benches[which];
                let times: Vec<f64> = bench.run(&Task::Transfer(Transfer {
                    target: bench.target(),
                    count: CELL,
                    length,
                    upload,
                }))?;
                seconds[which].push(median(times));
            }
        }
        // Twice the time is half the throughput.
        let ratio = paired::ratio(&seconds[1], &seconds[0], &Bootstrap::default())?;
        let rate = |seconds: &[f64]| length as f64 / 1e6 / median(seconds.to_vec());
        outcome.push(Throughput {
            arm: arm.to_owned(),
            reference: reference.to_owned(),
            direction,
            length,
            ratio,
            megabytes_per_second: [rate(&seconds[0]), rate(&seconds[1])],
        });
    }
    Ok(outcome)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
