//! The subjects of expectations: `ratio(envoy-both,kmesh).p50.lo`, `arm(kmesh).kernel_share`, `total.errors`.

use kmesh_stats::Predicate;
use std::fmt;
use std::str::FromStr;

/// Metrics of a ratio.
pub(super) const RATIO_METRICS: [&str; 6] = [
    "throughput",
    "p50",
    "p90",
    "p99",
    "connect_p50",
    "cpu_us_per_request",
];
/// Fields of an arm.
pub(super) const ARM_FIELDS: [&str; 6] = [
    "kernel_share",
    "shortcut_share",
    "achieved_rps",
    "errors",
    "wrong_decisions",
    "connections_per_client",
];
/// Fields summed over all arms.
pub(super) const TOTAL_FIELDS: [&str; 2] = ["errors", "wrong_decisions"];

/// One line of `[expect]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// What is judged.
    pub subject: Subject,
    /// What must be true of it.
    pub predicate: Predicate,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `ratio(NUM,DEN).METRIC[.BOUND]`
    Ratio {
        /// Arm above the line.
        num: String,
        /// Arm below the line.
        den: String,
        /// One of [`RATIO_METRICS`].
        metric: String,
        /// Which part of the interval.
        bound: Bound,
    },
    /// `arm(NAME).FIELD`
    Arm {
        /// The arm.
        arm: String,
        /// One of [`ARM_FIELDS`].
        field: String,
    },
    /// `total.FIELD`
    Total {
        /// One of [`TOTAL_FIELDS`].
        field: String,
    },
}

impl Subject {
    /// The arms without which it cannot be judged.
    pub fn arms(&self) -> Vec<&String> {
        match self {
            Self::Ratio { num, den, .. } => vec![num, den],
            Self::Arm { arm, .. } => vec![arm],
            Self::Total { .. } => Vec::new(),
        }
    }
}

/// Which part of an interval a predicate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// All of it.
    Whole,
    /// The point estimate.
    Point,
    /// The lower bound.
    Lo,
    /// The upper bound.
    Hi,
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let grammar = || {
            format!(
                "{text:?} is none of ratio(NUM,DEN).METRIC[.lo|.hi|.point], arm(NAME).FIELD, total.FIELD"
            )
        };
        if let Some(field) = text.strip_prefix("total.") {
            return Ok(Self::Total {
                field: one_of(field, &TOTAL_FIELDS)?,
            });
        }
        let (call, rest) = text.split_once(").").ok_or_else(grammar)?;
        if let Some(arm) = call.strip_prefix("arm(") {
            return Ok(Self::Arm {
                arm: arm.trim().to_owned(),
                field: one_of(rest, &ARM_FIELDS)?,
            });
        }
        let (num, den) = call
            .strip_prefix("ratio(")
            .and_then(|arms| arms.split_once(','))
            .ok_or_else(grammar)?;
        let (metric, bound) = match rest.split_once('.') {
            None => (rest, Bound::Whole),
            Some((metric, "point")) => (metric, Bound::Point),
            Some((metric, "lo")) => (metric, Bound::Lo),
            Some((metric, "hi")) => (metric, Bound::Hi),
            Some(_) => return Err(grammar()),
        };
        Ok(Self::Ratio {
            num: num.trim().to_owned(),
            den: den.trim().to_owned(),
            metric: one_of(metric, &RATIO_METRICS)?,
            bound,
        })
    }
}

fn one_of(word: &str, known: &[&str]) -> Result<String, String> {
    if known.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!("{word:?} is none of {}", known.join(", ")))
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio {
                num,
                den,
                metric,
                bound,
            } => {
                let bound = match bound {
                    Bound::Whole => "",
                    Bound::Point => ".point",
                    Bound::Lo => ".lo",
                    Bound::Hi => ".hi",
                };
                write!(f, "ratio({num},{den}).{metric}{bound}")
            }
            Self::Arm { arm, field } => write!(f, "arm({arm}).{field}"),
            Self::Total { field } => write!(f, "total.{field}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_and_prints_back() {
        for text in [
            "ratio(envoy-both,kmesh).p50.lo",
            "ratio(kmesh,direct).throughput",
            "arm(kmesh).kernel_share",
            "total.errors",
        ] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_refusal_names_what_is_known() {
        let refusal = "ratio(a,b).p51".parse::<Subject>().unwrap_err();
        assert!(
            refusal.contains("p51") && refusal.contains("p50"),
            "{refusal}"
        );
        for text in [
            "",
            "ratio(a).p50",
            "arm(kmesh)",
            "total.speed",
            "ratio(a,b).p50.mid",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}
