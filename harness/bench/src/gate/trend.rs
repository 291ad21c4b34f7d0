//! G4: how the ratios moved over the published results.
//!
//! Ratios, not microseconds: they survive a change of machine. The rule is bencher's delta-IQR: the newest
//! value is worth a look when it is further from the median of the earlier ones than twice their interquartile
//! range (and than 5 %, for histories that happen to agree). It warns and does not fail: a published run may be
//! old news, and G2 is the one that compares two programs.

use super::verdict::{Check, Outcome, Stage};
use crate::report;
use crate::summary::{Status, Summary};
use kmesh_stats::rank;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

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

/// Looks at all folders below `results`.
pub fn check(results: &Path) -> Check {
    let folders = folders(results);
    let runs: Vec<Vec<Summary>> = folders
        .iter()
        .filter_map(|folder| report::read_summaries(folder).ok())
        .collect();
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

/// Names begin with the date.
fn folders(results: &Path) -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(results)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Our own arms against no mesh and against Envoy, from runs that were fit and not quick.
fn series(runs: &[Vec<Summary>]) -> Vec<Series> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for summary in runs.iter().flatten() {
        let fit = !matches!(summary.verdict.status, Status::Invalid | Status::Wrong);
        if summary.quick || !fit {
            continue;
        }
        for ratio in &summary.ratios {
            let told = matches!(ratio.metric.as_str(), "throughput" | "p50");
            if told && ratio.num.starts_with("kmesh") {
                let name = format!(
                    "{} {} {} : {}",
                    summary.scenario, ratio.metric, ratio.num, ratio.den
                );
                values.entry(name).or_default().push(ratio.interval.point);
            }
        }
    }
    values
        .into_iter()
        .map(|(name, values)| Series {
            alert: out_of_history(&values),
            name,
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
    fn two_points_are_no_trend() {
        assert!(!out_of_history(&[1.0, 9.0]));
        assert!(!out_of_history(&[]));
    }
}
