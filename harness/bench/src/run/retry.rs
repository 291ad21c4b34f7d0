//! The one automatic repetition of a run that was unfit for a verdict.
//!
//! Unfit means: identical arms differ, the reference drifts, the hypervisor steals, the generator is late.
//! None of these looks at the arms that are compared, so a repetition cannot be a search for the better
//! figure. There is one only, and both attempts are kept: the first in `attempts/1/` of the result's folder
//! and by its verdict in `summary.json`.

use super::scenario::{Measured, Options, measure};
use super::{Arena, Interrupt, RunError};
use crate::record;
use crate::scenario::Scenario;
use crate::summary::{Attempt, Status};
use indicatif::ProgressBar;

/// As [`measure`], and once more if that was unfit. A quick run is a look, and is not repeated.
///
/// # Errors
/// As [`measure`].
pub fn measure_retrying(
    arena: &mut Arena,
    scenario: &Scenario,
    options: &Options,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> Result<Measured, RunError> {
    let first = measure(arena, scenario, options, interrupt, progress)?;
    if options.quick || first.summary.verdict.status != Status::Invalid {
        return Ok(first);
    }
    progress.suspend(|| {
        for reason in &first.summary.verdict.reasons {
            eprintln!("{}: unfit: {}", scenario.name, reason.message);
        }
        eprintln!("{}: repeated once", scenario.name);
    });
    let second = measure(arena, scenario, options, interrupt, progress)?;
    Ok(keep_earlier(&first, second))
}

/// Adds the earlier attempt to the later one.
fn keep_earlier(earlier: &Measured, mut later: Measured) -> Measured {
    let number = later.summary.attempts.len() + 1;
    later.summary.attempts.push(Attempt {
        number,
        started: earlier.summary.env.started.clone(),
        verdict: earlier.summary.verdict.clone(),
    });
    let rows = record::to_csv(&earlier.summary.scenario, &earlier.record.rows);
    let summary = serde_json::to_vec_pretty(&earlier.summary).unwrap_or_default();
    for (name, content) in [("raw.csv", rows.into_bytes()), ("summary.json", summary)] {
        later
            .artefacts
            .push((format!("attempts/{number}/{name}"), content));
    }
    later
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, Row};
    use crate::scenario::Catalogue;
    use crate::summarise::{Run, summarise};
    use crate::summary::Env;

    fn measured(started: &str) -> Measured {
        let catalogue = Catalogue::new(crate::binaries::scenario_directory());
        let scenario = catalogue.load("http-lb-short").expect("a scenario of ours");
        let record = Record {
            rows: vec![Row {
                arm: "direct".into(),
                ..Row::default()
            }],
            ..Record::default()
        };
        let env = Env {
            started: started.into(),
            ..Env::default()
        };
        let run = Run {
            arms: &scenario.arms.run,
            record: &record,
            quick: false,
            rate: None,
            env,
        };
        Measured {
            summary: summarise(&scenario, run),
            record,
            artefacts: Vec::new(),
        }
    }

    #[test]
    fn both_attempts_are_kept() {
        let kept = keep_earlier(&measured("first"), measured("second"));
        assert_eq!(kept.summary.env.started, "second");
        assert_eq!(kept.summary.attempts.len(), 1);
        assert_eq!(kept.summary.attempts[0].started, "first");
        let names: Vec<&str> = kept
            .artefacts
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["attempts/1/raw.csv", "attempts/1/summary.json"]);
        assert!(
            kept.artefacts
                .iter()
                .all(|(_, content)| content.len() > 100)
        );
    }
}
