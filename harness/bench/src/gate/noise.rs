//! The gate's self-test by simulation: how often it cries wolf, how often it finds what was planted.
//!
//! The noise is not invented. It is resampled, block by block, from recorded runs of this harness ([`super::recorded`]):
//! within a block the deviations of three arms from their own medians, in random order, become those of base, base
//! again and head. What the machine does to a whole block (drift, a neighbour) thus hits all three, as it does in a
//! run; and the heavy tails are the recorded ones.

use super::recorded::{Noise, NoiseError};
use super::wall::{self, Bench, Finding, Round, Samples};
use kmesh_stats::Rng;
use serde::Serialize;

/// Latency of the simulated base, microseconds: about that of the recorded arms.
const BASE_US: f64 = 100.0;

/// A simulated lab.
struct Simulation<'a> {
    noise: &'a [Noise],
    rng: Rng,
    /// Factor on the head's p50, by scenario.
    planted: Vec<f64>,
}

impl Bench for Simulation<'_> {
    type Error = NoiseError;

    fn measure(
        &mut self,
        scenario: usize,
        _round: Round,
        looks: &[usize],
        decided: &dyn Fn(&[Samples]) -> bool,
    ) -> Result<Vec<Samples>, NoiseError> {
        let recorded = &self.noise[scenario].blocks;
        Ok(Samples::collect(looks, decided, |all| {
            let mut cells = recorded[self.rng.below(recorded.len())];
            self.rng.shuffle(&mut cells);
            for (metric, samples) in all.iter_mut().enumerate() {
                let planted = if metric == 0 {
                    self.planted[scenario]
                } else {
                    1.0
                };
                samples.base.push(BASE_US * cells[0][metric].exp());
                samples.again.push(BASE_US * cells[1][metric].exp());
                samples
                    .head
                    .push(BASE_US * cells[2][metric].exp() * planted);
            }
        }))
    }
}

/// What a series of simulated gates did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// What was planted, in words.
    pub planted: String,
    /// Blocks at which the gate looked.
    pub looks: Vec<usize>,
    /// Gates simulated.
    pub gates: usize,
    /// Gates that ended in exit code 1.
    pub alarms: usize,
    /// Gates that ended in exit code 3: not decided.
    pub open: usize,
    /// What must be true of the share of alarms.
    pub required: String,
    /// Whether it is.
    pub held: bool,
}

/// How many gates per series, unless a test is in a hurry.
pub const GATES: usize = 200;

/// Simulates all series that the gate must pass, `gates` each. The same noise and seed give the same counts.
///
/// # Errors
/// [`NoiseError`].
pub fn simulate(noise: &[Noise], gates: usize, seed: u64) -> Result<Vec<Series>, NoiseError> {
    let everywhere = |factor: f64| vec![factor; noise.len()];
    let mut only_one = everywhere(1.0);
    if let Some(first) = only_one.first_mut() {
        *first = 1.10;
    }
    Ok(vec![
        series(
            "nothing (A/A)",
            (noise, gates),
            &everywhere(1.0),
            &[32, 60],
            seed,
            ("<= 1 %", |share| share <= 0.01),
        )?,
        series(
            "+10 % on p50",
            (noise, gates),
            &everywhere(1.10),
            &[60],
            seed + 1,
            (">= 90 %", |share| share >= 0.90),
        )?,
        series(
            "+10 % on p50 of one scenario only",
            (noise, gates),
            &only_one,
            &[60],
            seed + 2,
            (">= 90 %", |share| share >= 0.90),
        )?,
        series(
            "+20 % on p50",
            (noise, gates),
            &everywhere(1.20),
            &[32],
            seed + 3,
            ("100 %", |share| share >= 1.0),
        )?,
    ])
}

fn series(
    words: &str,
    (noise, gates): (&[Noise], usize),
    planted: &[f64],
    looks: &[usize],
    seed: u64,
    (required, holds): (&str, fn(f64) -> bool),
) -> Result<Series, NoiseError> {
    let mut bench = Simulation {
        noise,
        rng: Rng::new(seed),
        planted: planted.to_vec(),
    };
    let (mut alarms, mut open) = (0, 0);
    for _ in 0..gates {
        let judged = wall::police(&mut bench, noise.len(), looks)?;
        if judged.iter().any(|j| j.finding == Finding::Slower) {
            alarms += 1;
        } else if judged.iter().any(|j| j.finding == Finding::Open) {
            open += 1;
        }
    }
    Ok(Series {
        planted: words.to_owned(),
        looks: looks.to_vec(),
        gates,
        alarms,
        open,
        required: required.to_owned(),
        held: holds(alarms as f64 / gates as f64),
    })
}
