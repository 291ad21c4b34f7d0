//! Random configurations and requests, put to every judge there is.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use indicatif::ProgressBar;
use kmesh_oracle::differential::{Case, Judges, draw, portless};
use kmesh_oracle::kernel::Kernel;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;

/// Requests to one configuration.
const QUESTIONS: usize = 50;
/// Configurations that one Envoy is started with: enough that starting it costs little beside asking.
const BATCH: usize = 100;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decisions; rounded up to whole configurations.
    pub cases: u64,
    /// Where the random numbers begin; the same seed asks the same questions.
    pub seed: u64,
    /// The Envoy program.
    pub envoy: PathBuf,
    /// Plants a judge that errs, in place of Envoy and the kernel: shows that an error is found and reported.
    pub self_test: bool,
}

/// What came of it; the object on stdout.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Decisions on which every judge was heard.
    pub compared: u64,
    /// Those of them on which they disagree.
    pub mismatches: u64,
    /// Who judged.
    pub judges: Vec<&'static str>,
    /// The seed.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Compares. The first disagreement is shrunk and written to stderr as one line that `explain` replays, and ends the comparison.
///
/// # Errors
/// If a judge cannot be heard: Envoy is not installed, the kernel needs root.
pub fn decisions(options: &Options, progress: &ProgressBar) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut judges = if options.self_test {
        Judges {
            mutant: Some(portless),
            ..Judges::default()
        }
    } else {
        Judges {
            envoy: Some(options.envoy.clone()),
            kernel: Some(Kernel::load().context("the kernel cannot judge")?),
            mutant: None,
        }
    };
    let mut runner = runner(options.seed);
    let mut outcome = Outcome {
        compared: 0,
        mismatches: 0,
        judges: judges.names(),
        seed: options.seed,
        seconds: 0.0,
    };
    progress.set_length(options.cases);
    while outcome.compared < options.cases && outcome.mismatches == 0 {
        let left = (options.cases - outcome.compared).div_ceil(QUESTIONS as u64) as usize;
        let cases = (0..left.min(BATCH)).map(|_| draw(&mut runner, QUESTIONS));
        let cases: Vec<Case> = cases
            .collect::<Result<_, _>>()
            .map_err(anyhow::Error::msg)
            .context("no case can be drawn")?;
        let mismatches = judges.compare(&cases)?;
        outcome.compared += (cases.len() * QUESTIONS) as u64;
        outcome.mismatches += mismatches.len() as u64;
        progress.set_position(outcome.compared);
        if let Some(first) = mismatches.into_iter().next() {
            let small = judges.shrink(first)?;
            progress.suspend(|| eprintln!("mismatch: {small}"));
        }
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    Ok(outcome)
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}
