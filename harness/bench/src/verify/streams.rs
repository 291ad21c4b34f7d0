//! The stream checker, arm by arm.

use std::time::Instant;

use kmesh_streams::lab::{self, CheckError, Outcome};
use serde::Serialize;

use crate::binaries::Programs;

/// What to check.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// How long, seconds, shared out among the arms.
    pub seconds: f64,
    /// The arms; empty for all.
    pub arms: Vec<String>,
    /// What is sent follows from it.
    pub seed: u64,
    /// Connections at a time.
    pub connections: usize,
    /// Only this connection of the plan.
    pub only: Option<u64>,
    /// The programs.
    pub programs: Programs,
}

/// What came of it; the object on stdout.
#[derive(Clone, Debug, Serialize)]
pub struct StreamOutcome {
    /// Messages whose answer came as planned.
    pub compared: u64,
    /// Wrong bytes, wrong backends, doubled messages.
    pub mismatches: u64,
    /// Messages without the planned answer, but for those in `response_floods`.
    pub broken: u64,
    /// Connections that Envoy cut off for pipelining, by its own count.
    pub response_floods: u64,
    /// The seed.
    pub seed: u64,
    /// How long it took, labs included.
    pub seconds: f64,
    /// The counters of each arm.
    pub arms: Vec<Outcome>,
}

/// Checks one arm after the other. Findings are written to stderr with what reproduces them.
///
/// # Errors
/// If an arm can't be brought up, or the checker can't do its work in it.
pub fn streams(options: &StreamOptions) -> Result<StreamOutcome, CheckError> {
    let begun = Instant::now();
    let all = kmesh_dataplanes::NAMES
        .into_iter()
        .filter(|arm| *arm != "direct-aa");
    let arms: Vec<String> = if options.arms.is_empty() {
        all.map(str::to_owned).collect()
    } else {
        options.arms.clone()
    };
    let mut outcome = StreamOutcome {
        compared: 0,
        mismatches: 0,
        broken: 0,
        response_floods: 0,
        seed: options.seed,
        seconds: 0.0,
        arms: Vec::new(),
    };
    for arm in &arms {
        let checked = lab::check(
            arm,
            &lab::Options {
                seconds: options.seconds / arms.len() as f64,
                seed: options.seed,
                workers: options.connections,
                only: options.only,
                ..super::options(&options.programs)
            },
        )?;
        let tally = &checked.tally;
        eprintln!(
            "{arm}: {} messages, {} MB sent, {} MB received, {} configurations: {} wrong, {} broken, {} of them cut off by Envoy for pipelining",
            tally.messages,
            tally.bytes_sent >> 20,
            tally.bytes_received >> 20,
            checked.generations,
            tally.wrong,
            tally.broken,
            checked.response_floods
        );
        for finding in &tally.findings {
            eprintln!(
                "{:?} in {arm}, found by {}, at {}: {}\n  reproduce: kmesh-bench verify streams --arm {arm} --seed {} --connections {} --seconds {}",
                finding.kind,
                finding.by,
                finding.step,
                finding.what,
                options.seed,
                options.connections,
                options.seconds / arms.len() as f64
            );
        }
        outcome.compared += tally.messages;
        outcome.mismatches += tally.wrong;
        // More cuts than broken exchanges would be findings that the client did not make.
        outcome.broken += tally.broken.abs_diff(checked.response_floods);
        outcome.response_floods += checked.response_floods;
        outcome.arms.push(checked);
    }
    outcome.seconds = begun.elapsed().as_secs_f64();
    Ok(outcome)
}
