//! What a gate says: one check per thing looked at, one exit code, as JSON and as Markdown for a pull request.

use crate::exit;
use serde::Serialize;
use std::fmt::Write as _;

/// Value of `schema`.
pub const SCHEMA: &str = "kmesh-gate/1";

/// The stages, cheapest truth first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Decisions: zero wrong answers.
    G0,
    /// Counts: instructions, verifier effort, sizes.
    G1,
    /// Wall clock: base and head live, interleaved.
    G2,
    /// Claims: the README says what the published data say.
    G3,
    /// Trend of ratios over the published results.
    G4,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::G0, Self::G1, Self::G2, Self::G3, Self::G4];
}

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Worth reading, no reason to stop.
    Warn,
    /// Could not be looked at for a reason that lies in the base.
    Skipped,
    /// A regression, or a claim that the data do not bear.
    Fail,
    /// A wrong decision or a wrong byte.
    Wrong,
    /// The environment is unfit for a verdict.
    Unfit,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Where it belongs.
    pub stage: Stage,
    /// Stable name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// For people.
    pub message: String,
    /// The figures behind it.
    pub figures: serde_json::Value,
}

impl Check {
    /// A check without figures.
    pub fn new(stage: Stage, name: &str, outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            stage,
            name: name.to_owned(),
            outcome,
            message: message.into(),
            figures: serde_json::Value::Null,
        }
    }

    /// Adds the figures behind it.
    #[must_use]
    pub fn with(mut self, figures: &impl Serialize) -> Self {
        self.figures = serde_json::to_value(figures)
            .unwrap_or_else(|error| serde_json::Value::String(error.to_string()));
        self
    }
}

/// The whole gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// What head was compared with.
    pub base: String,
    /// What was judged.
    pub head: String,
    /// Exit code by DESIGN section 5.
    pub exit_code: u8,
    /// One line: what the exit code means here, and the check that made it.
    pub reason: String,
    /// Length of the gate, seconds.
    pub seconds: f64,
    /// Everything looked at.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Draws the conclusion. A wrong decision outweighs everything; a regression comes next, because the
    /// stages find one only in data that are fit; then an environment that allows no verdict.
    pub fn of(base: String, head: String, seconds: f64, checks: Vec<Check>) -> Self {
        let first = |outcome| checks.iter().find(|check| check.outcome == outcome);
        let said = |check: &Check, words: &str| {
            format!(
                "{words}: {:?} {}: {}",
                check.stage, check.name, check.message
            )
        };
        let (exit_code, reason) = if let Some(check) = first(Outcome::Wrong) {
            (exit::WRONG, said(check, "wrong decision or byte"))
        } else if let Some(check) = first(Outcome::Fail) {
            (exit::FAILED, said(check, "regression"))
        } else if let Some(check) = first(Outcome::Unfit) {
            (exit::UNFIT, said(check, "unfit for a verdict"))
        } else {
            (
                0,
                "nothing got worse by as much as the gate promises to find".to_owned(),
            )
        };
        Self {
            schema: SCHEMA,
            base,
            head,
            exit_code,
            reason,
            seconds,
            checks,
        }
    }

    /// For a pull request.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "## Gate: {}\n\n`{}` against `{}`, {:.0} s, exit code {}.\n\n{}\n\n| stage | check | outcome | found |\n| --- | --- | --- | --- |\n",
            match self.exit_code {
                0 => "passed",
                exit::WRONG => "wrong decisions",
                exit::UNFIT => "no verdict",
                _ => "regression",
            },
            self.head,
            self.base,
            self.seconds,
            self.exit_code,
            self.reason,
        );
        for check in &self.checks {
            let outcome = format!("{:?}", check.outcome).to_lowercase();
            let bold = if matches!(check.outcome, Outcome::Pass | Outcome::Skipped) {
                ""
            } else {
                "**"
            };
            let message = check.message.replace('|', "\\|").replace('\n', " ");
            let _ = writeln!(
                text,
                "| {:?} | {} | {bold}{outcome}{bold} | {message} |",
                check.stage, check.name
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcomes: &[Outcome]) -> Verdict {
        let checks = outcomes
            .iter()
            .map(|outcome| Check::new(Stage::G2, "x", *outcome, "a | b"))
            .collect();
        Verdict::of("main".into(), "work".into(), 1.0, checks)
    }

    #[test]
    fn the_worst_check_makes_the_exit_code() {
        use Outcome::{Fail, Pass, Skipped, Unfit, Warn, Wrong};
        for (outcomes, code) in [
            (&[Pass, Warn, Skipped][..], 0),
            (&[Pass, Unfit], 3),
            (&[Unfit, Fail], 1),
            (&[Fail, Wrong, Unfit], 2),
        ] {
            assert_eq!(verdict(outcomes).exit_code, code, "{outcomes:?}");
        }
    }

    #[test]
    fn markdown_escapes_its_cells_and_names_the_reason() {
        let text = verdict(&[Outcome::Fail]).markdown();
        assert!(
            text.contains("a \\| b") && text.contains("**fail**"),
            "{text}"
        );
        assert!(text.contains("regression: G2 x"), "{text}");
    }
}
