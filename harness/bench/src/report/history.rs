//! A published run in one line: what is kept of it when a later one takes its place.
//!
//! `results/history.jsonl` has one such line per run, oldest first; `kmesh-bench report DIR --line` prints it.

use super::folder::ReadError;
use super::stored::io;
use crate::summary::{Status, Summary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunLine {
    /// Name of its folder: date, kernel, machine, commit.
    pub run: String,
    /// When it began.
    pub started: String,
    /// What was measured; null outside of a checkout.
    pub commit: Option<String>,
    /// Release of the kernel.
    pub kernel: String,
    /// The processor.
    pub cpu: String,
    /// How many CPUs.
    pub cpus: usize,
    /// `SCENARIO METRIC NUM : DEN` of our own arms and the point estimate; of runs that were fit and not quick.
    pub ratios: BTreeMap<String, f64>,
}

/// Our own arms against no mesh and against Envoy. Ratios, not microseconds: they survive a change of machine.
///
/// None when no scenario was fit for a verdict at full length.
pub fn run_line(run: &str, summaries: &[Summary]) -> Option<RunLine> {
    let fit = |summary: &&Summary| {
        !summary.quick && !matches!(summary.verdict.status, Status::Invalid | Status::Wrong)
    };
    let env = &summaries.iter().find(fit)?.env;
    let ratios = summaries
        .iter()
        .filter(fit)
        .flat_map(|summary| summary.ratios.iter().map(move |ratio| (summary, ratio)))
        .filter(|(_, ratio)| matches!(ratio.metric.as_str(), "throughput" | "p50"))
        .filter(|(_, ratio)| ratio.num.starts_with("kmesh"))
        .map(|(summary, ratio)| {
            let name = format!(
                "{} {} {} : {}",
                summary.scenario, ratio.metric, ratio.num, ratio.den
            );
            (name, rounded(ratio.interval.point))
        })
        .collect();
    Some(RunLine {
        run: run.to_owned(),
        started: env.started.clone(),
        commit: env.commit.clone(),
        kernel: env.kernel.clone(),
        cpu: env.cpu.clone(),
        cpus: env.cpus,
        ratios,
    })
}

/// Four decimals: finer than any interval here.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Reads a file of such lines.
///
/// # Errors
/// A file that cannot be read, or a line that is none.
pub fn read_history(file: &Path) -> Result<Vec<RunLine>, ReadError> {
    let text = fs::read_to_string(file).map_err(io(file))?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|source| ReadError::Format {
                path: file.to_owned(),
                source,
            })
        })
        .collect()
}
