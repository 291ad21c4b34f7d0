//! One pod against another, on each path.

use std::time::{Duration, Instant};

use kmesh_isolation::{IsolationError, Outcome, run};
use serde::Serialize;

use crate::binaries::Programs;
use crate::summary::Status;

/// What to attack, and how long.
#[derive(Clone, Debug)]
pub struct IsolationOptions {
    /// How long, seconds, shared out among the paths and the attacks.
    pub seconds: f64,
    /// The order of the attacks and what they draw follow from it.
    pub seed: u64,
    /// The paths, as `kmeshd --path` names them.
    pub paths: Vec<String>,
    /// Most that the victim's p99 may be of that of the quiet round; judged if it is given.
    pub p99: Option<f64>,
    /// Defences that are off.
    pub without: Vec<String>,
    /// The programs.
    pub programs: Programs,
}

/// What came of one path.
#[derive(Clone, Debug, Serialize)]
pub struct PathOutcome {
    /// The path.
    pub path: String,
    /// All of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of it; the object on stdout.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IsolationOutcome {
    /// The victim's requests.
    pub compared: u64,
    /// Requests and answers that reached another pod than the one meant, and slots found wrong.
    pub mismatches: u64,
    /// The victim's requests without a good answer.
    pub failed: u64,
    /// The greatest ratio of the victim's p99 under an attack to that of the quiet round.
    pub worst_p99_ratio: f64,
    /// The seed.
    pub seed: u64,
    /// How long it took, labs included.
    pub seconds: f64,
    /// Each path.
    pub paths: Vec<PathOutcome>,
}

impl IsolationOutcome {
    /// Whether nobody was harmed.
    pub fn status(&self, p99: Option<f64>) -> Status {
        let slow = p99.is_some_and(|most| self.worst_p99_ratio > most);
        match (self.mismatches, self.failed) {
            (0, 0) if !slow && self.compared > 0 => Status::Held,
            (0, _) => Status::Missed,
            _ => Status::Wrong,
        }
    }
}

/// Attacks. Rounds are reported on stderr as they end.
///
/// # Errors
/// If the node can't be brought up, or an attacker or the victim can't do its work.
pub fn isolation(options: &IsolationOptions) -> Result<IsolationOutcome, IsolationError> {
    let begun = Instant::now();
    let each = Duration::from_secs_f64(options.seconds / options.paths.len().max(1) as f64);
    let mut all = IsolationOutcome {
        seed: options.seed,
        ..IsolationOutcome::default()
    };
    for path in &options.paths {
        eprintln!("path {path}");
        let without = options
            .without
            .iter()
            .map(|name| format!("--without={name}"));
        let programs = kmesh_isolation::Programs {
            kmeshd: options.programs.arms.kmeshd.clone(),
            origin: options.programs.arms.origin.clone(),
            attacker: options.programs.attacker.clone(),
            daemon: std::iter::once(format!("--path={path}"))
                .chain(without)
                .collect(),
        };
        let outcome = run(&programs, options.seed, each)?;
        all.compared += outcome.compared;
        all.mismatches += outcome.stolen + outcome.violations;
        all.failed += outcome.failed;
        all.worst_p99_ratio = all.worst_p99_ratio.max(outcome.worst_p99_ratio);
        all.paths.push(PathOutcome {
            path: path.clone(),
            outcome,
        });
    }
    all.seconds = begun.elapsed().as_secs_f64();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theft_is_wrong_and_failures_are_missed() {
        let outcome = |compared, mismatches, failed, worst_p99_ratio| IsolationOutcome {
            compared,
            mismatches,
            failed,
            worst_p99_ratio,
            ..IsolationOutcome::default()
        };
        assert_eq!(outcome(9, 0, 0, 9.0).status(None), Status::Held);
        assert_eq!(outcome(9, 0, 0, 9.0).status(Some(1.5)), Status::Missed);
        assert_eq!(outcome(9, 0, 1, 1.0).status(None), Status::Missed);
        assert_eq!(outcome(9, 1, 1, 1.0).status(None), Status::Wrong);
        assert_eq!(
            outcome(0, 0, 0, 0.0).status(None),
            Status::Missed,
            "nothing was compared"
        );
    }
}
