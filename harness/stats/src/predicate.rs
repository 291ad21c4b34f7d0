//! Expectations on intervals: `> 1.5`, `<= 1.05`, and what a whole interval says about them.

use crate::{Error, Interval};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A comparison with a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Predicate {
    op: Op,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

/// What an interval says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval satisfies it.
    Held,
    /// No part of the interval satisfies it.
    NotHeld,
    /// The interval straddles the bound.
    Undecided,
    /// No data for it.
    NotTested,
}

impl Predicate {
    /// `>= bound`.
    pub fn at_least(bound: f64) -> Self {
        Self {
            op: Op::AtLeast,
            bound,
        }
    }

    /// `<= bound`.
    pub fn at_most(bound: f64) -> Self {
        Self {
            op: Op::AtMost,
            bound,
        }
    }

    /// Whether one number satisfies it.
    #[expect(
        clippy::float_cmp,
        reason = "== is for counts, which f64 holds exactly"
    )]
    pub fn holds(&self, value: f64) -> bool {
        match self.op {
            Op::Less => value < self.bound,
            Op::AtMost => value <= self.bound,
            Op::Equal => value == self.bound,
            Op::AtLeast => value >= self.bound,
            Op::More => value > self.bound,
        }
    }

    /// Judges a whole interval: held when both bounds satisfy it, not held when neither does.
    pub fn judge(&self, interval: &Interval) -> Verdict {
        match (self.holds(interval.lo), self.holds(interval.hi)) {
            (true, true) => Verdict::Held,
            (false, false) if !self.crossed_by(interval) => Verdict::NotHeld,
            _ => Verdict::Undecided,
        }
    }

    /// Whether values inside the interval satisfy what neither bound does: only `==` can.
    fn crossed_by(&self, interval: &Interval) -> bool {
        self.op == Op::Equal && interval.lo < self.bound && self.bound < interval.hi
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Held => "held",
            Self::NotHeld => "not held",
            Self::Undecided => "undecided",
            Self::NotTested => "not tested",
        })
    }
}

impl FromStr for Predicate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Predicate {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let digits = trimmed.trim_start_matches(['<', '>', '=']);
        let op = match &trimmed[..trimmed.len() - digits.len()] {
            "<" => Op::Less,
            "<=" => Op::AtMost,
            "==" => Op::Equal,
            ">=" => Op::AtLeast,
            ">" => Op::More,
            _ => return Err(refused()),
        };
        let bound: f64 = digits.trim().parse().map_err(|_| refused())?;
        if !bound.is_finite() {
            return Err(refused());
        }
        Ok(Self { op, bound })
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Less => "<",
            Op::AtMost => "<=",
            Op::Equal => "==",
            Op::AtLeast => ">=",
            Op::More => ">",
        };
        write!(f, "{op} {}", self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(lo: f64, hi: f64) -> Interval {
        Interval {
            point: f64::midpoint(lo, hi),
            lo,
            hi,
        }
    }

    #[test]
    fn parses_every_operator_and_prints_it_back() {
        for text in ["< 1", "<= 1.05", "== 0", ">= 12", "> 1.5"] {
            assert_eq!(text.parse::<Predicate>().unwrap().to_string(), text);
        }
        assert!(">1".parse::<Predicate>().unwrap().holds(2.0));
    }

    #[test]
    fn refuses_what_is_not_a_predicate() {
        for text in ["", "1", "=", "=> 1", "> one", "<> 3", "> nan", ">= inf"] {
            assert!(text.parse::<Predicate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_straddling_interval_decides_nothing() {
        let five = Predicate::at_least(5.0);
        assert_eq!(five.judge(&interval(5.0, 6.0)), Verdict::Held);
        assert_eq!(five.judge(&interval(4.0, 6.0)), Verdict::Undecided);
        assert_eq!(five.judge(&interval(3.0, 4.9)), Verdict::NotHeld);
        let level = Predicate::at_most(1.05);
        assert_eq!(level.judge(&interval(0.8, 1.05)), Verdict::Held);
        assert_eq!(level.judge(&interval(1.06, 1.2)), Verdict::NotHeld);
    }

    #[test]
    fn equality_of_a_count() {
        let none: Predicate = "== 0".parse().unwrap();
        assert_eq!(none.judge(&interval(0.0, 0.0)), Verdict::Held);
        assert_eq!(none.judge(&interval(3.0, 3.0)), Verdict::NotHeld);
    }
}
