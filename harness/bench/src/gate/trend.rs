//! G4: how the ratios moved over the published results.
//!
//! Ratios, not microseconds: they survive a change of machine. The rule is bencher's delta-IQR: the newest
//! value is worth a look when it is further from the median of the earlier ones than twice their interquartile
//! range (and than 5 %, for histories that happen to agree). It warns and does not fail: a published run may be
//! old news, and G2 is the one that compares two programs.

use super::verdict::{Check, Outcome, Stage};
use crate::report::{self, ReadError, RunLine};
use kmesh_stats::rank;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Results needed before there is a trend, the newest included.
const SMALLEST: usize = 4;
/// Interquartile ranges from the median that are normal.
const RANGES: f64 = 2.0;
/// Change that is normal in any case.
const FLOOR: f64 = 0.05;

/// One ratio over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// `SCENARIO METRIC NUM : DEN`.
    pub name: String,
    /// Values, oldest first.
    pub values: Vec<f64>,
    /// The newest is out of the ordinary.
    pub alert: bool,
}

/// Looks at `history.jsonl` in `results`, and at the folders there that it has no line of yet.
pub fn check(results: &Path) -> Check {
    let runs = match runs(results) {
        Ok(runs) => runs,
        Err(error) => return Check::new(Stage::G4, "trend", Outcome::Warn, error.to_string()),
    };
    let series = series(&runs);
    let long: Vec<&Series> = series
        .iter()
        .filter(|series| series.values.len() >= SMALLEST)
        .collect();
    if long.is_empty() {
        return Check::new(
            Stage::G4,
            "trend",
            Outcome::Pass,
            format!(
                "{} published results; a trend needs {SMALLEST} of a scenario",
                runs.len()
            ),
        )
        .with(&series);
    }
    let alerts: Vec<&str> = long
        .iter()
        .filter(|series| series.alert)
        .map(|series| series.name.as_str())
        .collect();
    let (outcome, message) = if alerts.is_empty() {
        (
            Outcome::Pass,
            format!("{} ratios are within their history", long.len()),
        )
    } else {
        (
            Outcome::Warn,
            format!("out of their history: {}", alerts.join("; ")),
        )
    };
    Check::new(Stage::G4, "trend", outcome, message).with(&series)
}

/// All runs, oldest first.
fn runs(results: &Path) -> Result<Vec<RunLine>, ReadError> {
    let mut runs = report::read_history(&results.join("history.jsonl"))?;
    let folders = std::fs::read_dir(results).into_iter().flatten().flatten();
    let folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    for folder in folders.iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if !runs.iter().any(|line| line.run == name) {
            runs.extend(report::run_line(&name, &report::read_summaries(folder)?));
        }
    }
    runs.sort_by(|a, b| a.started.cmp(&b.started));
    Ok(runs)
}

fn series(runs: &[RunLine]) -> Vec<Series> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in runs.iter().flat_map(|run| &run.ratios) {
        values.entry(name).or_default().push(*value);
    }
    values
        .into_iter()
        .map(|(name, values)| Series {
            alert: out_of_history(&values),
            name: name.to_owned(),
            values,
        })
        .collect()
}

/// Whether the last value is out of the ordinary.
fn out_of_history(values: &[f64]) -> bool {
    let Some((last, earlier)) = values.split_last() else {
        return false;
    };
    if earlier.len() + 1 < SMALLEST {
        return false;
    }
    let quartile = |q| rank::quantile(earlier, q).unwrap_or(f64::NAN);
    let centre = quartile(0.5);
    let normal = (RANGES * (quartile(0.75) - quartile(0.25))).max(FLOOR * centre.abs());
    (last - centre).abs() > normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_alerts_and_noise_does_not() {
        assert!(out_of_history(&[1.0, 1.02, 0.99, 1.3]));
        assert!(!out_of_history(&[1.0, 1.02, 0.99, 1.03]));
        assert!(!out_of_history(&[1.0, 1.3, 0.8, 1.4]), "it always jumps");
    }

    #[test]
    fn the_published_runs_have_a_trend() {
        let results = crate::binaries::workspace().join("results");
        let found = runs(&results).unwrap();
        assert!(found.len() >= SMALLEST, "{found:?}");
        let trend = series(&found);
        let headline = "http-lb-long60-max throughput kmesh : envoy-both";
        let headline = trend.iter().find(|series| series.name == headline).unwrap();
        assert_eq!(headline.values.len(), found.len());
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("history.jsonl"), "{\"run\": 3}\n").unwrap();
        let found = check(folder.path());
        assert_eq!(found.outcome, Outcome::Warn);
        assert!(found.message.contains("history.jsonl"), "{}", found.message);
    }

    #[test]
    fn two_points_are_no_trend() {
        assert!(!out_of_history(&[1.0, 9.0]));
        assert!(!out_of_history(&[]));
    }
}
