//! The gate's self-test by simulation: how often it cries wolf, how often it finds what was planted.
//!
//! The noise is not invented. It is resampled, block by block, from recorded runs of this harness
//! (`results/*/SCENARIO/raw.csv`): within a block the deviations of three arms from their own medians, in
//! random order, become those of base, base again and head. What the machine does to a whole block (drift,
//! a neighbour) thus hits all three, as it does in a run; and the heavy tails are the recorded ones.

use super::wall::{self, Bench, Finding, METRICS, Round, Samples};
use kmesh_stats::{Error, Rng, rank};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arms whose deviations are used, in order of preference: a gate's own cells, else three arms without a
/// proxy process.
const TRIPLES: [[&str; 3]; 2] = [
    ["base", "base-again", "head"],
    ["direct", "direct-aa", "kmesh"],
];
/// Latency of the simulated base, microseconds: about that of the recorded arms.
const BASE_US: f64 = 100.0;

/// Recorded noise of one scenario: per block, per cell, per metric, log deviations.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// Where it was recorded.
    pub source: PathBuf,
    blocks: Vec<[[f64; METRICS.len()]; 3]>,
}

/// Why there is no noise to draw from.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// No recorded run has what is needed.
    #[error("{0}: no recorded run with {needed} scenarios of at least {SMALLEST} blocks to draw noise from", needed = SCENARIOS.len())]
    Nothing(PathBuf),
    /// The samples drawn are not usable.
    #[error(transparent)]
    Stats(#[from] Error),
}

/// Fewest blocks that noise is drawn from.
const SMALLEST: usize = 12;

/// The gate's scenarios, each with the recorded ones that its noise may come from.
const SCENARIOS: [[&str; 2]; 3] = [
    ["gate-long60", "http-lb-long60"],
    ["gate-short", "http-lb-short"],
    ["gate-canary", "header-canary"],
];

impl Noise {
    /// Noise for each of the gate's scenarios, from all the runs below `results`: one alone may have been quiet, or loud.
    ///
    /// # Errors
    /// [`NoiseError`].
    pub fn recorded(results: &Path) -> Result<Vec<Self>, NoiseError> {
        let io = |source| NoiseError::Io {
            path: results.to_owned(),
            source,
        };
        let mut folders: Vec<PathBuf> = std::fs::read_dir(results)
            .map_err(io)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(io)?;
        folders.sort();
        let found: Vec<Self> = SCENARIOS
            .iter()
            .map(|names| Self {
                source: results.join("*").join(names[1]),
                blocks: folders
                    .iter()
                    .filter_map(|folder| {
                        names
                            .iter()
                            .find_map(|name| Self::read(&folder.join(name).join("raw.csv")).ok())
                    })
                    .flat_map(|recorded| recorded.blocks)
                    .collect(),
            })
            .collect();
        if found.iter().all(|noise| noise.blocks.len() >= SMALLEST) {
            return Ok(found);
        }
        Err(NoiseError::Nothing(results.to_owned()))
    }

    /// Reads one recorded run.
    ///
    /// # Errors
    /// [`NoiseError`].
    pub fn read(csv: &Path) -> Result<Self, NoiseError> {
        let text = std::fs::read_to_string(csv).map_err(|source| NoiseError::Io {
            path: csv.to_owned(),
            source,
        })?;
        let cells = cells(&text);
        TRIPLES
            .iter()
            .map(|arms| deviations(&cells, *arms))
            .find(|blocks| blocks.len() >= SMALLEST)
            .map(|blocks| Self {
                source: csv.to_owned(),
                blocks,
            })
            .ok_or_else(|| NoiseError::Nothing(csv.to_owned()))
    }
}

type Cells = BTreeMap<usize, BTreeMap<String, [f64; METRICS.len()]>>;

/// Log latency by block and arm: intended time where there is one.
fn cells(csv: &str) -> Cells {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut cells = Cells::new();
    for line in lines {
        let fields: BTreeMap<&str, &str> = columns.iter().copied().zip(line.split(',')).collect();
        let number = |name: &str| fields.get(name).and_then(|text| text.parse::<f64>().ok());
        let latency = |name: &str| {
            let intended = number(&format!("intended_{name}_us")).filter(|us| *us > 0.0);
            intended
                .or_else(|| number(&format!("{name}_us")))
                .filter(|us| *us > 0.0)
                .map(f64::ln)
        };
        let (Some(block), Some(arm)) = (number("block"), fields.get("arm")) else {
            continue;
        };
        if let [Some(p50), Some(p90)] = METRICS.map(|metric| latency(metric.name)) {
            cells
                .entry(block as usize)
                .or_default()
                .insert((*arm).to_owned(), [p50, p90]);
        }
    }
    cells
}

/// Deviations of three arms from their own medians, in blocks that have all three.
fn deviations(cells: &Cells, arms: [&str; 3]) -> Vec<[[f64; METRICS.len()]; 3]> {
    let mut blocks: Vec<[[f64; METRICS.len()]; 3]> = cells
        .values()
        .filter_map(|block| {
            let [a, b, c] = arms.map(|arm| block.get(arm).copied());
            Some([a?, b?, c?])
        })
        .collect();
    for arm in 0..arms.len() {
        for metric in 0..METRICS.len() {
            let values: Vec<f64> = blocks.iter().map(|block| block[arm][metric]).collect();
            let centre = rank::median(&values).unwrap_or(0.0);
            for block in &mut blocks {
                block[arm][metric] -= centre;
            }
        }
    }
    blocks
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "block,arm,p50_us,intended_p50_us,p90_us,intended_p90_us\n";

    #[test]
    fn deviations_are_from_each_arms_own_median() {
        let mut csv = CSV.to_owned();
        for block in 0..SMALLEST {
            for (arm, centre) in [("direct", 100.0), ("direct-aa", 110.0), ("kmesh", 50.0)] {
                let p50 = centre * if block == 3 { 2.0 } else { 1.0 };
                csv.push_str(
                    &[
                        &block.to_string(),
                        arm,
                        "1",
                        &p50.to_string(),
                        &p50.to_string(),
                        "0\n",
                    ]
                    .join(","),
                );
            }
        }
        let blocks = deviations(&cells(&csv), TRIPLES[1]);
        assert_eq!(blocks.len(), SMALLEST);
        for (block, cells) in blocks.iter().enumerate() {
            let expected = if block == 3 { 2f64.ln() } else { 0.0 };
            assert!(
                cells
                    .iter()
                    .flatten()
                    .all(|deviation| (deviation - expected).abs() < 1e-12)
            );
        }
    }

    #[test]
    fn a_run_without_three_arms_is_no_source() {
        let file = std::env::temp_dir().join(format!("kmesh-noise-{}.csv", std::process::id()));
        std::fs::write(&file, format!("{CSV}0,direct,1,1,1,1\n")).unwrap();
        let read = Noise::read(&file);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(read, Err(NoiseError::Nothing(_))));
    }
}
